"""Resizes maps tile by tile: rows by one matrix product, columns by another, from one map into a tile of the result.

Maps are seen as (planes, rows, columns, run): NCHW has a plane a channel and runs of one element, NHWC one plane and
runs of all channels. A tile is some planes, a band of output rows, and a few bands of output columns:

    source (P, R, c, run)  --rows-->  between (P, T, c, run)  --columns-->  tile (P, T, X, run)

or columns first, where a map shrinks and its runs of channels need not be without gaps, as those of a gradient of
concatenated maps are not. What is added up is made by one product of columns: of the maps' matrices side by side, and
of what lies between, one below the other.

Products of blocks also multiply zeros, and zero times NaN or infinity is NaN. So where what is multiplied last is not
finite, the tile is made again tap by tap, with the taps alone that have a weight.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.numpy.blocks import Scratch
from arrayops._backends.numpy.memory import Array, load
from arrayops._backends.numpy.merge_bands import SHORTEST, Axis, Band, band_length, bands, identity
from arrayops._core.shapes import Pair

TILE = 1 << 18
"""Elements of a tile, about: it stays in the second-level cache, and threads seldom wait for the interpreter."""

PIECE = 1 << 17
"""Elements of the source that are loaded at once, where it cannot be multiplied as it is."""


class Tile(NamedTuple):
    """A part of a result: planes, the number of its band of rows, and its bands of columns from one number to another.

    ``rows`` and ``columns`` are the same in outputs.
    """

    planes: slice
    row_band: int
    column_bands: slice
    rows: slice
    columns: slice


class Cut(NamedTuple):
    """Lengths of the bands of rows and columns, and how many elements a tile should have."""

    tall: int
    wide: int
    room: int


def cut(rows: tuple[Axis, ...], columns: tuple[Axis, ...], run: int) -> Cut:
    """How to cut a result that is made of several maps, each with its axes."""
    # What a tile is made of has its rows and the columns of the map: where maps are wider, tiles are smaller.
    room = TILE // max(-(-axis.inputs // axis.outputs) for axis in columns)
    wide = min(band_length(columns), max(room // max(run, 1), SHORTEST))
    tall = min(band_length(rows), max(room // max(wide * run, 1), 1))
    return Cut(tall, wide, room)


def tiles(planes: int, size: Pair, run: int, cut: Cut) -> tuple[Tile, ...]:
    """Cut a result of ``planes`` of ``size`` into tiles."""
    (height, width), (tall, wide, room) = size, cut
    # Bands of columns stand side by side in a tile, then planes one upon another.
    beside = min(max(room // max(tall * wide * run, 1), 1), -(-width // wide))
    deep = min(max(room // max(tall * min(beside * wide, width) * run, 1), 1), max(planes, 1))
    return tuple(
        Tile(
            slice(plane, min(plane + deep, planes)),
            row // tall,
            slice(column // wide, column // wide + beside),
            slice(row, min(row + tall, height)),
            slice(column, min(column + beside * wide, width)),
        )
        for plane in range(0, planes, deep)
        for row in range(0, height, tall)
        for column in range(0, width, beside * wide)
    )


class Source(NamedTuple):
    """A map as (planes, rows, columns, run), which counts as 0 where ``winners``, if given, are not ``number``."""

    values: Array
    winners: Array | None = None
    number: int = 0

    def part(self, planes: slice, rows: slice, columns: slice) -> "Source":
        """Some planes, rows and columns of the map."""
        where = planes, rows, columns
        winners = None if self.winners is None else self.winners[where]
        return Source(self.values[where], winners, self.number)

    def read(self, destination: Array) -> None:
        """Load the values, and 0 where another map has won."""
        load(destination, self.values)
        if self.winners is not None:
            np.copyto(destination, 0, where=self.winners != self.number)


class Resizing:
    """A map on its way to another size, cut into bands of given lengths."""

    def __init__(self, rows: Axis, columns: Axis, cut: Cut, dtype: "np.dtype[Any]") -> None:
        self.dtype = dtype
        self.rows = None if identity(rows) else bands(rows, cut.tall, dtype)
        self.columns = None if identity(columns) else bands(columns, cut.wide, dtype)

    @property
    def plain(self) -> bool:
        """Whether the map has the size already."""
        return self.rows is None and self.columns is None

    def make(self, scratch: Scratch, source: Source, tile: Tile, out: Array) -> None:
        """Write a tile of the resized ``source`` to ``out``, which is of the computing dtype."""
        band, across, part, origin = self.place(source, tile)
        if across is None:
            if band is None:
                part.read(out)
                return
            self.rows_product(scratch, part, band, out)
            whole = finite(out)
        elif band is not None and self.columns_first(part, out):
            planes, rows, _, run = part.values.shape
            between = scratch("between", (planes, rows, out.shape[2], run), self.dtype)
            columns_product(part.values, across, origin, between)
            whole = finite(between)
            if whole:
                self.rows_product(scratch, Source(between), band, out)
        else:
            between = part.values
            if band is not None or not self.multipliable(part):
                planes, _, columns, run = between.shape
                between = scratch("between", (planes, out.shape[1], columns, run), self.dtype)
                self.between(scratch, part, band, between)
            whole = finite(between)
            if whole:
                columns_product(between, across, origin, out)
        if not whole:
            by_taps(part, band, across, origin, out)

    def place(self, source: Source, tile: Tile) -> tuple[Band | None, tuple[Band, ...] | None, Source, int]:
        """Bands of a tile, the part of the source that they need, and its first column."""
        band = None if self.rows is None else self.rows[tile.row_band]
        across = None if self.columns is None else self.columns[tile.column_bands]
        height = tile.rows if band is None else slice(band.first, band.last)
        width = tile.columns if across is None else reach(across)
        return band, across, source.part(tile.planes, height, width), width.start

    def columns_first(self, part: Source, out: Array) -> bool:
        """Whether columns are to be multiplied before rows."""
        values = part.values
        return (
            values.shape[3] > 1
            and values.shape[2] > out.shape[2]
            and part.winners is None
            and values.dtype == self.dtype
            and values.strides[3] == self.dtype.itemsize
            and values.flags.aligned
            and gapless(out)
        )

    def between(self, scratch: Scratch, part: Source, band: Band | None, out: Array) -> None:
        """Rows of a part, resized if they are to be."""
        if band is None:
            part.read(out)
        else:
            self.rows_product(scratch, part, band, out)

    def multipliable(self, part: Source) -> bool:
        """Whether a part of a map can stand in a matrix product as it is."""
        return part.winners is None and part.values.dtype == self.dtype and gapless(part.values)

    def rows_product(self, scratch: Scratch, part: Source, band: Band, out: Array) -> None:
        """Multiply rows of ``part`` into ``out``."""
        planes, rows, columns, run = part.values.shape
        if self.multipliable(part) and gapless(out):
            np.matmul(band.block, flattened(part.values), out=flattened(out))
            return
        step = max(PIECE // max(planes * rows * run, 1), 1)
        for start in range(0, columns, step):
            piece = slice(start, min(start + step, columns))
            loaded = scratch("loaded", (planes, rows, piece.stop - start, run), self.dtype)
            part.part(slice(None), slice(None), piece).read(loaded)
            product = scratch("product", (planes, out.shape[1], piece.stop - start, run), self.dtype)
            np.matmul(band.block, flattened(loaded), out=flattened(product))
            np.copyto(out[:, :, piece], product)


class Sum:
    """Maps that are resized and added up."""

    def __init__(self, resizings: Sequence[Resizing]) -> None:
        # Maps whose columns are resized come first, and those of the common size last: these are added as they are,
        # where the first would have to be copied.
        self.order = sorted(range(len(resizings)), key=lambda i: (resizings[i].columns is None, resizings[i].plain))
        self.resizings = [resizings[number] for number in self.order]
        self.wide = [resizing for resizing in self.resizings if resizing.columns is not None]
        self.joined = self.join() if len(self.wide) > 1 else None

    def join(self) -> Band | None:
        """The columns of all maps side by side, where they are one band."""
        found = [resizing.columns for resizing in self.wide if resizing.columns is not None]
        if any(len(columns) > 1 for columns in found):
            return None
        block = np.concatenate([columns[0].block for columns in found], axis=1)
        return Band(0, len(block), 0, block.shape[1], block, np.ascontiguousarray(block.T))

    def make(self, scratch: Scratch, sources: Sequence[Source], tile: Tile, out: Array) -> None:
        """Write a tile of the sum to ``out``, which is of the computing dtype."""
        ordered = [sources[number] for number in self.order]
        done = 0
        if self.joined is not None and self.at_once(scratch, ordered, tile, out):
            done = len(self.wide)
        for number, (resizing, source) in enumerate(zip(self.resizings, ordered, strict=True)):
            if number < done:
                continue
            if number == 0:
                resizing.make(scratch, source, tile, out)
                continue
            if resizing.plain and source.values.dtype == out.dtype:
                other = source.part(tile.planes, tile.rows, tile.columns).values
            else:
                other = scratch("other", out.shape, out.dtype)
                resizing.make(scratch, source, tile, other)
            np.add(out, other, out=out)

    def at_once(self, scratch: Scratch, sources: Sequence[Source], tile: Tile, out: Array) -> bool:
        """Add up the maps whose columns are resized by one product; False, and nothing done, if not all is finite."""
        assert self.joined is not None
        planes, height, _, run = out.shape
        between = scratch("between", (planes, height, self.joined.last, run), out.dtype)
        start = 0
        for resizing, source in zip(self.wide, sources, strict=False):
            band, _, part, _ = resizing.place(source, tile)
            stop = start + part.values.shape[2]
            resizing.between(scratch, part, band, between[:, :, start:stop])
            start = stop
        if not finite(between):
            return False
        columns_product(between, (self.joined,), 0, out)
        return True


def gapless(part: Array) -> bool:
    """Whether the rows of (planes, rows, columns, run) are each one run of memory, in order and apart."""
    _, rows, columns, run = part.shape
    item = part.itemsize
    return (
        part.flags.aligned
        and (run == 1 or part.strides[3] == item)
        and (columns == 1 or part.strides[2] == run * item)
        and (rows == 1 or (part.strides[1] >= columns * run * item and part.strides[1] % item == 0))
    )


def flattened(part: Array) -> Array:
    """(planes, rows, columns times run), a view of what is gapless."""
    planes, rows, columns, run = part.shape
    return part.reshape(planes, rows, columns * run)


def by_taps(part: Source, band: Band | None, across: tuple[Band, ...] | None, origin: int, out: Array) -> None:
    """A tile made of nothing that has weight 0 in it."""
    values = np.empty(part.values.shape, out.dtype)
    part.read(values)
    if band is not None:
        between = np.zeros((len(values), out.shape[1], *values.shape[2:]), out.dtype)
        for output in range(out.shape[1]):
            for tap, weight in band.taps(output):
                between[:, output] += weight * values[:, tap]
        values = between
    if across is None:
        np.copyto(out, values)
        return
    out[...] = 0
    for one in across:
        for output in range(one.stop - one.start):
            target = out[:, :, one.start - across[0].start + output]
            for tap, weight in one.taps(output):
                target += weight * values[:, :, one.first - origin + tap]


def reach(across: tuple[Band, ...]) -> slice:
    """Inputs that some bands need."""
    some = [band for band in across if band.last > band.first]
    if not some:
        return slice(0, 0)
    return slice(min(band.first for band in some), max(band.last for band in some))


def finite(values: Array) -> bool:
    """Whether no value is NaN or infinite; a sum that overflows says no as well, which costs time alone."""
    if values.flags.c_contiguous:
        # Four times as fast as the plain sum.
        flat = values.reshape(-1)
        return bool(np.isfinite(np.dot(flat, flat)))
    return bool(np.isfinite(values.sum()))


def columns_product(between: Array, across: tuple[Band, ...], origin: int, out: Array) -> None:
    """Multiply columns of (planes, rows, columns, run) into ``out``, band by band."""
    start = across[0].start
    for band in across:
        inputs = slice(band.first - origin, band.last - origin) if band.last > band.first else slice(0, 0)
        outputs = slice(band.start - start, band.stop - start)
        if between.shape[3] > 1:
            np.matmul(band.block, between[:, :, inputs], out=out[:, :, outputs])
            continue
        lines, target = between[:, :, inputs, 0], out[:, :, outputs, 0]
        if target.flags.c_contiguous and lines.flags.c_contiguous:
            # One large product for many small ones.
            lines, target = lines.reshape(-1, lines.shape[2]), target.reshape(-1, target.shape[2])
        np.matmul(lines, band.turned, out=target)
