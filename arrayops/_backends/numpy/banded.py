"""Depthwise convolutions of planes, as products of their rows with banded matrices.

A row of taps makes a row of outputs from a row of samples, and so does a matrix that has the taps along its diagonal:

    samples 0 1 2 3 4 5     x     a . . .     =     outputs 0 1 2 3
                                  b a . .
                                  c b a .
                                  . c b a
                                  . . c b
                                  . . . c

Most of it is zero. But BLAS multiplies all of it in less time than NumPy takes to multiply and add the few samples that
count, if outputs are taken a vector or so at a time: they have the same matrix, and read samples some way further on.
Strides, dilations and stuffed zeros all are matrices. A product is made for each row of taps, of all rows of some
planes, and their sum is the result:

    planes         image 0, image 1, ... of a channel one below the other, with zeros around each
    products       (rows of taps, channels, outputs of a channel, rows, columns)

Products with zero are exact, but for NaN and infinity, which spoil all outputs beside them: outputs that are not finite
are made again, tap by tap.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.numpy.blocks import Compute, Work
from arrayops._backends.numpy.layouts import grouped_images
from arrayops._backends.numpy.memory import Array, compute_dtype, store, widened
from arrayops._backends.numpy.scratch import Scratch
from arrayops._backends.numpy.stacks import LEAST_BLOCKS, balanced_share
from arrayops._backends.numpy.strips import Strip, parts, ranges, shares, surrounded
from arrayops._core.shapes import Axis

Axes = tuple[Axis, Axis]

VECTOR = 16
"""Outputs that are made by one matrix, at most: products with as many columns are the quickest for each value."""

WIDEST = 16
"""Samples that such outputs read over taps of a row, up to which products with zeros are quicker than sums."""

MOST_OUTPUTS = 4
"""Outputs of a channel up to which this is the quick way: with more, all taps of a row are products without zeros."""

MANY_TAPS = 49
"""Taps from which this is the quick way though windows are one sample apart."""

BLOCK_BYTES = 3 << 19
"""Size of the samples and products of a block: most of a core's second-level cache. Fewer calls on more are quicker."""

ROWS, LEAST_ROWS = 64, 8
"""Rows of a product up to which images are stacked, and rows of a tile at least, where the image has as many."""


class Columns(NamedTuple):
    """Outputs along the columns, in ``blocks`` of ``block``; their matrices are the same."""

    strips: tuple[Strip, ...]
    block: int
    blocks: int
    first: int
    """Sample that the first block begins with."""

    step: int
    """Samples from one block to the next."""

    width: int
    """Samples that a block reads."""

    @property
    def extent(self) -> int:
        """Samples that all blocks read."""
        return (self.blocks - 1) * self.step + self.width


