"""Sums of runs in planes, by products of matrices, which need no transposing.

A piece of 32 pixels is a matrix (channels, 32) of features. Its product with rows of ones and zeros, one for each run
of neighbours of one segment, are the sums of the runs. Products with 0 are exact, but for NaN and infinity, which spoil
all sums of their piece: totals that are not finite are made again from wide rows, as those that overflow.
"""

from functools import cache

import numpy as np

from arrayops._backends.numpy.blocks import Scratch
from arrayops._backends.numpy.memory import Array, empty, load
from arrayops._backends.numpy.segment_rows import LONGEST, PADDING, block_rows
from arrayops._backends.numpy.segment_way import FEW, Adders, Way

MOST = 4
"""Runs of a piece that its product adds up."""

SHORT = 2
"""Pixels of runs that are left out first where there are more."""

PLANES = 32
"""Planes at a time: as many pixels of them as a block has stay in cache."""


def stretch(channels: int) -> int:
    """Pixels behind whose multiples those are added that products leave; a block of products has no more."""
    return min(8 * block_rows(channels), LONGEST)


@cache
def _weights() -> Array:
    """Row ``begin * (FEW + 1) + end`` has ones from ``begin`` to before ``end``; row 0 has none."""
    begin, end, place = np.ogrid[: FEW + 1, : FEW + 1, :FEW]
    made = empty(((FEW + 1) ** 2, FEW), np.float32)
    made.reshape(FEW + 1, FEW + 1, FEW)[...] = (begin <= place) & (place < end)
    return made


class Products(Way):
    """A few runs of each piece are added up by a product, and their sums as wide rows.

    Pieces begin where places are multiples of `FEW`, and runs end there. Pixels of other runs are wide rows as well,
    which are added behind every `stretch`, wherever blocks end.
    """

    narrow = True
    in_planes = True

    def __init__(self, slots: Array, segments: int, first: Array) -> None:
        self._pixels = len(slots)
        begins = np.flatnonzero(first)
        ends = np.append(begins[1:], self._pixels)
        self._lengths = lengths = ends - begins
        self._run_slots = slots[begins]
        pieces = begins // FEW
        several = np.bincount(pieces)
        heads = np.cumsum(several) - several
        kept = (lengths > SHORT) | (several <= MOST)[pieces]
        ranks: Array = np.cumsum(kept)
        ranks -= (ranks[heads] - kept[heads])[pieces] + 1
        kept &= ranks < MOST
        rows = (pieces * MOST + ranks)[kept]
        # Rows that stand for no run are zeros, and go where pixels go that are left out.
        self._intervals = np.zeros(len(several) * MOST, np.intp)
        self._intervals[rows] = (begins * (FEW + 1) + ends - pieces * (FEW * (FEW + 2)))[kept]
        self._slots = np.full(len(self._intervals), segments, np.int32)
        self._slots[rows] = self._run_slots[kept]

        other = np.flatnonzero(~kept)
        lengths = lengths[other]
        passed = np.cumsum(lengths) - lengths
        self._left = np.repeat(begins[other] - passed, lengths) + np.arange(lengths.sum())
        self._left_slots = slots[self._left]

    @property
    def left(self) -> int:
        """Pixels that products leave."""
        return len(self._left)

    def count(self, slots: Array, segments: int) -> Array:
        return np.bincount(self._run_slots, self._lengths, segments + 1).astype(np.int64)

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
        taken = scratch("taken pixels", (channels, len(places)), np.float32)
        for channel in range(0, channels, PLANES):
            these = slice(channel, min(channel + PLANES, channels))
            planes = scratch("planes", (these.stop - channel, whole + PADDING), np.float32)
            load(planes[:, :count], rows[:, these].T)
            if count < whole:
                planes[:, count:whole] = 0.0
            values = planes[:, :whole].reshape(len(planes), pieces, FEW).transpose(1, 2, 0)
            np.matmul(weights, values, out=sums[:, :, these])
            if len(places):
                planes.take(places, 1, taken[these], "clip")
        np.copyto(left[left_begin - left_from : left_end - left_from], taken.T)
        wide = scratch("wide", (pieces * MOST, channels), np.float64)
        np.copyto(wide, sums.reshape(wide.shape))
        adders.wide(totals, self._slots[begin:end], wide)
        if stop % length == 0 or stop == self._pixels:
            adders.wide(totals, self._left_slots[left_from:left_to], left)
