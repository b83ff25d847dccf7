"""Resizes maps tile by tile: rows by one matrix product, columns by another, from one map into a tile of the result.

Maps are seen as (planes, rows, columns, run): NCHW has a plane a channel and runs of one element, NHWC one plane and
runs of all channels. A tile is some planes, a band of output rows, and a few bands of output columns:

    source (P, R, c, run)  --rows-->  between (P, T, c, run)  --columns-->  tile (P, T, X, run)

or columns first, where a map shrinks and its runs of channels need not be without gaps, as those of a gradient of
concatenated maps are not.

Where what is multiplied is not finite, the tile is made again tap by tap, with the taps alone that have a weight.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.numpy.memory import Array, load
from arrayops._backends.numpy.merge_bands import SHORTEST, Axis, Band, band_length, bands, identity
from arrayops._backends.numpy.merge_products import (
    columns_product,
    finite_columns,
    finite_rows,
    multiplies_columns,
    multiplies_rows,
    reach,
    rows_product,
)
from arrayops._backends.numpy.scratch import Scratch
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


@lru_cache(maxsize=256)
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


class Part(NamedTuple):
    """Some planes, rows and columns of one image, 0 where ``winners``, if given, are not ``number``."""

    values: Array
    by_rows: bool
    """Whether rows can be multiplied as they are."""
    by_columns: bool
    """The same of columns."""
    winners: Array | None = None
    number: int = 0

    def read(self, destination: Array) -> None:
        """Load the values, and 0 where another map has won."""
        load(destination, self.values)
        if self.winners is not None:
            np.copyto(destination, 0, where=self.winners != self.number)

    def between(self, columns: slice) -> "Part":
        """Some of its columns."""
        winners = None if self.winners is None else self.winners[:, :, columns]
        return self._replace(values=self.values[:, :, columns], winners=winners)


class Source:
    """Images of a map, (N, planes, rows, columns, run), with ``winners`` and ``number`` as of a `Part`."""

    def __init__(self, values: Array, dtype: "np.dtype[Any]", winners: Array | None = None, number: int = 0) -> None:
        self.values, self.winners, self.number = values, winners, number
        # As is the whole, so are its parts.
        as_it_is = winners is None and values.dtype == dtype
        self.by_rows = as_it_is and multiplies_rows(values)
        self.by_columns = as_it_is and multiplies_columns(values)

    def part(self, image: int, planes: slice, place: "Place") -> Part:
        """What a tile needs of an image."""
        where = image, planes, place.rows, place.columns
        winners = None if self.winners is None else self.winners[where]
        return Part(self.values[where], self.by_rows, self.by_columns, winners, self.number)


class Place(NamedTuple):
    """Bands of a tile, None for an axis that stays as it is, and the rows and columns of the source that they need."""

    band: Band | None
    across: tuple[Band, ...] | None
    rows: slice
    columns: slice


class Resizing:
    """A map on its way to another size, cut into bands of given lengths."""

    def __init__(self, rows: Axis, columns: Axis, cut: Cut, dtype: "np.dtype[Any]") -> None:
        self.dtype = dtype
        self.rows = None if identity(rows) else bands(rows, cut.tall, dtype)
        self.columns = None if identity(columns) else bands(columns, cut.wide, dtype)
        self.shrinks = columns.inputs > columns.outputs
        self.places: dict[tuple[int, int], Place] = {}

    @property
    def plain(self) -> bool:
        """Whether the map has the size already."""
        return self.rows is None and self.columns is None

    def place(self, tile: Tile) -> Place:
        """Where a tile is made of what; remembered, as there are many images."""
        key = tile.row_band, tile.column_bands.start
        place = self.places.get(key)
        if place is None:
            band = None if self.rows is None else self.rows[tile.row_band]
            across = None if self.columns is None else self.columns[tile.column_bands]
            rows = tile.rows if band is None else slice(band.first, band.last)
            columns = tile.columns if across is None else reach(across)
            place = self.places[key] = Place(band, across, rows, columns)
        return place

    def make(self, scratch: Scratch, source: Source, image: int, tile: Tile, out: Array) -> None:
        """Write a tile of a resized image to ``out``, which is of the computing dtype."""
        place = self.place(tile)
        part = source.part(image, tile.planes, place)
        band, across = place.band, place.across
        if across is None:
            if band is None:
                part.read(out)
                return
            self.resize_rows(scratch, part, band, out)
            whole = finite_rows(out)
        elif band is not None and self.columns_first(part, out):
            planes, rows, _, run = part.values.shape
            between = scratch("between", (planes, rows, out.shape[2], run), self.dtype)
            columns_product(part.values, across, place.columns.start, between)
            rows_product(band, between, out)
            whole = finite_rows(out)
        else:
            between = part.values
            if band is not None or not part.by_columns:
                planes, _, columns, run = between.shape
                between = scratch("between", (planes, out.shape[1], columns, run), self.dtype)
                self.read_rows(scratch, part, band, between)
            columns_product(between, across, place.columns.start, out)
            whole = finite_columns(out, across)
        if not whole:
            by_taps(part, place, out)

    def columns_first(self, part: Part, out: Array) -> bool:
        """Whether columns are to be multiplied before rows."""
        return self.shrinks and out.shape[3] > 1 and part.by_columns and multiplies_rows(out)

    def read_rows(self, scratch: Scratch, part: Part, band: Band | None, out: Array) -> None:
        """Rows of a part, resized if they are to be."""
        if band is None:
            part.read(out)
        else:
            self.resize_rows(scratch, part, band, out)

    def resize_rows(self, scratch: Scratch, part: Part, band: Band, out: Array) -> None:
        """Multiply rows of ``part`` into ``out``."""
        if part.by_rows and multiplies_rows(out):
            rows_product(band, part.values, out)
            return
        planes, rows, columns, run = part.values.shape
        step = max(PIECE // max(planes * rows * run, 1), 1)
        for start in range(0, columns, step):
            piece = slice(start, min(start + step, columns))
            loaded = scratch("loaded", (planes, rows, piece.stop - start, run), self.dtype)
            part.between(piece).read(loaded)
            product = scratch("product", (planes, out.shape[1], piece.stop - start, run), self.dtype)
            rows_product(band, loaded, product)
            np.copyto(out[:, :, piece], product)


def by_taps(part: Part, place: Place, out: Array) -> None:
    """A tile made of nothing that has weight 0 in it."""
    band, across = place.band, place.across
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
                target += weight * values[:, :, one.first - place.columns.start + tap]
