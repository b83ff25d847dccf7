"""compute-sanitizer over small calls of every family, each array in an allocation of its own.

Every tool first has to find a fault that was planted for it: a sanitizer that sees nothing passes everything.

``python tests/gpu/sanitizing.py small`` and ``... planted NAME`` are what runs under the sanitizer.
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
"""Pixels along an axis, and channels."""

FOUND = 99
"""Exit code that compute-sanitizer is told to leave with when it has found something."""

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
    """All tools, then memcheck again over tests that lost their context."""
    program = machine.toolkit_program("compute-sanitizer")
    if program is None:
        results.emit("sanitize", case="compute-sanitizer", ok=False, exception="it is not installed")
        return 2
    codes = []
    for number, tool in enumerate(TOOLS):
        left = (deadline - time.monotonic()) / (len(TOOLS) - number)
        codes.append(_planted(program, tool, left / 2))
        codes.append(_small(program, tool, left, out))
    for row in [row for row in results.read(out / "results.jsonl") if row.get("lost")][:4]:
        _test(program, row["case"], deadline - time.monotonic() - 5)
    return max(codes)


def _planted(program: str, tool: str, seconds: float) -> int:
    code, output = _run([program, *_options(tool), sys.executable, __file__, "planted", tool], seconds)
    found = code == FOUND
    row = {"case": f"{tool} finds a planted fault", "ok": found, "code": code}
    results.emit(
        "sanitize", **row, **({} if found else {"exception": " ".join(_findings(output)[:6]) or output[-300:]})
    )
    return 0 if found else 1


def _small(program: str, tool: str, seconds: float, out: Path) -> int:
    code, output = _run([program, *_options(tool), sys.executable, __file__, "small"], seconds)
    (out / f"sanitizer_{tool}.log").write_text(output, encoding="utf-8")
    findings = _findings(output)
    row: dict[str, Any] = {"case": f"{tool} over small calls", "ok": code == 0, "code": code, "summary": findings[-1:]}
    if code:
        row["exception"] = " ".join(findings[:12]) or output[-300:]
    results.emit("sanitize", **row)
    return 1 if code == FOUND else 2 if code else 0


def _test(program: str, test: str, seconds: float) -> None:
    if seconds < 20:
        return
    pytest = ["-m", "pytest", "-q", "-m", "gpu", "-W", "ignore", "--tb=no", "-p", "no:cacheprovider", test]
    _, output = _run([program, *_options("memcheck"), sys.executable, *pytest], seconds)
    results.emit("sanitize", event="memcheck of a test", case=test, findings=_findings(output)[:14])


def _options(tool: str) -> list[str]:
    return ["--tool", tool, "--error-exitcode", str(FOUND), "--print-limit", "40"]


def _findings(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("=========")]


def _run(command: list[str], seconds: float) -> tuple[int, str]:
    try:
        found = subprocess.run(
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
    return found.returncode, found.stdout


def small() -> int:
    """What runs under the tools."""
    import cupy

    import cuda_device
    from gpu import values

    # No pool: an allocation ends where its array ends, so that the first byte beyond is found.
    cupy.cuda.set_allocator(None)
    with cupy.cuda.Device(0):
        return values.check("sanitize", cuda_device.RealDevice(), *SIZE)


def planted(name: str) -> int:
    """Launch the fault of that name."""
    import cupy

    cupy.cuda.set_allocator(None)
    kernel = cupy.RawModule(code=FAULTS).get_function(name)
    # Two warps, one of which may be ahead of the other.
    threads = 64 if name == "racecheck" else 32
    arrays = tuple(cupy.empty(threads, "int32") for _ in range(2 if name == "initcheck" else 1))
    kernel((1,), (threads,), arrays)
    cupy.cuda.Device(0).synchronize()
    return 0


if __name__ == "__main__":
    sys.exit(small() if sys.argv[1] == "small" else planted(sys.argv[2]))
