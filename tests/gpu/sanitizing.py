"""Runs compute-sanitizer on small calls of every family, with a separate allocation for each array.

Each tool must first detect a deliberate fault, which shows that the tool works on this machine.

``python tests/gpu/sanitizing.py small`` and ``... fault NAME`` are the programs that run under the sanitizer.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    ROOT = Path(__file__).resolve().parents[2]
    sys.path[:1] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "support")]

from gpu import machine, results, testing
from gpu.supervisor import TIMED_OUT

SIZE = (11, 8)
"""Height and width, and number of channels."""

ERROR_EXIT = 99
"""Exit code of compute-sanitizer if it has detected errors."""

MIN_TEST_S = 20
"""Minimum time for memcheck of a test."""

TOOLS = ("memcheck", "racecheck", "synccheck", "initcheck")

FAULTS = """
extern "C" __global__ void memcheck(int* y) { y[threadIdx.x + 1] = 1; }

extern "C" __global__ void racecheck(int* y) {
    __shared__ int shared[64];
    shared[threadIdx.x] = threadIdx.x;
    y[threadIdx.x] = shared[63 - threadIdx.x];
}

extern "C" __global__ void synccheck(int* y) {
    if (threadIdx.x < 16) __syncthreads();
    y[threadIdx.x] = 1;
}

extern "C" __global__ void initcheck(const int* x, int* y) { y[threadIdx.x] = x[threadIdx.x]; }
"""


def sanitize(deadline: float, out: Path) -> int:
    """Run all tools on the calls, then memcheck on tests that ended with an unusable CUDA context."""
    program = machine.toolkit_program("compute-sanitizer")
    if program is None:
        results.emit("sanitize", case="compute-sanitizer", ok=False, exception="not installed")
        return 2
    codes = []
    for number, tool in enumerate(TOOLS):
        seconds = (deadline - time.monotonic()) / (len(TOOLS) - number)
        codes.append(_detects_fault(program, tool, seconds / 2))
        codes.append(_check_calls(program, tool, seconds, out))
    for row in [row for row in results.read(out / "results.jsonl") if row.get("lost")][:4]:
        _check_test(program, row["case"], deadline - time.monotonic() - 5)
    return max(codes)


def _detects_fault(program: str, tool: str, seconds: float) -> int:
    code, output = _run([program, *_options(tool), sys.executable, __file__, "fault", tool], seconds)
    detected = code == ERROR_EXIT
    row = {"case": f"{tool} detects a deliberate fault", "ok": detected, "code": code}
    results.emit(
        "sanitize", **row, **({} if detected else {"exception": " ".join(_messages(output)[:6]) or output[-300:]})
    )
    return 0 if detected else 1


def _check_calls(program: str, tool: str, seconds: float, out: Path) -> int:
    code, output = _run([program, *_options(tool), sys.executable, __file__, "small"], seconds)
    (out / f"sanitizer_{tool}.log").write_text(output, encoding="utf-8")
    messages = _messages(output)
    row: dict[str, Any] = {"case": f"{tool} on small calls", "ok": code == 0, "code": code, "summary": messages[-1:]}
    if code:
        row["exception"] = " ".join(messages[:12]) or output[-300:]
    results.emit("sanitize", **row)
    return 1 if code == ERROR_EXIT else 2 if code else 0


def _check_test(program: str, test: str, seconds: float) -> None:
    if seconds < MIN_TEST_S:
        return
    pytest = ["-m", "pytest", "-q", "-m", "gpu", "-W", "ignore", "--tb=no", "-p", "no:cacheprovider", test]
    _, output = _run([program, *_options("memcheck"), sys.executable, *pytest], seconds)
    results.emit("sanitize", event="memcheck of a test", case=test, messages=_messages(output)[:14])


def _options(tool: str) -> list[str]:
    return ["--tool", tool, "--error-exitcode", str(ERROR_EXIT), "--print-limit", "40"]


def _messages(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("=========")]


def _run(command: list[str], seconds: float) -> tuple[int, str]:
    try:
        completed = subprocess.run(
            command,
            cwd=testing.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=max(seconds, 1),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return TIMED_OUT, str(error.stdout or "")
    return completed.returncode, completed.stdout


def small() -> int:
    """Run small calls on the GPU, with a separate allocation for each array."""
    import cupy

    import cuda_device
    from gpu import values

    # Without a memory pool each allocation ends with its array, so that accesses beyond the end are detected.
    cupy.cuda.set_allocator(None)
    with cupy.cuda.Device(0):
        return values.check("sanitize", cuda_device.RealDevice(), *SIZE)


def fault(name: str) -> int:
    """Launch the kernel of `FAULTS` with that name."""
    import cupy

    cupy.cuda.set_allocator(None)
    kernel = cupy.RawModule(code=FAULTS).get_function(name)
    # racecheck needs a race between two warps.
    threads = 64 if name == "racecheck" else 32
    arrays = tuple(cupy.empty(threads, "int32") for _ in range(2 if name == "initcheck" else 1))
    kernel((1,), (threads,), arrays)
    cupy.cuda.Device(0).synchronize()
    return 0


if __name__ == "__main__":
    sys.exit(small() if sys.argv[1] == "small" else fault(sys.argv[2]))
