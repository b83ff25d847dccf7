"""The scheduler under the sanitizers of the compiler, and without one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from observed_blocks import compile_cpp

SANITIZERS = {
    # Its run time does not let children start threads.
    "thread": ("-fsanitize=thread",),
    # A child may find a lock of its allocator taken, by another thread of the parent.
    "address and undefined": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DFORK_AFTER_CALLS"),
    "no": ("-DFORK_AMID_CALLS",),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sanitizers are run on Linux only")
@pytest.mark.parametrize("name", SANITIZERS)
def test_stress(tmp_path: Path, name: str) -> None:
    flags = ("-O1", "-g", "-pthread", *SANITIZERS[name])
    try:
        program = compile_cpp("scheduler_stress.cpp", tmp_path / "stress", *flags)
    except subprocess.CalledProcessError:
        # A warning or an error of the source itself shows without the sanitizer.
        compile_cpp("scheduler_stress.cpp", tmp_path / "plain", "-O1", "-pthread")
        pytest.skip(f"the compiler lacks the run time of the {name} sanitizer")
    variables = {"ASAN_OPTIONS": "allocator_may_return_null=1", "TSAN_OPTIONS": "allocator_may_return_null=1"}
    done = subprocess.run(
        [program], env={**os.environ, **variables}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-6000:] + done.stdout
    assert done.stdout == "0 failures\n"
