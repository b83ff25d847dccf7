"""Runs stages one after the other, each in a process with a deadline. Does not use CUDA itself."""

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

PASSED, FAILED, CRASHED, NO_GPU = 0, 1, 2, 3
TIMED_OUT = 124

TABLE_S = 3.0
"""Time reserved for the table at the end."""

MIN_STAGE_S = 8.0
"""A stage is not started with less time than this, which the imports of frameworks alone may take."""


Command = Callable[[str, float], list[str]]
"""Name and deadline of a stage -> its command line. Deadlines are in `time.monotonic`, which all processes share."""


def supervise(plan: Sequence[tuple[str, float]], command: Command, out: Path, budget: float) -> int:
    """Run stages of (name, seconds) within a budget of seconds, print the table, and return the exit code."""
    out.mkdir(parents=True, exist_ok=True)
    os.environ |= results.environment(out)
    os.environ |= {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    # By default JAX would allocate three quarters of the GPU memory, which the processes share.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    file = Path(os.environ[results.FILE])
    file.unlink(missing_ok=True)
    begin = time.monotonic()
    codes: list[int] = []
    with (out / "first_run.log").open("w") as log:
        for name, seconds in plan:
            remaining = begin + budget - TABLE_S - time.monotonic()
            started = time.monotonic()
            code = TIMED_OUT if remaining < MIN_STAGE_S else _run(command, name, min(remaining, seconds), log)
            codes.append(code)
            elapsed = time.monotonic() - started
            results.emit(name, event="stage ended", code=code, seconds=round(elapsed, 1))
            print(f"[{time.monotonic() - begin:6.1f} s] {name}: exit {code}", flush=True)
            if code == NO_GPU:
                break
    rows = results.read(file)
    print(report.table(rows), flush=True)
    return exit_code(codes, any(row.get("ok") is False for row in rows))


def exit_code(codes: Sequence[int], failed: bool) -> int:
    """Exit code of the whole run. A failed check takes precedence over a stage that crashed or timed out."""
    if NO_GPU in codes:
        return NO_GPU
    if failed or FAILED in codes:
        return FAILED
    return CRASHED if any(codes) else PASSED


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
        # Ends the process group of the stage, including child processes that would keep the GPU occupied.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
