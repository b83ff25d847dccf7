"""Depthwise convolutions of channels-last images, on the arrays themselves.

Where channels lie side by side, a row of a tile is one long run for every tap, shifted by whole pixels, and so is the
tap's weight when it is repeated for every column of the tile:

    image        . . . . . . .      a row of samples, each of C channels
    tap 0        x x x x x          runs of (columns x C) values for the taps of one row of the filter:
    tap 1          x x x x x        the outputs of a row are the sum of run times weight
    tap 2            x x x x x

`numpy.einsum` multiplies and adds such runs in one pass, all taps in one call, and keeps the row of outputs in the
first-level cache. With a stride along the columns runs have gaps; they are then as long as there are channels.
"""

from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

from arrayops._backends.numpy.blocks import Compute, Work
from arrayops._backends.numpy.memory import Array, compute_dtype, load, store
from arrayops._backends.numpy.scratch import Scratch
from arrayops._core.shapes import Axis
from arrayops._core.taps import AxisTaps, Phase, axis_taps

RUN = 1 << 12
"""Values of a row of a tile."""

REPEATED = 1 << 17
"""Values of all weights, repeated for a row of a tile."""

TILE = 1 << 17
"""Values of a tile."""

ROWS = 64
"""Rows of a tile: terms that a gradient's float32 sums have before they are widened."""

GAPS = 64
"""Channels from which runs with gaps are long enough."""


class Strip(NamedTuple):
    """A tile along one axis: output m reads samples ``first + m stride + t step`` for the t-th of its taps."""

    outputs: slice
    length: int
    taps: slice
    tap_count: int
    first: int
    stride: int
    step: int

    @property
    def extent(self) -> int:
        """Samples from the first to the last that are read."""
        return (self.length - 1) * self.stride + max(self.tap_count - 1, 0) * self.step + 1


class Tile(NamedTuple):
    """A rectangle of outputs."""

    rows: Strip
    columns: Strip


def serves(channels: int, axes: tuple[Axis, Axis]) -> bool:
    """Whether runs are long enough for this way to be the quick one.

    With one channel neighbouring taps are as near as neighbouring outputs, and einsum would run along the taps.
    """
    return channels > 1 and (axes[1].transposed or axes[1].stride == 1 or channels >= GAPS)


def correlate(samples: Array, weight: Array, axes: tuple[Axis, Axis], bias: Array | None, result: Array) -> Work:
    """Work that correlates images (N, H, W, C) with a weight (kh, kw, C), over samples or over stuffed zeros.

    ``weight`` and ``bias`` are of the dtype that `compute_dtype` has for the samples.
    """
    dtype, channels = weight.dtype, weight.shape[2]
    tiles = _tiles(axes, channels)
    # Runs with gaps take one pixel's weights for all of them.
    widest = max(tile.columns.length if tile.columns.stride == 1 else 1 for tile in tiles)
    repeated = np.repeat(weight[:, :, None], widest, axis=2)

    def begin(scratch: Scratch) -> Compute:
        def compute(index: int) -> None:
            image, number = divmod(index, len(tiles))
            tile = tiles[number]
            rows, columns = tile
            target = result[image, rows.outputs, columns.outputs]
            plain = target.dtype == dtype and columns.outputs.step == 1
            sums = target if plain else scratch("sums", target.shape, dtype)
            block = _padded(scratch, samples[image], tile, dtype)
            factors = repeated[rows.taps, columns.taps]
            if columns.stride == 1:
                run = columns.length * channels
                factors = factors[:, :, : columns.length].reshape(*factors.shape[:2], run)
                np.einsum("rije,ije->re", _runs(block, tile), factors, out=sums.reshape(rows.length, run))
            else:
                np.einsum("rqijc,ijc->rqc", _pixels(block, tile), factors[:, :, 0], out=sums)
            if bias is not None:
                np.add(sums, bias, out=sums)
            if not plain:
                store(target, sums)

        return compute

    return Work(len(samples) * len(tiles), begin, workspace=_workspace(tiles, channels))


def weight_gradient(samples: Array, grad: Array, target: Array, axes: tuple[Axis, Axis]) -> Work:
    """Work that stores the gradient of a weight in ``target`` (kh, kw, C), from that of the output (N, Ho, Wo, C)."""
    dtype, channels = compute_dtype(samples), samples.shape[3]
    tiles = _tiles(axes, channels)
    total = np.zeros(target.shape)
    blocks = len(samples) * len(tiles)
    if blocks == 0:
        target[...] = 0

    def begin(scratch: Scratch) -> Compute:
        def compute(index: int) -> tuple[Tile, Array]:
            image, number = divmod(index, len(tiles))
            tile = tiles[number]
            rows, columns = tile
            block = _padded(scratch, samples[image], tile, dtype)
            given = grad[image, rows.outputs, columns.outputs]
            if given.dtype != dtype or given.strides[1:] != (channels * dtype.itemsize, dtype.itemsize):
                plain = scratch("given", given.shape, dtype)
                load(plain, given)
                given = plain
            # One sum for each column, of as many terms as there are rows.
            sums = scratch("sums", (rows.tap_count, columns.tap_count, columns.length, channels), dtype)
            if columns.stride == 1:
                run = columns.length * channels
                flat = sums.reshape(rows.tap_count, columns.tap_count, run)
                np.einsum("rije,re->ije", _runs(block, tile), given.reshape(rows.length, run), out=flat)
            else:
                np.einsum("rqijc,rqc->ijqc", _pixels(block, tile), given, out=sums)
            return tile, sums.sum(axis=2, dtype=np.float64)

        return compute

    def commit(index: int, found: tuple[Tile, Array]) -> None:
        tile, sums = found
        total[tile.rows.taps, tile.columns.taps] += sums
        if index == blocks - 1:
            store(target, total)

    return Work(blocks, begin, commit, _workspace(tiles, channels))


