"""Depthwise convolutions of channels-last images, on the arrays themselves.

Where channels lie side by side, a row of a tile is one long run for every tap, shifted by whole pixels, and so is the
tap's weight when it is repeated for every column of the tile:

    image        . . . . . . .      a row of samples, each of C channels
    tap 0        x x x x x          runs of (columns x C) values for the taps of one row of the filter:
    tap 1          x x x x x        the outputs of a row are the sum of run times weight
    tap 2            x x x x x

`numpy.einsum` multiplies and adds such runs in one pass, all taps in one call, and keeps the row of outputs and the
weights in the first-level cache. With a stride along the columns runs have gaps; they are then as long as there are
channels.

Images are not padded where runs of a few pixels are long enough. Outputs at an edge have fewer taps instead, and tiles
of their own, of many images at once since they are narrow:

    corner | top  | corner
    left   | inner tiles  | right
    corner | bottom | corner
"""

from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.numpy.blocks import Compute, Work
from arrayops._backends.numpy.layouts import channels_first
from arrayops._backends.numpy.memory import Array, compute_dtype, load, store
from arrayops._backends.numpy.scratch import Scratch
from arrayops._backends.numpy.strips import Strip, parts, ranges, shares, surrounded
from arrayops._core.shapes import Axis

RUN = 3 << 10
"""Values of a row of a tile: with the weights of all taps for as many they fill the first-level cache."""

GRADIENT_RUN = 1 << 12
"""The same for the gradient of a weight. What a row of taps reads is copied if it fits into einsum's buffer, 8192."""

REPEATED = 1 << 17
"""Values of all weights, repeated for a row of a tile."""

TILE = 1 << 17
"""Values of a tile of some images."""

ROWS = 64
"""Rows of a tile, of all its images: terms that a gradient's float32 sums have before they are widened."""

FEW = 16
"""Rows of all images that are few."""

SHORT = 64
"""Channels from which runs of a single pixel are long enough."""


class Tile(NamedTuple):
    """A rectangle of outputs of some images; ``runs`` is whether its rows are runs of columns, or of channels alone."""

    images: slice
    rows: Strip
    columns: Strip
    runs: bool
    inside: bool
    """Whether all samples that it reads are of the images."""

    @property
    def batch(self) -> int:
        """Number of images."""
        return int(self.images.stop - self.images.start)

    @property
    def pixels(self) -> int:
        """Pixels of its samples and outputs, and terms of a gradient for a channel."""
        rows, columns = self.rows, self.columns
        of_an_image = rows.extent * columns.extent + rows.length * columns.length
        return self.batch * of_an_image + rows.tap_count * columns.tap_count * columns.length


def serves(channels: int, axes: tuple[Axis, Axis]) -> bool:
    """Whether runs are long enough for this way to be the quick one.

    With one channel neighbouring taps are as near as neighbouring outputs, and einsum would run along the taps.
    """
    return channels > 1 and (axes[1].transposed or axes[1].stride == 1 or channels >= SHORT)


def correlate(samples: Array, weight: Array, axes: tuple[Axis, Axis], bias: Array | None, result: Array) -> Work:
    """Work that correlates images (N, H, W, C) with a weight (kh, kw, C), over samples or over stuffed zeros.

    ``weight`` and ``bias`` are of the dtype that `compute_dtype` has for the samples.
    """
    dtype, channels = weight.dtype, weight.shape[2]
    tiles, workspace = _plan(axes, channels, len(samples), RUN)
    widest = max((tile.columns.length for tile in tiles if tile.runs), default=1)
    repeated = np.repeat(weight[:, :, None], widest, axis=2)

    def begin(scratch: Scratch) -> Compute:
        def compute(index: int) -> None:
            tile = tiles[index]
            images, rows, columns, runs, _ = tile
            target = result[images, rows.outputs, columns.outputs]
            plain = target.dtype == dtype and columns.outputs.step == 1
            sums = target if plain else scratch("sums", target.shape, dtype)
            window = _window(scratch, samples, tile, dtype)
            factors = repeated[rows.taps, columns.taps]
            if runs:
                run = columns.length * channels
                factors = factors[:, :, : columns.length].reshape(*factors.shape[:2], run)
                out = sums.reshape(*sums.shape[:2], run)
                np.einsum("nrije,ije->nre", window, factors, out=out)
            else:
                np.einsum("nrqijc,ijc->nrqc", window, factors[:, :, 0], out=sums)
            if bias is not None:
                np.add(sums, bias, out=sums)
            if not plain:
                store(target, sums)

        return compute

    return Work(len(tiles), begin, workspace=workspace)


