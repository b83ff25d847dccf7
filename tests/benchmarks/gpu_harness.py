"""Side-by-side timing on a GPU, in turn within each round, with peak memory and floors from a copy and a product.

A script makes its cases, and `main` gives it a command line: ``--json`` writes the rows to a file, and ``--device cpu``
runs tiny shapes without a GPU, to show that the script works.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import arrayops as ao

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LIMITS = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
"""Relative errors up to which rivals agree."""


@dataclass
class Case:
    """One comparison: rivals by name, the first of which is ours.

    ``expected`` gives what ours has to agree with, ``found`` what it gives; ``operations`` are floating-point
    operations, ``elements`` the fewest that must be moved.
    """

    name: str
    dtype: torch.dtype
    rivals: dict[str, Callable[[], Any]]
    found: Callable[[], Sequence[torch.Tensor]]
    expected: Callable[[], Sequence[torch.Tensor]]
    operations: float
    elements: float


@dataclass
class Row:
    """One measurement; times in milliseconds, memory in MiB over the arrays of the call."""

    case: str
    median_ms: dict[str, float]
    peak_mib: dict[str, float]
    floor_operations_ms: float
    floor_bytes_ms: float


class Clock:
    """Times calls on a device, each after the device is idle."""

    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"

    def milliseconds(self, call: Callable[[], Any]) -> float:
        """Time of one call, from an idle device until it is idle again."""
        if not self.cuda:
            start = time.perf_counter()
            call()
            return (time.perf_counter() - start) * 1e3
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        elapsed: float = begin.elapsed_time(end)
        return elapsed

    def peak(self, call: Callable[[], Any]) -> float:
        """MiB that a call takes at its peak beside what was there."""
        if not self.cuda:
            return 0.0
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20


def captured(call: Callable[[], Any]) -> Callable[[], Any]:
    """The call recorded into a CUDA graph; it costs no Python when it is replayed."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    replay: Callable[[], Any] = graph.replay
    return replay


def rates(clock: Clock, device: str, dtype: torch.dtype) -> tuple[float, float]:
    """Operations a second of a large product, and bytes a second of a large copy."""
    size = 4096 if clock.cuda else 256
    a = torch.randn(size, size, device=device).to(dtype)
    source = torch.empty((1 << 28) if clock.cuda else 1 << 16, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product = statistics.median(clock.milliseconds(lambda: a @ a) for _ in range(15))
    copy = statistics.median(clock.milliseconds(lambda: target.copy_(source)) for _ in range(15))
    return 2e3 * size**3 / product, 2e3 * source.numel() / copy


def check(case: Case) -> None:
    """Ours has to agree before anything is timed."""
    for want, got in zip(case.expected(), case.found(), strict=True):
        error = (got.double() - want.double()).norm() / want.double().norm()
        if not error <= LIMITS[case.dtype]:
            raise SystemExit(f"{case.name}: relative error {error:.2e}, expected at most {LIMITS[case.dtype]:.0e}")


def measure(case: Case, device: str, rounds: int) -> Row:
    """Agreement, warm-up, then all rivals in turn in each round."""
    clock = Clock(device)
    check(case)
    times: dict[str, list[float]] = {rival: [] for rival in case.rivals}
    for call in case.rivals.values():
        call()
    for _ in range(rounds):
        for rival, call in case.rivals.items():
            times[rival].append(clock.milliseconds(call))
    product, copy = rates(clock, device, case.dtype)
    return Row(
        case.name,
        {rival: statistics.median(values) for rival, values in times.items()},
        {rival: clock.peak(call) for rival, call in case.rivals.items()},
        case.operations / product * 1e3,
        case.elements * case.dtype.itemsize / copy * 1e3,
    )


def table(rows: list[Row]) -> str:
    """Markdown. Rows of one script may have different rivals; those without one are left empty."""
    names = list(dict.fromkeys(name for row in rows for name in row.median_ms))
    others = [name for name in names if not name.startswith("arrayops")]
    head = ["case", *(f"{name} ms" for name in names), *(f"arrayops / {name}" for name in others)]
    head += [*(f"{name} MiB" for name in names), "floor: operations ms", "floor: bytes ms"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        ours = row.median_ms["arrayops"]
        cells = [row.case, *(f"{row.median_ms[name]:.3f}" if name in row.median_ms else "" for name in names)]
        cells += [f"{ours / row.median_ms[name]:.2f}" if name in row.median_ms else "" for name in others]
        cells += [f"{row.peak_mib[name]:.0f}" if name in row.peak_mib else "" for name in names]
        cells += [f"{row.floor_operations_ms:.3f}", f"{row.floor_bytes_ms:.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(description: str, cases: Callable[[str], Iterable[Case]]) -> None:
    """Command line of a script; ``cases`` are made one by one for a device, tiny ones for "cpu"."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    rows = [measure(case, arguments.device, arguments.rounds) for case in cases(arguments.device)]
    gpu = "none" if arguments.device == "cpu" else torch.cuda.get_device_name()
    print(f"GPU {gpu}, torch {torch.__version__}, CUDA {torch.version.cuda}, arrayops {ao.__version__}\n")
    print(table(rows))
    if arguments.json:
        about = {"gpu": gpu, "torch": torch.__version__, "cuda": torch.version.cuda}
        arguments.json.write_text(json.dumps({"machine": about, "rows": [asdict(row) for row in rows]}, indent=1))
