"""Plain convolutions with stride 1 of images whose rows follow one another in memory, on the images themselves.

Outputs have as many columns as the image, so that each tap reads the image shifted by a constant number of places, but
for the ends of rows, where it should read zeros. So the images are copied once for each column of taps, as they are,
and what has come from another row is set to zero:

    image              0 1 2 3          columns of tap 0    . 0 1 2        tap 1   0 1 2 3        tap 2   1 2 3 .
                       4 5 6 7          (. was 3, was 7)    . 4 5 6                4 5 6 7                5 6 7 .

Rows of taps read the same columns, shifted by whole rows, and their products are added up where the result lies. No
place is junk, and images are neither padded nor are results cut out, which takes as long as the products for narrow
groups.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.numpy.blocks import Compute, Scratch, run_blocks
from arrayops._backends.numpy.contraction import multiply
from arrayops._backends.numpy.memory import Array, empty
from arrayops._backends.numpy.stacks import LEAST_BLOCKS, equal_share
from arrayops._core.shapes import Axis, Pair

Axes = tuple[Axis, Axis]

COLUMN_BYTES = 3 << 19
"""Size of the columns and products of a block: most of a core's second-level cache. Fewer calls on more are quicker."""

MOST_BYTES = 4 << 20
"""Size of the columns and products of one group from which it is left to another way."""

ORDERED = 1 << 16
"""Values of a weight that are put in order at a time."""

LEAST_ROWS = 8
"""Rows of a strip, where the image has as many."""


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

    That is, few columns are to be set to zero, and strips of some rows fit into the cache.
    """
    width = samples.shape[3]
    if samples.size == 0 or axes[1].output != width or axes[0].output == 0:
        return False
    rows, columns = _line(axes[0]), _line(axes[1])
    if rows is None or columns is None:
        return False
    if samples.strides[2:] != (width * samples.itemsize, samples.itemsize):
        return False
    strip = _row_bytes(rows, columns, width, channels, samples.itemsize) * (LEAST_ROWS + rows.reach)
    return strip <= MOST_BYTES and max(-columns.first, columns.first + columns.reach) <= width // 3


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

    @property
    def margin(self) -> int:
        """Places in front of the columns, and behind, for samples that no output reads."""
        return max(abs(self.columns.first), abs(self.columns.first + self.columns.reach))

    def places(self, strip: Strip) -> Pair:
        """Places of the outputs of a strip, and of its columns with their margins."""
        height = strip.bottom - strip.top
        return height * self.width, (height + self.rows.reach) * self.width + 2 * self.margin


def _row_bytes(rows: Line, columns: Line, width: int, channels: Pair, itemsize: int) -> int:
    """Bytes that one row of one group takes: its columns, and a product for each row of taps."""
    inputs, outputs = channels
    return max(1, (columns.taps * inputs + rows.taps * outputs) * width * itemsize)


@lru_cache(maxsize=128)
def _plan(axes: Axes, batch: int, groups: int, channels: Pair, itemsize: int) -> Plan:
    """It depends on the shapes alone, so that results do not depend on the machine."""
    rows, columns = _line(axes[0]), _line(axes[1])
    assert rows is not None
    assert columns is not None
    height, width = axes[0].output, axes[1].size
    row_bytes = _row_bytes(rows, columns, width, channels, itemsize)
    most = max(LEAST_ROWS, COLUMN_BYTES // row_bytes - rows.reach)
    count = -(-height // most)
    edges = [height * number // count for number in range(count + 1)]
    strips = tuple(_strip(top, bottom, rows, axes[0].size) for top, bottom in pairwise(edges))
    fitting = COLUMN_BYTES // (row_bytes * (-(-height // count) + rows.reach))
    shared = groups * batch * count // LEAST_BLOCKS
    return Plan(rows, columns, width, strips, equal_share(groups, max(1, min(fitting, shared))))


def _strip(top: int, bottom: int, rows: Line, height: int) -> Strip:
    low = max(0, top + rows.first)
    return Strip(top, bottom, low, max(low, min(height, bottom + rows.first + rows.reach)))


class _Buffers:
    """Views of a thread's workspace for a strip of some groups."""

    def __init__(
        self, plan: Plan, strip: Strip, groups: int, channels: Pair, dtype: "np.dtype[Any]", scratch: Scratch
    ) -> None:
        rows, columns, width, _, _ = plan
        inputs, outputs = channels
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
        self.products = scratch("products", (groups, rows.taps, outputs, run), made.dtype)

    @staticmethod
    def _wrong(plan: Plan, full: int, made: Array) -> list[Array]:
        """Views of the places whose samples have come from another row.

        Taps on opposite sides of the middle have as many of them, at opposite ends of a row, and share a view.
        """
        _, columns, width, _, _ = plan
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


