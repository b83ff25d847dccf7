"""Sums of runs: neighbouring pixels of one segment."""

import numpy as np

from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.scratch import Scratch
from arrayops._backends.numpy.segment_way import Adders, Way


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
