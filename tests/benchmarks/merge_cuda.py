"""Merging feature maps of three sizes on a GPU beside torch: interpolate, then cat or add.

8 x 256 maps of 28, 14 and 7 pixels, bilinear, both layouts, float32 and float16, forward and with backward. The floor
is what has to be read and written, at the bandwidth of a copy. Run on a machine with a GPU, torch and CuPy:

    PYTHONPATH=. python tests/benchmarks/merge_cuda.py --json docs/benchmarks/<gpu>_merge.json
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from gpu_harness import Case, captured, main
from torch.nn import functional

import arrayops as ao

BATCH, CHANNELS, SIZES = 8, 256, (28, 14, 7)
SMALL = (2, 8, (8, 4, 2))


def case(how: str, layout: str, dtype: torch.dtype, device: str, both: bool) -> Case:
    """One comparison; ours has to agree with torch in float64, and runs under a CUDA graph as well."""
    torch.manual_seed(0)
    batch, channels, sizes = (BATCH, CHANNELS, SIZES) if device == "cuda" else SMALL
    memory = torch.channels_last if layout == "NHWC" else torch.contiguous_format
    maps = [torch.randn(batch, channels, size, size).to(device, dtype).to(memory_format=memory) for size in sizes]
    merged_channels = channels * (len(sizes) if how == "concat" else 1)
    grad = torch.randn(batch, merged_channels, sizes[0], sizes[0]).to(device, dtype).to(memory_format=memory)
    leaves = [tensor.clone(memory_format=torch.preserve_format).requires_grad_(both) for tensor in maps]
    exact = [tensor.double().requires_grad_(both) for tensor in maps]

    # Plain NHWC arrays, as users of that layout hold them.
    def as_layout(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.permute(0, 2, 3, 1) if layout == "NHWC" else tensor

    def as_torch(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.permute(0, 3, 1, 2) if layout == "NHWC" else tensor

    mine, dy = [as_layout(tensor) for tensor in maps], as_layout(grad)
    keywords: dict[str, Any] = {"how": how, "layout": layout}

    def ours() -> Any:
        y = ao.merge_feature_maps(mine, **keywords)
        return ao.merge_feature_maps_backward(dy, mine, **keywords).maps if both else y

    def merged(sources: list[torch.Tensor], upstream: torch.Tensor) -> tuple[torch.Tensor, ...]:
        size = sizes[:1] * 2
        resized = [sources[0], *(functional.interpolate(each, size, mode="bilinear") for each in sources[1:])]
        y = torch.cat(resized, 1) if how == "concat" else resized[0] + resized[1] + resized[2]
        return torch.autograd.grad(y, sources, upstream) if both else (y,)

    rivals: dict[str, Callable[[], Any]] = {"arrayops": ours, "torch": lambda: merged(leaves, grad)}
    if device == "cuda":
        rivals["arrayops graph"] = captured(ours)

    def found() -> tuple[torch.Tensor, ...]:
        result = ours()
        return tuple(as_torch(each) for each in (result if both else (result,)))

    passes = 2 if both else 1
    return Case(
        f"{'forward + backward' if both else 'forward'} {how} {layout} {str(dtype).removeprefix('torch.')}",
        dtype,
        rivals,
        found,
        lambda: merged(exact, grad.double()),
        8.0 * grad.numel() * passes,
        passes * (grad.numel() + sum(tensor.numel() for tensor in maps)),
    )


def cases(device: str) -> Iterator[Case]:
    """Both ways to merge, both layouts, forward and with backward."""
    for how in ("concat", "add"):
        for layout in ("NHWC", "NCHW"):
            for dtype in (torch.float32, torch.float16):
                for both in (False, True):
                    yield case(how, layout, dtype, device, both)


if __name__ == "__main__":
    main("Merging feature maps on a GPU", cases)
