"""From segments to pixels on NVIDIA GPUs: every pixel gets its segment's row of a table, bit by bit."""

from functools import lru_cache
from typing import Any

import cupy
import numpy as np

from arrayops._backends.cuda.engine import module, structures
from arrayops._backends.cuda.engine.image_threads import VECTOR_BYTES, Way, all_aligned, shared_out
from arrayops._backends.cuda.engine.launch import launch, struct
from arrayops._backends.cuda.engine.module import Kernel
from arrayops._backends.cuda.engine.structures import View, view
from arrayops._backends.cuda.segment.labels import SegmentIds
from arrayops._backends.cuda.segment.reduction import strides, table_strides


def unpool(table: Any, segment_ids: SegmentIds, result: Any, layout: str, fill: bytes) -> None:
    """``result[n, p, c] = table[n, segment id of p, c]``, or the item ``fill`` for pixels of no segment.

    All arrays are contiguous; the table is laid out as pooled features. Without one, all is ``fill``.
    """
    if not result.size:
        return
    most = VECTOR_BYTES // result.itemsize
    while not all_aligned(most, *(result,) if table is None else (result, table)):
        most //= 2
    segments = 0 if table is None else segment_ids.segments
    function, way, geometry = _spread(cupy.cuda.runtime.getDevice(), view(result), segments, layout, fill, most)
    launch(function, way.grid, way.block, (geometry, segment_ids.segment_ids, table, result))


@lru_cache(maxsize=256)
def _spread(
    device_number: int, result: View, segments: int, layout: str, fill: bytes, most: int
) -> tuple[Kernel, Way, np.void]:
    """The launch, which takes up to ``most`` channels that lie side by side as one item."""
    del device_number
    images, channels, lines = as_lines(result, layout)
    together = 1
    if lines == "NHWC":
        while together < most and channels % (2 * together) == 0:
            together *= 2
    way = way_of(images, lines, channels // together)
    item = result.dtype.itemsize * together
    # As whole items, of which a row of channels has fewer.
    table, target = (
        tuple(stride if stride == 1 else stride // together for stride in each)
        for each in (
            table_strides(channels, segments, len(result.shape) == 2, layout),
            strides(result, layout) or (0, 0, 0),
        )
    )
    geometry = struct(
        structures.SEGMENT_UNPOOLING,
        table=table,
        result=target,
        threads=way.threads,
        segments=segments,
        fill=tuple(np.frombuffer(fill * (VECTOR_BYTES // len(fill)), np.uint64).tolist()),
    )
    return (
        module.kernel("segment_gather.cu", "segment_gather", (("ITEM_BYTES", item), ("EACH", way.each))),
        way,
        geometry,
    )


def as_lines(features: View, layout: str) -> tuple[tuple[int, int], int, str]:
    """Images and pixels of one, channels, and the layout of features whose images are taken as one row of pixels."""
    if len(features.shape) == 2:
        return (1, features.shape[0]), features.shape[1], "NHWC"
    axes = dict(zip(layout, features.shape, strict=True))
    return (axes["N"], axes["H"] * axes["W"]), axes["C"], layout


def way_of(images: tuple[int, int], lines: str, channels: int) -> Way:
    """How such features are shared out."""
    batch, count = images
    shape = (batch, channels, 1, count) if lines == "NCHW" else (batch, 1, count, channels)
    return shared_out(View(shape, (), None), lines)
