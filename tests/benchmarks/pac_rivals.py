"""Pixel-adaptive convolution in torch and JAX: tap by tap, and unfolded. Gaussian kernel, odd filter, size kept.

Arrays are NCHW in torch, in either memory format, and of either layout in JAX.
"""

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import harness

Add = Callable[[torch.Tensor | None, torch.Tensor, torch.Tensor], torch.Tensor]
Call = Callable[[], Any]
FORWARD, BOTH, WEIGHT = "forward", "forward + backward", "weight gradient"

# XLA has no other way to choose how many threads it starts, at its first use.
os.environ.setdefault("NPROC", str(harness.THREADS))
JAX: Any = import_module("jax") if find_spec("jax") else None


def unfold_windows(input: torch.Tensor, guide: torch.Tensor, size: int) -> torch.Tensor:
    """Windows of the input times their adaptive kernels: (N, C, k k, H, W)."""
    batch, channels, height, width = input.shape
    around = functional.unfold(guide, size, padding=size // 2).view(batch, guide.shape[1], size**2, height, width)
    kernel = torch.exp(-0.5 * (around - guide[:, :, None]).square().sum(1))
    windows = functional.unfold(input, size, padding=size // 2).view(batch, channels, size**2, height, width)
    return windows * kernel[:, None]


def unfold_pac(input: torch.Tensor, guide: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """PAC the straightforward way: windows of input and guide side by side, a kernel, one product."""
    return torch.einsum("nckhw,ock->nohw", unfold_windows(input, guide, weight.shape[2]), weight.flatten(2))


def unfold_weight(input: torch.Tensor, guide: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """Gradient of the weight."""
    windows = unfold_windows(input, guide, weight.shape[2])
    return torch.einsum("nckhw,nohw->ock", windows, grad).view(weight.shape)


def tap_windows(input: torch.Tensor, guide: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """For each tap the slice of the padded input that it reads, times its adaptive kernel."""
    height, width = input.shape[2:]
    input, around = (functional.pad(image, [size // 2] * 4) for image in (input, guide))
    for top in range(size):
        for left in range(size):
            window = np.s_[:, :, top : top + height, left : left + width]
            distance = (around[window] - guide).square().sum(1, keepdim=True)
            yield torch.exp(-0.5 * distance) * input[window]


def add_convolution(total: torch.Tensor | None, window: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Add a 1x1 convolution in place."""
    product = functional.conv2d(window, matrix[:, :, None, None])
    return product if total is None else total.add_(product)


def add_product(total: torch.Tensor | None, window: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Add a matrix product in place."""
    if total is None:
        return matrix @ window.flatten(2)
    return total.baddbmm_(matrix.expand(len(window), -1, -1), window.flatten(2))


def add_product_apart(total: torch.Tensor | None, window: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Add a matrix product to a new array."""
    product = matrix @ window.flatten(2)
    return product if total is None else total + product


def few_channels(input: torch.Tensor) -> bool:
    """Whether matrix products are faster than 1x1 convolutions; they want each channel in one piece."""
    return bool(input.shape[1] < 32 and input.is_contiguous())


def taps_pac(input: torch.Tensor, guide: torch.Tensor, weight: torch.Tensor, add: Add | None = None) -> torch.Tensor:
    """Tap by tap: no array is larger than the padded input."""
    # Slower: einsum, a new array for each sum, and kernels applied to what a product of all samples gives.
    add = add or (add_product if few_channels(input) else add_convolution)
    # One gradient is stacked for the whole weight this way; slices of it would each be given one of its size.
    matrices = weight.permute(2, 3, 0, 1).reshape(-1, *weight.shape[:2]).unbind()
    total = None
    for matrix, window in zip(matrices, tap_windows(input, guide, weight.shape[2]), strict=True):
        total = add(total, window, matrix)
    assert total is not None
    return total.view(len(input), len(weight), *input.shape[2:])


def plain_weight(input: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """Torch's gradient of the weight of a plain convolution, without its forward."""
    pad, only = [weight.shape[2] // 2] * 2, [False, True, False]
    found: torch.Tensor = torch.ops.aten.convolution_backward(
        grad, input, weight, None, [1, 1], pad, [1, 1], False, [0, 0], 1, only
    )[1]
    return found


def taps_weight(input: torch.Tensor, guide: torch.Tensor, weight: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """Gradient of the weight, tap by tap."""
    windows = tap_windows(input, guide, weight.shape[2])
    if few_channels(input):
        flat = grad.flatten(2)
        found = [(flat @ window.flatten(2).mT).sum(0) for window in windows]
    else:
        small = weight[:, :, :1, :1]
        found = [plain_weight(window, small, grad)[:, :, 0, 0] for window in windows]
    return torch.stack(found, -1).view(weight.shape)


def jax_call(what: str, layout: str, arrays: list[np.ndarray]) -> Call:
    """Jitted taps: the output, and the gradients that ``what`` asks for. ``arrays`` end in the output's gradient."""
    numpy, last = JAX.numpy, layout == "NHWC"
    size = arrays[2].shape[0 if last else 2]
    height, width = arrays[0].shape[1:3] if last else arrays[0].shape[2:]
    dimensions = ("NHWC", "HWIO", "NHWC") if last else ("NCHW", "OIHW", "NCHW")

    def product(window: Any, matrix: Any) -> Any:
        # Convolutions are the faster ones forward, matrix products with gradients.
        if what == FORWARD:
            filters = matrix[None, None] if last else matrix[:, :, None, None]
            return JAX.lax.conv_general_dilated(window, filters, (1, 1), "VALID", dimension_numbers=dimensions)
        return window @ matrix if last else numpy.einsum("oc,nchw->nohw", matrix, window)

    def taps(input: Any, guide: Any, weight: Any) -> Any:
        pad, none = (size // 2, size // 2), (0, 0)
        input, around = (
            numpy.pad(a, (none, pad, pad, none) if last else (none, none, pad, pad)) for a in (input, guide)
        )
        total = 0.0
        for top in range(size):
            for left in range(size):
                area = np.s_[:, top : top + height, left : left + width]
                window = area if last else (area[0], slice(None), *area[1:])
                distance = numpy.square(around[window] - guide).sum(-1 if last else 1, keepdims=True)
                matrix = weight[top, left] if last else weight[:, :, top, left]
                total += product(numpy.exp(-0.5 * distance) * input[window], matrix)
        return total

    def run(input: Any, guide: Any, weight: Any, grad: Any) -> Any:
        if what == FORWARD:
            return taps(input, guide, weight)
        if what == WEIGHT:
            return JAX.vjp(lambda w: taps(input, guide, w), weight)[1](grad)
        # The output is a result too: without it, what only the output needs would not be computed.
        output, backward = JAX.vjp(taps, input, guide, weight)
        return (*backward(grad), output)

    compiled = JAX.jit(run)
    given = [JAX.device_put(a) for a in arrays]
    return lambda: JAX.block_until_ready(compiled(*given))


def torch_calls(what: str, tensors: list[torch.Tensor], layout: str) -> dict[str, Call]:
    """PAC in torch."""
    *operands, grad = tensors
    leaves = [a.detach().requires_grad_(what == BOTH) for a in operands]

    def compiled_pac(input: Any, guide: Any, weight: Any) -> Any:
        # With gradients, what is compiled from other products takes up to 20 times as long.
        return taps_pac(input, guide, weight, add_product_apart if what == BOTH else None)

    def call(pac: Any, weight: Any) -> Call:
        if what == BOTH:
            return lambda: torch.autograd.grad(pac(*leaves), leaves, grad)
        return (lambda: weight(*leaves, grad)) if what == WEIGHT else lambda: pac(*leaves)

    calls = {"taps": call(taps_pac, taps_weight)}
    if layout == "NCHW":
        torch.compiler.reset()  # else there are too many shapes of one function, which is then not compiled
        calls["compile"] = call(*(torch.compile(function, dynamic=False) for function in (compiled_pac, taps_weight)))
        calls["unfold"] = call(unfold_pac, unfold_weight)
    return calls


def plain_call(what: str, tensors: list[torch.Tensor]) -> Call:
    """Torch's plain convolution, which computes no adaptive kernel, and has no guide to make a gradient for."""
    input, _, weight, grad = tensors
    leaves = [a.detach().requires_grad_(what == BOTH) for a in (input, weight)]
    padding = weight.shape[2] // 2
    if what == BOTH:
        return lambda: torch.autograd.grad(functional.conv2d(*leaves, padding=padding), leaves, grad)
    if what == WEIGHT:
        return lambda: plain_weight(input, weight, grad)
    return lambda: functional.conv2d(*leaves, padding=padding)
