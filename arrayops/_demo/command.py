"""``python -m arrayops demo``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arrayops._demo import model
from arrayops._demo.data import Scene, check_factor, load_scene
from arrayops._demo.evaluation import Evaluation, evaluate, table
from arrayops._demo.extras import DemoError, load
from arrayops._demo.figure import check_output, save_figure
from arrayops._demo.fit import fit

FACTORS = (4, 8, 16)
ITERATIONS = 20
QUICK_FACTORS = (4,)
QUICK_ITERATIONS = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after ``demo``; those of the process when left out.

    Returns
    -------
    int
        Exit status: 0, or 1 when the demo cannot run.
    """
    arguments = _parser().parse_args(argv)
    try:
        console = load("rich.console").Console()
        run(
            arguments.factors or (QUICK_FACTORS if arguments.quick else FACTORS),
            arguments.output,
            iterations=arguments.iterations or (QUICK_ITERATIONS if arguments.quick else ITERATIONS),
            seed=arguments.seed,
            quick=arguments.quick,
            console=console,
        )
    except DemoError as error:
        print(f"arrayops demo: {error}", file=sys.stderr)
        return 1
    return 0


def run(
    factors: Sequence[int], output: Path, *, iterations: int, seed: int, quick: bool, console: Any
) -> list[Evaluation]:
    """Fit, evaluate, print and draw.

    Parameters
    ----------
    factors : sequence of int
        Upsampling factors.
    output : Path
        File of the figure.
    iterations : int
        Steps of the fit at each factor.
    seed : int
        Seed of the fit.
    quick : bool
        Work on a crop of the picture.
    console : rich.console.Console
        Where to print.

    Returns
    -------
    list of Evaluation
        One for each factor.
    """
    start = time.perf_counter()
    check_output(output)
    # A pixel's window reaches `REACH` samples to both sides: no fitted window then meets an evaluated one.
    scene = load_scene(2 * model.REACH * max(factors), quick=quick)
    for factor in factors:
        check_factor(scene, factor)
    evaluations = _fit_all(scene, factors, iterations, seed, console)
    console.print(table(evaluations))
    save_figure(output, scene, evaluations)
    # soft_wrap: a path broken over two lines could not be copied.
    console.print(f"figure: {output}", soft_wrap=True, markup=False, highlight=False)
    console.print(f"time: {time.perf_counter() - start:.0f} s", highlight=False)
    return evaluations


def _fit_all(scene: Scene, factors: Sequence[int], iterations: int, seed: int, console: Any) -> list[Evaluation]:
    progress = load("rich.progress")
    evaluations = []
    with progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("{task.fields[rmse]}"),
        console=console,
    ) as bar:
        tasks = [bar.add_task(f"fit, factor {factor}", total=iterations, start=False, rmse="") for factor in factors]
        for factor, task in zip(factors, tasks, strict=True):

            def report(loss: float, task: Any = task) -> None:
                bar.update(task, advance=1, rmse=f"RMSE on the fitted part {loss**0.5:.3f}")

            bar.start_task(task)
            upsampler = fit(scene, factor, iterations=iterations, seed=seed, report=report)
            evaluations.append(evaluate(scene, factor, upsampler))
    return evaluations


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m arrayops demo",
        description="Upsample a measured disparity map guided by a photo: fit a pixel-adaptive convolution on the left "
        "of the picture, compare it with nearest and bilinear interpolation on the right.",
    )
    parser.add_argument(
        "--factors", nargs="+", type=_factor, metavar="N", help=f"upsampling factors (default: {_words(FACTORS)})"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("arrayops_demo.png"),
        metavar="PATH",
        help="file of the figure (default: %(default)s)",
    )
    parser.add_argument("--iterations", type=_positive, metavar="N", help=f"steps of each fit (default: {ITERATIONS})")
    parser.add_argument("--seed", type=_natural, default=0, metavar="N", help="seed of the fit (default: %(default)s)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"a crop of the picture, factor {_words(QUICK_FACTORS)}, {QUICK_ITERATIONS} steps",
    )
    return parser


def _words(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))


def _integer(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected an integer of at least {least}")
    return value


def _factor(text: str) -> int:
    return _integer(text, 2)


def _positive(text: str) -> int:
    return _integer(text, 1)


def _natural(text: str) -> int:
    return _integer(text, 0)
