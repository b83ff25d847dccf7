"""Overlapping views: what several taps read, or add to, as one array.

One NumPy call on all taps of a grid takes the place of a call for each. That matters beyond the cost of a call: with
several threads each call is also a turn at the interpreter, which takes longer than short calls do.

Views are made by the constructor of ndarray: it checks that they stay inside the buffer, which
`numpy.lib.stride_tricks.as_strided` does not, and takes a sixth of its time.
"""

from typing import NamedTuple

import numpy as np

from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.program import Program


class Grid(NamedTuple):
    """Rows and columns of taps, and how many places of a flat plane lie from one to the next."""

    rows: int
    columns: int
    row_step: int
    column_step: int

    @property
    def taps(self) -> int:
        """Number of taps."""
        return self.rows * self.columns


def shifted(samples: Array, offset: int, grid: Grid, length: int) -> Array:
    """What the taps of a grid read: (groups, rows, columns, channels, length), not to be written to.

    ``samples`` is (groups, channels, places), contiguous; the first tap reads ``length`` places from ``offset``.
    """
    groups, channels, _ = samples.shape
    by_group, by_channel, by_place = samples.strides
    shape = groups, grid.rows, grid.columns, channels, length
    if 0 in shape:
        return np.empty(shape, samples.dtype)
    strides = by_group, grid.row_step * by_place, grid.column_step * by_place, by_channel, by_place
    return np.ndarray(shape, samples.dtype, samples, offset * by_place, strides)


def slanted(columns: Array, begin: int, grid: Grid, length: int) -> Array:
    """Place ``begin + q`` less the shift of a tap, from the column of each tap and for q below ``length``.

    ``columns`` is (groups, rows, columns, channels, places), contiguous, and the view has its axes. No two of its
    elements are the same, so that it may be written to.
    """
    groups, _, _, channels, _ = columns.shape
    by_group, by_row, by_column, by_channel, by_place = columns.strides
    shape = groups, grid.rows, grid.columns, channels, length
    if 0 in shape:
        return np.empty(shape, columns.dtype)
    by_row, by_column = by_row - grid.row_step * by_place, by_column - grid.column_step * by_place
    return np.ndarray(
        shape, columns.dtype, columns, begin * by_place, (by_group, by_row, by_column, by_channel, by_place)
    )


def add_shifted(target: Array, padded: Array, margin: int, grid: Grid, program: Program) -> None:
    """Add place n of each tap's column to the place of ``target`` that the tap reads: the transpose of `shifted`.

    ``padded`` is (groups, rows, columns, channels, margin + length + margin), contiguous, its margins zero and at least
    as wide as the grid reaches; ``target`` is (groups, channels, length + reach).
    """
    if grid.taps == 1:
        program(np.add, target, padded[:, 0, 0, :, margin : margin + target.shape[2]], out=target)
        return
    total = program.buffer("total", target.shape, padded.dtype)
    program(np.add.reduce, slanted(padded, margin, grid, target.shape[2]), axis=(1, 2), out=total)
    program(np.add, target, total, out=target)
