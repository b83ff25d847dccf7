"""Merging feature maps of three sizes on the CPU beside torch: interpolate, then cat or add.

Run from a checkout with torch installed: ``PYTHONPATH=. python tests/benchmarks/merge_cpu.py``
"""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import arrayops as ao
import harness

BATCH, CHANNELS, SIZES = 8, 256, (28, 14, 7)
LIMIT = 1.25


def cases() -> Iterator[harness.Case]:
    """Concatenation and sum, forward and backward, in both layouts; then single resizings of larger images."""
    torch.set_num_threads(harness.THREADS)
    ao.set_num_threads(harness.THREADS)
    for how in ("concat", "add"):
        for layout in ("NCHW", "NHWC"):
            for direction in ("forward", "backward"):
                yield merge_case(how, layout, direction)
    for mode, antialias, size, target in (
        ("bilinear", False, (256, 256), (512, 512)),
        ("bicubic", False, (256, 256), (512, 512)),
        ("bilinear", True, (1024, 1024), (224, 224)),
        ("area", False, (512, 512), (128, 128)),
        ("nearest", False, (256, 256), (512, 512)),
    ):
        for layout in ("NCHW", "NHWC"):
            for direction in ("forward", "backward"):
                yield resize_case(mode, antialias, size, target, layout, direction)


def tensor(array: np.ndarray, layout: str) -> torch.Tensor:
    """A tensor of the same values; channels_last for NHWC."""
    order = torch.contiguous_format if layout == "NCHW" else torch.channels_last
    return torch.from_numpy(array).to(memory_format=order)


def ours(array: np.ndarray, layout: str) -> np.ndarray:
    """The array in its layout."""
    return array if layout == "NCHW" else np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def close(got: np.ndarray, want: torch.Tensor, layout: str) -> None:
    """Equal but for rounding to float32, coordinates included: torch rounds those as well."""
    expected = want.detach().numpy()
    expected = expected if layout == "NCHW" else expected.transpose(0, 2, 3, 1)
    assert np.linalg.norm(got - expected) <= 2e-5 * np.linalg.norm(expected)


def merge_case(how: str, layout: str, direction: str) -> harness.Case:
    """The three maps, brought to the largest size."""
    random = np.random.default_rng(0)
    arrays = [random.standard_normal((BATCH, CHANNELS, size, size), np.float32) for size in SIZES]
    channels = CHANNELS * (len(SIZES) if how == "concat" else 1)
    upstream = random.standard_normal((BATCH, channels, SIZES[0], SIZES[0]), np.float32)
    mine, grad = [ours(array, layout) for array in arrays], ours(upstream, layout)
    theirs = [tensor(array, layout).requires_grad_(direction == "backward") for array in arrays]
    theirs_grad = tensor(upstream, layout)

    def merged() -> torch.Tensor:
        size = SIZES[:1] * 2
        resized = [
            map if map.shape[2:] == size else functional.interpolate(map, size, mode="bilinear") for map in theirs
        ]
        return torch.cat(resized, 1) if how == "concat" else resized[0] + resized[1] + resized[2]

    kept = merged() if direction == "backward" else None

    def call() -> Any:
        if direction == "forward":
            return (ao.merge_feature_maps(mine, how=how, layout=layout),)
        return ao.merge_feature_maps_backward(grad, mine, how=how, layout=layout).maps

    def rival() -> Any:
        if kept is None:
            return (merged(),)
        return torch.autograd.grad(kept, theirs, theirs_grad, retain_graph=True)

    def agree() -> None:
        for got, want in zip(call(), rival(), strict=True):
            close(got, want, layout)

    outputs = upstream.size
    return harness.Case(
        f"{direction} {how} {layout}",
        {"arrayops": call, "torch": rival},
        agree,
        8.0 * outputs,
        float(upstream.nbytes + sum(array.nbytes for array in arrays)),
        {"torch": LIMIT},
    )


def resize_case(
    mode: str, antialias: bool, size: tuple[int, int], target: tuple[int, int], layout: str, direction: str
) -> harness.Case:
    """Thirty-two planes of an image to another size."""
    random = np.random.default_rng(0)
    array, upstream = (random.standard_normal((2, 16, *extent), np.float32) for extent in (size, target))
    mine, grad = ours(array, layout), ours(upstream, layout)
    theirs, theirs_grad = tensor(array, layout).requires_grad_(direction == "backward"), tensor(upstream, layout)
    keywords: dict[str, Any] = {"mode": mode, "antialias": antialias, "layout": layout}
    if mode == "nearest":
        keywords["coordinates"] = "asymmetric"

    def resized() -> torch.Tensor:
        return functional.interpolate(theirs, target, mode=mode, antialias=antialias)

    kept = resized() if direction == "backward" else None

    def call() -> Any:
        if direction == "forward":
            return ao.resize2d(mine, target, **keywords)
        return ao.resize2d_backward(grad, mine, target, **keywords).input

    def rival() -> Any:
        return resized() if kept is None else torch.autograd.grad(kept, theirs, theirs_grad, retain_graph=True)[0]

    return harness.Case(
        f"{direction} {mode}{' antialias' * antialias} {size[0]} to {target[0]} {layout}",
        {"arrayops": call, "torch": rival},
        lambda: close(call(), rival(), layout),
        8.0 * upstream.size,
        float(upstream.nbytes + array.nbytes),
    )


if __name__ == "__main__":
    sys.exit(harness.main("Merging and resizing, float32, CPU", cases))