def correlate(samples: Array, weight: Array, axes: Axes, bias: Array | None, result: Array) -> None:
    """Correlate images (N, C, H, W) with a weight (groups, kh, kw, inputs, outputs) into ``result`` (N, O, Ho, Wo).

    All of one dtype, which products are made in; ``result`` is contiguous.
    """
    batch, _, height, width = samples.shape
    groups, kernel_height, kernel_width, inputs, outputs = weight.shape
    plan = _plan(axes, batch, groups, (inputs, outputs), samples.itemsize)
    ordered = _ordered(weight).reshape(groups, kernel_height, kernel_width * inputs, outputs)
    images = samples.reshape(batch, groups, inputs, height * width)
    results = result.reshape(batch, groups, outputs, axes[0].output * width)
    plain = kernel_height == kernel_width == 1 and plan.margin == 0 and plan.rows.first == 0
    parts = -(-groups // plan.groups_at_once)

    def begin(scratch: Scratch) -> Compute:
        held: tuple[Strip, int] | None = None
        buffers: _Buffers | None = None

        def compute(index: int) -> None:
            nonlocal held, buffers
            part, rest = divmod(index, batch * len(plan.strips))
            number, image = divmod(rest, batch)
            strip = plan.strips[number]
            some = slice(part * plan.groups_at_once, min((part + 1) * plan.groups_at_once, groups))
            source = images[image, some, :, strip.low * width : strip.high * width]
            target = results[image, some, :, strip.top * width : strip.bottom * width]
            if plain:
                multiply(ordered[some, 0], source, target, _call)
            else:
                if buffers is None or held != (strip, len(target)):
                    buffers = _Buffers(plan, strip, len(target), (inputs, outputs), samples.dtype, scratch)
                    held = strip, len(target)
                np.copyto(buffers.samples, source[:, None])
                for places in buffers.wrong:
                    places.fill(0)
                if kernel_height == 1:
                    multiply(ordered[some, 0], buffers.matrices[:, 0], target, _call)
                else:
                    multiply(ordered[some], buffers.matrices, buffers.products, _call)
                    np.add.reduce(buffers.products, axis=1, out=target)
            if bias is not None:
                np.add(target, bias.reshape(groups, outputs, 1)[some], out=target)

        return compute

    run_blocks(parts * batch * len(plan.strips), begin, workspace=max(COLUMN_BYTES, 2 * MOST_BYTES))


def _ordered(weight: Array) -> Array:
    """The weight, contiguous."""
    result = empty(weight.shape, weight.dtype)
    share = -(-len(weight) // max(1, min(len(weight), weight.size // ORDERED)))

    def begin(scratch: Scratch) -> Compute:
        def compute(index: int) -> None:
            some = slice(index * share, (index + 1) * share)
            # Read once as they lie, not in the order in which they are written: that misses every cache.
            np.copyto(result[some], np.copy(weight[some], order="K"))

        return compute

    run_blocks(-(-len(weight) // share), begin)
    return result


def _call(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
    """Make a call at once, where a program would record it."""
    function(*arguments, **keywords)
