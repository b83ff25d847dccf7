"""A table of named calls of the plain convolutions, of a size where sums do not cancel as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np

from strategies import FLOAT64, Case

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
    "3x3": {"padding": 1},
    "1x1 strided": {"kernel_size": (1, 1), "stride": (3, 2), "output_padding": (2, 0)},
    "bilinear": {"kernel_size": (4, 4), "padding": 1, "stride": 2},
    "dilation": {"kernel_size": (3, 5), "stride": (2, 1), "dilation": (3, 2), "padding": (0, 3)},
    "cut into the input": {"padding": 3, "stride": 3},
    "groups": {"groups": 3, "stride": 2, "output_padding": 1},
    "depthwise": {"groups": 6, "stride": 2, "padding": 1},
    "depthwise, multiplier 2": {"groups": 6, "outputs": 12, "stride": 2},
}
NAMED = [("conv2d", name) for name in PLAIN] + [("conv_transpose2d", name) for name in TRANSPOSED]


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
