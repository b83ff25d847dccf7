"""Sums of intervals: stretches of pixels with hardly more rows of any segment than float32 may add up."""

import numpy as np

from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.scratch import Scratch
from arrayops._backends.numpy.segment_way import Adders, Way

SPARSE = 8
"""Pixels of an interval over its totals: random labels then hardly ever hit one more than `FEW` times."""


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
