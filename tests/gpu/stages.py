"""The stages, in the order in which they tell most: name, seconds that it may take, what it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gpu import results
from gpu.supervisor import NO_GPU


@dataclass(frozen=True)
class Context:
    """Where results go, whether the emulator stands in for the GPU, and the time (`time.monotonic`) to be done by."""

    out: Path
    dry: bool
    deadline: float


class Stage(NamedTuple):
    """Seconds that a stage may take, what it runs (imported only in the process of the stage), and why not dry."""

    seconds: float
    run: Callable[[Context], int]
    needs_gpu: str = ""


def _prime(context: Context) -> int:
    from gpu import priming

    return priming.prime(context)


def _smoke(context: Context) -> int:
    from gpu import machine, values

    machine.describe("smoke", context.dry)
    size, channels = (9, 8) if context.dry else values.SMOKE
    return values.run("smoke", context.dry, size, channels, only="float32" if context.dry else "")


def _large(context: Context) -> int:
    from gpu import values

    if context.dry:
        return values.run("large", True, 9, 8, repeats=1, only="segment")
    return values.run("large", False, *values.LARGE, repeats=4)


def _tests(context: Context) -> int:
    from gpu import testing

    if context.dry:
        return testing.run("tests", testing.FILES[1:2], workers=2, fake=True, only="pooling or sum")
    return testing.run("tests", testing.FILES, workers=testing.workers())


def _frameworks(context: Context) -> int:
    from gpu import testing

    # Each process has several frameworks on the GPU: few of them fit its memory, and each takes long to start.
    return testing.run("frameworks", ("tests/frameworks/test_gpu.py",), workers=3)


def _sanitize(context: Context) -> int:
    from gpu import sanitizing

    return sanitizing.sanitize(context.deadline, context.out)


def _bench(context: Context) -> int:
    from gpu import timing

    return timing.bench(context.dry, context.deadline)


def _counters(context: Context) -> int:
    from gpu import counters

    return counters.count(context.deadline, context.out)


def _threads(context: Context) -> int:
    from gpu import timing

    return timing.threads(context.dry, context.deadline)


STAGES = {
    "prime": Stage(60, _prime),
    "smoke": Stage(40, _smoke),
    "large": Stage(60, _large),
    "tests": Stage(150, _tests),
    "frameworks": Stage(60, _frameworks, needs_gpu="frameworks have no GPU in a dry run"),
    "sanitize": Stage(80, _sanitize, needs_gpu="compute-sanitizer needs a GPU"),
    "bench": Stage(120, _bench),
    "counters": Stage(60, _counters, needs_gpu="Nsight Compute needs a GPU"),
    "threads": Stage(40, _threads),
}


def run(name: str, context: Context) -> int:
    """One stage, in this process: its exit code."""
    if not context.dry:
        from gpu import machine

        if reason := machine.why_no_gpu():
            results.emit(name, event="no GPU", reason=reason)
            return NO_GPU
    stage = STAGES[name]
    if context.dry and stage.needs_gpu:
        results.emit(name, event=f"not run: {stage.needs_gpu}")
        return 0
    try:
        return stage.run(context)
    except Exception as error:
        results.emit(name, event="stage crashed", exception=results.described(error))
        raise
