"""The stages of a run, the most informative first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gpu import results
from gpu.supervisor import NO_GPU


@dataclass(frozen=True)
class Context:
    """Folder of results, whether the emulator replaces the GPU, and the deadline (`time.monotonic`)."""

    out: Path
    dry: bool
    deadline: float


class Stage(NamedTuple):
    """Time limit of a stage, its function, and the reason why a dry run skips it, empty if it does not.

    Functions import their modules only when called, in the process of the stage.
    """

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
        return testing.run("tests", testing.FILES[1:2], workers=2, emulated=True, only="pooling or sum")
    return testing.run("tests", testing.FILES, workers=testing.workers())


def _frameworks(context: Context) -> int:
    from gpu import testing

    # Each worker uses several frameworks on the GPU, which limits workers by memory and makes their start slow.
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
    """Run one stage in this process; return its exit code."""
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
        results.emit(name, event="stage crashed", exception=results.describe(error))
        raise
