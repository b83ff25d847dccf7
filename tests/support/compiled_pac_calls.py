"""A table of calls that reaches every compiled kernel of the PAC operators, and every algorithm in them.

Which one serves follows from the layout, the channels of a group, the taps, the stride and the kernel's options.
"""

from typing import Any

import numpy as np

from case import Case
from pac_cases import build

Options = dict[str, Any]
Table = dict[str, tuple[str, Options]]

# Filters. Many outputs of a group, few of them, and one input or output.
FILTERS: dict[str, Options] = {
    "8 outputs": {"channels": 9, "outputs": 8, "padding": 1, "size": (11, 21)},
    "16 outputs": {"channels": 7, "outputs": 16, "padding": 1, "size": (9, 18), "guide_channels": 1},
    "21 outputs": {"channels": 4, "outputs": 21, "size": (9, 13), "guide_channels": 5},
    "32 outputs": {"channels": 18, "outputs": 32, "padding": 1, "size": (7, 15)},
    "40 outputs": {"channels": 5, "outputs": 40, "padding": 2, "size": (6, 17), "guide_channels": 9},
    "1 output": {"channels": 6, "outputs": 1, "padding": 1, "size": (9, 35)},
    "2 outputs": {"channels": 3, "outputs": 2, "padding": 1, "size": (9, 18), "guide_channels": 1},
    "3 outputs": {"channels": 8, "outputs": 3, "padding": 1, "size": (9, 23), "guide_channels": 6},
    "4 outputs": {"channels": 1, "outputs": 4, "padding": 1, "size": (11, 20), "guide_channels": 2},
    "groups, 1 to 1": {"groups": 20, "channels": 20, "outputs": 20, "padding": 1, "size": (7, 17)},
    "groups, 2 to 2": {"groups": 9, "channels": 18, "outputs": 18, "padding": 1, "size": (7, 14)},
    "groups, 4 to 4": {"groups": 3, "channels": 12, "outputs": 12, "padding": 1, "size": (9, 19)},
    "groups, 8 to 8": {"groups": 2, "channels": 16, "outputs": 16, "padding": 1, "size": (7, 14)},
    "groups, 9 to 5": {"groups": 2, "channels": 18, "outputs": 10, "padding": 1, "size": (8, 11)},
    "groups, 1 to 3": {"groups": 5, "channels": 5, "outputs": 15, "padding": 1, "size": (8, 11)},
    "300 channels": {"channels": 300, "outputs": 6, "padding": 1, "size": (5, 9), "batch": 1},
    "700 channels": {"channels": 700, "outputs": 5, "padding": 1, "size": (3, 4), "batch": 1},
    "300 outputs": {"channels": 3, "outputs": 300, "padding": 1, "size": (4, 5), "batch": 1},
    "shared, 1 channel": {"shared_filters": True, "channels": 1, "padding": 1, "size": (9, 20)},
    "shared, 3 channels": {"shared_filters": True, "channels": 3, "padding": 2, "kernel_size": (5, 5)},
    "shared, 5 channels": {"shared_filters": True, "channels": 5, "padding": 1, "guide_channels": 5},
    "shared, 20 channels": {"shared_filters": True, "channels": 20, "padding": 1, "size": (7, 13)},
}
# Windows, of many outputs and of few.
WINDOWS: dict[str, Options] = {
    "long row": {"channels": 3, "outputs": 9, "kernel_size": (1, 3), "padding": (0, 1), "size": (1, 1500), "batch": 1},
    "1x1 image": {"channels": 5, "outputs": 9, "padding": 1, "size": (1, 1)},
    "2x3 image": {"channels": 5, "outputs": 3, "padding": 1, "size": (2, 3)},
    "6x6 image": {"channels": 9, "outputs": 16, "padding": 1, "size": (6, 6)},
    "1x1 filter": {"channels": 9, "outputs": 12, "kernel_size": (1, 1), "smooth": (3, 3), "size": (7, 15)},
    "stride 2": {"channels": 6, "outputs": 10, "stride": 2, "padding": 1, "size": (11, 18)},
    "stride (3, 2)": {"channels": 6, "outputs": 2, "stride": (3, 2), "kernel_size": (5, 3), "size": (12, 19)},
    "stride beyond the filter": {"channels": 4, "outputs": 9, "stride": 3, "kernel_size": (1, 2), "size": (10, 17)},
    "dilation 12": {"channels": 4, "outputs": 9, "dilation": 12, "padding": 12, "size": (15, 29), "batch": 1},
    "dilation (2, 7)": {"channels": 3, "outputs": 3, "dilation": (2, 7), "kernel_size": (3, 4), "padding": (5, 11)},
    "even filter": {"channels": 6, "outputs": 9, "kernel_size": (4, 2), "padding": ((1, 2), (0, 1)), "size": (8, 17)},
    "5x5": {"channels": 6, "outputs": 16, "kernel_size": (5, 5), "padding": 2, "size": (8, 15)},
    "padding beyond the filter": {"channels": 3, "outputs": 8, "kernel_size": (2, 3), "padding": 4, "size": (9, 10)},
    "kernel given": {"channels": 6, "outputs": 16, "padding": 1, "with_kernel": True, "size": (8, 13)},
    "kernel given, 2 outputs": {"channels": 5, "outputs": 2, "padding": 1, "with_kernel": True, "stride": (1, 2)},
    "kernel given, groups": {"groups": 6, "padding": 1, "with_kernel": True},
    "kernel given, shared": {"shared_filters": True, "channels": 7, "padding": 1, "with_kernel": True},
}
TRANSPOSED: dict[str, Options] = {
    "stride 2": {"outputs": 16, "stride": 2, "padding": 1, "output_padding": 1, "size": (6, 9)},
    "stride 2, 4x4": {"outputs": 9, "stride": 2, "padding": 1, "kernel_size": (4, 4), "size": (6, 9)},
    "stride 2, 2 outputs": {"outputs": 2, "stride": 2, "padding": 1, "output_padding": (1, 0), "size": (6, 9)},
    "stride 3": {"outputs": 9, "stride": 3, "output_padding": (2, 1), "kernel_size": (5, 4), "size": (5, 7)},
    "stride (3, 2), groups": {"groups": 3, "stride": (3, 2), "padding": 1, "size": (5, 8)},
    "stride beyond the filter": {"outputs": 8, "stride": (5, 4), "kernel_size": (2, 3), "size": (3, 5)},
    "stride 2, dilation 3": {"outputs": 9, "stride": 2, "dilation": 3, "padding": 2, "size": (6, 7)},
    "stride 2, shared": {"shared_filters": True, "channels": 5, "stride": 2, "padding": 1, "size": (6, 9)},
    "stride 2, kernel given": {"outputs": 9, "stride": 2, "padding": 1, "with_kernel": True, "size": (6, 7)},
    "stride 2, 300 channels": {"channels": 300, "outputs": 4, "stride": 2, "size": (3, 4), "batch": 1},
    "SAME, stride 3": {"outputs": 12, "stride": 3, "padding": "SAME", "kernel_size": (5, 5), "size": (4, 5)},
    "stride 2, mask": {"outputs": 9, "stride": 2, "padding": 1, "masked": True, "size": (6, 9)},
    "stride 2, normalize": {"outputs": 3, "stride": 2, "padding": 1, "normalize": True, "size": (6, 9)},
    "stride 2, all options": {
        "outputs": 9,
        "stride": 2,
        "padding": 1,
        "masked": True,
        "normalize": True,
        "kernel_type": "inv",
        "smooth": (3, 3),
        "asymmetric": True,
        "size": (6, 9),
    },
}
KERNELS: dict[str, Options] = {
    "gaussian": {},
    "inv": {"kernel_type": "inv"},
    "asymmetric": {"asymmetric": True},
    "inv asymmetric": {"kernel_type": "inv", "asymmetric": True},
    "smooth": {"smooth": (3, 5)},
    "normalize": {"normalize": True},
    "mask": {"masked": True},
    "mask normalize": {"masked": True, "normalize": True},
    "mask inv": {"masked": True, "kernel_type": "inv"},
    "normalize asymmetric smooth": {"normalize": True, "asymmetric": True, "smooth": (1, 3)},
    "mask inv asymmetric smooth": {"masked": True, "kernel_type": "inv", "asymmetric": True, "smooth": (5, 1)},
    "mask normalize inv smooth": {"masked": True, "normalize": True, "kernel_type": "inv", "smooth": (3, 3)},
}
POOLS: dict[str, Options] = {
    "1 channel": {"channels": 1, "padding": 1, "size": (9, 20)},
    "3 channels, 5x5": {"channels": 3, "padding": 2, "kernel_size": (5, 5), "size": (9, 20)},
    "20 channels": {"channels": 20, "padding": 1, "size": (7, 13)},
    "stride 2": {"channels": 5, "padding": 1, "stride": 2, "size": (11, 18)},
    "stride beyond the filter": {"channels": 5, "stride": 3, "kernel_size": (1, 2), "size": (10, 17)},
    "dilation 12": {"channels": 3, "dilation": 12, "padding": 12, "size": (13, 17), "batch": 1},
    "long row": {"channels": 2, "kernel_size": (1, 5), "padding": (0, 2), "size": (1, 1500), "batch": 1},
    "1x1 image": {"channels": 3, "padding": 1, "size": (1, 1)},
    "300 channels": {"channels": 300, "padding": 1, "size": (4, 5), "batch": 1},
    "channel_wise": {"channels": 7, "padding": 1, "channel_wise": True},
    "channel_wise, 20 channels": {"channels": 20, "padding": 1, "channel_wise": True, "normalize": True},
    "channel_wise inv": {"channel_wise": True, "kernel_type": "inv", "per_channel": True, "masked": True, "padding": 1},
    "channel_wise, all options": {
        "channel_wise": True,
        "kernel_type": "inv",
        "per_channel": True,
        "asymmetric": True,
        "masked": True,
        "normalize": True,
        "smooth": (3, 3),
        "padding": 1,
    },
    "kernel given": {"with_kernel": True, "padding": 1, "size": (8, 19)},
    "kernel given per channel": {"with_kernel": True, "channel_wise": True, "stride": 2, "size": (9, 19)},
}
MADE: dict[str, Options] = {
    "1 guide channel": {"guide_channels": 1, "padding": 1, "size": (9, 20)},
    "16 guide channels": {"guide_channels": 16, "padding": 1, "size": (7, 13)},
    "5x5, stride 2": {"kernel_size": (5, 5), "padding": 2, "stride": 2, "size": (11, 18)},
    "stride beyond the filter": {"kernel_size": (1, 2), "stride": 3, "size": (10, 17)},
    "dilation 12": {"dilation": 12, "padding": 12, "size": (13, 17), "batch": 1},
    "even filter": {"kernel_size": (4, 2), "padding": ((1, 2), (0, 1))},
    "long row": {"kernel_size": (1, 3), "padding": (0, 1), "size": (1, 1500), "batch": 1},
    "1x1 image": {"padding": 1, "size": (1, 1)},
    "2x3 image, mask normalize": {"padding": 1, "size": (2, 3), "masked": True, "normalize": True},
    "channel_wise": {"channel_wise": True, "padding": 1, "guide_channels": 7},
    "channel_wise inv": {"channel_wise": True, "kernel_type": "inv", "per_channel": True, "padding": 1},
    "channel_wise mask normalize": {"channel_wise": True, "masked": True, "normalize": True, "padding": 1},
    "channel_wise smooth asymmetric": {"channel_wise": True, "smooth": (3, 3), "asymmetric": True, "padding": 1},
    "transposed": {"transposed": True, "stride": 2, "padding": 1, "output_padding": (1, 0), "size": (6, 9)},
    "transposed stride 3, mask": {"transposed": True, "stride": 3, "masked": True, "size": (4, 5)},
    "transposed normalize": {"transposed": True, "stride": 2, "padding": "SAME", "normalize": True, "size": (6, 9)},
    "transposed channel_wise inv": {
        "transposed": True,
        "stride": (1, 2),
        "channel_wise": True,
        "kernel_type": "inv",
        "per_channel": True,
        "masked": True,
        "normalize": True,
        "padding": 1,
        "size": (6, 9),
    },
}
LARGE: Table = {
    "24 outputs": ("pac_conv2d", {"channels": 16, "outputs": 24, "padding": 1, "size": (70, 90), "batch": 1}),
    "4 outputs, stride 2": ("pac_conv2d", {"channels": 3, "outputs": 4, "padding": 1, "stride": 2, "size": (141, 181)}),
    "groups, 4 to 4": (
        "pac_conv2d",
        {"groups": 4, "channels": 16, "outputs": 16, "padding": 1, "size": (70, 90), "batch": 1},
    ),
    "all options": (
        "pac_conv2d",
        {"channels": 9, "outputs": 9, "padding": 1, "size": (70, 90), **KERNELS["mask normalize inv smooth"]},
    ),
    "shared, 5x5": (
        "pac_conv2d",
        {"shared_filters": True, "channels": 3, "padding": 2, "kernel_size": (5, 5), "size": (90, 110)},
    ),
    "300 channels": ("pac_conv2d", {"channels": 300, "outputs": 20, "padding": 1, "size": (12, 16), "batch": 1}),
    "kernel given": (
        "pac_conv2d",
        {"channels": 8, "outputs": 16, "padding": 1, "with_kernel": True, "size": (70, 90), "batch": 1},
    ),
    "transposed": (
        "pac_conv_transpose2d",
        {"channels": 12, "outputs": 16, "stride": 2, "padding": 1, "size": (36, 46), "batch": 1},
    ),
    "pooled": ("pac_pool2d", {"channels": 12, "padding": 1, "size": (70, 90), "masked": True}),
    "pooled, channel_wise": ("pac_pool2d", {"channels": 8, "channel_wise": True, "padding": 1, "size": (70, 90)}),
    "kernels": ("pac_kernel2d", {"padding": 1, "size": (70, 90), "normalize": True, "smooth": (3, 3)}),
    "kernels, transposed": ("pac_kernel2d", {"transposed": True, "stride": 2, "padding": 1, "size": (40, 50)}),
}


