"""One pass over the features: what all reductions of a call need, part by part, merged in the order of the parts."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.numpy.blocks import Compute, run_blocks
from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.scratch import Scratch
from arrayops._backends.numpy.segment_extremes import Extremes, Tournament
from arrayops._backends.numpy.segment_labels import Labels
from arrayops._backends.numpy.segment_products import MOST, stretch
from arrayops._backends.numpy.segment_rows import (
    Cut,
    Part,
    cut,
    in_planes,
    load_rows,
    plain_dtype,
    wide_dtype,
)
from arrayops._backends.numpy.segment_runs import Runs
from arrayops._backends.numpy.segment_sums import Moments, Sums
from arrayops._backends.numpy.segment_way import WIDE, Adders, Way
from arrayops._backends.numpy.segment_ways import way

IN_PLACE = 8
"""Blocks at a time that are added up where they are."""

BEST = {"max": np.maximum, "min": np.minimum}


class Wanted(NamedTuple):
    """What a pass collects beside the counts; ``places`` are those of the first pixels that attain an extreme."""

    sums: bool = False
    moments: bool = False
    extremes: tuple[str, ...] = ()
    places: bool = False


class Totals:
    """What was collected of an image (or of a part of its pixels or channels): arrays of (segments + 1, channels).

    The row behind the segments holds the pixels that are left out.
    """

    def __init__(
        self, counts: Array, sums: Sums | None, moments: Moments | None, extremes: dict[str, Extremes]
    ) -> None:
        self.counts, self.sums, self.moments, self.extremes = counts, sums, moments, extremes

    def merge(self, other: "Totals") -> None:
        """Add a later part."""
        self.counts = self.counts + other.counts
        if self.sums is not None and other.sums is not None:
            self.sums.merge(other.sums)
        if self.moments is not None and other.moments is not None:
            self.moments.merge(other.moments)
        for name, extremes in self.extremes.items():
            extremes.merge(other.extremes[name])


Finish = Callable[[Scratch, Part, Totals], None]
Buffers = Callable[[str, tuple[int, ...], "np.dtype[Any] | type"], Array]


def collect(rows: Array, labels: Labels, wanted: Wanted, finish: Finish) -> None:
    """Collect from ``rows`` (images, pixels, channels), and call ``finish`` with each image's totals.

    If there are many channels it is called several times, with some of them each. Calls may come from several threads.
    """
    made = cut(rows, labels.segments)
    workspace = _workspace(made, wanted)
    if made.shared:
        _collect_shared(rows, labels, wanted, finish, made, workspace)
        return

    def begin(scratch: Scratch) -> Compute:
        collector = _Collector(rows, labels, wanted, made, scratch)
        return lambda index: finish(scratch, made.parts[index], collector(made.parts[index], scratch))

    run_blocks(len(made.parts), begin, workspace=workspace)


def _collect_shared(rows: Array, labels: Labels, wanted: Wanted, finish: Finish, made: Cut, workspace: int) -> None:
    # By first channel: parts with other channels of the same pixels come between those of one image.
    together: dict[int, Totals] = {}
    storing = Scratch()

    def begin(scratch: Scratch) -> Compute:
        collector = _Collector(rows, labels, wanted, made, scratch)

        def compute(index: int) -> Totals:
            part = made.parts[index]
            # The first part of an image becomes its totals, which outlive the workspace of a thread.
            return collector(part, _fresh if part.start == 0 else scratch)

        return compute

    def commit(index: int, found: Totals) -> None:
        part = made.parts[index]
        if part.start == 0:
            together[part.channels.start] = found
        else:
            together[part.channels.start].merge(found)
        if part.last:
            finish(storing, part, together.pop(part.channels.start))

    run_blocks(len(made.parts), begin, commit, workspace)


def _fresh(name: str, shape: tuple[int, ...], dtype: "np.dtype[Any] | type") -> Array:
    return np.empty(shape, dtype)


def _workspace(made: Cut, wanted: Wanted) -> int:
    """Bytes that a part takes beside its totals, which are about as large as the result."""
    if not made.parts:
        return 0
    part = made.parts[0]
    channels: int = part.channels.stop - part.channels.start
    values = (8 + 16 * bool(wanted.extremes)) * made.rows + (16 + 16 * wanted.moments) * made.wide_rows
    return values * channels + 64 * (part.stop - part.start)


class _Pixels:
    """What the labels of a part's pixels say; several parts with other channels of the same pixels share it."""

    def __init__(self, labels: Labels, part: Part, wanted: Wanted, block: int, narrow: bool, planes: bool) -> None:
        self.image, self.start = part.image, part.start
        self.slots = labels.slots(part.image, part.start, part.stop)
        self.way: Way = way(self.slots, labels.segments, block, planes) if wanted.sums and narrow else WIDE
        self.counts = self.way.count(self.slots, labels.segments)
        extremes = bool(wanted.extremes)
        self.tournament = Tournament(self.slots, labels.segments, block, wanted.places) if extremes else None

    def belong_to(self, part: Part) -> bool:
        """Whether these are the pixels of ``part``."""
        return (self.image, self.start) == (part.image, part.start)


