"""Copies pooled features to pixels on NVIDIA GPUs, bit by bit."""

from functools import lru_cache
from typing import Any

import cupy
import numpy as np

from arrayops._backends.cuda.engine import module, structures
from arrayops._backends.cuda.engine.image_threads import VECTOR_BYTES, ThreadMapping, all_aligned, map_threads
from arrayops._backends.cuda.engine.launch import launch, struct
from arrayops._backends.cuda.engine.module import Kernel
from arrayops._backends.cuda.engine.structures import ArrayView, view
from arrayops._backends.cuda.segment.labels import SegmentIds
from arrayops._backends.cuda.segment.reduction import strides, table_strides


def unpool(table: Any, segment_ids: SegmentIds, result: Any, layout: str, fill: bytes) -> None:
    """``result[n, p, c] = table[n, segment id of p, c]``; pixels of no segment get the item ``fill``.

    All arrays are contiguous; the table is laid out as pooled features. If it is None, all pixels get ``fill``.
    """
    if not result.size:
        return
    max_channels = VECTOR_BYTES // result.itemsize
    while not all_aligned(max_channels, *(result,) if table is None else (result, table)):
        max_channels //= 2
    segments = 0 if table is None else segment_ids.segments
    function, mapping, geometry = _launch(
        cupy.cuda.runtime.getDevice(), view(result), segments, layout, fill, max_channels
    )
    launch(function, mapping.grid, mapping.block, (geometry, segment_ids.segment_ids, table, result))


@lru_cache(maxsize=256)
def _launch(
    device_number: int, result: ArrayView, segments: int, layout: str, fill: bytes, max_channels: int
) -> tuple[Kernel, ThreadMapping, np.void]:
    """The launch, which copies up to ``max_channels`` contiguous channels as one item."""
    del device_number
    images, channels, row_layout = as_rows_of_pixels(result, layout)
    item_channels = 1
    if row_layout == "NHWC":
        while item_channels < max_channels and channels % (2 * item_channels) == 0:
            item_channels *= 2
    mapping = map_rows(images, row_layout, channels // item_channels)
    item = result.dtype.itemsize * item_channels
    # Strides in items instead of elements.
    table, target = (
        tuple(stride if stride == 1 else stride // item_channels for stride in each)
        for each in (
            table_strides(channels, segments, len(result.shape) == 2, layout),
            strides(result, layout) or (0, 0, 0),
        )
    )
    geometry = struct(
        structures.SEGMENT_UNPOOLING,
        table=table,
        result=target,
        thread_map=mapping.thread_map,
        segments=segments,
        fill=tuple(np.frombuffer(fill * (VECTOR_BYTES // len(fill)), np.uint64).tolist()),
    )
    return (
        module.kernel(
            "segment_gather.cu",
            "segment_gather",
            (("ITEM_BYTES", item), *mapping.defines),
        ),
        mapping,
        geometry,
    )


def as_rows_of_pixels(features: ArrayView, layout: str) -> tuple[tuple[int, int], int, str]:
    """(images, pixels of an image), channels, and layout of features whose images are taken as one row of pixels."""
    if len(features.shape) == 2:
        return (1, features.shape[0]), features.shape[1], "NHWC"
    axes = dict(zip(layout, features.shape, strict=True))
    return (axes["N"], axes["H"] * axes["W"]), axes["C"], layout


def map_rows(images: tuple[int, int], row_layout: str, channels: int) -> ThreadMapping:
    """The thread mapping of images of one row of pixels."""
    batch, count = images
    shape = (batch, channels, 1, count) if row_layout == "NCHW" else (batch, 1, count, channels)
    return map_threads(ArrayView(shape, (), None), row_layout)
