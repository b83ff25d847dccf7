"""The tests marked `gpu`, with results streamed as they come (`gpu.pytest_plugin`)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# By risk: what the emulator models least comes first.
FILES = (
    "tests/test_cuda_pac_tensor_cores.py",
    "tests/test_cuda_small.py",
    "tests/test_cuda_segment_values.py",
    "tests/test_cuda_merge_values.py",
    "tests/test_cuda_conv_values.py",
    "tests/test_cuda_pac_sizes.py",
    "tests/test_cuda_pac_values.py",
    "tests/test_cuda_pac_bits.py",
    "tests/test_cuda_conv_drawn.py",
    "tests/test_cuda_pac_drawn.py",
)

MOST_WORKERS = 12
"""Each has a CUDA context of half a gigabyte, and all share one GPU."""

TEST_SECONDS = 40
"""A test that takes longer ends its worker, which is replaced."""

MODE, STAGE, FAKE, UNITS = "GPU_RUN_MODE", "GPU_RUN_STAGE", "GPU_RUN_FAKE", "GPU_RUN_UNITS"
"""Environment variables for the plugin: "stream" or "record", the stage, "1" for the emulator, where units go."""


def workers() -> int:
    """Processes that run tests side by side."""
    return min(MOST_WORKERS, os.cpu_count() or 1)


def command(files: Sequence[str], *more: str) -> list[str]:
    """Pytest over the gpu tests of these files, with the plugin."""
    quiet = ["-q", "--tb=line", "-W", "ignore", "-p", "no:cacheprovider"]
    return [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "gpu.pytest_plugin", *quiet, *more, *files]


def environment(mode: str, stage: str, fake: bool = False) -> dict[str, str]:
    """For such a process."""
    path = [str(ROOT / "tests"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), MODE: mode, STAGE: stage, FAKE: "1" if fake else ""}


def spread(count: int) -> list[str]:
    """Options that spread tests over so many processes; one that is lost is replaced."""
    return ["-n", str(count), "--dist=load", "--max-worker-restart=40"] if count > 1 else []


def run(stage: str, files: Sequence[str], *, workers: int, fake: bool = False, only: str = "") -> int:
    """Run them, on the emulator if ``fake``; ``only`` is an expression for pytest's -k."""
    selected = ["-k", only] if only else []
    timeout = [f"--timeout={TEST_SECONDS}", "--timeout-method=thread"] if _has_timeouts() else []
    return subprocess.run(
        command(files, *spread(workers), *timeout, *selected),
        cwd=ROOT,
        env=environment("stream", stage, fake),
        check=False,
    ).returncode


def _has_timeouts() -> bool:
    from importlib.util import find_spec

    return find_spec("pytest_timeout") is not None
