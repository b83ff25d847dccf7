"""Largest and smallest values of segments, and the first pixels that attain them.

NumPy has no quick maximum by label. Here the rows of a block that belong to one segment are compared in pairs: the
first with the second, the third with the fourth, ..., then the winners of those, until one row is left. A `Tournament`
holds the pairs of each round. It follows from the labels alone and serves all channels, and for each row of the block
there is one comparison at most, however the labels lie.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.scratch import Scratch
from arrayops._backends.numpy.segment_sparse import sort_by


class Round(NamedTuple):
    """Pairs of rows (places in their block), and where each block's pairs begin."""

    kept: Array
    other: Array
    bounds: Array


class Tournament:
    """Pairs of a part's pixels, block by block of ``rows``.

    `winners` are the places of leads, the first pixels of each segment in a block, `segments` their slots, and `bounds`
    tells where those of a block begin. With ``leads``, `lead` is for each pixel the place of its segment's.
    """

    def __init__(self, slots: Array, segments: int, rows: int, leads: bool = False) -> None:
        self.rows, count = rows, len(slots)
        blocks = -(-count // rows)
        # By slot, then by block, which keeps the order of the slots in each.
        by_slot, sorted_slots = sort_by(slots, segments + 1, slots)
        place, sorted_slots = sort_by(by_slot // np.int32(rows), blocks, sorted_slots)
        order = by_slot[place]
        edges = np.arange(blocks + 1) * rows
        local = (order - np.repeat(edges[:-1], rows)[:count]).astype(np.intp)

        first = np.empty(count, bool)
        first[:1] = True
        np.not_equal(sorted_slots[1:], sorted_slots[:-1], out=first[1:])
        first[::rows] = True
        begins = np.flatnonzero(first)
        lengths = np.diff(begins, append=count)
        self.winners, self.segments = local[begins], sorted_slots[begins]
        self.bounds = np.searchsorted(begins, edges)
        if leads:
            self.lead = np.empty(count, np.intp)
            self.lead[order] = np.repeat(self.winners, lengths)
        self.rounds = list(self._rounds(begins.astype(np.int32), lengths.astype(np.int32), local, edges))

    @staticmethod
    def _rounds(begins: Array, lengths: Array, local: Array, edges: Array) -> Iterator[Round]:
        """Pairs of each round, of runs of sorted rows that belong to one segment."""
        # Of the rows that are left: place in the sorted order, rank within the segment, and rows that it has left.
        several = lengths > 1
        begins, lengths = begins[several], lengths[several]
        length = np.repeat(lengths, lengths)
        ends = np.cumsum(lengths, dtype=np.int32)
        rank = np.arange(len(length), dtype=np.int32) - np.repeat(ends - lengths, lengths)
        place = np.repeat(begins, lengths) + rank
        step = 1
        while len(place):
            even = (rank & 1) == 0
            place, rank, length = place[even], rank[even], length[even]
            kept = place[rank + 1 < length]
            yield Round(local[kept], local[kept + step], np.searchsorted(kept, edges))
            rank >>= 1
            length = (length + 1) >> 1
            left = length > 1
            place, rank, length = place[left], rank[left], length[left]
            step *= 2

    def play(self, scratch: Scratch, block: int, rows: Array, best: np.ufunc) -> None:
        """Leave the best of each segment in the row of its lead; the others keep what they had on the way."""
        for kept, other, bounds in self.rounds:
            begin, end = bounds[block], bounds[block + 1]
            if begin == end:
                continue
            ours, theirs = kept[begin:end], other[begin:end]
            shape = len(ours), rows.shape[1]
            left, right = scratch("left", shape, rows.dtype), scratch("right", shape, rows.dtype)
            np.take(rows, ours, axis=0, out=left, mode="clip")
            np.take(rows, theirs, axis=0, out=right, mode="clip")
            rows[ours] = best(left, right, out=left)

    def leads(self, block: int) -> Array:
        """For each row of a block the place of its segment's lead."""
        return self.lead[block * self.rows : (block + 1) * self.rows]

    def found(self, block: int) -> tuple[Array, Array]:
        """Places of the leads of a block, and their slots."""
        these = slice(self.bounds[block], self.bounds[block + 1])
        return self.winners[these], self.segments[these]


def worst(dtype: "np.dtype[Any]", best: np.ufunc) -> Any:
    """The value that every other beats."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return limits.min if best is np.maximum else limits.max
    return -np.inf if best is np.maximum else np.inf


class Extremes:
    """Best values of a part, (segments + 1, channels), and with ``places`` the pixels that first attain them."""

    def __init__(self, best: np.ufunc, values: Array, places: Array | None) -> None:
        self.best, self.values, self.places = best, values, places
        values[...] = worst(values.dtype, best)
        if places is not None:
            places[...] = -1

    def add(self, scratch: Scratch, tournament: Tournament, block: int, rows: Array, start: int) -> None:
        """Take the rows of a block, the first of which is pixel ``start``."""
        work = scratch("work", rows.shape, rows.dtype)
        np.copyto(work, rows)
        tournament.play(scratch, block, work, self.best)
        leads, segments = tournament.found(block)
        values = work[leads]
        if self.places is None:
            self.values[segments] = self.best(self.values[segments], values)
            return
        # The earliest place has the largest rank; rows that do not attain the best have rank 0.
        count = len(rows)
        attained = scratch("attained", rows.shape, np.bool_)
        compared = scratch("left", rows.shape, rows.dtype)
        np.take(work, tournament.leads(block), axis=0, out=compared, mode="clip")
        np.equal(rows, compared, out=attained)
        # Where a segment holds NaN it is the best.
        np.logical_or(attained, np.isnan(rows), out=attained)
        ranks = scratch("ranks", rows.shape, np.uint16)
        np.multiply(attained, np.arange(count, 0, -1, dtype=np.uint16)[:, None], out=ranks)
        tournament.play(scratch, block, ranks, np.maximum)
        self._take(segments, values, start + (count - ranks[leads].astype(np.int64)))

    def merge(self, other: "Extremes") -> None:
        """Take a later part."""
        if self.places is None or other.places is None:
            self.best(self.values, other.values, out=self.values)
        else:
            self._take(slice(None), other.values, other.places)

    def _take(self, segments: Any, values: Array, places: Array) -> None:
        """Put later values where they are better, or the first at all."""
        assert self.places is not None
        old, old_places = self.values[segments], self.places[segments]
        better = values > old if self.best is np.maximum else values < old
        better |= np.isnan(values) & ~np.isnan(old)
        better |= (old_places < 0) & (places >= 0)
        self.values[segments] = np.where(better, values, old)
        self.places[segments] = np.where(better, places, old_places)
