"""Pixel-adaptive convolution on the CPU beside torch: unfold and einsum, and a plain convolution.

Run from a checkout with torch installed: ``PYTHONPATH=. python tests/benchmarks/pac_cpu.py``
"""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import arrayops as ao
import harness

# N, C, O, G, H, W, k, and the most that the forward, and forward + backward, may take of a plain convolution's time.
SHAPES = (
    ((1, 32, 32, 8, 256, 256, 5), 2.5, 3.25),
    ((1, 64, 64, 16, 128, 128, 5), 2.5, 3.25),
    ((4, 16, 16, 8, 128, 128, 3), 5.0, 3.25),
    ((1, 21, 21, 5, 256, 256, 5), 3.5, 3.25),
)
FORWARD_OVER_UNFOLD, BOTH_OVER_UNFOLD = 1 / 5, 1 / 4


def unfold_pac(input: torch.Tensor, guide: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """PAC the straightforward way: windows of input and guide side by side, a kernel, one product."""
    batch, _, height, width = input.shape
    outputs, channels, size, _ = weight.shape
    around = functional.unfold(guide, size, padding=size // 2).view(batch, guide.shape[1], size**2, height, width)
    kernel = torch.exp(-0.5 * (around - guide[:, :, None]).square().sum(1))
    windows = functional.unfold(input, size, padding=size // 2).view(batch, channels, size**2, height, width)
    return torch.einsum("nckhw,nkhw,ock->nohw", windows, kernel, weight.reshape(outputs, channels, size**2))


def cases() -> Iterator[harness.Case]:
    """Forward, and forward with backward, at every shape."""
    torch.set_num_threads(harness.THREADS)
    ao.set_num_threads(harness.THREADS)
    random = np.random.default_rng(0)
    for shape, forward_limit, both_limit in SHAPES:
        batch, channels, outputs, guides, height, width, size = shape
        input = random.standard_normal((batch, channels, height, width), np.float32)
        guide = random.standard_normal((batch, guides, height, width), np.float32) / 4
        weight = random.standard_normal((outputs, channels, size, size), np.float32)
        grad = random.standard_normal((batch, outputs, height, width), np.float32)
        yield forward_case(str(shape), forward_limit, input, guide, weight)
        yield both_case(str(shape), both_limit, input, guide, weight, grad)


def work(input: Any, guide: Any, weight: Any) -> tuple[float, float]:
    """Operations of the convolution itself, and bytes of its arrays."""
    batch, _, height, width = input.shape
    return 2.0 * batch * height * width * weight.size, float(input.nbytes * 2 + guide.nbytes + weight.nbytes)


def forward_case(name: str, limit: float, input: Any, guide: Any, weight: Any) -> harness.Case:
    """The forward alone."""
    tensors = [torch.from_numpy(array) for array in (input, guide, weight)]
    padding = weight.shape[2] // 2

    def agree() -> None:
        expected = unfold_pac(*tensors).numpy()
        got = ao.pac_conv2d(input, guide, weight, padding=padding)
        assert np.linalg.norm(got - expected) <= 2e-6 * np.linalg.norm(expected)

    operations, moved = work(input, guide, weight)
    return harness.Case(
        f"forward {name}",
        {
            "arrayops": lambda: ao.pac_conv2d(input, guide, weight, padding=padding),
            "unfold": lambda: unfold_pac(*tensors),
            "conv2d": lambda: functional.conv2d(tensors[0], tensors[2], padding=padding),
        },
        agree,
        operations,
        moved,
        {"unfold": FORWARD_OVER_UNFOLD, "conv2d": limit},
    )


def both_case(name: str, limit: float, input: Any, guide: Any, weight: Any, grad: Any) -> harness.Case:
    """Forward and backward; a plain convolution has no guide to make a gradient for."""
    tensors = [torch.from_numpy(array).requires_grad_() for array in (input, guide, weight)]
    ones = torch.from_numpy(grad)
    padding = weight.shape[2] // 2

    def ours() -> Any:
        ao.pac_conv2d(input, guide, weight, padding=padding)
        return ao.pac_conv2d_backward(grad, input, guide, weight, padding=padding)

    def unfold() -> Any:
        return torch.autograd.grad(unfold_pac(*tensors), tensors, ones)

    def plain() -> Any:
        output = functional.conv2d(tensors[0], tensors[2], padding=padding)
        return torch.autograd.grad(output, [tensors[0], tensors[2]], ones)

    def agree() -> None:
        found = ours()
        for got, expected in zip((found.input, found.guide, found.weight), unfold(), strict=True):
            assert np.linalg.norm(got - expected.numpy()) <= 1e-5 * np.linalg.norm(expected.numpy())

    operations, moved = work(input, guide, weight)
    return harness.Case(
        f"forward + backward {name}",
        {"arrayops": ours, "unfold": unfold, "conv2d": plain},
        agree,
        3 * operations,
        3 * moved,
        {"unfold": BOTH_OVER_UNFOLD, "conv2d": limit},
    )


if __name__ == "__main__":
    sys.exit(harness.main("Pixel-adaptive convolution, float32, CPU", cases))
