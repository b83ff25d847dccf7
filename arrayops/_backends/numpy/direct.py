"""Plain convolutions with stride 1, on rows of samples that follow one another in memory.

Outputs have as many columns as the image, so that each tap reads the image shifted by a constant number of places, but
for the ends of rows, where it should read zeros. So the images are copied once for each column of taps, as they are,
and what has come from another row is set to zero:

    image              0 1 2 3          columns of tap 0    . 0 1 2        tap 1   0 1 2 3        tap 2   1 2 3 .
                       4 5 6 7          (. was 3, was 7)    . 4 5 6                4 5 6 7                5 6 7 .

Rows of taps read the same columns, shifted by whole rows, and their products are added up where the result lies. No
place is junk, and images are neither padded nor are results cut out, which takes as long as the products for narrow
groups. Images with channels last are brought into this order a strip at a time.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.numpy.blocks import Compute, Scratch, run_blocks
from arrayops._backends.numpy.contraction import multiply
from arrayops._backends.numpy.memory import Array, compute_dtype, empty, load, store, widened
from arrayops._backends.numpy.stacks import LEAST_BLOCKS, equal_share
from arrayops._core.shapes import Axis, Pair

Axes = tuple[Axis, Axis]

COLUMN_BYTES = 3 << 19
"""Size of the columns and products of a block: most of a core's second-level cache. Fewer calls on more are quicker."""

MOST_BYTES = 4 << 20
"""Size of the columns and products of one group from which it is left to another way."""

ORDERED = 1 << 16
"""Values of a weight that are put in order at a time."""

SIDE_BY_SIDE = 16
"""Outputs of a group from which they are made side by side where they are to lie so: a cache line."""

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
    itemsize = compute_dtype(samples).itemsize
    strip = _row_bytes(rows, columns, width, channels, itemsize) * (LEAST_ROWS + rows.reach)
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
    shared = groups * batch * count // (2 * LEAST_BLOCKS)
    return Plan(rows, columns, width, strips, equal_share(groups, max(1, min(fitting, shared))))


def _strip(top: int, bottom: int, rows: Line, height: int) -> Strip:
    low = max(0, top + rows.first)
    return Strip(top, bottom, low, max(low, min(height, bottom + rows.first + rows.reach)))


class _Buffers:
    """Columns for a strip of some groups, in a thread's workspace.

    ``samples`` (groups, columns of taps, channels, places) are where those of the image go, one view for each column of
    taps; ``wrong`` are the places to be set to zero thereafter; ``matrices`` (groups, rows of taps, columns of taps x
    channels, places) are what the products are made of. All other places are zero, and stay so.
    """

    def __init__(
        self, plan: Plan, strip: Strip, groups: int, inputs: int, dtype: "np.dtype[Any]", scratch: Scratch
    ) -> None:
        rows, columns, width, _, _ = plan
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
    """Correlate images (N, C, H, W) with a weight (groups, kh, kw, inputs, outputs) into ``result`` (N, O, Ho, Wo)."""
    dtype = compute_dtype(samples)
    batch, _, height, width = samples.shape
    groups, kernel_height, kernel_width, inputs, outputs = weight.shape
    plan = _plan(axes, batch, groups, (inputs, outputs), dtype.itemsize)
    filters = empty(weight.shape, dtype)
    ordered = filters.reshape(groups, kernel_height, kernel_width * inputs, outputs)
    share = -(-groups // max(1, min(groups, weight.size // ORDERED)))
    shares = -(-groups // share)
    added = None if bias is None else widened(bias, dtype).reshape(groups, outputs, 1)
    images = samples.reshape(batch, groups, inputs, height, width)
    results = result.reshape(batch, groups, outputs, axes[0].output, width)
    # The product is all there is to do: of the samples where they lie, whatever lies beside them.
    plain = kernel_height == kernel_width == 1 and plan.margin == 0 and plan.rows.first == 0
    reads, writes = _in_place(samples, dtype, plain), _in_place(result, dtype, plain)
    side_by_side = not writes and outputs >= SIDE_BY_SIDE
    parts = -(-groups // plan.groups_at_once)

    def begin(scratch: Scratch) -> Compute:
        held: tuple[Strip, int] | None = None
        buffers: _Buffers | None = None

        def compute(index: int) -> None:
            nonlocal held, buffers
            if index < shares:
                some = slice(index * share, (index + 1) * share)
                # Read once as they lie, not in the order in which they are written: that misses every cache.
                load(filters[some], np.copy(weight[some], order="K"))
                return
            index -= shares
            part, rest = divmod(index, batch * len(plan.strips))
            number, image = divmod(rest, batch)
            strip = plan.strips[number]
            some = slice(part * plan.groups_at_once, min((part + 1) * plan.groups_at_once, groups))
            source = images[image, some, :, strip.low : strip.high]
            target = results[image, some, :, strip.top : strip.bottom]
            given = source if reads else scratch("given", source.shape, dtype)
            made = target if writes else _sums(scratch, "sums", target.shape, dtype, side_by_side)
            if not reads:
                load(given, source)
            run, sums = _by_place(given), _by_place(made)
            if plain:
                multiply(ordered[some, 0], run, sums, _call)
            else:
                if buffers is None or held != (strip, len(target)):
                    buffers = _Buffers(plan, strip, len(target), inputs, dtype, scratch)
                    held = strip, len(target)
                np.copyto(buffers.samples, run[:, None])
                for places in buffers.wrong:
                    places.fill(0)
                _multiply_rows(ordered[some], buffers.matrices, sums, scratch)
            if added is not None:
                np.add(sums, added[some], out=sums)
            if not writes:
                store(target, made)

        return compute

    blocks = parts * batch * len(plan.strips)
    run_blocks(shares + blocks, begin, workspace=2 * max(COLUMN_BYTES, MOST_BYTES), first=shares)


def _in_place(images: Array, dtype: "np.dtype[Any]", plain: bool) -> bool:
    """Whether products can be made of images (N, C, H, W), or written to them, as they are.

    A place must be one step from the next, in memory too unless a single product is all that is made.
    """
    by_row, by_column = images.strides[2:]
    return images.dtype == dtype and by_row == images.shape[3] * by_column and (plain or by_column == images.itemsize)


def _sums(scratch: Scratch, name: str, shape: tuple[int, ...], dtype: "np.dtype[Any]", side_by_side: bool) -> Array:
    """A buffer (..., outputs, rows, columns), in memory like that or with the outputs of a place side by side."""
    if not side_by_side:
        return scratch(name, shape, dtype)
    *first, outputs, rows, columns = shape
    return np.moveaxis(scratch(name, (*first, rows, columns, outputs), dtype), -1, -3)


def _by_place(images: Array) -> Array:
    """Images (groups, channels, rows, columns) as (groups, channels, places): a view."""
    groups, channels, height, width = images.shape
    return images.reshape(groups, channels, height * width)


def _multiply_rows(weight: Array, matrices: Array, sums: Array, scratch: Scratch) -> None:
    """Write to ``sums`` (groups, outputs, places) the products of all rows of taps."""
    groups, rows, _, outputs = weight.shape
    if rows == 1:
        multiply(weight[:, 0], matrices[:, 0], sums, _call)
        return
    side_by_side = sums.strides[1] == sums.itemsize
    shape = groups, rows, outputs, sums.shape[2], 1
    products = _sums(scratch, "products", shape, sums.dtype, side_by_side)[..., 0]
    multiply(weight, matrices, products, _call)
    np.add.reduce(products, axis=1, out=sums)


def _call(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
    """Make a call at once, where a program would record it."""
    function(*arguments, **keywords)
