"""Several maps resized by one product of columns: their sum, and the gradient that goes to all of them.

sum       [matrix 0 | matrix 1 | ...] @ rows of all maps, one below the other
gradient  matrices 0, 1, ... one below the other @ the gradient, of which each map then takes its rows
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.merge_bands import WHOLE, Axis, Band
from arrayops._backends.numpy.merge_products import (
    columns_product,
    finite,
    finite_columns,
    finite_rows,
    reach,
    rows_product,
)
from arrayops._backends.numpy.merge_tiles import TILE, Cut, Resizing, Source, Tile, by_taps
from arrayops._backends.numpy.scratch import Scratch


class Sum:
    """Maps that are resized and added up."""

    def __init__(self, resizings: Sequence[Resizing]) -> None:
        self.resizings = resizings
        # Maps whose columns are resized come first, and those of the common size last: these are added as they are,
        # where the first would have to be copied.
        self.order = sorted(range(len(resizings)), key=lambda i: (resizings[i].columns is None, resizings[i].plain))
        self.wide = [number for number in self.order if resizings[number].columns is not None]
        self.joined = self.join() if len(self.wide) > 1 else None

    def join(self) -> Band | None:
        """The columns of all maps side by side, where they are one band."""
        found = [columns for number in self.wide if (columns := self.resizings[number].columns) is not None]
        if any(len(columns) > 1 for columns in found):
            return None
        block = np.concatenate([columns[0].block for columns in found], axis=1)
        return Band(0, len(block), 0, block.shape[1], block, np.ascontiguousarray(block.T))

    def make(self, scratch: Scratch, sources: Sequence[Source], image: int, tile: Tile, out: Array) -> None:
        """Write a tile of the sum of images to ``out``, which is of the computing dtype."""
        done = 0
        if self.joined is not None and self.at_once(scratch, self.joined, sources, image, tile, out):
            done = len(self.wide)
        for number in self.order[done:]:
            resizing, source = self.resizings[number], sources[number]
            if number == self.order[0]:
                resizing.make(scratch, source, image, tile, out)
                continue
            if resizing.plain and source.values.dtype == out.dtype:
                other = source.values[image, tile.planes, tile.rows, tile.columns]
            else:
                other = scratch("other", out.shape, out.dtype)
                resizing.make(scratch, source, image, tile, other)
            np.add(out, other, out=out)

    def at_once(
        self, scratch: Scratch, joined: Band, sources: Sequence[Source], image: int, tile: Tile, out: Array
    ) -> bool:
        """Add up the maps whose columns are resized by one product; False if not all was finite."""
        planes, height, _, run = out.shape
        between = scratch("between", (planes, height, joined.last, run), out.dtype)
        start = 0
        for number in self.wide:
            resizing = self.resizings[number]
            place = resizing.place(tile)
            stop = start + place.columns.stop - place.columns.start
            part = sources[number].part(image, tile.planes, place)
            resizing.read_rows(scratch, part, place.band, between[:, :, start:stop])
            start = stop
        columns_product(between, (joined,), 0, out)
        return finite_columns(out, (joined,))


class Spread:
    """A gradient that goes to several maps, each of them made whole."""

    def __init__(self, resizings: Sequence[Resizing]) -> None:
        self.resizings = resizings
        found = [resizing.columns[0] for resizing in resizings if resizing.columns is not None]
        self.inputs = reach(tuple(found))
        first, last = self.inputs.start, self.inputs.stop
        block = np.concatenate([np.pad(band.block, ((0, 0), (band.first - first, last - band.last))) for band in found])
        self.joined = Band(0, len(block), first, last, block, np.ascontiguousarray(block.T))

    def make(self, scratch: Scratch, source: Source, image: int, outs: Sequence[Array]) -> None:
        """Write the gradient of an image of each map to ``outs``, given that of the merged map."""
        values = source.values[image]
        between = scratch("between", (1, values.shape[1], self.joined.stop, values.shape[3]), values.dtype)
        columns_product(values[:, :, self.inputs], (self.joined,), self.inputs.start, between)
        start = 0
        for resizing, out in zip(self.resizings, outs, strict=True):
            stop = start + out.shape[2]
            if resizing.rows is None:
                np.copyto(out, between[:, :, start:stop])
                whole = finite(out)
            else:
                (rows,) = resizing.rows
                rows_product(rows, between[:, rows.first : rows.last, start:stop], out)
                whole = finite_rows(out)
            start = stop
            if not whole:
                tile = Tile(slice(0, 1), 0, slice(0, 1), slice(0, out.shape[1]), slice(0, out.shape[2]))
                place = resizing.place(tile)
                by_taps(source.part(image, tile.planes, place), place, out)


def spread(axes: tuple[tuple[Axis, Axis], ...], run: int, dtype: "np.dtype[Any]") -> Spread | None:
    """The way of a gradient of long runs to maps whose rows and columns are ``axes``; None where they are large."""
    between = sum(columns.outputs for _, columns in axes) * run * max((rows.inputs for rows, _ in axes), default=0)
    if len(axes) < 2 or run <= 1 or between > TILE:
        return None
    if any(axis.inputs * axis.outputs > WHOLE for pair in axes for axis in pair):
        return None
    return Spread([Resizing(*pair, Cut(pair[0].outputs, pair[1].outputs, TILE), dtype) for pair in axes])
