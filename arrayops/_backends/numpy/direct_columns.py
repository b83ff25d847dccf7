"""The columns that direct convolutions multiply, for strips of an image.

A strip is some rows of the outputs of some groups. Its columns are one copy of the samples for each column of taps:

    margin | row 0 | row 1 | ... | rows that lower taps reach | margin

A tap whose column lies s places to the right of the outputs has its samples s places further left, so that one run of
places is right for all of them. The margins take what falls off the ends.
"""

from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.numpy.memory import Array, compute_dtype
from arrayops._backends.numpy.products import is_thin
from arrayops._backends.numpy.scratch import Scratch
from arrayops._backends.numpy.stacks import LEAST_BLOCKS, equal_share
from arrayops._core.shapes import Axis, Pair

Axes = tuple[Axis, Axis]

COLUMN_BYTES = 3 << 19
"""Size of the columns and products of a block: most of a core's second-level cache. Fewer calls on more are quicker."""

MOST_BYTES = 12 << 20
"""Size of the columns and products of one group from which it is left to another way. Planes are as large."""

LEAST_ROWS = 8
"""Rows of a strip, where the image has as many."""

LEAST_BYTES = 1 << 16
"""Size of the columns and products of a strip that is cut off for the sake of another thread."""


class Line(NamedTuple):
    """Taps of a filter along one axis: tap i of output o reads sample ``o + first + i step``."""

    taps: int
    first: int
    step: int

    @property
    def reach(self) -> int:
        """Samples from that of the first tap to that of the last."""
        return (self.taps - 1) * self.step


class Strip(NamedTuple):
    """Rows ``top`` to ``bottom`` of the outputs, and the rows of the image that they read, ``low`` to ``high``."""

    top: int
    bottom: int
    low: int
    high: int


def serves(samples: Array, axes: Axes, channels: Pair) -> bool:
    """Whether this way can be gone, and is the quick one for groups of ``channels`` (inputs, outputs).

    That is, few columns are to be set to zero, strips of some rows fit into the cache, and products are not thin.
    """
    width = samples.shape[3]
    if samples.size == 0 or axes[1].output != width or axes[0].output == 0:
        return False
    rows, columns = _line(axes[0]), _line(axes[1])
    if rows is None or columns is None:
        return False
    if is_thin(rows.taps, columns.taps * channels[0], channels[1]):
        return False
    itemsize = compute_dtype(samples).itemsize
    strip = _row_bytes(rows, columns, width, channels, itemsize) * (LEAST_ROWS + rows.reach)
    return strip <= MOST_BYTES and max(-columns.first, columns.first + columns.reach) <= width // 2


def _line(axis: Axis) -> Line | None:
    """The taps of an axis, None where outputs or samples are any other than one apart."""
    return Line(axis.kernel, -axis.before, axis.dilation) if axis.stride == 1 and axis.kernel > 0 else None