def weight_gradient(samples: Array, grad: Array, target: Array, axes: tuple[Axis, Axis]) -> Work:
    """Work that stores the gradient of a weight in ``target`` (kh, kw, C), from that of the output (N, Ho, Wo, C)."""
    dtype, channels = compute_dtype(samples), samples.shape[3]
    tiles, workspace = _plan(axes, channels, len(samples), GRADIENT_RUN)
    total = np.zeros(target.shape)
    if not tiles:
        target[...] = 0

    def begin(scratch: Scratch) -> Compute:
        def compute(index: int) -> tuple[Tile, Array]:
            tile = tiles[index]
            images, rows, columns, runs, _ = tile
            window = _window(scratch, samples, tile, dtype)
            given = grad[images, rows.outputs, columns.outputs]
            if given.dtype != dtype or given.strides[2:] != (channels * dtype.itemsize, dtype.itemsize):
                plain = scratch("given", given.shape, dtype)
                load(plain, given)
                given = plain
            # One sum for each column, of as many terms as there are rows.
            sums = scratch("sums", (rows.tap_count, columns.tap_count, columns.length, channels), dtype)
            if runs:
                run = columns.length * channels
                flat = sums.reshape(rows.tap_count, columns.tap_count, run)
                np.einsum("nrije,nre->ije", window, given.reshape(*given.shape[:2], run), out=flat)
            else:
                np.einsum("nrqijc,nrqc->ijqc", window, given, out=sums)
            return tile, sums.sum(axis=2, dtype=np.float64)

        return compute

    def commit(index: int, found: tuple[Tile, Array]) -> None:
        tile, sums = found
        total[tile.rows.taps, tile.columns.taps] += sums
        if index == len(tiles) - 1:
            store(target, total)

    return Work(len(tiles), begin, commit, workspace)


def _window(scratch: Scratch, samples: Array, tile: Tile, dtype: "np.dtype[Any]") -> Array:
    """What the taps of a tile read of images (N, H, W, C): (images, rows, taps down, taps across, run).

    Without runs, (images, rows, columns, taps down, taps across, channels). Of the images where they lie, or of a copy
    with zeros around them.
    """
    images, rows, columns, runs, inside = tile
    channels = samples.shape[3]
    if inside and samples.dtype == dtype and samples.flags.c_contiguous:
        base, origin = samples, (images.start, rows.first, columns.first)
    else:
        base, origin = _padded(scratch, samples[images], tile, dtype), (0, 0, 0)
    by_image, by_row, by_column, by_channel = _contiguous(base.shape, dtype.itemsize)
    offset = origin[0] * by_image + origin[1] * by_row + origin[2] * by_column
    down, across = rows.step * by_row, columns.step * by_column
    if runs:
        shape: tuple[int, ...] = rows.tap_count, columns.tap_count, columns.length * channels
        strides: tuple[int, ...] = rows.stride * by_row, down, across, by_channel
    else:
        shape = columns.length, rows.tap_count, columns.tap_count, channels
        strides = rows.stride * by_row, columns.stride * by_column, down, across, by_channel
    return np.ndarray((tile.batch, rows.length, *shape), dtype, base, offset, (by_image, *strides))


def _contiguous(shape: tuple[int, ...], itemsize: int) -> tuple[int, int, int, int]:
    """Strides of images (N, H, W, C). Those of an array whose axis has one entry may be any number."""
    _, height, width, channels = shape
    pixel = channels * itemsize
    return height * width * pixel, width * pixel, pixel, itemsize


def _padded(scratch: Scratch, images: Array, tile: Tile, dtype: "np.dtype[Any]") -> Array:
    """A contiguous copy of what a tile reads of its images (n, H, W, C), with zeros around them."""
    copy = scratch("samples", (tile.batch, tile.rows.extent, tile.columns.extent, images.shape[3]), dtype)
    first = tile.rows.first, tile.columns.first
    surrounded(channels_first(copy, "NHWC"), channels_first(images, "NHWC"), first)
    return copy


class Plan(NamedTuple):
    """Tiles of all outputs; they depend on shapes alone."""

    tiles: tuple[Tile, ...]
    workspace: int
    """Bytes that a tile takes: samples, sums, and a gradient with its terms."""


@lru_cache(maxsize=128)
def _plan(axes: tuple[Axis, Axis], channels: int, batch: int, run: int) -> Plan:
    """Plan for images of some channels, in tiles with rows of ``run`` values."""
    rows, columns = axes
    size = batch * rows.output * columns.output * channels
    # Few tiles for a small call, whose price would tell.
    cut = channels >= SHORT and size > 2 * TILE
    longest = max(1, min(run if size > TILE else size, REPEATED // (rows.kernel * columns.kernel)) // channels)
    tiles: list[Tile] = []
    for down, across in product(ranges(rows, cut), ranges(columns, cut)):
        # Weights that are read for a few rows only need not stay in cache, nor be repeated.
        few = cut and down.length * batch <= FEW
        for column in parts(across, across.length if few else longest):
            runs = column.stride == 1 and column.length <= longest
            for row in parts(down, max(1, min(ROWS, TILE // (column.length * channels)))):
                inside = row.inside(rows.size) and column.inside(columns.size)
                most = max(1, min(ROWS // row.length, TILE // (row.length * column.length * channels)))
                tiles += [Tile(images, row, column, runs, inside) for images in shares(batch, most)]
    # All tiles of an image while it is in cache.
    tiles.sort(key=lambda tile: tile.images.start)
    return Plan(tuple(tiles), max((tile.pixels for tile in tiles), default=0) * channels * 8)