def _padded(scratch: Scratch, image: Array, tile: Tile, dtype: "np.dtype[Any]") -> Array:
    """What a tile reads of an image (H, W, C), C-contiguous along columns and channels, with zeros around the image.

    The image itself where it holds all of that, else a copy.
    """
    inside, outside = [], []
    for strip, size in zip(tile, image.shape, strict=False):
        low, high = max(strip.first, 0), min(strip.first + strip.extent, size)
        inside.append(slice(low, max(low, high)))
        outside.append(slice(low - strip.first, max(low, high) - strip.first))
    part = image[tuple(inside)]
    shape = tile.rows.extent, tile.columns.extent, image.shape[2]
    if part.shape == shape and part.dtype == dtype and part[0].flags.c_contiguous:
        return part
    copy = scratch("samples", shape, dtype)
    rows, columns = outside
    copy[: rows.start] = 0
    copy[rows.stop :] = 0
    copy[rows, : columns.start] = 0
    copy[rows, columns.stop :] = 0
    load(copy[rows, columns], part)
    return copy


def _runs(block: Array, tile: Tile) -> Array:
    """Runs of columns and channels, (rows, taps down, taps across, run), of samples without a stride along columns."""
    rows, columns = tile
    by_row, by_column, by_channel = _steps(block)
    shape = rows.length, rows.tap_count, columns.tap_count, columns.length * block.shape[2]
    strides = rows.stride * by_row, rows.step * by_row, columns.step * by_column, by_channel
    return as_strided(block, shape, strides, writeable=False)


def _pixels(block: Array, tile: Tile) -> Array:
    """Samples as (rows, columns, taps down, taps across, channels)."""
    rows, columns = tile
    by_row, by_column, by_channel = _steps(block)
    shape = rows.length, columns.length, rows.tap_count, columns.tap_count, block.shape[2]
    strides = rows.stride * by_row, columns.stride * by_column, rows.step * by_row, columns.step * by_column, by_channel
    return as_strided(block, shape, strides, writeable=False)


def _steps(block: Array) -> tuple[int, int, int]:
    """Strides of a block from `_padded`; those of an axis of one entry may be any number.

    The views made with them need `as_strided`: a part of an image is no contiguous buffer, which `views` is made for.
    """
    return block.strides[0], block.shape[2] * block.itemsize, block.itemsize


def _workspace(tiles: tuple[Tile, ...], channels: int) -> int:
    """Bytes that a block takes: samples, sums, and a gradient with its terms."""

    def values(tile: Tile) -> int:
        (rows, columns) = tile
        return (
            rows.extent * columns.extent
            + rows.length * columns.length
            + rows.tap_count * columns.tap_count * columns.length
        )

    return max(map(values, tiles)) * channels * 8


@lru_cache(maxsize=128)
def _tiles(axes: tuple[Axis, Axis], channels: int) -> tuple[Tile, ...]:
    """Tiles of all outputs; they depend on shapes alone."""
    rows, columns = axes
    across = _strips(columns, max(1, min(RUN, REPEATED // (rows.kernel * columns.kernel)) // channels))
    widest = max(strip.length for strip in across)
    down = _strips(rows, max(1, min(ROWS, TILE // (widest * channels))))
    return tuple(Tile(row, column) for row in down for column in across)


def _strips(axis: Axis, most: int) -> list[Strip]:
    """Strips of at most ``most`` outputs, of about equal lengths."""
    found = axis_taps(axis)
    strips = []
    for phase in found.phases:
        count = -(-phase.length // most)
        edges = [phase.length * number // count for number in range(count + 1)]
        strips += [_strip(found, phase, start, stop) for start, stop in pairwise(edges)]
    return strips


def _strip(taps: AxisTaps, phase: Phase, start: int, stop: int) -> Strip:
    """Outputs ``start`` to ``stop`` of a phase. Its taps on real samples are a constant number apart."""
    source = taps.input
    real = [tap for tap in phase.taps if tap.plane >= 0]
    at = [tap.shift * source.stride + source.planes[tap.plane] - source.before for tap in real]
    numbers = slice(0, 0)
    if real:
        numbers = slice(real[0].number, real[-1].number + 1, real[1].number - real[0].number if len(real) > 1 else 1)
    return Strip(
        outputs=slice(phase.first + start * phase.step, phase.first + (stop - 1) * phase.step + 1, phase.step),
        length=stop - start,
        taps=numbers,
        tap_count=len(real),
        first=(at[0] if at else 0) + start * source.stride,
        stride=source.stride,
        step=at[1] - at[0] if len(at) > 1 else 1,
    )
