"""Segment reductions on a GPU beside torch's scattering, over kinds of labels, both layouts.

4 x 512 x 512 with 32, 64 and 128 channels in float32, and 64 in float16. Labels are cells of about 26 x 26 pixels, as
superpixels are, sorted, random or one segment. The floor is what has to be read and written, at the bandwidth of a
copy. Run on a machine with a GPU, torch and CuPy:

    PYTHONPATH=. python tests/benchmarks/segment_cuda.py --json docs/benchmarks/<gpu>_segment.json
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from gpu_harness import Case, captured, main

import arrayops as ao

BATCH, SIZE = 4, 512
CHANNELS = (32, 64, 128)
SMALL = 60
CELL = 26
"""Pixels across a cell."""


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
    if kind == "one":
        return torch.zeros((BATCH, size, size), dtype=torch.int32, device=device), 1
    segments = int(kind.partition(" ")[2])
    drawn = torch.randint(segments, (BATCH, size * size), dtype=torch.int32, device=device)
    if kind.startswith("sorted"):
        drawn = drawn.sort(dim=1).values
    return drawn.view(BATCH, size, size), segments


def case(what: str, kind: str, channels: int, dtype: torch.dtype, device: str, layout: str) -> Case:
    """One comparison; ours has to agree with sums in float64, and runs under a CUDA graph as well."""
    torch.manual_seed(0)
    size = SIZE if device == "cuda" else SMALL
    labels, segments = labels_of(kind, size, device)
    last = layout == "NHWC"
    shape = (BATCH, size, size, channels) if last else (BATCH, channels, size, size)
    features = torch.randn(shape, device=device).to(dtype)
    pooled_shape = (BATCH, segments, channels) if last else (BATCH, channels, segments)
    pooled = torch.randn(pooled_shape, device=device).to(dtype)
    axis = 1 if last else 2
    flat = features.view(BATCH, -1, channels) if last else features.view(BATCH, channels, -1)
    index = labels.view(BATCH, -1).long()
    counts = torch.zeros(BATCH, segments, device=device).scatter_add_(1, index, torch.ones_like(index).float())
    shares = counts.clamp(min=1).unsqueeze(2 if last else 1)
    spread = (index[:, :, None] if last else index[:, None]).expand(flat.shape)
    offset = (index + segments * torch.arange(BATCH, device=device)[:, None]).view(-1)

    def scattered(values: torch.Tensor, how: str) -> torch.Tensor:
        start = torch.zeros(pooled_shape, dtype=values.dtype, device=device)
        return start.scatter_reduce_(axis, spread, values, how, include_self=False)

    def added() -> torch.Tensor:
        start = torch.zeros(BATCH * segments, channels, dtype=dtype, device=device)
        return start.index_add_(0, offset, flat.reshape(-1, channels)).view(pooled_shape) / shares.to(dtype)

    keywords: dict[str, Any] = {"layout": layout}
    rivals: dict[str, Callable[[], Any]]
    if what in ("mean", "max"):
        function = getattr(ao, f"segment_{what}")
        how = {"mean": "mean", "max": "amax"}[what]
        rivals = {
            "arrayops": lambda: function(features, labels, segments, **keywords),
            "scatter_reduce": lambda: scattered(flat, how),
        }
        if what == "mean" and last:
            rivals["index_add"] = added

        def expected() -> torch.Tensor:
            return scattered(flat.double(), how)

        elements = features.numel() + pooled.numel()
    elif what == "all":
        names = ("mean", "sum", "max", "min", "var", "count")
        rivals = {"arrayops": lambda: ao.segment_reduce(features, labels, names, segments, **keywords)}

        def expected() -> torch.Tensor:
            return scattered(flat.double(), "mean")

        elements = features.numel() + 5 * pooled.numel()
    else:
        rivals = {
            "arrayops": lambda: ao.segment_mean_backward(pooled, features, labels, segments, **keywords).features,
            "gather": lambda: (pooled / shares.to(dtype)).gather(axis, spread).view(shape),
        }

        def expected() -> torch.Tensor:
            return (pooled.double() / shares).gather(axis, spread).view(shape)

        elements = features.numel() + pooled.numel()
    ours = rivals["arrayops"]
    if device == "cuda":
        rivals["arrayops graph"] = captured(ours)
    name = f"{what} {layout} {str(dtype).removeprefix('torch.')} {channels} channels, {kind}"
    found = (lambda: ours()[:1]) if what == "all" else lambda: (ours(),)
    labels_read = labels.numel() * labels.element_size() / dtype.itemsize
    return Case(name, dtype, rivals, found, lambda: (expected(),), float(features.numel()), elements + labels_read)


def cases(device: str) -> Iterator[Case]:
    """Every kind of labels for means, then the other reductions and the gradient on cells."""
    count = math.ceil((SIZE if device == "cuda" else SMALL) / CELL) ** 2
    kinds = ("cells", f"sorted {count}", f"random {count}", "random 10000", "random 100000", "one")
    small = device == "cpu"
    for layout in ("NHWC", "NCHW"):
        for channels in CHANNELS[:1] if small else CHANNELS:
            for kind in kinds:
                yield case("mean", kind, channels, torch.float32, device, layout)
        for what in ("mean", "max", "all", "mean backward"):
            for dtype in (torch.float32, torch.float16):
                yield case(what, "cells", 8 if small else 64, dtype, device, layout)


if __name__ == "__main__":
    main("Segment reductions on a GPU", cases)