class Plan(NamedTuple):
    """The strips of an image, and how many groups are taken at a time."""

    rows: Line
    columns: Line
    width: int
    strips: tuple[Strip, ...]
    groups_at_once: int
    margin: int
    """Places in front of the columns, and behind, for samples that no output reads."""
    workspace: int
    """Bytes that a block takes at most: columns and products, and as much for samples and sums."""

    def parts(self, groups: int) -> int:
        """How many times some groups are taken."""
        return -(-groups // self.groups_at_once)

    def block(self, index: int, batch: int, groups: int) -> tuple[slice, int, int]:
        """Groups, number of the strip, and image of a block: all images of a strip one after the other."""
        part, rest = divmod(index, batch * len(self.strips))
        number, image = divmod(rest, batch)
        first = part * self.groups_at_once
        return slice(first, min(first + self.groups_at_once, groups)), number, image

    def places(self, strip: Strip) -> Pair:
        """Places of the outputs of a strip, and of its columns with their margins."""
        height = strip.bottom - strip.top
        return height * self.width, (height + self.rows.reach) * self.width + 2 * self.margin


def _row_bytes(rows: Line, columns: Line, width: int, channels: Pair, itemsize: int) -> int:
    """Bytes that one row of one group takes: its columns, and a product for each row of taps."""
    inputs, outputs = channels
    return max(1, (columns.taps * inputs + rows.taps * outputs) * width * itemsize)


@lru_cache(maxsize=128)
def plan(axes: Axes, batch: int, groups: int, least: int, channels: Pair, itemsize: int) -> Plan:
    """Plan that takes ``least`` groups at a time, or more.

    It depends on the shapes alone, so that results do not depend on the machine.
    """
    rows, columns = _line(axes[0]), _line(axes[1])
    assert rows is not None
    assert columns is not None
    height, width = axes[0].output, axes[1].size
    row_bytes = _row_bytes(rows, columns, width, channels, itemsize)
    # Rows that lower taps reach are copied for every strip.
    most = max(LEAST_ROWS, rows.reach // 2, COLUMN_BYTES // (row_bytes * least) - rows.reach)
    # A few blocks for each of a few threads, unless they would be slivers.
    slivers = min(height // LEAST_ROWS, row_bytes * least * height // LEAST_BYTES)
    count = max(-(-height // most), min(-(-LEAST_BLOCKS // (batch * groups)), slivers))
    edges = [height * number // count for number in range(count + 1)]
    strips = tuple(_strip(top, bottom, rows, axes[0].size) for top, bottom in pairwise(edges))
    strip_bytes = row_bytes * (-(-height // count) + rows.reach)
    fitting = COLUMN_BYTES // strip_bytes
    # Shorter blocks than those of other ways, and twice as many: they are of few calls.
    shared = groups * batch * count // (2 * LEAST_BLOCKS)
    at_once = equal_share(groups, max(least, min(fitting, shared)))
    margin = max(abs(columns.first), abs(columns.first + columns.reach))
    return Plan(rows, columns, width, strips, at_once, margin, 2 * at_once * strip_bytes)


def _strip(top: int, bottom: int, rows: Line, height: int) -> Strip:
    low = max(0, top + rows.first)
    return Strip(top, bottom, low, max(low, min(height, bottom + rows.first + rows.reach)))


class Columns:
    """The columns for a strip of some groups, in a thread's workspace.

    ``samples`` (groups, columns of taps, channels, places) are where those of the image go, one view for each column of
    taps; ``wrong`` are the places to be set to zero thereafter; ``matrices`` (groups, rows of taps, columns of taps x
    channels, places) are what the products are made of. All other places are zero, and stay so.
    """

    def __init__(
        self, plan: Plan, strip: Strip, groups: int, inputs: int, dtype: "np.dtype[Any]", scratch: Scratch
    ) -> None:
        rows, columns, width, *_ = plan
        run, full = plan.places(strip)
        made = scratch("columns", (groups, columns.taps, inputs, full), dtype)
        made.fill(0)
        by_group, by_tap, by_channel, by_place = made.strides

        def view(shape: tuple[int, ...], at: int, strides: tuple[int, ...]) -> Array:
            return np.ndarray(shape, made.dtype, made, at * by_place, strides)

        strides = by_group, rows.step * width * by_place, by_channel, by_place
        self.matrices = view((groups, rows.taps, columns.taps * inputs, run), plan.margin, strides)
        # Where the samples of the rows from `low` on go: one place further down for each tap.
        count = max(0, strip.high - strip.low) * width
        at = plan.margin + (strip.low - strip.top - rows.first) * width - columns.first
        strides = by_group, by_tap - columns.step * by_place, by_channel, by_place
        shape = groups, columns.taps if count else 0, inputs, count
        self.samples = view(shape, at if count else 0, strides)
        self.wrong = self._wrong(plan, full, made)

    @staticmethod
    def _wrong(plan: Plan, full: int, made: Array) -> list[Array]:
        """Views of the places whose samples have come from another row.

        Taps on opposite sides of the middle have as many of them, at opposite ends of a row, and share a view.
        """
        _, columns, width, *_ = plan
        groups, _, inputs, _ = made.shape
        by_group, by_tap, by_channel, by_place = made.strides
        lines = (full - 2 * plan.margin) // width
        shifts = [columns.first + tap * columns.step for tap in range(columns.taps)]
        found = []
        for size in sorted({abs(shift) for shift in shifts} - {0}):
            # Byte offsets of the first such place of each tap.
            ends = [
                tap * by_tap + (plan.margin + (width - size if shift > 0 else 0)) * by_place
                for tap, shift in enumerate(shifts)
                if abs(shift) == size
            ]
            apart = ends[-1] - ends[0]
            shape = groups, len(ends), inputs, lines, size
            strides = by_group, apart, by_channel, width * by_place, by_place
            found.append(np.ndarray(shape, made.dtype, made, ends[0], strides))
        return found
