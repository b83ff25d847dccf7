"""A table of calls that reaches every compiled kernel of the convolutions, and every algorithm in them.

Which one serves follows from the layout, the channels of a group and the taps. Groups of a few outputs are "narrow".
"""

from typing import Any

import numpy as np

from case import Case
from conv_cases import build

Options = dict[str, Any]

NCHW: dict[str, tuple[str, Options]] = {
    "dense, 8 outputs at a time": ("conv2d", {"channels": 9, "outputs": 16, "padding": 1, "size": (21, 37)}),
    "dense, 5 outputs": ("conv2d", {"channels": 7, "outputs": 5, "size": (12, 19), "stride": (2, 1)}),
    "12 outputs, 4 at a time": ("conv2d", {"outputs": 12, "kernel_size": (5, 3), "padding": 2, "size": (17, 33)}),
    "2 outputs a group": ("conv2d", {"groups": 3, "padding": 1, "size": (13, 50)}),
    "2 outputs of 1 input": ("conv2d", {"groups": 6, "outputs": 12, "padding": 1, "size": (13, 18)}),
    "4 outputs of 1 input": ("conv2d", {"groups": 3, "channels": 3, "outputs": 12, "size": (13, 18)}),
    "depthwise": ("conv2d", {"groups": 6, "padding": 2, "kernel_size": (5, 5), "stride": 2, "size": (31, 45)}),
    "1x1": ("conv2d", {"channels": 20, "outputs": 24, "kernel_size": (1, 1), "size": (14, 23)}),
    "1x1, stride 2": ("conv2d", {"channels": 9, "outputs": 10, "kernel_size": (1, 1), "stride": 2, "size": (14, 23)}),
    "long row": ("conv2d", {"channels": 3, "outputs": 3, "padding": (0, 1), "kernel_size": (1, 3), "size": (1, 1500)}),
    "dilation 12": ("conv2d", {"channels": 8, "outputs": 9, "dilation": 12, "padding": 12, "size": (15, 29)}),
    "many inputs": ("conv2d", {"channels": 700, "outputs": 6, "padding": 1, "size": (3, 5), "batch": 1}),
    "32 outputs, small images": ("conv2d", {"channels": 20, "outputs": 32, "padding": 1, "size": (7, 7)}),
    "32 outputs, stride 2": ("conv2d", {"channels": 18, "outputs": 32, "padding": 1, "stride": 2, "size": (15, 23)}),
    "32 outputs, many inputs": ("conv2d", {"channels": 500, "outputs": 32, "size": (5, 7), "batch": 1}),
    "32 outputs, transposed": ("conv_transpose2d", {"outputs": 32, "stride": 2, "size": (6, 11)}),
    "5x5, 16 outputs": (
        "conv2d",
        {"channels": 6, "outputs": 16, "kernel_size": (5, 5), "padding": 2, "size": (9, 15)},
    ),
    "rows of one sample for each tap": (
        "conv2d",
        {"channels": 9, "outputs": 9, "kernel_size": (1, 3), "dilation": (1, 7), "size": (2, 15)},
    ),
    "transposed": (
        "conv_transpose2d",
        {"outputs": 9, "stride": 2, "padding": 1, "kernel_size": (4, 4), "size": (11, 20)},
    ),
    "transposed groups": ("conv_transpose2d", {"groups": 2, "outputs": 8, "stride": (3, 2), "size": (7, 9)}),
}
NHWC: dict[str, tuple[str, Options]] = {
    "dense": ("conv2d", {"channels": 9, "outputs": 40, "padding": 1, "size": (21, 37)}),
    "12 outputs": ("conv2d", {"channels": 5, "outputs": 12, "padding": (1, 0), "stride": (1, 2), "size": (13, 18)}),
    "19 outputs, read in place": ("conv2d", {"channels": 8, "outputs": 19, "size": (13, 18)}),
    "1x1": ("conv2d", {"channels": 20, "outputs": 24, "kernel_size": (1, 1), "size": (14, 23)}),
    "wide groups": ("conv2d", {"channels": 60, "outputs": 60, "groups": 3, "padding": 1, "size": (9, 14)}),
    "3x3, 16 outputs": ("conv2d", {"channels": 3, "outputs": 16, "padding": 1, "size": (9, 15)}),
    "5x5, 16 outputs": ("conv2d", {"channels": 6, "outputs": 16, "kernel_size": (5, 5), "size": (9, 15)}),
    "groups, 4 to 4": ("conv2d", {"channels": 36, "outputs": 36, "groups": 9, "padding": 1, "size": (9, 22)}),
    "groups, 2 to 1": ("conv2d", {"channels": 18, "outputs": 9, "groups": 9, "kernel_size": (5, 2), "size": (9, 22)}),
    "groups, 1 to 2": ("conv2d", {"channels": 5, "outputs": 10, "groups": 5, "padding": 1, "size": (9, 22)}),
    "3 outputs of 8 inputs": ("conv2d", {"channels": 8, "outputs": 3, "padding": 1, "size": (21, 35)}),
    "depthwise": ("conv2d", {"groups": 40, "channels": 40, "outputs": 40, "padding": 1, "size": (13, 17)}),
    "depthwise, stride 2": (
        "conv2d",
        {
            "groups": 35,
            "channels": 35,
            "outputs": 35,
            "kernel_size": (5, 3),
            "padding": 2,
            "stride": 2,
            "size": (11, 18),
        },
    ),
    "depthwise, many channels": (
        "conv2d",
        {"groups": 300, "channels": 300, "outputs": 300, "padding": 1, "size": (5, 6), "batch": 1},
    ),
    "many inputs": ("conv2d", {"channels": 4500, "outputs": 18, "kernel_size": (1, 1), "size": (2, 3)}),
    "transposed": (
        "conv_transpose2d",
        {"outputs": 20, "stride": 2, "padding": 1, "kernel_size": (4, 4), "size": (9, 12)},
    ),
    "transposed depthwise": (
        "conv_transpose2d",
        {"groups": 33, "channels": 33, "outputs": 33, "stride": 2, "output_padding": 1, "size": (7, 9)},
    ),
}
CALLS: dict[str, tuple[str, Options]] = {
    f"{layout}, {name}": (operator, {**options, "layout": layout})
    for layout, table in (("NCHW", NCHW), ("NHWC", NHWC))
    for name, (operator, options) in table.items()
}
"""Small ones, of one block or a few."""

