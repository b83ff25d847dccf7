"""Ways to add a part's rows to its totals: as wide ones, or a few at a time in float32.

Totals are float64 or 64-bit integers: a float32 sum would lose digits over millions of pixels. Widening every row costs
more than adding it. So where labels allow it, rows are added in float32 first, a few at a time: a sum of 32 is right to
31 roundings of the sum of absolute values, 1.85e-6 of it. Which way a part goes follows from its labels alone, and so
do the bits of its result.
"""

from typing import Any

import numpy as np

from arrayops._backends.numpy.blocks import Scratch
from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.segment_sparse import Adder, RunAdder

FEW = 32
"""Rows that are added in float32 at most."""

COHERENT = 0.4
"""Runs over pixels, up to which it pays to add them up first."""

SPARSE = 8
"""Pixels of an interval over its totals: random labels then hardly ever hit one more than `FEW` times."""


class Adders:
    """What adds rows in one thread."""

    def __init__(self, rows: int, dtype: "np.dtype[Any]") -> None:
        self.wide = Adder(rows, dtype)
        self.narrow = Adder(rows, np.dtype(np.float32))
        self.runs = RunAdder(rows, np.dtype(np.float32))


class Way:
    """How the rows of a part are added to its totals; this one takes every row as a wide one."""

    narrow = False
    """Whether rows are float32."""

    single = False
    """Whether float32 totals do for all rows of the part; `add` then takes such as well."""

    def add(self, totals: Array, adders: Adders, scratch: Scratch, start: int, slots: Array, rows: Array) -> None:
        """Add the rows of a block, the first of which is pixel ``start`` of the part."""
        adders.wide(totals, slots, rows)

    def end(self, totals: Array) -> None:
        """Add what is left over."""

    def count(self, slots: Array, segments: int) -> Array:
        """Pixels of each slot of the part."""
        return np.bincount(slots, minlength=segments + 1)


WIDE = Way()


class Runs(Way):
    """Neighbours of one segment are added up in float32, and their sums as wide rows.

    Pixels whose places are multiples of `FEW` begin a run of their own.
    """

    narrow = True

    def __init__(self, slots: Array, first: Array) -> None:
        self._begins = np.append(np.flatnonzero(first), len(slots)).astype(np.int32)
        self._slots = slots[self._begins[:-1]]

    def count(self, slots: Array, segments: int) -> Array:
        return np.bincount(self._slots, np.diff(self._begins), segments + 1).astype(np.int64)

    def add(self, totals: Array, adders: Adders, scratch: Scratch, start: int, slots: Array, rows: Array) -> None:
        begin, end = self._begins.searchsorted((start, start + len(rows))).tolist()
        shape = end - begin, rows.shape[1]
        sums, wide = scratch("runs", shape, np.float32), scratch("wide", shape, np.float64)
        adders.runs(sums, self._begins[begin : end + 1] - np.int32(start), rows)
        np.copyto(wide, sums)
        adders.wide(totals, self._slots[begin:end], wide)


class Intervals(Way):
    """Rows are added to float32 totals of all segments, and these to wide ones before any has more than `FEW` rows.

    Where segments are few, neighbours take turns in ``copies`` of their totals.
    """

    narrow = True

    def __init__(self, slots: Array, segments: int, block: int) -> None:
        self._copies = max(1, -(-block // (SPARSE * (segments + 1))))
        places = (segments + 1) * self._copies
        self.length = SPARSE * places // block * block
        """Pixels of an interval, whole blocks."""

        self._places = slots
        if self._copies > 1:
            self._places = slots * np.int32(self._copies) + np.arange(len(slots), dtype=np.int32) % self._copies
        self.most = 0
        """The most rows of an interval that are added to one total."""

        for start in range(0, len(slots), self.length):
            hits = np.bincount(self._places[start : start + self.length], minlength=places)
            self.most = max(self.most, int(hits[: segments * self._copies].max(initial=0)))
        self.single = self._copies == 1 and self.length >= len(slots)
        self._sums: Array | None = None

    def add(self, totals: Array, adders: Adders, scratch: Scratch, start: int, slots: Array, rows: Array) -> None:
        if totals.dtype == np.float32:
            adders.narrow(totals, slots, rows)
            return
        if start % self.length == 0:
            self.end(totals)
            self._sums = scratch("narrow totals", (len(totals) * self._copies, totals.shape[1]), np.float32)
            self._sums[...] = 0
        assert self._sums is not None
        adders.narrow(self._sums, self._places[start : start + len(rows)], rows)

    def end(self, totals: Array) -> None:
        if self._sums is not None:
            sums = self._sums
            if self._copies > 1:
                sums = sums.reshape(len(totals), self._copies, totals.shape[1]).sum(axis=1, dtype=totals.dtype)
            np.add(totals, sums, out=totals)
        self._sums = None


def way(slots: Array, segments: int, block: int) -> Way:
    """The way of a part's float32 sums, from its slots, if intervals have whole blocks of ``block`` rows."""
    first = np.empty(len(slots), np.bool_)
    np.not_equal(slots[1:], slots[:-1], out=first[1:])
    first[::FEW] = True
    if np.count_nonzero(first) <= COHERENT * len(slots):
        return Runs(slots, first)
    if len(slots) < block:
        return WIDE
    intervals = Intervals(slots, segments, block)
    return intervals if intervals.most <= FEW else WIDE
