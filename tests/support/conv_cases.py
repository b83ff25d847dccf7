"""A table of named calls of the plain convolutions, of a size where sums do not cancel as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np

from case import Case
from strategies import CONVOLUTIONS, DTYPES, FLOAT64

PLAIN: dict[str, dict[str, Any]] = {
    "3x3": {"padding": 1},
    "1x1": {"kernel_size": (1, 1)},
    "1x1 strided": {"kernel_size": (1, 1), "stride": (2, 3)},
    "even": {"kernel_size": (2, 4)},
    "tall": {"kernel_size": (5, 1), "padding": (2, 0)},
    "stride, dilation": {"kernel_size": (3, 5), "stride": (2, 3), "dilation": (2, 1), "padding": (2, 1)},
    "stride beyond the filter": {"kernel_size": (2, 1), "stride": 3},
    "padding beyond the filter": {"padding": 4, "kernel_size": (2, 3)},
    "groups": {"groups": 3, "padding": 1},
    "depthwise": {"groups": 6, "padding": 1},
    "depthwise, multiplier 3": {"groups": 6, "outputs": 18, "padding": 1},
    "6 to 1 a group": {"groups": 2, "channels": 12, "outputs": 2, "padding": 1},
}
TRANSPOSED: dict[str, dict[str, Any]] = {
    "1x1 strided": {"kernel_size": (1, 1), "stride": (3, 2), "output_padding": (2, 0)},
    "3x3": {"padding": 1},
    "bilinear": {"kernel_size": (4, 4), "padding": 1, "stride": 2},
    "dilation": {"kernel_size": (2, 5), "stride": (2, 1), "dilation": (3, 2), "padding": (0, 3)},
    "cut into the input": {"padding": 3, "stride": 3},
    "groups": {"groups": 3, "stride": 2, "output_padding": 1},
    "depthwise": {"groups": 6, "stride": 2, "padding": 1},
    "depthwise, multiplier 2": {"groups": 6, "outputs": 12, "stride": 2},
}
NAMED = [("conv2d", name) for name in PLAIN] + [("conv_transpose2d", name) for name in TRANSPOSED]

# Groups of few channels: which of them are taken together, and how, depends on their number and width.
NARROW: dict[str, dict[str, Any]] = {
    "width 4": {"groups": 8, "channels": 32, "outputs": 32, "padding": 1},
    "width 3": {"groups": 5, "channels": 15, "outputs": 15, "padding": 1},
    "width 8, stride 2": {"groups": 4, "channels": 32, "outputs": 32, "padding": 1, "stride": 2},
    "width 16": {"groups": 2, "channels": 32, "outputs": 32, "padding": 1},
    "width 40": {"groups": 2, "channels": 80, "outputs": 80, "size": (4, 18), "batch": 1},
    "4 to 2 a group": {"groups": 4, "channels": 16, "outputs": 8, "padding": 1},
    "2 to 2 a group": {"groups": 5, "channels": 10, "outputs": 10, "padding": 1},
    "depthwise, 2 x 4": {"groups": 6, "outputs": 12, "kernel_size": (2, 4), "padding": 1},
    "depthwise, 5 x 5": {"groups": 40, "channels": 40, "outputs": 40, "kernel_size": (5, 5), "padding": 2},
    "dense": {"channels": 20, "outputs": 70, "padding": 1, "batch": 1},
    "1x1": {"channels": 20, "outputs": 24, "kernel_size": (1, 1)},
}
# Some windows see the whole image.
LARGE: dict[str, dict[str, Any]] = {
    "large filter": {"channels": 6, "outputs": 4, "kernel_size": (11, 7), "padding": (5, 3), "batch": 1},
}

CALLS: dict[tuple[str, str], tuple[dict[str, Any], np.dtype, str]] = {
    (operator, name): (options, DTYPES[number % 4], ("NCHW", "NHWC")[(number // 2 + number // 4) % 2])
    for operator, table in zip(CONVOLUTIONS, (PLAIN, TRANSPOSED | LARGE), strict=True)
    for cases in (table, NARROW)
    # A step of two: what both operators do is made by the same kernels, and so by those of half precision too.
    for number, (name, options) in enumerate(cases.items(), 2 * CONVOLUTIONS.index(operator))
}
"""Options, dtype and layout of calls, dtypes and layouts in turn, for tests where one of each is enough.

Kernels that are compiled for the options know the dtype as the name of a type, so that all calls in all dtypes would
compile several times as much and prove little more.
"""


def build(
    operator: str,
    dtype: np.dtype = FLOAT64,
    layout: str = "NCHW",
    size: tuple[int, int] = (9, 10),
    channels: int = 6,
    outputs: int = 6,
    kernel_size: tuple[int, int] = (3, 3),
    batch: int = 2,
    **options: Any,
) -> Case:
    """A call with random arrays of mean 1/2, so that no sum cancels as a whole."""
    rng = np.random.default_rng(3)
    groups = options.get("groups", 1)
    inner = (channels, outputs // groups) if operator == "conv_transpose2d" else (outputs, channels // groups)
    shapes = {"input": (batch, channels, *size), "weight": (*inner, *kernel_size), "bias": (outputs,)}
    arrays = {name: (rng.standard_normal(shape) + 0.5).astype(dtype) for name, shape in shapes.items()}
    if layout == "NHWC":
        arrays["input"] = np.ascontiguousarray(arrays["input"].transpose(0, 2, 3, 1))
        arrays["weight"] = np.ascontiguousarray(arrays["weight"].transpose(2, 3, 1, 0))
        options["layout"] = layout
    return Case(operator, arrays, options, np.dtype(dtype), 3)


def named(operator: str, name: str, **more: Any) -> Case:
    return build(operator, **{**(PLAIN if operator == "conv2d" else TRANSPOSED)[name], **more})