LARGE_CALLS: dict[str, tuple[str, Options]] = {
    f"{layout}, large, {name}": (operator, {**options, "layout": layout})
    for layout in ("NCHW", "NHWC")
    for name, (operator, options) in {
        "3x3": ("conv2d", {"channels": 16, "outputs": 24, "padding": 1, "size": (70, 90)}),
        "4 a group": ("conv2d", {"channels": 64, "outputs": 64, "groups": 16, "padding": 1, "size": (70, 90)}),
        "depthwise": ("conv2d", {"channels": 48, "outputs": 48, "groups": 48, "padding": 1, "size": (70, 90)}),
        "1x1": ("conv2d", {"channels": 64, "outputs": 40, "kernel_size": (1, 1), "size": (70, 90)}),
        "many inputs": ("conv2d", {"channels": 600, "outputs": 20, "padding": 1, "size": (16, 20), "batch": 1}),
        "transposed": ("conv_transpose2d", {"channels": 16, "outputs": 24, "stride": 2, "size": (40, 50)}),
    }.items()
}
"""Of many blocks, some of which are cut along the channels."""


def call(name: str, dtype: np.dtype = np.dtype(np.float32)) -> Case:  # noqa: B008
    """A call of one of the tables."""
    operator, options = (CALLS | LARGE_CALLS)[name]
    return build(operator, dtype, **options)
