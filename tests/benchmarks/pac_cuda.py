"""Pixel-adaptive convolution on a GPU beside torch: a plain cuDNN convolution, and unfold and einsum.

Time and peak memory, forward and forward + backward, float32 (TF32 off on all sides), float16 and bfloat16. Run on a
machine with a GPU, torch and CuPy:

    PYTHONPATH=. python tests/benchmarks/pac_cuda.py --json docs/benchmarks/<gpu>.json
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from gpu_harness import DTYPES, Case, main
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


def cases(device: str) -> Iterator[Case]:
    """Every shape and dtype, forward and with backward."""
    for shape in SMALL_SHAPES if device == "cpu" else SHAPES:
        for dtype in DTYPES[:1] if device == "cpu" else DTYPES:
            for both in (False, True):
                yield case(shape, dtype, device, both)


def case(shape: tuple[int, ...], dtype: torch.dtype, device: str, both: bool) -> Case:
    """One comparison; ours has to agree with unfold and einsum."""
    calls = rivals(shape, dtype, device, both)

    def found() -> tuple[torch.Tensor, ...]:
        result = calls["arrayops"]()
        return (result.input, result.guide, result.weight) if both else (result,)

    def expected() -> tuple[torch.Tensor, ...]:
        result = calls["unfold"]()
        return result if both else (result,)

    batch, channels, outputs, guides, height, width, size = shape
    passes = 3 if both else 1
    return Case(
        f"{'forward + backward' if both else 'forward'} {str(dtype).removeprefix('torch.')} {shape}",
        dtype,
        calls,
        found,
        expected,
        2.0 * batch * height * width * channels * outputs * size**2 * passes,
        batch * height * width * (channels + guides + outputs) * passes,
    )


if __name__ == "__main__":
    main("Pixel-adaptive convolution on a GPU", cases)
