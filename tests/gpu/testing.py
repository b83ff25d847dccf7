"""The tests marked `gpu`, with results streamed as they come (`gpu.pytest_plugin`)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# By risk: what the emulator models least comes first.
FILES = (
    "tests/cuda/test_pac_tensor_cores.py",
    "tests/cuda/test_small.py",
    "tests/cuda/test_segment_values.py",
    "tests/cuda/test_merge_values.py",
    "tests/cuda/test_conv_values.py",
    "tests/cuda/test_pac_sizes.py",
    "tests/cuda/test_pac_values.py",
    "tests/cuda/test_pac_bits.py",
    "tests/cuda/test_conv_drawn.py",
    "tests/cuda/test_pac_drawn.py",
)

MOST_WORKERS = 16
"""Each has a CUDA context of half a gigabyte, and all share one GPU."""

TEST_SECONDS = 40
"""A test that takes longer ends its worker, which is replaced."""

STAGE, FAKE = "GPU_RUN_STAGE", "GPU_RUN_FAKE"
"""Environment variables for the plugin: the stage, and "1" if the emulator takes the place of the GPU."""


def workers() -> int:
    """Processes that run tests side by side."""
    return min(MOST_WORKERS, os.cpu_count() or 1)


def run(stage: str, files: Sequence[str], *, workers: int, fake: bool = False, only: str = "") -> int:
    """Run them, on the emulator if ``fake``; ``only`` is an expression for pytest's -k."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "gpu.pytest_plugin"]
    command += ["-q", "--tb=line", "-W", "ignore", "-p", "no:cacheprovider"]
    if workers > 1:
        # Neighbours, which ask for the same kernels, stay in one process; one that is lost is replaced.
        command += ["-n", str(workers), "--dist=worksteal", "--max-worker-restart=40"]
    if find_spec("pytest_timeout") is not None:
        command += [f"--timeout={TEST_SECONDS}", "--timeout-method=thread"]
    if only:
        command += ["-k", only]
    path = [str(ROOT / folder) for folder in ("tests/support", "tests", ".")]
    if "PYTHONPATH" in os.environ:
        path.append(os.environ["PYTHONPATH"])
    # A process of pytest-xdist may be the one that calls: this pytest is none of its own.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = {**inherited, "PYTHONPATH": os.pathsep.join(path), STAGE: stage, FAKE: "1" if fake else ""}
    return subprocess.run([*command, *files], cwd=ROOT, env=environment, check=False).returncode