class _Collector:
    """Collects parts in one thread."""

    def __init__(self, rows: Array, labels: Labels, wanted: Wanted, made: Cut, scratch: Scratch) -> None:
        self.rows, self.labels, self.wanted, self.made, self.scratch = rows, labels, wanted, made, scratch
        self.plain, self.wide = plain_dtype(rows), wide_dtype(rows.dtype)
        self.adders = Adders(min(IN_PLACE * made.rows, max(rows.shape[1], MOST)), self.wide)
        self.pixels: _Pixels | None = None

    def __call__(self, part: Part, buffers: Buffers) -> Totals:
        wanted, pixels = self.wanted, self.pixels
        if pixels is None or not pixels.belong_to(part):
            narrow, planes = self.plain == np.float32, in_planes(self.rows[part.image])
            pixels = self.pixels = _Pixels(self.labels, part, wanted, self.made.rows, narrow, planes)
        image = self.rows[part.image, :, part.channels]
        shape = self.labels.segments + 1, image.shape[1]
        moments = None
        if wanted.moments:
            shift = self._first_rows(image[part.start : part.stop], pixels.slots, buffers("shift", shape, np.float64))
            deviations, squares = (buffers(name, shape, np.float64) for name in ("deviations", "squares"))
            moments = Moments(deviations, squares, pixels.counts, shift)
            self._pilot(moments, part, pixels.slots)
        extremes: dict[str, Extremes] = {}
        for name in wanted.extremes:
            places = buffers(f"places of {name}", shape, np.int64) if wanted.places else None
            extremes[name] = Extremes(BEST[name], buffers(name, shape, self.plain), places)
        sums = None
        if wanted.sums:
            # Totals of very many segments take longer than their rows: the fewer bytes, the better.
            single = pixels.way.single and not self.made.shared
            sums = Sums(buffers("sums", shape, np.float32 if single else self.wide))
        found = Totals(pixels.counts, sums, moments, extremes)
        self._add(found, image, part, pixels, pixels.way)
        if sums is not None and pixels.way.narrow and not np.isfinite(sums.totals[:-1]).all():
            # Perhaps a float32 sum went beyond what float32 holds.
            found.sums = sums = Sums(buffers("sums", shape, self.wide))
            self._add(Totals(pixels.counts, sums, None, {}), image, part, pixels, WIDE)
        if moments is not None:
            moments.end()
        return found

    def _add(self, found: Totals, image: Array, part: Part, pixels: _Pixels, how: Way) -> None:
        """Add all rows of a part, block by block."""
        scratch, sums, moments = self.scratch, found.sums, found.moments
        wide_sums = sums is not None and not how.narrow
        length = self.made.rows
        in_place = image.dtype == self.plain and image.flags.c_contiguous
        if moments is None and not found.extremes:
            if in_place and isinstance(how, Runs):
                # Of rows that are taken as they lie, the sums of runs leave nothing in cache.
                length *= IN_PLACE
            elif how.in_planes:
                # So do those of planes.
                length = stretch(image.shape[1])
        for block, start in enumerate(range(part.start, part.stop, length)):
            stop, place = min(start + length, part.stop), start - part.start
            slots = pixels.slots[place : stop - part.start]
            rows = image[start:stop]
            if sums is not None and how.narrow:
                if not how.in_planes:
                    rows = load_rows(scratch, "plain", rows, self.plain)
                how.add(sums.totals, self.adders, scratch, place, slots, rows)
            if found.extremes:
                rows = load_rows(scratch, "plain", rows, self.plain)
            for extremes in found.extremes.values():
                assert pixels.tournament is not None
                extremes.add(scratch, pixels.tournament, block, rows, start)
            if moments is None and not wide_sums:
                continue
            for begin in range(0, len(rows), self.made.wide_rows):
                end = begin + self.made.wide_rows
                wide = load_rows(scratch, "wide", rows[begin:end], self.wide)
                if sums is not None and wide_sums:
                    how.add(sums.totals, self.adders, scratch, place + begin, slots[begin:end], wide)
                if moments is not None:
                    moments.add(self.adders.wide, scratch, slots[begin:end], wide)
        if sums is not None:
            how.end(sums.totals)

    def _pilot(self, moments: Moments, part: Part, slots: Array) -> None:
        """Take the moments relative to the mean of a sixteenth of the part, instead of to first rows alone."""
        stop = part.start + (part.stop - part.start) // 16
        for start in range(part.start, stop, self.made.wide_rows):
            rows = self.rows[part.image, start : min(start + self.made.wide_rows, stop), part.channels]
            these = slots[start - part.start :][: len(rows)]
            moments.add(self.adders.wide, self.scratch, these, load_rows(self.scratch, "wide", rows, self.wide))
        moments.centre(np.bincount(slots[: stop - part.start], minlength=len(moments.counts)))

    def _first_rows(self, rows: Array, slots: Array, target: Array) -> Array:
        """For each slot the row of its first pixel, 0 for those without pixels."""
        first = np.full(self.labels.segments + 1, -1)
        # Of several assignments to one place the last stays.
        first[slots[::-1]] = np.arange(len(slots))[::-1]
        present = np.flatnonzero(first >= 0)
        target[...] = 0.0
        target[present] = load_rows(self.scratch, "wide first", rows[first[present]], self.wide)
        return target
