"""Sorts pixels by segment id: a stable radix sort."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.cuda.engine import device, memory, module
from arrayops._backends.cuda.engine.device import THREADS
from arrayops._backends.cuda.engine.launch import launch, struct
from arrayops._backends.cuda.engine.structures import SEGMENT_PASS
from arrayops._backends.cuda.segment.labels import BLOCKS_PER_MULTIPROCESSOR, SegmentIds

FILE = "segment_order.cu"
DEFINES = (("THREADS", THREADS),)
TILE_PIXELS = 4096
"""``tile`` of ``segment_order.cu``."""

WARPS = THREADS // 32
MAX_DIGIT_BITS = 10
"""Maximum number of bits of a digit; ``segment_order.cu`` keeps counts for all its values in shared memory."""


class SegmentOrder(NamedTuple):
    """The pixels of each image, sorted by segment id; pixels of one segment keep their order in memory.

    Attributes
    ----------
    segment_ids, positions : cupy.ndarray
        int32, (images * pixels,): sorted segment ids, and the corresponding pixels.
    starts : cupy.ndarray
        int32, (images, segments + 1): start of the pixels of each segment, and of those of no segment.
    counts : cupy.ndarray or None
        int64, (images, segments).
    """

    segment_ids: Any
    positions: Any
    starts: Any
    counts: Any


def sort_pixels(segment_ids: SegmentIds, counted: bool = False) -> SegmentOrder:
    """Sort the pixels, and with ``counted`` count those of each segment."""
    images, pixels, segments = segment_ids.images, segment_ids.pixels, segment_ids.segments
    integers = np.dtype(np.int32)
    ids, positions = segment_ids.segment_ids, None
    tiles = -(-pixels // TILE_PIXELS)
    for bits, geometry in _passes(pixels, segments):
        counts = memory.empty((images << bits, tiles), np.dtype(np.uint32))
        totals = memory.empty((images << bits,), np.dtype(np.uint32))
        sorted_ids, sorted_positions = (memory.empty(ids.shape, integers) for _ in range(2))
        block = (THREADS, 1, 1)
        launch(module.kernel(FILE, "segment_digits", DEFINES), (images * tiles, 1, 1), block, (geometry, ids, counts))
        rows = images << bits if tiles else 0
        scan = module.kernel(FILE, "segment_scan", DEFINES)
        launch(scan, (-(-rows // WARPS), 1, 1), block, (np.int64(rows), np.int32(tiles), counts, totals))
        arguments = (geometry, ids, positions, counts, totals, sorted_ids, sorted_positions)
        launch(module.kernel(FILE, "segment_scatter", DEFINES), (images * tiles, 1, 1), block, arguments)
        ids, positions = sorted_ids, sorted_positions
    starts = memory.empty((images, segments + 1), integers)
    segment_counts = memory.empty((images, segments), np.dtype(np.int64)) if counted else None
    blocks = device.current().blocks(starts.size, THREADS, BLOCKS_PER_MULTIPROCESSOR)
    sizes = np.int32(pixels), np.int32(segments), np.int32(images)
    launch(
        module.kernel(FILE, "segment_starts", DEFINES),
        (blocks, 1, 1),
        (THREADS, 1, 1),
        (ids, *sizes, starts, segment_counts),
    )
    return SegmentOrder(ids, positions, starts, segment_counts)


@lru_cache(maxsize=256)
def _passes(pixels: int, segments: int) -> tuple[tuple[int, np.void], ...]:
    """Bits of each digit, from the least significant, and its structure: as few digits as possible, of equal size."""
    id_bits = max(segments.bit_length(), 1)
    count = -(-id_bits // MAX_DIGIT_BITS)
    widths = [id_bits // count + (number < id_bits % count) for number in range(count)]
    tiles = -(-pixels // TILE_PIXELS)
    return tuple(
        (bits, struct(SEGMENT_PASS, pixels=pixels, tiles=tiles, shift=sum(widths[:number]), bits=bits))
        for number, bits in enumerate(widths)
    )
