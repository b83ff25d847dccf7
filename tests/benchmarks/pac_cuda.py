"""Pixel-adaptive convolution on a GPU beside torch: a plain cuDNN convolution, and unfold and einsum.

Time and peak memory, forward and forward + backward, float32 (TF32 off on all sides), float16 and bfloat16, with floors
from a measured copy and a measured matrix product. Run on a machine with a GPU, torch and CuPy:

    PYTHONPATH=. python tests/benchmarks/pac_cuda.py --json docs/benchmarks/<gpu>.json

``--device cpu`` runs the same script on tiny shapes without a GPU, to show that it works.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pac_cpu import unfold_pac
from torch.nn import functional

import arrayops as ao

# N, C, O, G, H, W, k
SHAPES = (
    (4, 32, 32, 8, 256, 256, 5),
    (4, 64, 64, 16, 256, 256, 5),
    (8, 16, 16, 8, 256, 256, 3),
    (4, 64, 64, 16, 256, 256, 3),
    (4, 128, 128, 16, 128, 128, 3),
    (1, 21, 21, 5, 512, 512, 5),
)
SMALL_SHAPES = ((1, 8, 8, 3, 20, 24, 3),)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LIMITS = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


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


def rates(clock: Clock, device: str, dtype: torch.dtype) -> tuple[float, float]:
    """Operations a second of a large product, and bytes a second of a large copy."""
    size = 4096 if clock.cuda else 256
    a = torch.randn(size, size, device=device).to(dtype)
    source = torch.empty((1 << 28) if clock.cuda else 1 << 16, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product = statistics.median(clock.milliseconds(lambda: a @ a) for _ in range(15))
    copy = statistics.median(clock.milliseconds(lambda: target.copy_(source)) for _ in range(15))
    return 2e3 * size**3 / product, 2e3 * source.numel() / copy


def rivals(shape: tuple[int, ...], dtype: torch.dtype, device: str, both: bool) -> dict[str, Callable[[], Any]]:
    """What is compared: ours in both layouts, a plain convolution, unfold and einsum."""
    batch, channels, outputs, guides, height, width, size = shape
    torch.manual_seed(0)
    made = [
        torch.randn(batch, channels, height, width),
        torch.randn(batch, guides, height, width) / 4,
        torch.randn(outputs, channels, size, size),
        torch.randn(batch, outputs, height, width),
    ]
    input, guide, weight, grad = (tensor.to(device, dtype) for tensor in made)
    last = {"memory_format": torch.channels_last}
    input_last, guide_last, grad_last = (tensor.to(**last) for tensor in (input, guide, grad))
    leaves = [tensor.clone().requires_grad_() for tensor in (input, guide, weight)]
    pad = size // 2

    def ours(x: torch.Tensor, f: torch.Tensor, g: torch.Tensor) -> Any:
        y = ao.pac_conv2d(x, f, weight, padding=pad)
        return ao.pac_conv2d_backward(g, x, f, weight, padding=pad) if both else y

    def plain() -> Any:
        if not both:
            return functional.conv2d(input, weight, padding=pad)
        y = functional.conv2d(leaves[0], leaves[2], padding=pad)
        return torch.autograd.grad(y, [leaves[0], leaves[2]], grad)

    def unfolded() -> Any:
        if not both:
            return unfold_pac(input, guide, weight)
        return torch.autograd.grad(unfold_pac(*leaves), leaves, grad)

    return {
        "arrayops": lambda: ours(input, guide, grad),
        # Read where it lies: strides tell the layout.
        "arrayops channels_last": lambda: ours(input_last, guide_last, grad_last),
        "conv2d": plain,
        "unfold": unfolded,
    }


def check(name: str, calls: dict[str, Callable[[], Any]], dtype: torch.dtype) -> None:
    """Ours has to agree with unfold and einsum before anything is timed."""
    expected = calls["unfold"]()
    found = calls["arrayops"]()
    if isinstance(expected, tuple):
        found = found.input, found.guide, found.weight
    else:
        expected, found = (expected,), (found,)
    for want, got in zip(expected, found, strict=True):
        error = (got.double() - want.double()).norm() / want.double().norm()
        if not error <= LIMITS[dtype]:
            raise SystemExit(f"{name}: relative error {error:.2e}, expected at most {LIMITS[dtype]:.0e}")


def measure(shape: tuple[int, ...], dtype: torch.dtype, device: str, both: bool, rounds: int) -> Row:
    """Agreement, warm-up, then all rivals in turn in each round."""
    clock = Clock(device)
    name = f"{'forward + backward' if both else 'forward'} {str(dtype).removeprefix('torch.')} {shape}"
    calls = rivals(shape, dtype, device, both)
    check(name, calls, dtype)
    times: dict[str, list[float]] = {rival: [] for rival in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for rival, call in calls.items():
            times[rival].append(clock.milliseconds(call))
    batch, channels, outputs, guides, height, width, size = shape
    operations = 2.0 * batch * height * width * channels * outputs * size**2 * (3 if both else 1)
    elements = batch * height * width * (channels + guides + outputs) * (3 if both else 1)
    product, copy = rates(clock, device, dtype)
    return Row(
        name,
        {rival: statistics.median(values) for rival, values in times.items()},
        {rival: clock.peak(call) for rival, call in calls.items()},
        operations / product * 1e3,
        elements * dtype.itemsize / copy * 1e3,
    )


def table(rows: list[Row]) -> str:
    """Markdown."""
    names = list(rows[0].median_ms)
    others = names[2:]
    head = ["case", *(f"{name} ms" for name in names), *(f"arrayops / {name}" for name in others)]
    head += [*(f"{name} MiB" for name in names), "floor: operations ms", "floor: bytes ms"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row.case, *(f"{row.median_ms[name]:.3f}" for name in names)]
        cells += [f"{row.median_ms['arrayops'] / row.median_ms[name]:.2f}" for name in others]
        cells += [f"{row.peak_mib[name]:.0f}" for name in names]
        cells += [f"{row.floor_operations_ms:.3f}", f"{row.floor_bytes_ms:.3f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Pixel-adaptive convolution on a GPU")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    small = arguments.device == "cpu"
    rows = [
        measure(shape, dtype, arguments.device, both, arguments.rounds)
        for shape in (SMALL_SHAPES if small else SHAPES)
        for dtype in (DTYPES[:1] if small else DTYPES)
        for both in (False, True)
    ]
    gpu = "none" if small else torch.cuda.get_device_name()
    print(f"GPU {gpu}, torch {torch.__version__}, CUDA {torch.version.cuda}, arrayops {ao.__version__}\n")
    print(table(rows))
    if arguments.json:
        about = {"gpu": gpu, "torch": torch.__version__, "cuda": torch.version.cuda}
        arguments.json.write_text(json.dumps({"machine": about, "rows": [asdict(row) for row in rows]}, indent=1))


if __name__ == "__main__":
    main()
