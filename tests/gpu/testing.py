"""Runs the tests marked `gpu`; `gpu.pytest_plugin` emits their results during the run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# In order of risk: first the tests of what the emulator models least accurately.
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

MAX_WORKERS = 16
"""Maximum number of workers: each has a CUDA context of half a gigabyte, on one GPU."""

TEST_TIMEOUT_S = 40
"""Time limit of a test, after which its worker is replaced."""

STAGE, EMULATED = "GPU_RUN_STAGE", "GPU_RUN_EMULATED"
"""Environment variables for the plugin: name of the stage, and "1" if the emulator replaces the GPU."""


def workers() -> int:
    """Number of processes that run tests in parallel."""
    return min(MAX_WORKERS, os.cpu_count() or 1)


def run(stage: str, files: Sequence[str], *, workers: int, emulated: bool = False, only: str = "") -> int:
    """Run the tests of ``files``, on the emulator if ``emulated``; ``only`` is an expression for pytest's -k."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "gpu.pytest_plugin"]
    command += ["-q", "--tb=line", "-W", "ignore", "-p", "no:cacheprovider"]
    if workers > 1:
        # worksteal keeps adjacent tests, which use the same kernels, in one worker; crashed workers are replaced.
        command += ["-n", str(workers), "--dist=worksteal", "--max-worker-restart=40"]
    if find_spec("pytest_timeout") is not None:
        command += [f"--timeout={TEST_TIMEOUT_S}", "--timeout-method=thread"]
    if only:
        command += ["-k", only]
    path = [str(ROOT / folder) for folder in ("tests/support", "tests", ".")]
    if "PYTHONPATH" in os.environ:
        path.append(os.environ["PYTHONPATH"])
    # The caller may be a worker of pytest-xdist: its variables must not reach this pytest.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment = {**inherited, "PYTHONPATH": os.pathsep.join(path), STAGE: stage, EMULATED: "1" if emulated else ""}
    return subprocess.run([*command, *files], cwd=ROOT, env=environment, check=False).returncode
