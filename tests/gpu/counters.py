"""Hardware counters of the most important kernels, measured with Nsight Compute.

``python tests/gpu/counters.py`` is the profiled program.
"""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    ROOT = Path(__file__).resolve().parents[2]
    sys.path[:1] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "support")]

from gpu import machine, results, testing
from gpu.supervisor import TIMED_OUT

METRICS = {
    "gpu__time_duration.sum": "us",
    "smsp__inst_executed.sum": "instructions",
    "smsp__issue_active.avg.pct_of_peak_sustained_active": "issue",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "occupancy",
    "launch__registers_per_thread": "registers",
    "dram__bytes.sum": "dram_MB",
    "lts__t_bytes.sum": "l2_MB",
    "l1tex__data_bank_conflicts_pipe_lsu.sum": "bank_conflicts",
    "sm__inst_executed_pipe_tensor.sum": "tensor_instructions",
    "smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio": "stall_memory",
    "smsp__average_warps_issue_stalled_short_scoreboard_per_issue_active.ratio": "stall_shared",
    "smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio": "stall_barrier",
    "smsp__average_warps_issue_stalled_mio_throttle_per_issue_active.ratio": "stall_mio",
}
"""Nsight Compute's metrics and their keys in results. Stalls are average numbers of stalled warps per issue."""

SCALES = {"ns": 1e-3, "nsecond": 1e-3, "us": 1, "usecond": 1, "ms": 1e3, "msecond": 1e3}
SCALES |= {"byte": 1e-6, "Kbyte": 1e-3, "Mbyte": 1, "Gbyte": 1e3}
"""Factors that convert units to microseconds and megabytes."""


def calls() -> Iterator[tuple[str, Callable[[], Any]]]:
    """The most important calls of the benchmarks, on CuPy arrays."""
    import cupy

    import arrayops as ao

    half, single = "float16", "float32"

    def array(dtype: str, *shape: int) -> Any:
        return cupy.random.standard_normal(shape, dtype="float32").astype(dtype) / 4

    for dtype, layout, k in ((single, "NCHW", 5), (half, "NHWC", 5), (half, "NHWC", 3)):
        last = layout == "NHWC"
        x, g, w = (1, 512, 512, 64), (1, 512, 512, 8), (k, k, 64, 64)
        if not last:
            x, g, w = (1, 64, 512, 512), (1, 8, 512, 512), (64, 64, k, k)
        arrays = array(dtype, *x), array(dtype, *g), array(dtype, *w)
        keywords: dict[str, Any] = {"padding": k // 2, "layout": layout}
        name = f"pac {k}x{k} {layout} {dtype}"
        yield name, partial(ao.pac_conv2d, *arrays, **keywords)
        if k == 5:
            yield f"{name} backward", partial(ao.pac_conv2d_backward, arrays[0], *arrays, **keywords)
    for name, shape, weight, groups in (
        ("groups of 4", (64, 56, 56, 128), (3, 3, 4, 128), 32),
        ("depthwise", (64, 28, 28, 256), (3, 3, 1, 256), 256),
        ("dense 3x3", (64, 56, 56, 64), (3, 3, 64, 64), 1),
        ("1x1", (64, 56, 56, 256), (1, 1, 256, 256), 1),
    ):
        pair = array(half, *shape), array(half, *weight)
        keywords = {"padding": weight[0] // 2, "layout": "NHWC", "groups": groups}
        yield f"{name} NHWC {half}", partial(ao.conv2d, *pair, **keywords)
        if groups == 32:
            yield f"{name} NHWC {half} backward", partial(ao.conv2d_backward, pair[0], *pair, **keywords)
    rows = cupy.arange(512, dtype="int32") // 26
    labels = cupy.ascontiguousarray(cupy.broadcast_to(rows[:, None] * 20 + rows, (4, 512, 512)))
    for layout, shape in (("NHWC", (4, 512, 512, 64)), ("NCHW", (4, 64, 512, 512))):
        keywords = {"layout": layout}
        yield f"segment mean {layout}", partial(ao.segment_mean, array(single, *shape), labels, 400, **keywords)
    maps = [array(half, 16, size, size, 256) for size in (56, 28, 14)]
    yield "merge concat NHWC float16", partial(ao.merge_feature_maps, maps, layout="NHWC")


MARKER = "next_call"
"""An empty kernel, launched before each call to separate the launches of calls."""


def launch() -> int:
    """Run each call twice: first to load its kernels, then under the profiler."""
    import cupy

    marker = cupy.RawModule(code=f'extern "C" __global__ void {MARKER}() {{}}').get_function(MARKER)
    for _, call in calls():
        call()
        cupy.cuda.Device().synchronize()
        cupy.cuda.profiler.start()
        marker((1,), (1,), ())
        call()
        cupy.cuda.Device().synchronize()
        cupy.cuda.profiler.stop()
    return 0


def count(deadline: float, out: Path) -> int:
    """Emit a row of counters for each kernel of each call."""
    program = machine.toolkit_program("ncu")
    if program is None:
        results.emit("counters", event="not run: Nsight Compute (ncu) is not installed")
        return 0
    command = [program, "--csv", "--page", "raw", "--profile-from-start", "off", "--clock-control", "none"]
    command += ["--metrics", ",".join(METRICS), sys.executable, __file__]
    with (out / "counters.csv").open("w") as file:
        process = subprocess.Popen(command, cwd=testing.ROOT, stdout=file)
        try:
            code = process.wait(max(deadline - time.monotonic() - 2, 1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = TIMED_OUT
    text = (out / "counters.csv").read_text(encoding="utf-8", errors="replace")
    rows = parse(text, [name for name, _ in calls()])
    for row in rows:
        results.emit("counters", **row)
    if not rows:
        results.emit("counters", event=f"not run: ncu exited with {code} and without counters; see counters.csv")
    return 0 if code == 0 else 2


def parse(text: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """Parse ncu's raw CSV: a line of column names, one of units, then one for each launch of the calls ``names``."""
    lines = [line for line in text.splitlines() if line.startswith('"')]
    if len(lines) < 3:
        return []
    columns, units, *launches = csv.reader(io.StringIO("\n".join(lines)))
    unit_of = dict(zip(columns, units, strict=False))
    rows, call = [], -1
    for values in launches:
        fields = dict(zip(columns, values, strict=False))
        kernel = fields.get("Kernel Name", "").partition("(")[0]
        if kernel == MARKER:
            call += 1
            continue
        row: dict[str, Any] = {"case": names[call] if 0 <= call < len(names) else "", "kernel": kernel}
        row |= {"grid": fields.get("Grid Size", ""), "block": fields.get("Block Size", "")}
        for metric, name in METRICS.items():
            try:
                row[name] = float(fields[metric].replace(",", "")) * SCALES.get(unit_of[metric], 1)
            except (KeyError, ValueError):
                row[name] = float("nan")
        rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(launch())
