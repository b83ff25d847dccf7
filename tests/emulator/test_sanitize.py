"""`python -m emulator.sanitize`: findings fail a run, whoever hides the output."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from emulator import sanitizer

TESTS = Path(__file__).parents[1]

TEST_FILE = """
import numpy as np
import pytest
from emulator import EmulatorError, RawModule

CODE = '''
extern "C" __global__ void past_end(float* y) { y[threadIdx.x + 1] = 1.0f; }
extern "C" __global__ void race(float* y) { y[0] += 1.0f; }
extern "C" __global__ void right(float* y) { y[threadIdx.x] = 1.0f; }
'''

def launch(name):
    RawModule(code=CODE).get_function(name)((1,), (32,), (np.zeros(32, np.float32),))

def test_right():
    launch("right")

def test_wrong():
    launch("past_end")

def test_race():
    launch("race")

def test_swallowed():
    for name in ("past_end", "race"):
        try:
            launch(name)
        except EmulatorError:
            pass
"""


def run(tmp_path: Path, kind: str, *selected: str) -> "subprocess.CompletedProcess[str]":
    if reason := sanitizer.why_not(kind):
        pytest.skip(reason)
    file = tmp_path / "test_kernels.py"
    file.write_text(TEST_FILE, encoding="utf-8")
    tests = [f"{file}::{name}" for name in selected]
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", *tests]
    return subprocess.run(
        [sys.executable, "-m", "emulator.sanitize", kind, "--", *pytest_command],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("kind", "wrong", "finding"),
    [
        ("address,undefined", "test_wrong", "ERROR: AddressSanitizer: heap-buffer-overflow"),
        ("thread", "test_race", "WARNING: ThreadSanitizer: data race"),
    ],
)
class TestFindings:
    def test_a_launch_with_a_finding_fails_its_test(self, tmp_path: Path, kind: str, wrong: str, finding: str) -> None:
        done = run(tmp_path, kind, "test_right", wrong)
        assert done.returncode != 0
        assert "1 failed, 1 passed" in done.stdout
        assert finding in done.stderr

    def test_a_swallowed_finding_fails_the_run(self, tmp_path: Path, kind: str, wrong: str, finding: str) -> None:
        done = run(tmp_path, kind, "test_swallowed")
        assert "1 passed" in done.stdout
        assert done.returncode == sanitizer.FAILED
        assert finding in done.stderr

    def test_nothing_found(self, tmp_path: Path, kind: str, wrong: str, finding: str) -> None:
        done = run(tmp_path, kind, "test_right")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "AddressSanitizer" not in done.stderr


OUTSIDE = """
import sys
import numpy as np
import cupy
from emulator import EmulatorError
from emulator.host_cupy import host_cupy, to_device

CODE = 'extern "C" __global__ void read(const float* x, float* y, int at) { y[0] = x[at]; }'
with host_cupy():
    x, y = to_device(np.arange(3, dtype=np.float32)), cupy.empty(1, "float32")
    kernel = cupy.RawModule(code=CODE).get_function("read")
    try:
        kernel((1,), (1,), (x, y, np.int32(sys.argv[1])))
        print("nothing")
    except EmulatorError as error:
        print(error)
"""


@pytest.mark.parametrize(
    ("position", "said"), [(-1, "heap-buffer-overflow"), (3, "heap-buffer-overflow"), (2, "nothing")]
)
def test_ends_of_arrays_of_cupy(position: int, said: str) -> None:
    """Memory is exactly as large as was asked for: a read one element outside is seen on both sides."""
    pytest.importorskip("cupy", reason="cupy is not installed")
    if reason := sanitizer.why_not("address,undefined"):
        pytest.skip(reason)
    outcome = sanitizer.run_python("address,undefined", OUTSIDE, str(position), timeout=120)
    assert outcome.status == 0, outcome
    assert said in outcome.output
    assert (said == "nothing") == (outcome.reports == "")


def test_usage() -> None:
    command = [sys.executable, "-m", "emulator.sanitize", "memory", "--", "true"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(TESTS)}, capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_kinds() -> None:
    with pytest.raises(ValueError, match="sanitizer is 'memory', expected one of address,undefined, thread"):
        sanitizer.run("memory", ["true"])
