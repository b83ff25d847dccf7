"""Labels on NVIDIA GPUs: the number of segments, the check of all labels, and the segment id of every pixel.

A segment id is a pixel's label, or the number of segments for a pixel that belongs to none. Kernels that read segment
ids need no further check: none indexes memory out of bounds.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np

from arrayops._backends.cuda.engine import device, memory, module
from arrayops._backends.cuda.engine.device import THREADS
from arrayops._backends.cuda.engine.launch import launch, struct
from arrayops._backends.cuda.engine.structures import SEGMENT_LABELS, ArrayView, view
from arrayops._ops.segment import LabelParameters, bad_label

FILE = "segment_labels.cu"
DEFINES = (("THREADS", THREADS),)
BLOCKS_PER_MULTIPROCESSOR = 8
MAX_PIXELS = 2**31 - 1
"""Maximum number of pixels of an image: positions are 32-bit numbers."""


def num_segments(arrays: tuple[Any, ...], parameters: LabelParameters) -> tuple[Any, ...]:
    """The largest label that is not ignored, plus 1; 0 if there is none."""
    (labels,) = arrays
    labels = memory.contiguous(labels)
    blocks = _blocks(labels.size)
    parts = memory.empty((max(blocks, 1),), np.dtype(np.uint64))
    geometry = _geometry(view(labels), 0, parameters.ignore_label)
    kernel = module.kernel(FILE, "segment_largest", DEFINES)
    launch(kernel, (blocks, 1, 1), (THREADS, 1, 1), (geometry, labels, parts))
    result = memory.empty((), np.dtype(np.int64))
    _reduce_blocks(parts, blocks, True, result)
    return (result,)


class SegmentIds:
    """Segment ids of the pixels of a call.

    Parameters
    ----------
    op : str
        Operator, for messages.
    labels : cupy.ndarray
        (N, H, W) or (P,), of any integer dtype.
    segments : int
        Number of segments.
    ignore_label : int or None
        Label of pixels that are left out.
    check : bool or None
        With True, other labels that are not a segment raise an error, which synchronizes with the GPU; else their
        pixels are left out as well.
    counted : bool
        Whether to count the pixels of each segment.

    Attributes
    ----------
    segment_ids : cupy.ndarray
        int32, one image after the other.
    counts : cupy.ndarray or None
        int64, (images, segments).
    """

    def __init__(
        self, op: str, labels: Any, segments: int, ignore_label: int | None, check: bool | None, counted: bool = False
    ) -> None:
        self.images = labels.shape[0] if labels.ndim == 3 else 1
        self.pixels = math.prod(labels.shape[-2:])
        self.segments = segments
        if self.pixels > MAX_PIXELS:
            raise ValueError(f"{op}: labels is {labels.shape}, expected at most {MAX_PIXELS} pixels per image on a GPU")
        labels = memory.contiguous(labels)
        self.segment_ids = memory.empty((labels.size,), np.dtype(np.int32))
        self.counts = memory.empty((self.images, segments), np.dtype(np.int64)) if counted else None
        counts_size = self.images * segments if counted else 0
        blocks = _blocks(max(labels.size, counts_size))
        geometry = _geometry(view(labels), segments, ignore_label)
        parts = memory.empty((blocks,), np.dtype(np.uint64)) if check and blocks else None
        launch(
            module.kernel(FILE, "segment_assign", DEFINES),
            (blocks, 1, 1),
            (THREADS, 1, 1),
            (geometry, labels, self.segment_ids, parts, self.counts, np.int64(counts_size)),
        )
        if parts is not None:
            self._check(op, labels, parts, ignore_label)
        if counted:
            launch(
                module.kernel(FILE, "segment_histogram", DEFINES),
                (_blocks(labels.size), 1, 1),
                (THREADS, 1, 1),
                (self.segment_ids, np.int64(labels.size), np.int32(self.pixels), np.int32(segments), self.counts),
            )

    def _check(self, op: str, labels: Any, parts: Any, ignore_label: int | None) -> None:
        first_invalid = memory.empty((1,), np.dtype(np.uint64))
        _reduce_blocks(parts, len(parts), False, first_invalid)
        position = int(first_invalid.get()[0])
        if position >= labels.size:
            return
        value = int(labels.reshape(-1)[position : position + 1].get()[0])
        raise bad_label(op, labels.shape, position, value, self.segments, ignore_label)


def _reduce_blocks(parts: Any, count: int, largest: bool, result: Any) -> None:
    """Maximum or minimum of the results of all blocks."""
    kernel = module.kernel(FILE, "segment_reduce_blocks", DEFINES)
    launch(kernel, (1, 1, 1), (THREADS, 1, 1), (parts, np.int32(count), np.int32(largest), result))


def _blocks(count: int) -> int:
    return device.current().blocks(count, THREADS, BLOCKS_PER_MULTIPROCESSOR)


@lru_cache(maxsize=256)
def _geometry(labels: ArrayView, segments: int, ignore_label: int | None) -> np.void:
    limits = np.iinfo(labels.dtype)
    ignores = ignore_label is not None and limits.min <= ignore_label <= limits.max
    return struct(
        SEGMENT_LABELS,
        count=math.prod(labels.shape),
        # The bits of the label, sign-extended to 64.
        ignored=(ignore_label or 0) % 2**64 if ignores else 0,
        segments=segments,
        bytes=labels.dtype.itemsize,
        is_signed=labels.dtype.kind == "i",
        ignores=ignores,
    )
