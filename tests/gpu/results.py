"""Results: lines of JSON in one file, to which several processes append atomically."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FILE, START = "GPU_RUN_RESULTS", "GPU_RUN_START"
"""Environment variables: path of the file, and start time of the run (`time.monotonic`)."""


def environment(out: Path) -> dict[str, str]:
    """Environment variables for the supervisor and its child processes."""
    return {FILE: str(out / "results.jsonl"), START: str(time.monotonic())}


def emit(stage: str, **row: Any) -> None:
    """Append one line to the file, or write it to standard output if no file is set.

    Rows with ``ok`` are results of the check named ``case``; rows with ``event`` report progress and errors.
    """
    elapsed = round(time.monotonic() - float(os.environ.get(START, "0")), 2)
    line = json.dumps({"t": elapsed, "stage": stage, **row}, default=str) + "\n"
    if path := os.environ.get(FILE):
        # A single write to a file opened for appending is atomic: lines of several processes are not interleaved.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    else:
        sys.stdout.write(line)
        sys.stdout.flush()


def read(path: Path) -> list[dict[str, Any]]:
    """All rows of the file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def describe(error: BaseException, characters: int = 600) -> str:
    """An exception on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:characters]


LOST_CONTEXT_MESSAGES = (
    "IllegalAddress",
    "ILLEGAL_ADDRESS",
    "illegal memory access",
    "IllegalInstruction",
    "ILLEGAL_INSTRUCTION",
    "misaligned",
    "MISALIGNED",
    "LaunchFailure",
    "LAUNCH_FAILED",
    "unspecified launch failure",
    "HardwareStackError",
    "must be restarted",
)
"""Parts of the messages of CUDA errors after which every further CUDA call of the process fails."""

LOST_CONTEXT_EXIT = 13
"""Exit code of a process that ended because of such an error."""


def context_is_lost(text: str) -> bool:
    """Whether the CUDA context is unusable after an error with this message."""
    return any(part in text for part in LOST_CONTEXT_MESSAGES)
