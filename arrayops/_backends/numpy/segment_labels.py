"""Labels on the CPU: how many segments there are, whether all labels are good, and the slot of every pixel.

A slot is where a pixel's features go: its label, or for pixels that are left out one place behind all segments. Tables
with that extra row need no case for such pixels, and no label reaches memory outside of them.
"""

import math
from typing import Any

import numpy as np

from arrayops._backends.numpy.blocks import Compute, run_blocks
from arrayops._backends.numpy.memory import Array, empty
from arrayops._backends.numpy.scratch import Scratch
from arrayops._ops.segment import LabelParameters, bad_label

PIECE = 1 << 16
"""Labels looked at in one go."""


def num_segments(arrays: tuple[Any, ...], parameters: LabelParameters) -> tuple[Array, ...]:
    """The largest label but the ignored one, and one more; 0 without any."""
    (labels,) = arrays
    found = 0
    for piece in _pieces(labels):
        kept = piece if parameters.ignore_label is None else piece[piece != parameters.ignore_label]
        if kept.size:
            found = max(found, int(kept.max()) + 1)
    result = empty((), np.int64)
    # Far too many are refused by the caller, who knows the operator.
    result[...] = min(found, np.iinfo(np.int64).max)
    return (result,)


def _pieces(labels: Array) -> list[Array]:
    flat = labels.reshape(-1)
    return [flat[start : start + PIECE] for start in range(0, flat.size, PIECE)]


class Labels:
    """Labels of a call, as (images, pixels), with what tells segments from pixels that are left out.

    Parameters
    ----------
    op : str
        Operator, for messages.
    labels : Array
        (N, H, W) or (P,), of any integer dtype.
    segments : int
        Number of segments.
    ignore_label : int or None
        Label of pixels that are left out.
    check : bool or None
        Whether other labels that name no segment are an error, as it is by default; else their pixels are left out.
    """

    def __init__(self, op: str, labels: Array, segments: int, ignore_label: int | None, check: bool | None) -> None:
        images = labels.shape[:-2] if labels.ndim == 3 else (1,)
        self.flat = labels.reshape(*images, math.prod(labels.shape[-2:]))
        self.segments = segments
        self.ignore_label = ignore_label
        self.plain = self._within(self.flat)
        if check is not False and not self.plain:
            self._check(op, labels)
        if ignore_label is not None and 0 <= ignore_label < segments:
            self.plain = False

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.flat)

    @property
    def pixels(self) -> int:
        """Pixels of an image."""
        return int(self.flat.shape[1])

    def slots(self, image: int, start: int, stop: int) -> Array:
        """Slots of some pixels of an image, int32 and contiguous; pixels that are left out have ``segments``."""
        labels = self.flat[image, start:stop]
        slots = np.ascontiguousarray(labels, np.int32)
        if self.plain:
            return slots
        left_out = (labels < 0) | (labels >= self.segments)
        if self.ignore_label is not None:
            left_out |= labels == self.ignore_label
        return np.where(left_out, np.int32(self.segments), slots)

    def _within(self, labels: Array) -> bool:
        """Whether every label names a segment."""
        if not labels.size:
            return True
        if labels.dtype.kind == "i":
            if self.segments > np.iinfo(labels.dtype).max:
                return bool(labels.min() >= 0)
            # Without a sign negative ones are too large as well, so that one look is enough.
            labels = labels.view(labels.dtype.str.replace("i", "u"))
        return bool(labels.max() < self.segments)

    def _check(self, op: str, labels: Array) -> None:
        passed = 0
        for piece in _pieces(labels):
            if not self._within(piece):
                bad = (piece < 0) | (piece >= self.segments)
                if self.ignore_label is not None:
                    bad &= piece != self.ignore_label
                if bad.any():
                    at = passed + int(bad.argmax())
                    value = int(piece[at - passed])
                    raise bad_label(op, labels.shape, at, value, self.segments, self.ignore_label)
            passed += len(piece)


def count_pixels(labels: Labels) -> Array:
    """Pixels of each slot: (images, segments + 1), int64."""
    counts = np.empty((labels.images, labels.segments + 1), np.int64)

    def begin(scratch: Scratch) -> Compute:
        def compute(image: int) -> None:
            counts[image] = np.bincount(labels.slots(image, 0, labels.pixels), minlength=labels.segments + 1)

        return compute

    run_blocks(labels.images, begin)
    return counts
