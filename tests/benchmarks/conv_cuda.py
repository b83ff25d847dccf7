"""Grouped convolution on a GPU beside torch with cuDNN, both layouts, and the recipe of depthwise, reshape and sum.

The shapes of ResNeXt-50 32x4d, depthwise, dense and 1 x 1; float32 (TF32 off on all sides), float16 and bfloat16. Run
on a machine with a GPU, torch and CuPy:

    PYTHONPATH=. python tests/benchmarks/conv_cuda.py --json docs/benchmarks/<gpu>_conv.json
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from conv_cpu import recipe
from gpu_harness import DTYPES, Case, captured, main
from torch.nn import functional

import arrayops as ao

# N, C, H = W, groups, k
SHAPES = (
    (8, 128, 56, 32, 3),
    (8, 256, 28, 32, 3),
    (8, 512, 14, 32, 3),
    (8, 1024, 7, 32, 3),
    (64, 128, 56, 32, 3),
    (64, 256, 28, 256, 3),
    (64, 64, 56, 1, 3),
    (64, 256, 56, 1, 1),
)
SMALL_SHAPES = ((2, 8, 9, 2, 3), (2, 8, 9, 8, 3))


def case(shape: tuple[int, ...], dtype: torch.dtype, device: str, layout: str, both: bool) -> Case:
    """One comparison; ours has to agree with torch in the same layout, and runs under a CUDA graph as well."""
    batch, channels, size, groups, filter_size = shape
    torch.manual_seed(0)
    pad, memory = filter_size // 2, torch.channels_last if layout == "NHWC" else torch.contiguous_format
    input = torch.randn(batch, channels, size, size).to(device, dtype).to(memory_format=memory)
    grad = torch.randn(batch, channels, size, size).to(device, dtype).to(memory_format=memory)
    weight = torch.randn(channels, channels // groups, filter_size, filter_size).to(device, dtype)
    leaves = [tensor.clone(memory_format=torch.preserve_format).requires_grad_() for tensor in (input, weight)]

    # Plain NHWC arrays, and weights HWIO, as users of that layout hold them.
    def as_layout(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.permute(0, 2, 3, 1) if layout == "NHWC" else tensor

    x, dy = as_layout(input), as_layout(grad)
    w = weight.permute(2, 3, 1, 0).contiguous() if layout == "NHWC" else weight
    keywords: dict[str, Any] = {"groups": groups, "padding": pad, "layout": layout}

    def ours() -> Any:
        y = ao.conv2d(x, w, **keywords)
        return ao.conv2d_backward(dy, x, w, **keywords) if both else y

    def plain() -> Any:
        if not both:
            return functional.conv2d(input, weight, padding=pad, groups=groups)
        y = functional.conv2d(*leaves, padding=pad, groups=groups)
        return torch.autograd.grad(y, leaves, grad)

    rivals: dict[str, Callable[[], Any]] = {"arrayops": ours, "torch": plain}
    if device == "cuda":
        rivals["arrayops graph"] = captured(ours)
    if layout == "NCHW" and 1 < groups < channels:
        rivals["recipe"] = lambda: with_recipe(leaves, groups, grad if both else None)

    def found() -> tuple[torch.Tensor, ...]:
        result = ours()
        if not both:
            return (result.permute(0, 3, 1, 2) if layout == "NHWC" else result,)
        if layout == "NHWC":
            return result.input.permute(0, 3, 1, 2), result.weight.permute(3, 2, 0, 1)
        return result.input, result.weight

    def expected() -> tuple[torch.Tensor, ...]:
        result = plain()
        return result if both else (result,)

    passes = 3 if both else 1
    elements = batch * channels * size**2
    return Case(
        f"{'forward + backward' if both else 'forward'} {layout} {str(dtype).removeprefix('torch.')} {shape}",
        dtype,
        rivals,
        found,
        expected,
        2.0 * elements * channels // groups * filter_size**2 * passes,
        2 * elements * passes,
    )


def with_recipe(leaves: list[torch.Tensor], groups: int, grad: torch.Tensor | None) -> Any:
    """Depthwise convolution, reshape and sum."""
    y = recipe(*leaves, groups)
    return y if grad is None else torch.autograd.grad(y, leaves, grad)


def cases(device: str) -> Iterator[Case]:
    """Every shape, layout and dtype, forward and with backward."""
    for shape in SMALL_SHAPES if device == "cpu" else SHAPES:
        for layout in ("NHWC", "NCHW"):
            for dtype in DTYPES[:1] if device == "cpu" else DTYPES:
                for both in (False, True):
                    yield case(shape, dtype, device, layout, both)


if __name__ == "__main__":
    main("Grouped convolution on a GPU", cases)
