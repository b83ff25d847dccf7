"""Convolution on the CPU beside torch, and beside depthwise convolution, reshape and sum.

Run from a checkout with torch installed: ``PYTHONPATH=. python tests/benchmarks/conv_cpu.py``. With 256-bit vectors on
both sides: ``ARRAYOPS_CPU_ARCH=x86-64-v3 ONEDNN_MAX_CPU_ISA=AVX2`` before it, which raises the limits by a fifth.
"""

import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import arrayops as ao
import harness

# N, C (as many outputs), H and W, groups, k: ResNeXt-50 32x4d, depthwise, 1x1, dense.
SHAPES = (
    (8, 128, 56, 32, 3),
    (8, 256, 28, 32, 3),
    (8, 512, 14, 32, 3),
    (8, 1024, 7, 32, 3),
    (8, 256, 28, 256, 3),
    (8, 64, 112, 64, 3),
    (8, 192, 14, 192, 7),
    (4, 256, 56, 1, 1),
    (4, 64, 56, 1, 3),
)
FACTOR = 1.2 if "ARRAYOPS_CPU_ARCH" in os.environ else 1.0
FORWARD, BOTH, RECIPE = 1.15 * FACTOR, 1.3 * FACTOR, 1 / 8


def recipe(input: torch.Tensor, weight: torch.Tensor, groups: int) -> torch.Tensor:
    """A grouped convolution as depthwise convolution, reshape, sum: with channels / groups times the output between."""
    outputs, inner, size, _ = weight.shape
    each = outputs // groups
    filters = weight.view(groups, each, inner, size, size).transpose(1, 2).reshape(-1, 1, size, size)
    products = functional.conv2d(input, filters, padding=size // 2, groups=input.shape[1])
    batch, _, height, width = products.shape
    return products.view(batch, groups, inner, each, height, width).sum(2).view(batch, outputs, height, width)


def cases() -> Iterator[harness.Case]:
    """Forward, and forward with backward, in both layouts at every shape."""
    torch.set_num_threads(harness.THREADS)
    ao.set_num_threads(harness.THREADS)
    for shape in SHAPES:
        for layout in ("NCHW", "NHWC"):
            for both in (False, True):
                yield case(shape, layout, both)


def case(shape: tuple[int, int, int, int, int], layout: str, both: bool) -> harness.Case:
    """One shape; ``both`` is forward and backward. Torch gets channels_last tensors for NHWC."""
    batch, channels, size, groups, filter_size = shape
    random = np.random.default_rng(0)
    input, grad = (random.standard_normal((batch, channels, size, size), np.float32) for _ in range(2))
    weight = random.standard_normal((channels, channels // groups, filter_size, filter_size), np.float32)
    order = torch.contiguous_format if layout == "NCHW" else torch.channels_last
    tensors = [torch.from_numpy(a).to(memory_format=order).requires_grad_(both) for a in (input, weight)]
    upstream = torch.from_numpy(grad).to(memory_format=order)
    arrays = [input, weight, grad]
    if layout == "NHWC":
        axes = (0, 2, 3, 1), (2, 3, 1, 0), (0, 2, 3, 1)
        arrays = [np.ascontiguousarray(a.transpose(order)) for a, order in zip(arrays, axes, strict=True)]
    padding = filter_size // 2
    keywords: dict[str, Any] = {"groups": groups, "padding": padding, "layout": layout}

    def ours() -> Any:
        output = ao.conv2d(*arrays[:2], **keywords)
        return ao.conv2d_backward(arrays[2], *arrays[:2], **keywords) if both else output

    def differentiated(output: torch.Tensor) -> Any:
        return torch.autograd.grad(output, tensors, upstream) if both else output

    def plain() -> Any:
        return differentiated(functional.conv2d(*tensors, padding=padding, groups=groups))

    rivals = {"arrayops": ours, "torch": plain}
    limits = {"torch": BOTH if both else FORWARD}
    if 1 < groups < channels and layout == "NCHW":
        rivals["recipe"] = lambda: differentiated(recipe(*tensors, groups))
        limits["recipe"] = RECIPE

    def agree() -> None:
        found = ours()
        results = (found.input, found.weight) if both else (found,)
        for got, expected in zip(results, plain() if both else (plain(),), strict=True):
            want = expected.numpy()
            if layout == "NHWC":
                want = want.transpose((2, 3, 1, 0) if want.shape == weight.shape else (0, 2, 3, 1))
            assert np.linalg.norm(got - want) <= 1e-5 * np.linalg.norm(want)

    # Every value of a weight is multiplied once for each pixel; forward and each gradient do so.
    times = 3 if both else 1
    return harness.Case(
        f"{'forward + backward' if both else 'forward'} {layout} {shape}",
        rivals,
        agree,
        times * 2.0 * batch * size * size * weight.size,
        times * float(input.nbytes + grad.nbytes + weight.nbytes),
        limits,
    )


if __name__ == "__main__":
    sys.exit(harness.main("Convolution, float32, CPU", cases))
