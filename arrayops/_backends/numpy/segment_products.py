"""Sums of runs in planes, by products of matrices, which need no transposing and read planes where they lie.

A piece of 32 pixels is a matrix (channels, 32) of features. Its product with rows of ones and zeros, one for each run
of neighbours of one segment, are the sums of the runs. Products with 0 are exact, but for NaN and infinity, which spoil
all sums of their piece: totals that are not finite are made again from wide rows, as those that overflow.
"""

from functools import cache

import numpy as np

from arrayops._backends.numpy.memory import Array, empty, load
from arrayops._backends.numpy.scratch import Scratch
from arrayops._backends.numpy.segment_rows import LONGEST, PADDING, block_rows, load_rows
from arrayops._backends.numpy.segment_way import FEW, Adders, Way

MOST = 6
"""Runs of a piece that its product adds up."""

PLANES = 8
"""Planes of a product: lines of more, which lie a power of two apart, push each other out of cache."""


def stretch(channels: int) -> int:
    """Pixels behind whose multiples those are added that products leave; a block of products has no more."""
    return min(8 * block_rows(channels), LONGEST)


@cache
def _weights() -> Array:
    """Row ``begin * (FEW + 1) + end`` has ones from ``begin`` to before ``end``."""
    begin, end, place = np.ogrid[: FEW + 1, : FEW + 1, :FEW]
    made = empty(((FEW + 1) ** 2, FEW), np.float32)
    made.reshape(FEW + 1, FEW + 1, FEW)[...] = (begin <= place) & (place < end)
    return made


def _fit_products(planes: Array) -> bool:
    """Whether BLAS can read ``planes`` (channels, pixels) where they lie."""
    size, (far, near) = planes.itemsize, planes.strides
    return planes.dtype == np.float32 and planes.flags.aligned and near == size and far > 0 and far % size == 0


class Products(Way):
    """The first runs of each piece are added up by a product, and their sums as wide rows.

    Pieces begin where places are multiples of `FEW`, and runs end there. Pixels of further runs are wide rows as well,
    which are added behind every `stretch`, wherever blocks end.
    """

    narrow = True
    in_planes = True

    def __init__(self, slots: Array, first: Array) -> None:
        self._pixels = len(slots)
        self._begins = np.flatnonzero(first)
        self._run_slots = slots.take(self._begins)
        # FEW is a power of 2.
        heads = np.flatnonzero(self._begins & (FEW - 1) == 0)
        starts = np.arange(len(heads)) * FEW
        # The last piece may be a short one.
        stops = np.minimum(starts + FEW, self._pixels)
        # Where the first runs of each piece begin, and the one behind them: (MOST + 1, pieces), since loops over pieces
        # are long. Behind the last run stands whatever comes behind the piece.
        begins = np.append(self._begins, self._pixels)
        begins = begins.take(heads + np.arange(MOST + 1)[:, None], mode="clip")
        # Rows behind the last run have no ones, so that any slot will do.
        self._slots = slots.take(begins[:-1].T, mode="clip").reshape(-1)
        begins -= starts
        np.minimum(begins, FEW, out=begins)
        self._intervals = (begins[:-1] * (FEW + 1) + begins[1:]).T.reshape(-1)

        lengths = stops - starts - begins[-1]
        more = np.flatnonzero(lengths)
        lengths = lengths[more]
        ends = lengths.cumsum()
        self._left = np.repeat(stops[more] - ends, lengths) + np.arange(lengths.sum())
        self._left_slots = slots[self._left]

    @property
    def left(self) -> int:
        """Pixels that products leave."""
        return len(self._left)

    def count(self, slots: Array, segments: int) -> Array:
        return np.bincount(self._run_slots, np.diff(self._begins, append=self._pixels), segments + 1).astype(np.int64)

    def add(self, totals: Array, adders: Adders, scratch: Scratch, start: int, slots: Array, rows: Array) -> None:
        count, channels = rows.shape
        pieces = -(-count // FEW)
        whole = pieces * FEW
        begin = start // FEW * MOST
        end = begin + pieces * MOST
        stop, length = start + count, stretch(channels)
        first = start // length * length
        bounds = self._left.searchsorted((first, start, stop, first + length))
        left_from, left_begin, left_end, left_to = bounds.tolist()
        left = scratch("left pixels", (left_to - left_from, channels), np.float64)
        places = self._left[left_begin:left_end] - start

        weights = scratch("weights", (pieces, MOST, FEW), np.float32)
        _weights().take(self._intervals[begin:end], 0, weights.reshape(-1, FEW), "clip")
        sums = scratch("runs", (pieces, MOST, channels), np.float32)
        planes = rows.T
        if count < whole or not _fit_products(planes):
            planes = scratch("planes", (channels, whole + PADDING), np.float32)[:, :whole]
            load(planes[:, :count], rows.T)
            planes[:, count:] = 0.0
        values = planes.reshape(channels, pieces, FEW)
        even = channels // PLANES * PLANES
        groups = values[:even].reshape(-1, PLANES, pieces, FEW).transpose(0, 2, 3, 1)
        np.matmul(weights, groups, out=sums[:, :, :even].reshape(pieces, MOST, -1, PLANES).transpose(2, 0, 1, 3))
        if even < channels:
            np.matmul(weights, values[even:].transpose(1, 2, 0), out=sums[:, :, even:])
        if len(places):
            taken = load_rows(scratch, "taken pixels", rows[places], np.dtype(np.float32))
            np.copyto(left[left_begin - left_from : left_end - left_from], taken)
        wide = scratch("wide", (pieces * MOST, channels), np.float64)
        np.copyto(wide, sums.reshape(wide.shape))
        adders.wide(totals, self._slots[begin:end], wide)
        if stop % length == 0 or stop == self._pixels:
            adders.wide(totals, self._left_slots[left_from:left_to], left)
