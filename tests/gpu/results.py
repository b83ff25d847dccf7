"""Results: lines of JSON in one file, each written whole, by whatever process knows it first."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FILE, START = "GPU_RUN_RESULTS", "GPU_RUN_START"
"""Environment variables: the file, and the time (`time.monotonic`) at which the whole run began."""


def environment(out: Path) -> dict[str, str]:
    """What the supervisor sets for itself and its child processes."""
    return {FILE: str(out / "results.jsonl"), START: str(time.monotonic())}


def emit(stage: str, **row: Any) -> None:
    """Write one line, to standard output if no file is set.

    Rows with ``ok`` are verdicts: ``case`` says on what. Rows with ``event`` tell what happened.
    """
    elapsed = round(time.monotonic() - float(os.environ.get(START, "0")), 2)
    line = json.dumps({"t": elapsed, "stage": stage, **row}, default=str) + "\n"
    if path := os.environ.get(FILE):
        # One write of a file opened for appending: lines of several processes do not mix.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    else:
        sys.stdout.write(line)
        sys.stdout.flush()


def read(path: Path) -> list[dict[str, Any]]:
    """All rows so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def described(error: BaseException, characters: int = 600) -> str:
    """An exception on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:characters]


LOST_CONTEXT = (
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
"""Texts of CUDA errors after which every further call of the process fails."""

LOST = 13
"""Exit code of a process that left because of one."""


def context_is_lost(text: str) -> bool:
    """Whether an error with this text leaves the process without a working CUDA context."""
    return any(sign in text for sign in LOST_CONTEXT)
