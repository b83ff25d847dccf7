"""Launches of resizing and of copying images: how they are shared out among threads, and what they are told."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import cupy
import numpy as np

from arrayops._backends.cuda.engine import memory, module, structures
from arrayops._backends.cuda.engine.image_threads import (
    EACH,
    VECTOR_BYTES,
    Way,
    all_aligned,
    in_steps,
    shared_out,
    widened,
)
from arrayops._backends.cuda.engine.launch import launch, struct
from arrayops._backends.cuda.engine.module import Kernel
from arrayops._backends.cuda.engine.structures import View, view
from arrayops._backends.cuda.merge.tables import Table, table
from arrayops._backends.cuda.window import plan
from arrayops._core.resampling import Sampling
from arrayops._ops.images import image

MOST_MAPS = 4
"""Maps that one launch sums in registers."""

Samplings = tuple[Sampling, Sampling]


class Launch(NamedTuple):
    """A launch of ``merge_resize`` but for its arrays."""

    function: Kernel
    way: Way
    geometry: np.void
    tables: tuple[Any, ...]


def resize(
    sources: Sequence[Any],
    samplings: tuple[Samplings, ...],
    result: Any,
    layout: str,
    *,
    back: bool = False,
    how: str = "add",
    factor: float = 1.0,
    winners: Any = None,
    number: int = 0,
) -> None:
    """Resize maps, and add them up in ``result``.

    Parameters
    ----------
    sources : sequence of array
        Maps, or with ``back`` the gradient of their result.
    samplings : tuple of pairs of Sampling
        Of rows and columns, for each source.
    result : array
        Where the result goes, which may be a part of an array, though not if there are more than four sources.
    back : bool
        By the transposed matrices.
    how : {"add", "max", "winners"}
        "max" takes the largest, "winners" the number of the first map that attains it.
    factor : float
        What a sum is multiplied by.
    winners : array, optional
        The result of "winners": a gradient counts only where ``number`` stands in it.
    """
    if not result.size:
        return
    device_number = cupy.cuda.runtime.getDevice()
    accumulator = plan.accumulator(sources[0].dtype)
    carry = memory.empty(result.shape, accumulator) if len(sources) > MOST_MAPS else None
    seen = None if winners is None else view(winners)
    # Numbers of winners are read and written one by one.
    four = layout == "NHWC" and how != "winners" and seen is None and all_aligned(EACH, *sources, result)
    for first in range(0, len(sources), MOST_MAPS):
        some = sources[first : first + MOST_MAPS]
        how_launched = _launch(
            device_number,
            tuple(view(source) for source in some),
            samplings[first : first + MOST_MAPS],
            view(result),
            layout,
            back,
            how,
            factor,
            seen,
            first + number,
            first + len(some) == len(sources),
            four,
        )
        absent = (None,) * (MOST_MAPS - len(some))
        arguments = (how_launched.geometry, *some, *absent, *how_launched.tables, winners, carry, result)
        launch(how_launched.function, how_launched.way.grid, how_launched.way.block, arguments)


@lru_cache(maxsize=256)
def _launch(
    device_number: int,
    sources: tuple[View, ...],
    samplings: tuple[Samplings, ...],
    result: View,
    layout: str,
    back: bool,
    how: str,
    factor: float,
    winners: View | None,
    first: int,
    last: bool,
    aligned: bool,
) -> Launch:
    dtype = sources[0].dtype
    found = image(result.shape, layout)
    neighbours = aligned and all(in_steps(each, EACH) for each in (*sources, result))
    way = shared_out(result, layout, neighbours)
    tables = [
        tuple(table(device_number, sampling, back, plan.accumulator(dtype)) for sampling in pair) for pair in samplings
    ]
    room = next(maps for maps in (1, 2, MOST_MAPS) if maps >= len(sources))
    numbers = result.dtype if how == "winners" else None if winners is None else winners.dtype
    settings = {
        "NEIGHBOURS": neighbours,
        "LARGEST": how != "add",
        "WINNERS": how == "winners",
        "WON": winners is not None,
        "MANY": numbers is not None and numbers.itemsize > 1,
    }
    chosen: module.Pairs = tuple((name, "") for name, wanted in settings.items() if wanted)
    maps = [
        (structures.image_strides(source.strides, layout), rows.taps, columns.taps)
        for source, (rows, columns) in zip(sources, tables, strict=True)
    ]
    none = (0, 0, 0, 0)
    return Launch(
        function=module.kernel(
            "merge_resize.cu",
            "merge_resize",
            (*memory.dtype_defines(dtype), ("MAPS", room), ("EACH", way.each), *chosen),
        ),
        way=way,
        geometry=struct(
            structures.merge(room),
            result=structures.image_strides(result.strides, layout),
            winners=none if winners is None else structures.image_strides(winners.strides, layout),
            threads=way.threads,
            rows=found.size[0],
            maps=len(sources),
            first=first,
            last=last,
            factor=factor,
            source=maps + [(none, 0, 0)] * (room - len(maps)),
        ),
        tables=tuple(array for axis in (0, 1) for array in _arrays(tables, axis)),
    )


def _arrays(tables: Sequence[tuple[Table, ...]], axis: int) -> tuple[Any, ...]:
    return (*(pair[axis].array for pair in tables), *(None,) * (MOST_MAPS - len(tables)))


def copy(source: Any, target: Any, layout: str) -> None:
    """Copy images of one shape bit by bit; without a source, fill them with zeros."""
    if not target.size:
        return
    arrays = (target,) if source is None else (target, source)
    most = VECTOR_BYTES // target.itemsize
    while not all_aligned(most, *arrays):
        most //= 2
    function, way, geometry = _copy(cupy.cuda.runtime.getDevice(), tuple(map(view, arrays)), layout, most)
    launch(function, way.grid, way.block, (geometry, source, target))


@lru_cache(maxsize=256)
def _copy(device_number: int, views: tuple[View, ...], layout: str, most: int) -> tuple[Kernel, Way, np.void]:
    """The launch of a copy, which takes up to ``most`` neighbours of the innermost axis as one item."""
    del device_number
    while not all(in_steps(each, most) for each in views) and most > 1:
        most //= 2
    target, *sources = (widened(each, most) for each in views)
    way = shared_out(target, layout)
    defines = (("ITEM_BYTES", target.dtype.itemsize), ("EACH", way.each))
    geometry = struct(
        structures.MERGE_COPIED,
        source=structures.image_strides(sources[0].strides, layout) if sources else (0, 0, 0, 0),
        target=structures.image_strides(target.strides, layout),
        threads=way.threads,
    )
    return module.kernel("merge_copy.cu", "merge_copy", defines), way, geometry