def _small() -> Table:
    """Filters and windows in both layouts, and the rest in layouts in turn."""
    calls: Table = {}

    def add(operator: str, name: str, options: Options, layout: str) -> None:
        calls[f"{layout}, {operator.removeprefix('pac_')}, {name}"] = (operator, {**options, "layout": layout})

    both = ("NCHW", "NHWC")
    for number, (name, options) in enumerate([*FILTERS.items(), *WINDOWS.items()]):
        for layout in both:
            add("pac_conv2d", name, options, layout)
        add("pac_conv_transpose2d", name, options, both[number % 2])
    for name, options in TRANSPOSED.items():
        for layout in both:
            add("pac_conv_transpose2d", name, options, layout)
    for number, (name, options) in enumerate(KERNELS.items()):
        many: Options = {**options, "channels": 5, "outputs": 9, "padding": 1, "size": (8, 19)}
        few: Options = {**options, "channels": 4, "outputs": 2, "padding": 1, "size": (8, 19), "guide_channels": 2}
        add("pac_conv2d", f"9 outputs, {name}", many, both[number % 2])
        add("pac_conv2d", f"2 outputs, {name}", few, both[(number + 1) % 2])
        add("pac_conv2d", f"groups, {name}", {**many, "seed": 1, "groups": 5, "outputs": 5}, both[number // 2 % 2])
        add("pac_conv_transpose2d", f"9 outputs, {name}", {**many, "size": (5, 8), "stride": 2}, both[(number + 1) % 2])
        add("pac_pool2d", f"5 channels, {name}", {**options, "channels": 5, "padding": 1}, both[number % 2])
        add("pac_kernel2d", name, {**options, "padding": 1, "size": (8, 19)}, both[number // 2 % 2])
    for operator, table in (("pac_pool2d", POOLS), ("pac_kernel2d", MADE)):
        for name, options in table.items():
            for layout in both:
                add(operator, name, options, layout)
    return calls


CALLS = _small()
"""Small ones, of one block or a few."""

LARGE_CALLS: Table = {
    f"{layout}, large, {name}": (operator, {**options, "layout": layout})
    for layout in ("NCHW", "NHWC")
    for name, (operator, options) in LARGE.items()
}
"""Of many blocks."""


def call(name: str, dtype: np.dtype = np.dtype(np.float32)) -> Case:  # noqa: B008
    """A call of one of the tables."""
    operator, options = (CALLS | LARGE_CALLS)[name]
    return build(operator, dtype=dtype, **options)
