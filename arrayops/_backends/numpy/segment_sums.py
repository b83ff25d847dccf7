"""Sums of rows over segments: wide totals, and the short float32 sums that may go before them.

Totals are float64 or 64-bit integers: a float32 sum would lose digits over millions of pixels. Widening every row costs
more than adding it. So where labels allow it, rows are added in float32 first, a few at a time: a sum of 16 is right to
15 roundings of the sum of absolute values, 9e-7 of it. Which way a part goes follows from its labels alone, and so do
the bits of its result.
"""

from typing import Any

import numpy as np

from arrayops._backends.numpy.blocks import Scratch
from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.segment_rows import LONGEST
from arrayops._backends.numpy.segment_sparse import Adder, RunAdder

FEW = 16
"""Rows that are added in float32; runs are cut at its multiples."""

COHERENT = 0.4
"""Runs over pixels, up to which it pays to add them up first."""

SPARSE = 3
"""Pixels of an interval over segments: random labels then hardly ever hit one segment more than `FEW` times."""


class Adders:
    """What adds rows in one thread."""

    def __init__(self, rows: int, dtype: "np.dtype[Any]") -> None:
        self.wide = Adder(rows, dtype)
        self.narrow = Adder(rows, np.dtype(np.float32))
        self.runs = RunAdder(rows, np.dtype(np.float32))


class Sums:
    """Totals of a part: (segments + 1, channels)."""

    def __init__(self, totals: Array) -> None:
        self.totals = totals
        self.clear()

    def clear(self) -> None:
        """Begin again."""
        self.totals[...] = np.zeros((), self.totals.dtype)

    def merge(self, other: "Sums") -> None:
        """Add a later part."""
        np.add(self.totals, other.totals, out=self.totals)


class Way:
    """How the rows of a part are added to its totals; this one takes every row as a wide one."""

    narrow = False
    """Whether rows are float32."""

    def add(self, totals: Array, adders: Adders, scratch: Scratch, start: int, slots: Array, rows: Array) -> None:
        """Add the rows of a block, the first of which is pixel ``start`` of the part."""
        adders.wide(totals, slots, rows)

    def end(self, totals: Array) -> None:
        """Add what is left over."""


WIDE = Way()


class Runs(Way):
    """Neighbours of one segment are added up in float32, `FEW` at most, and their sums in float64."""

    narrow = True

    def __init__(self, slots: Array, first: Array) -> None:
        self._begins = np.append(np.flatnonzero(first), len(slots))
        self._slots = slots[self._begins[:-1]]

    def add(self, totals: Array, adders: Adders, scratch: Scratch, start: int, slots: Array, rows: Array) -> None:
        bounds, owners = self._cut(start, len(rows))
        shape = len(owners), rows.shape[1]
        sums, wide = scratch("runs", shape, np.float32), scratch("wide runs", shape, np.float64)
        adders.runs(sums, bounds, rows)
        np.copyto(wide, sums)
        adders.wide(totals, owners, wide)

    def add_planes(self, totals: Array, adders: Adders, scratch: Scratch, start: int, planes: Array) -> None:
        """Add the rows of a block that lie as planes (channels, pixels), which need not be transposed for that."""
        bounds, owners = self._cut(start, planes.shape[1])
        shape = len(planes), len(owners)
        sums, wide = scratch("runs", shape, np.float32), scratch("wide runs", shape[::-1], np.float64)
        adders.runs.planes(sums, bounds, planes)
        np.copyto(wide, sums.T)
        adders.wide(totals, owners, wide)

    def _cut(self, start: int, count: int) -> tuple[Array, Array]:
        """Where the runs of a block begin and end, and their slots."""
        begin, end = self._begins.searchsorted((start, start + count)).tolist()
        return (self._begins[begin : end + 1] - start).astype(np.int32), self._slots[begin:end]


class Intervals(Way):
    """Rows are added to float32 totals of all segments, and these to wide ones before any has more than `FEW` rows."""

    narrow = True

    def __init__(self, length: int) -> None:
        self._length = length
        self._sums: Array | None = None

    def add(self, totals: Array, adders: Adders, scratch: Scratch, start: int, slots: Array, rows: Array) -> None:
        if start % self._length == 0:
            self.end(totals)
            self._sums = scratch("narrow totals", totals.shape, np.float32)
            self._sums[...] = 0
        assert self._sums is not None
        adders.narrow(self._sums, slots, rows)

    def end(self, totals: Array) -> None:
        if self._sums is not None:
            np.add(totals, self._sums, out=totals)
        self._sums = None


def way(slots: Array, segments: int) -> Way:
    """The way of a part's float32 sums, from its slots."""
    count = len(slots)
    first = np.empty(count, bool)
    np.not_equal(slots[1:], slots[:-1], out=first[1:])
    first[::FEW] = True
    if np.count_nonzero(first) <= COHERENT * count:
        return Runs(slots, first)
    length = -(-SPARSE * (segments + 1) // LONGEST) * LONGEST
    for start in range(0, count, length):
        hits = np.bincount(slots[start : start + length], minlength=segments + 1)
        if hits[:segments].max(initial=0) > FEW:
            return WIDE
    return Intervals(length)


class Moments:
    """Means and sums of squared deviations of a part, in float64.

    A part takes its rows relative to what a few of its pixels say of each segment: at first one row of it, then, by
    `centre`, the mean of those that were added until then. Sums of squares about that cannot drown the deviations,
    however far the values are from 0. Parts are merged by their means and sums of squared deviations (T. F. Chan,
    G. H. Golub and R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).
    """

    def __init__(self, mean: Array, squares: Array, counts: Array, first_rows: Array) -> None:
        self.mean, self.squares, self.counts, self.shift = mean, squares, counts, first_rows
        self.mean[...] = 0.0
        self.squares[...] = 0.0

    def centre(self, counts: Array) -> None:
        """Begin again, relative to the means of the ``counts`` rows that were added."""
        self.mean /= np.maximum(counts, 1)[:, None]
        self.shift += self.mean
        self.mean[...] = 0.0
        self.squares[...] = 0.0

    def add(self, adder: Adder, scratch: Scratch, slots: Array, wide: Array) -> None:
        """Add the rows of a block."""
        relative = scratch("relative", wide.shape, np.float64)
        np.take(self.shift, slots, axis=0, out=relative, mode="clip")
        np.subtract(wide, relative, out=relative)
        adder(self.mean, slots, relative)
        np.multiply(relative, relative, out=relative)
        adder(self.squares, slots, relative)

    def end(self) -> None:
        """Turn the sums of deviations from the first rows into means, and those of squares into squares about them."""
        counts = np.maximum(self.counts, 1)[:, None]
        self.squares -= self.mean * self.mean / counts
        np.maximum(self.squares, 0, out=self.squares)
        self.mean /= counts
        self.mean += self.shift

    def merge(self, other: "Moments") -> None:
        """Add a later part, both after `end`."""
        together = self.counts + other.counts
        weight = other.counts / np.maximum(together, 1)
        apart = other.mean - self.mean
        # A segment that one of the two does not have leaves nothing: 0 times whatever its mean stands for.
        joint = self.counts * weight
        self.squares += other.squares
        self.squares += np.where(joint[:, None] > 0, apart * apart * joint[:, None], 0)
        self.mean = np.where(weight[:, None] > 0, self.mean + apart * weight[:, None], self.mean)
        self.counts = together
