"""Merging feature maps of three sizes on a GPU beside torch: interpolate, then cat or add.

16 x 256 maps of 56, 28 and 14 pixels, bilinear, both layouts, forward and backward. From a checkout, on a machine with
a GPU, torch and CuPy::

    PYTHONPATH=. python tests/benchmarks/merge_cuda.py
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.nn import functional

import arrayops as ao
from gpu_harness import Comparison, Layout, Place, Row, dtype_name, main

BATCH, CHANNELS, SIZES = 16, 256, (56, 28, 14)
SMALL = (2, 8, (8, 4, 2))
F32, F16 = torch.float32, torch.float16
PLAN = (
    # rank, how, direction, layout, dtype
    (31, "concat", "forward", "NHWC", F16),
    (31, "concat", "forward", "NCHW", F32),
    (32, "add", "forward", "NHWC", F16),
    (32, "add", "forward", "NCHW", F32),
    (33, "concat", "backward", "NHWC", F16),
    (33, "concat", "backward", "NCHW", F32),
    (46, "add", "backward", "NHWC", F16),
    (46, "concat", "forward", "NHWC", F32),
)


def make(place: Place, how: str, direction: str, layout: str, dtype: torch.dtype) -> Comparison:
    """One comparison; ``found`` is compared with torch in float64."""
    batch, channels, sizes = (BATCH, CHANNELS, SIZES) if place.cuda else SMALL
    last, both = layout == "NHWC", direction == "backward"
    merged_channels = channels * (len(sizes) if how == "concat" else 1)
    outputs = batch * merged_channels * sizes[0] ** 2
    moved = float(dtype.itemsize * (outputs + batch * channels * sum(size**2 for size in sizes)))
    sets = place.sets(moved)
    maps = [[place.normal(batch, channels, size, size, dtype=dtype, last=last) for size in sizes] for _ in range(sets)]
    grads = [place.normal(batch, merged_channels, *sizes[:1] * 2, dtype=dtype, last=last) for _ in range(sets)]

    form = Layout(layout)
    mine = [[form.image(each) for each in each_set] for each_set in maps]
    dy = [form.image(grad) for grad in grads]
    given: dict[str, Any] = {"how": how, "layout": layout}

    def merged(sources: list[torch.Tensor]) -> torch.Tensor:
        resized = [sources[0], *(functional.interpolate(each, sizes[:1] * 2, mode="bilinear") for each in sources[1:])]
        return torch.cat(resized, 1) if how == "concat" else resized[0] + resized[1] + resized[2]

    def differentiated(sources: list[torch.Tensor], grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        leaves = [each.detach().requires_grad_() for each in sources]
        return tuple(torch.autograd.grad(merged(leaves), leaves, grad))

    rivals: dict[str, Callable[[int], Any]]
    if both:
        # The forward of torch is part of it: there is no other way to its gradient.
        rivals = {
            "arrayops": lambda i: ao.merge_feature_maps_backward(dy[i], mine[i], **given).maps,
            "torch forward + backward": lambda i: differentiated(maps[i], grads[i]),
        }
    else:
        rivals = {"arrayops": lambda i: ao.merge_feature_maps(mine[i], **given), "torch": lambda i: merged(maps[i])}

    def found() -> list[torch.Tensor]:
        result = rivals["arrayops"](0)
        return [form.image_of(each) for each in (result if both else [result])]

    def expected() -> Any:
        wide = [each.double() for each in maps[0]]
        return differentiated(wide, grads[0].double()) if both else [merged(wide)]

    return Comparison(rivals, sets, found, expected, 8.0 * outputs, moved)


def rows() -> Iterator[Row]:
    """In order of weight."""
    for rank, how, direction, layout, dtype in PLAN:
        name = f"merge {how} {direction} {layout} {dtype_name(dtype)}"
        yield Row(name, rank, dtype, partial(make, how=how, direction=direction, layout=layout, dtype=dtype))


if __name__ == "__main__":
    sys.exit(main("Merging feature maps on a GPU", rows))