@lru_cache(maxsize=256)
def _columns(axis: Axis) -> Columns:
    """The blocks of an axis: the outputs of all phases in each."""
    strips = tuple(ranges(axis, cut=False))
    phases = len(strips)
    most = max(VECTOR // phases, 1)
    each = balanced_share(-(-axis.output // phases), most)
    block, stride = each * phases, strips[0].stride
    real = [strip for strip in strips if strip.tap_count]
    first = min((strip.first for strip in real), default=0)
    last = max((strip.first + (each - 1) * stride + (strip.tap_count - 1) * strip.step for strip in real), default=0)
    return Columns(strips, block, -(-axis.output // block), first, each * stride, last + 1 - first)


def serves(samples: Array, axes: Axes, outputs: int) -> bool:
    """Whether this is the quick way for planes that have filters of their own, for some outputs each.

    Other ways go quickly from tap to tap where windows are one sample apart, or outputs a multiple of the stride.
    """
    rows, columns = axes
    if samples.size == 0 or rows.output * columns.output == 0 or not 0 < outputs <= MOST_OUTPUTS:
        return False
    if samples.strides[3] != samples.itemsize or _columns(columns).width > WIDEST * columns.kernel:
        return False
    if rows.stride == columns.stride == 1:
        return rows.kernel * columns.kernel >= MANY_TAPS and columns.output > VECTOR
    return all(not axis.transposed or axis.kernel < 2 * axis.stride for axis in axes)


class _Tile(NamedTuple):
    """Channels of some images, and a strip of their rows."""

    channels: slice
    images: slice
    rows: Strip


class _Plan(NamedTuple):
    """Tiles of all outputs; they depend on shapes alone."""

    columns: Columns
    tiles: tuple[_Tile, ...]
    workspace: int


@lru_cache(maxsize=128)
def _plan(axes: Axes, batch: int, channels: int, outputs: int, itemsize: int) -> _Plan:
    columns, whole = _columns(axes[1]), ranges(axes[0], cut=False)
    row_bytes = itemsize * max(
        strip.stride * columns.extent + outputs * strip.tap_count * columns.blocks * columns.block for strip in whole
    )
    matrix_bytes = itemsize * axes[0].kernel * outputs * columns.width * columns.block
    longest = max(LEAST_ROWS, BLOCK_BYTES // row_bytes)
    rows = [part for strip in whole for part in parts(strip, longest)]
    most = max(-(-part.extent // part.stride) for part in rows)
    stacked = balanced_share(batch, max(1, ROWS // max(part.length for part in rows)))
    fitting = BLOCK_BYTES // (row_bytes * most * stacked)
    shared = channels * len(rows) * -(-batch // stacked) // LEAST_BLOCKS
    some = balanced_share(channels, max(1, min(fitting, shared)))
    tiles = [
        _Tile(channels_, images, part)
        for channels_ in shares(channels, some)
        for images in shares(batch, stacked)
        for part in rows
    ]
    return _Plan(columns, tuple(tiles), some * (2 * row_bytes * most * stacked + matrix_bytes))


class _Matrices:
    """The matrices of some channels, for a thread, which keeps them until it takes other channels."""

    def __init__(self, weight: Array, columns: Columns, most: int, scratch: Scratch) -> None:
        _, height, _, outputs = weight.shape
        self._weight = weight
        self._made = scratch("matrices", (height, most, outputs, columns.width, columns.block), weight.dtype)
        self._made.fill(0)
        self._diagonals = list(self._taps(columns))
        self._held: slice | None = None

    def _taps(self, columns: Columns) -> Iterator[tuple[int, Array]]:
        """Number of each column of taps, and where its weights stand: (rows, channels, outputs, places)."""
        *outer, by_sample, by_output = self._made.strides
        phases = len(columns.strips)
        each = columns.block // phases
        for phase, strip in enumerate(columns.strips):
            for tap in range(strip.tap_count):
                sample = strip.first + tap * strip.step - columns.first
                strides = *outer, strip.stride * by_sample + phases * by_output
                at = sample * by_sample + phase * by_output
                shape = *self._made.shape[:3], each
                yield (
                    strip.taps.start + tap * strip.taps.step,
                    np.ndarray(shape, self._made.dtype, self._made, at, strides),
                )

    def of(self, some: slice) -> Array:
        """Matrices (rows of taps, channels, outputs, samples, columns) of some channels."""
        count = some.stop - some.start
        if some != self._held:
            weight = self._weight[some].transpose(1, 0, 3, 2)[..., None]
            for number, diagonal in self._diagonals:
                np.copyto(diagonal[:, :count], weight[:, :, :, number])
            self._held = some
        return self._made[:, :count]


class _Planes:
    """Images one below the other, with zeros around each, in a thread's workspace."""

    def __init__(self, columns: Columns, dtype: "np.dtype[Any]", scratch: Scratch) -> None:
        self._columns, self._dtype, self._scratch = columns, dtype, scratch
        self._place: tuple[int, ...] | None = None

    def of(self, images: Array, rows: Strip) -> Array:
        """What a strip of rows reads of images (channels, images, H, W): a whole number of its strides of each."""
        height = -(-rows.extent // rows.stride) * rows.stride
        shape = *images.shape[:2], height, self._columns.extent
        planes = self._scratch("planes", shape, self._dtype)
        # What lies around images is zero, and stays so while others come to lie in the same place.
        if self._place != (rows.first, *shape):
            planes.fill(0)
            self._place = rows.first, *shape
        surrounded(planes, images, (rows.first, self._columns.first), zeros=False)
        return planes


def correlate(samples: Array, weight: Array, axes: Axes, bias: Array | None, result: Array) -> Work:
    """Work that writes a correlation to ``result`` (N, O, Ho, Wo): over samples or over stuffed zeros, as the axes say.

    ``samples`` are images (N, C, H, W), ``weight`` is (C, kh, kw, 1, outputs of a channel).
    """
    dtype = compute_dtype(samples)
    channels, outputs = len(weight), weight.shape[4]
    columns, tiles, workspace = _plan(axes, len(samples), channels, outputs, dtype.itemsize)
    most = max(tile.channels.stop - tile.channels.start for tile in tiles)
    filters = widened(weight[:, :, :, 0], dtype)
    added = None if bias is None else widened(bias, dtype).reshape(channels, outputs, 1, 1, 1)
    results = grouped_images(result, channels)

    def begin(scratch: Scratch) -> Compute:
        matrices = _Matrices(filters, columns, most, scratch)
        planes = _Planes(columns, dtype, scratch)

        def compute(index: int) -> None:
            some, images, rows = tiles[index]
            read = planes.of(samples[images, some].swapaxes(0, 1), rows)
            target = results[images, some, :, rows.outputs].transpose(1, 2, 0, 3, 4)
            plain = target.dtype == dtype and target.strides[4] == dtype.itemsize
            sums = target if plain else scratch("sums", target.shape, dtype)
            _add_up(read, matrices.of(some)[rows.taps], rows, columns, sums, scratch)
            if not math.isfinite(np.add.reduce(sums[..., :: columns.block], axis=None)):
                _by_taps(read, filters[some][:, rows.taps], rows, columns, sums)
            if added is not None:
                np.add(sums, added[some], out=sums)
            if not plain:
                store(target, sums)

        return compute

    return Work(len(tiles), begin, workspace=workspace)


def _add_up(planes: Array, matrices: Array, rows: Strip, columns: Columns, sums: Array, scratch: Scratch) -> None:
    """Sum of products of planes (channels, images, rows, columns), as (channels, outputs, images, rows, columns)."""
    taps, channels, outputs, width, block = matrices.shape
    _, images, height, _ = planes.shape
    by_channel, _, by_row, by_column = planes.strides
    # From an image's last row to the first of the next there are windows of both, whose products nobody reads.
    step = height // rows.stride
    count = (images - 1) * step + rows.length
    shape = taps, channels, 1, columns.blocks, count, width
    strides = rows.step * by_row, by_channel, 0, columns.step * by_column, rows.stride * by_row, by_column
    windows = np.ndarray(shape, planes.dtype, planes, 0, strides)
    made = scratch("products", (taps, channels, outputs, images * step, columns.blocks, block), planes.dtype)
    np.matmul(windows, matrices[:, :, :, None], out=made[:, :, :, :count].swapaxes(3, 4))
    made = made.reshape(taps, channels, outputs, images, step, columns.blocks * block)
    np.add.reduce(made[..., : rows.length, : sums.shape[4]], axis=0, out=sums)


def _by_taps(planes: Array, weight: Array, rows: Strip, columns: Columns, sums: Array) -> None:
    """The same tap by tap, without zeros; ``weight`` is (channels, rows of taps, columns of taps, outputs)."""
    sums[...] = 0
    for tap in range(rows.tap_count):
        begin = tap * rows.step
        read = planes[:, None, :, begin : begin + (rows.length - 1) * rows.stride + 1 : rows.stride]
        for strip in columns.strips:
            for number in range(strip.tap_count):
                factor = weight[:, tap, strip.taps.start + number * strip.taps.step, :, None, None, None]
                first = strip.first + number * strip.step - columns.first
                stop = first + (strip.length - 1) * strip.stride + 1
                sums[..., strip.outputs] += factor * read[..., first : stop : strip.stride]
