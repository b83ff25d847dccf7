"""Launches of resizing and of copying images."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import cupy
import numpy as np

from arrayops._backends.cuda.engine import memory, module, structures
from arrayops._backends.cuda.engine.image_threads import (
    CHANNELS_PER_THREAD,
    VECTOR_BYTES,
    ThreadMapping,
    all_aligned,
    as_items,
    is_vectorizable,
    map_threads,
)
from arrayops._backends.cuda.engine.launch import launch, struct
from arrayops._backends.cuda.engine.module import Kernel
from arrayops._backends.cuda.engine.structures import ArrayView, view
from arrayops._backends.cuda.merge.tables import WeightTable, table
from arrayops._backends.cuda.window import plan
from arrayops._core.kernel_source import Pairs
from arrayops._core.resampling import Sampling
from arrayops._ops.images import image

MAX_MAPS_PER_LAUNCH = 4
"""Maps that one launch sums in registers."""

Samplings = tuple[Sampling, Sampling]


class ResizeLaunch(NamedTuple):
    """A launch of ``merge_resize`` except for its arrays."""

    function: Kernel
    mapping: ThreadMapping
    geometry: np.void
    tables: tuple[Any, ...]


def resize(
    sources: Sequence[Any],
    samplings: tuple[Samplings, ...],
    result: Any,
    layout: str,
    *,
    back: bool = False,
    reduction: str = "add",
    factor: float = 1.0,
    argmax: Any = None,
    map_index: int = 0,
) -> None:
    """Resize maps and write their sum, maximum or argmax to ``result``.

    Parameters
    ----------
    sources : sequence of array
        Maps, or with ``back`` the gradient of their result.
    samplings : tuple of pairs of Sampling
        Samplings of rows and columns for each source.
    result : array
        Output, which may be a view of a larger array unless there are more than four sources.
    back : bool
        Whether to use the transposed matrices.
    reduction : {"add", "max", "argmax"}
        "argmax" is the index of the first map that attains the maximum.
    factor : float
        Factor of the sum.
    argmax : array, optional
        The result of "argmax": a gradient counts only where it equals ``map_index``.
    """
    if not result.size:
        return
    device_number = cupy.cuda.runtime.getDevice()
    accumulator = plan.accumulator(sources[0].dtype)
    carry = memory.empty(result.shape, accumulator) if len(sources) > MAX_MAPS_PER_LAUNCH else None
    argmax_view = None if argmax is None else view(argmax)
    # Indices of "argmax" are read and written one by one.
    aligned = (
        layout == "NHWC"
        and reduction != "argmax"
        and argmax_view is None
        and all_aligned(CHANNELS_PER_THREAD, *sources, result)
    )
    for first in range(0, len(sources), MAX_MAPS_PER_LAUNCH):
        batch = sources[first : first + MAX_MAPS_PER_LAUNCH]
        config = _launch(
            device_number,
            tuple(view(source) for source in batch),
            samplings[first : first + MAX_MAPS_PER_LAUNCH],
            view(result),
            layout,
            back,
            reduction,
            factor,
            argmax_view,
            first + map_index,
            first + len(batch) == len(sources),
            aligned,
        )
        absent = (None,) * (MAX_MAPS_PER_LAUNCH - len(batch))
        arguments = (config.geometry, *batch, *absent, *config.tables, argmax, carry, result)
        launch(config.function, config.mapping.grid, config.mapping.block, arguments)


@lru_cache(maxsize=256)
def _launch(
    device_number: int,
    sources: tuple[ArrayView, ...],
    samplings: tuple[Samplings, ...],
    result: ArrayView,
    layout: str,
    back: bool,
    reduction: str,
    factor: float,
    argmax: ArrayView | None,
    first: int,
    last: bool,
    aligned: bool,
) -> ResizeLaunch:
    dtype = sources[0].dtype
    extents = image(result.shape, layout)
    vectorized = aligned and all(is_vectorizable(array_view, CHANNELS_PER_THREAD) for array_view in (*sources, result))
    mapping = map_threads(result, layout, vectorized)
    tables = [
        tuple(table(device_number, sampling, back, plan.accumulator(dtype)) for sampling in pair) for pair in samplings
    ]
    capacity = next(maps for maps in (1, 2, MAX_MAPS_PER_LAUNCH) if maps >= len(sources))
    argmax_dtype = result.dtype if reduction == "argmax" else None if argmax is None else argmax.dtype
    settings = {
        "VECTORIZED": vectorized,
        "TAKE_MAX": reduction != "add",
        "WRITE_ARGMAX": reduction == "argmax",
        "MASK_BY_ARGMAX": argmax is not None,
        "ARGMAX_32BIT": argmax_dtype is not None and argmax_dtype.itemsize > 1,
    }
    flags: Pairs = tuple((name, "") for name, is_set in settings.items() if is_set)
    maps = [
        (structures.image_strides(source.strides, layout), rows.taps, columns.taps)
        for source, (rows, columns) in zip(sources, tables, strict=True)
    ]
    none = (0, 0, 0, 0)
    return ResizeLaunch(
        function=module.kernel(
            "merge_resize.cu",
            "merge_resize",
            (
                *memory.dtype_defines(dtype),
                ("MAPS", capacity),
                *mapping.defines,
                *flags,
            ),
        ),
        mapping=mapping,
        geometry=struct(
            structures.merge(capacity),
            result=structures.image_strides(result.strides, layout),
            argmax=none if argmax is None else structures.image_strides(argmax.strides, layout),
            thread_map=mapping.thread_map,
            rows=extents.size[0],
            maps=len(sources),
            first=first,
            last=last,
            factor=factor,
            source=maps + [(none, 0, 0)] * (capacity - len(maps)),
        ),
        tables=tuple(array for axis in (0, 1) for array in _arrays(tables, axis)),
    )


def _arrays(tables: Sequence[tuple[WeightTable, ...]], axis: int) -> tuple[Any, ...]:
    return (*(pair[axis].array for pair in tables), *(None,) * (MAX_MAPS_PER_LAUNCH - len(tables)))


def copy(source: Any, target: Any, layout: str) -> None:
    """Copy images of one shape bit by bit; fill them with zeros if ``source`` is None."""
    if not target.size:
        return
    arrays = (target,) if source is None else (target, source)
    max_items = VECTOR_BYTES // target.itemsize
    while not all_aligned(max_items, *arrays):
        max_items //= 2
    function, mapping, geometry = _copy(cupy.cuda.runtime.getDevice(), tuple(map(view, arrays)), layout, max_items)
    launch(function, mapping.grid, mapping.block, (geometry, source, target))


@lru_cache(maxsize=256)
def _copy(
    device_number: int, views: tuple[ArrayView, ...], layout: str, max_items: int
) -> tuple[Kernel, ThreadMapping, np.void]:
    """The launch of a copy, with up to ``max_items`` contiguous elements of the innermost axis as one item."""
    del device_number
    while not all(is_vectorizable(array_view, max_items) for array_view in views) and max_items > 1:
        max_items //= 2
    target, *sources = (as_items(array_view, max_items) for array_view in views)
    mapping = map_threads(target, layout)
    defines = (("ITEM_BYTES", target.dtype.itemsize), *mapping.defines)
    geometry = struct(
        structures.COPY_GEOMETRY,
        source=structures.image_strides(sources[0].strides, layout) if sources else (0, 0, 0, 0),
        target=structures.image_strides(target.strides, layout),
        thread_map=mapping.thread_map,
    )
    return module.kernel("merge_copy.cu", "merge_copy", defines), mapping, geometry
