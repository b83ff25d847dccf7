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
        Arguments after ``demo``; by default, ``sys.argv[1:]``.

    Returns
    -------
    int
        Exit status: 0, or 1 if the demo cannot run.
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
    """Fit and evaluate the upsampler at each factor, print a table and save the figure.

    Parameters
    ----------
    factors : sequence of int
        Upsampling factors.
    output : Path
        Path of the figure.
    iterations : int
        Optimisation steps per factor.
    seed : int
        Random seed of the fit.
    quick : bool
        Use a crop of the image.
    console : rich.console.Console
        Console for the output.

    Returns
    -------
    list of Evaluation
        One for each factor.
    """
    start = time.perf_counter()
    check_output(output)
    # Windows extend `REACH` samples to each side: with this gap, those of fitted and evaluated pixels do not overlap.
    scene = load_scene(2 * model.REACH * max(factors), quick=quick)
    for factor in factors:
        check_factor(scene, factor)
    evaluations = _fit_all(scene, factors, iterations, seed, console)
    console.print(table(evaluations))
    save_figure(output, scene, evaluations)
    # soft_wrap keeps the path on one line, so that it can be copied.
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
                bar.update(task, advance=1, rmse=f"RMSE on the fitted columns {loss**0.5:.3f}")

            bar.start_task(task)
            upsampler = fit(scene, factor, iterations=iterations, seed=seed, report=report)
            evaluations.append(evaluate(scene, factor, upsampler))
    return evaluations


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m arrayops demo",
        description="Upsample a measured disparity map guided by a photo: fit a pixel-adaptive convolution on the left "
        "part of the image and compare it with nearest and bilinear interpolation on the right part.",
    )
    parser.add_argument(
        "--factors", nargs="+", type=_factor, metavar="N", help=f"upsampling factors (default: {_words(FACTORS)})"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("arrayops_demo.png"),
        metavar="PATH",
        help="path of the figure (default: %(default)s)",
    )
    parser.add_argument("--iterations", type=_positive, metavar="N", help=f"steps per fit (default: {ITERATIONS})")
    parser.add_argument(
        "--seed", type=_natural, default=0, metavar="N", help="random seed of the fit (default: %(default)s)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"use a crop of the image, factor {_words(QUICK_FACTORS)}, {QUICK_ITERATIONS} steps",
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
