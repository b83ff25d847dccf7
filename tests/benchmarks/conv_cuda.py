"""Convolution on a GPU beside torch with cuDNN: groups of 4 and 8 channels, depthwise, dense, 1 x 1, both layouts.

float32 (TF32 off on all sides), float16 and bfloat16. *recipe* is a depthwise convolution, a reshape and a sum. From a
checkout, on a machine with a GPU, torch and CuPy::

    PYTHONPATH=. python tests/benchmarks/conv_cuda.py
"""

import sys
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import torch
from torch.nn import functional

import arrayops as ao
from conv_cpu import recipe
from gpu_harness import Comparison, Layout, Place, Row, dtype_name, main
from pac_cuda import plain_backward


class Shape(NamedTuple):
    """Batch, channels (as many outputs), height and width, groups, filter size."""

    batch: int
    channels: int
    size: int
    groups: int
    k: int


# ResNeXt-50 32x4d and ResNeXt-101 32x8d, MobileNet, ResNet.
SHAPES = {
    "groups of 4": Shape(64, 128, 56, 32, 3),
    "groups of 8": Shape(64, 256, 56, 32, 3),
    "depthwise": Shape(64, 256, 28, 256, 3),
    "dense": Shape(64, 64, 56, 1, 3),
    "1x1": Shape(64, 256, 56, 1, 1),
    "groups of 32, small maps": Shape(8, 1024, 7, 32, 3),
}
F32, F16, BF16 = torch.float32, torch.float16, torch.bfloat16
PLAN = (
    # rank, shape, direction, dtype, layout
    (11, "groups of 4", "forward", F16, "NHWC"),
    (11, "groups of 4", "forward", F32, "NHWC"),
    (12, "groups of 4", "forward", F32, "NCHW"),
    (12, "groups of 4", "forward", F16, "NCHW"),
    (12, "groups of 4", "forward", BF16, "NHWC"),
    (13, "groups of 4", "backward", F16, "NHWC"),
    (13, "groups of 4", "backward", F32, "NCHW"),
    (14, "groups of 8", "forward", F16, "NHWC"),
    (14, "groups of 8", "forward", F32, "NCHW"),
    (15, "depthwise", "forward", F16, "NHWC"),
    (15, "depthwise", "forward", F32, "NCHW"),
    (16, "dense", "forward", F16, "NHWC"),
    (16, "dense", "forward", F32, "NCHW"),
    (17, "1x1", "forward", F16, "NHWC"),
    (17, "1x1", "forward", F32, "NCHW"),
    (41, "groups of 8", "backward", F16, "NHWC"),
    (41, "depthwise", "backward", F16, "NHWC"),
    (41, "dense", "backward", F16, "NHWC"),
    (42, "dense", "backward", F32, "NCHW"),
    (43, "groups of 32, small maps", "forward", F16, "NHWC"),
    (43, "groups of 4", "forward", F16, "channels_last"),
    (43, "depthwise", "forward", F16, "channels_last"),
)


def make(place: Place, shape: Shape, direction: str, dtype: torch.dtype, layout: Layout) -> Comparison:
    """One comparison; ``found`` is compared with torch in float64."""
    if not place.cuda:
        shape = Shape(2, 8, 9, min(shape.groups, 8), shape.k)
    batch, channels, size, groups, k = shape
    last, both = layout.last, direction == "backward"
    elements = batch * channels * size**2
    moved = 2.0 * elements * dtype.itemsize * (2 if both else 1)
    sets = place.sets(moved)
    x = [place.normal(batch, channels, size, size, dtype=dtype, last=last) for _ in range(sets)]
    w = place.normal(channels, channels // groups, k, k, dtype=dtype, last=last, scale=0.2)
    dy = place.normal(batch, channels, size, size, dtype=dtype, last=last)
    keywords = {"groups": groups, "padding": k // 2}
    given = {**keywords, **layout.keywords}
    mine = [(layout.image(each), layout.weight(w)) for each in x]
    my_dy = layout.image(dy)
    operations = 2.0 * elements * channels // groups * k * k * (2 if both else 1)
    if both:

        def found() -> list[torch.Tensor]:
            result = ao.conv2d_backward(my_dy, *mine[0], **given)
            return [layout.image_of(result.input), layout.weight_of(result.weight)]

        return Comparison(
            {
                "arrayops": lambda i: ao.conv2d_backward(my_dy, *mine[i], **given),
                "cudnn": lambda i: plain_backward(dy, x[i], w, groups),
            },
            sets,
            found,
            lambda: plain_backward(dy.double(), x[0].double(), w.double(), groups),
            operations,
            moved,
        )
    rivals = {
        "arrayops": lambda i: ao.conv2d(*mine[i], **given),
        "cudnn": lambda i: functional.conv2d(x[i], w, **keywords),
    }
    if not last and 1 < groups < channels:
        rivals["recipe"] = lambda i: recipe(x[i], w, groups)
    return Comparison(
        rivals,
        sets,
        lambda: [layout.image_of(ao.conv2d(*mine[0], **given))],
        lambda: [functional.conv2d(x[0].double(), w.double(), **keywords)],
        operations,
        moved,
    )


def rows() -> Iterator[Row]:
    """In order of weight."""
    for rank, name, direction, dtype, layout in PLAN:
        text = f"conv {name} {direction} {layout} {dtype_name(dtype)}"
        plan = {"shape": SHAPES[name], "direction": direction, "dtype": dtype, "layout": Layout(layout)}
        yield Row(text, rank, dtype, partial(make, **plan))


if __name__ == "__main__":
    sys.exit(main("Convolution on a GPU", rows))
