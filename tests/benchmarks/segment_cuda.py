"""Segment reductions on a GPU beside torch's scattering, over kinds of labels, both layouts.

4 x 512 x 512. Labels are cells of about 26 x 26 pixels, as superpixels are, or random. Rivals get indices and counts
made before; index_add divides its sums. From a checkout, on a machine with a GPU, torch and CuPy::

    PYTHONPATH=. python tests/benchmarks/segment_cuda.py
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

import arrayops as ao
from arrayops.segment import Reduction
from gpu_harness import Comparison, Place, Row, dtype_name, main

BATCH, SIZE, CELL = 4, 512, 26
"""Images, pixels along an axis, pixels across a cell."""

SMALL = 60
F32, F16 = torch.float32, torch.float16
PLAN = (
    # rank, what, channels, dtype, layout, labels
    (21, "mean", 64, F32, "NHWC", "cells"),
    (21, "mean", 64, F32, "NCHW", "cells"),
    (21, "mean", 64, F16, "NHWC", "cells"),
    (22, "mean", 64, F32, "NHWC", "random 400"),
    (22, "mean", 64, F32, "NCHW", "random 400"),
    (22, "mean backward", 64, F32, "NHWC", "cells"),
    (22, "mean backward", 64, F32, "NCHW", "cells"),
    (23, "max", 64, F32, "NHWC", "cells"),
    (23, "max", 64, F32, "NCHW", "cells"),
    (44, "mean", 3, F32, "NCHW", "cells"),
    (44, "mean", 64, F32, "NHWC", "random 100000"),
    (44, "all", 64, F32, "NHWC", "cells"),
    (44, "max backward", 64, F32, "NHWC", "cells"),
)


def cells(size: int, device: str) -> tuple[torch.Tensor, int]:
    """Each pixel's nearest of points on a shaken grid: (batch, size, size), and how many there are."""
    across = -(-size // CELL)
    pixel = torch.arange(size, device=device)
    near = torch.full((BATCH, size, size), float("inf"), device=device)
    labels = torch.zeros((BATCH, size, size), dtype=torch.int32, device=device)
    shaken = (torch.rand(2, BATCH, across, across, device=device) * 0.8 + 0.1) * CELL
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            row, column = ((pixel // CELL + step).clamp(0, across - 1) for step in (down, right))
            y = row[:, None] * CELL + shaken[0][:, row][:, :, column]
            x = column[None] * CELL + shaken[1][:, row][:, :, column]
            distance = (y - pixel[:, None]) ** 2 + (x - pixel) ** 2
            closer = distance < near
            near = torch.where(closer, distance, near)
            labels = torch.where(closer, (row[:, None] * across + column).int(), labels)
    return labels, across * across


def labels_of(kind: str, size: int, device: str) -> tuple[torch.Tensor, int]:
    """Labels of a kind and the number of segments."""
    if kind == "cells":
        return cells(size, device)
    segments = int(kind.partition(" ")[2])
    return torch.randint(segments, (BATCH, size, size), dtype=torch.int32, device=device), segments


def make(place: Place, what: str, channels: int, dtype: torch.dtype, layout: str, kind: str) -> Comparison:
    """One comparison; ``found`` is compared with sums in float64."""
    size, device, last = SIZE if place.cuda else SMALL, place.device, layout == "NHWC"
    channels = channels if place.cuda else min(channels, 8)
    labels, segments = labels_of(kind, size, device)
    shape = (BATCH, size, size, channels) if last else (BATCH, channels, size, size)
    pooled_shape = (BATCH, segments, channels) if last else (BATCH, channels, segments)
    results = 5 if what == "all" else 1
    elements = BATCH * channels * (size**2 + results * segments) * (2 if what == "max backward" else 1)
    moved = float(elements * dtype.itemsize + labels.numel() * 4)
    sets = place.sets(moved)
    x = [place.normal(*shape, dtype=dtype) for _ in range(sets)]
    pooled = place.normal(*pooled_shape, dtype=dtype)
    axis = 1 if last else 2
    flat = [each.view(BATCH, -1, channels) if last else each.view(BATCH, channels, -1) for each in x]
    index = labels.view(BATCH, -1).long()
    counts = torch.zeros(BATCH, segments, device=device).scatter_add_(1, index, torch.ones_like(index).float())
    shares = counts.clamp(min=1).unsqueeze(2 if last else 1)
    spread = (index[:, :, None] if last else index[:, None]).expand(flat[0].shape)
    offset = (index + segments * torch.arange(BATCH, device=device)[:, None]).view(-1)

    def scattered(values: torch.Tensor, how: str) -> torch.Tensor:
        start = torch.zeros(pooled_shape, dtype=values.dtype, device=device)
        return start.scatter_reduce_(axis, spread, values, how, include_self=False)

    def added(i: int) -> torch.Tensor:
        start = torch.zeros(BATCH * segments, channels, dtype=dtype, device=device)
        return start.index_add_(0, offset, flat[i].reshape(-1, channels)).view(pooled_shape) / shares.to(dtype)

    def divided(i: int) -> torch.Tensor:
        return (pooled / shares.to(dtype)).gather(axis, spread).view(shape)

    given: dict[str, Any] = {"layout": layout}
    rivals: dict[str, Callable[[int], Any]]
    expected: Callable[[], list[torch.Tensor]]
    if what in ("mean", "max"):
        function, how = getattr(ao, f"segment_{what}"), {"mean": "mean", "max": "amax"}[what]
        rivals = {
            "arrayops": lambda i: function(x[i], labels, segments, **given),
            "scatter_reduce": lambda i: scattered(flat[i], how),
        }
        if what == "mean" and last:
            rivals["index_add"] = added

        def expected() -> list[torch.Tensor]:
            return [scattered(flat[0].double(), how)]

    elif what == "all":
        names: tuple[Reduction, ...] = ("mean", "sum", "max", "min", "var")
        rivals = {"arrayops": lambda i: ao.segment_reduce(x[i], labels, names, segments, **given)}

        def expected() -> list[torch.Tensor]:
            wide = flat[0].double()
            means, squares = scattered(wide, "mean"), scattered(wide.square(), "mean")
            extremes = [scattered(wide, how) for how in ("amax", "amin")]
            return [means, scattered(wide, "sum"), *extremes, squares - means.square()]

    elif what == "mean backward":
        rivals = {
            "arrayops": lambda i: ao.segment_mean_backward(pooled, x[i], labels, segments, **given).features,
            "gather": divided,
        }

        def expected() -> list[torch.Tensor]:
            return [(pooled.double() / shares).gather(axis, spread).view(shape)]

    else:
        rivals = {"arrayops": lambda i: ao.segment_max_backward(pooled, x[i], labels, segments, **given).features}

        def expected() -> list[torch.Tensor]:
            leaf = flat[0].double().requires_grad_()
            return list(torch.autograd.grad(scattered(leaf, "amax"), leaf, pooled.double()))

    def found() -> list[torch.Tensor]:
        got = rivals["arrayops"](0)
        if what == "max backward":
            return [got.view(flat[0].shape)]
        return list(got) if what == "all" else [got]

    return Comparison(rivals, sets, found, expected, float(x[0].numel()), moved)


def rows() -> Iterator[Row]:
    """In order of weight."""
    for rank, what, channels, dtype, layout, kind in PLAN:
        name = f"segment {what} {channels} channels {layout} {kind} {dtype_name(dtype)}"
        plan = {"what": what, "channels": channels, "dtype": dtype, "layout": layout, "kind": kind}
        yield Row(name, rank, dtype, partial(make, **plan))


if __name__ == "__main__":
    sys.exit(main("Segment reductions on a GPU", rows))
