"""Runs stages one after the other, each a process with a deadline. Never touches CUDA itself."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from gpu import report, results

ALL_WELL, WRONG, CRASHED, NO_GPU = 0, 1, 2, 3
TIMED_OUT = 124

MARGIN_S = 3.0
"""Kept back for the table at the end."""

LEAST_S = 8.0
"""A stage is not begun with less than this: importing frameworks alone takes as long."""


Command = Callable[[str, float], list[str]]
"""Of a stage and the time (`time.monotonic`, one clock for all processes of a machine) to be done by."""


def supervise(plan: Sequence[tuple[str, float]], command: Command, out: Path, budget: float) -> int:
    """Run stages of (name, seconds) within a budget of seconds, print the table, and return the exit code."""
    out.mkdir(parents=True, exist_ok=True)
    os.environ |= results.environment(out)
    os.environ |= {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    # JAX would take three quarters of the memory that all share.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    file = Path(os.environ[results.FILE])
    file.unlink(missing_ok=True)
    begin = time.monotonic()
    codes: list[int] = []
    with (out / "first_run.log").open("w") as log:
        for name, seconds in plan:
            left = begin + budget - MARGIN_S - time.monotonic()
            started = time.monotonic()
            code = TIMED_OUT if left < LEAST_S else _run(command, name, min(left, seconds), log)
            codes.append(code)
            took = time.monotonic() - started
            results.emit(name, event="stage ended", code=code, seconds=round(took, 1))
            print(f"[{time.monotonic() - begin:6.1f} s] {name}: exit {code}", flush=True)
            if code == NO_GPU:
                break
    rows = results.read(file)
    print(report.table(rows), flush=True)
    return verdict(codes, any(row.get("ok") is False for row in rows))


def verdict(codes: Sequence[int], wrong: bool) -> int:
    """Exit code of the whole run. What is known to be wrong weighs more than what is not known."""
    if NO_GPU in codes:
        return NO_GPU
    if wrong or WRONG in codes:
        return WRONG
    return CRASHED if any(codes) else ALL_WELL


def _run(command: Command, name: str, seconds: float, log: IO[str]) -> int:
    process = subprocess.Popen(
        command(name, time.monotonic() + seconds),
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return TIMED_OUT
    finally:
        # The group that was started for the stage and no other process: whatever a stage left behind holds the GPU.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
