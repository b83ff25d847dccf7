"""Products of samples with the weights of a plain convolution, for the flat runs of a tile.

``planes`` are (planes, groups, channels, places). The taps of one row of a filter read runs that lie side by side in a
plane, so their columns are made once, a little longer than a run, for all of the rows:

    columns       place 0 1 2 3 4 5 6 ...        a matrix (columns of taps x channels, places)
    row 0 reads         |<- run ->|              and a product of each of its shifts with the
    row 1 reads             |<- run ->|          weights of a row of taps, added up
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from arrayops._backends.numpy.contraction import balanced, multiply
from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.program import Program
from arrayops._backends.numpy.stacks import balanced_share
from arrayops._backends.numpy.tiles import FlatPhase, TapBlock, Tile
from arrayops._backends.numpy.views import Grid, shifted

COLUMN_BYTES = 3 << 19
"""Size of the columns of some groups and places, with their products: most of a core's second-level cache."""

LEAST_PLACES, MOST_PLACES = 512, 4096
"""Places that are taken at a time where the run has as many."""

WIDE = 64
"""Channels from which the gradient of a weight is made from columns, and not from the samples where they lie."""


class Block(NamedTuple):
    """Taps of one plane, which lie on ``rows`` and ``columns`` of the filter.

    At the ``masked`` columns of a tile the taps of each column read zeros, whatever the plane holds: see `Tile.masked`.
    """

    taps: TapBlock
    rows: slice
    columns: slice
    masked: tuple[slice, ...]
    pitch: int

    @property
    def hidden(self) -> bool:
        """Whether any column is masked."""
        return any(columns.start < columns.stop for columns in self.masked)

    def clear(self, column: int, values: Array, program: Program) -> None:
        """Record that ``values`` (..., places), from the first of a row on, are zero where that column is masked."""
        columns = self.masked[column]
        if columns.start < columns.stop:
            rows = values.reshape(*values.shape[:-1], values.shape[-1] // self.pitch, self.pitch)
            program(rows[..., columns].fill, 0)

    def of(self, weight: Array) -> Array:
        """Their part of a weight (groups, kh, kw, ...), as a view."""
        return weight[:, self.rows, self.columns]


def filter_blocks(tile: Tile, phase: FlatPhase) -> list[Block]:
    """The blocks of a phase; the taps of each are a constant number of rows and of columns apart."""
    found = []
    for block in phase.blocks:
        rows, columns, _, _ = block.grid
        first = phase.taps[block.first]
        below = phase.taps[block.first + columns].row - first.row if rows > 1 else 1
        beside = phase.taps[block.first + 1].column - first.column if columns > 1 else 1
        masked = tuple(tile.masked(tap) for tap in phase.taps[block.first : block.first + columns])
        lines = _every(first.row, rows, below), _every(first.column, columns, beside)
        found.append(Block(block, *lines, masked, tile.pitch))
    return found


def _every(first: int, count: int, step: int) -> slice:
    return slice(first, first + (count - 1) * step + 1, step)


def workspace(channels: int, outputs: int, rows: int, itemsize: int) -> int:
    """Bytes that the columns and products of one group take at most, or those of several groups.

    ``channels`` are those of a row of taps.
    """
    return 2 * max(COLUMN_BYTES, LEAST_PLACES * (channels + (rows + 1) * outputs) * itemsize)


def add_up(
    planes: Array, blocks: Sequence[Block], weights: Sequence[Array], output: Array, run: int, program: Program
) -> Array | None:
    """Record the correlation of ``planes`` with a weight (groups, rows, columns x channels, outputs) for each block.

    Parameters
    ----------
    planes : array
        What the blocks read.
    blocks, weights : sequence
        The taps of a phase.
    output : array (groups, outputs, places)
        Its first ``run`` places are made; the places or the outputs lie side by side in memory.
    run : int
        Length of the run.
    program : Program
        Where to record.

    Returns
    -------
    array (groups, rows, outputs, places), or None
        If not None, what is left to be added up over the rows, of which nothing has been written to ``output``: the
        caller can do so as it stores the sums.
    """
    if not blocks:
        program(output.fill, 0)
    _, groups, channels, _ = planes.shape
    outputs = output.shape[1]
    rows = max((block.taps.grid.rows for block in blocks), default=1)
    columns = max((block.taps.grid.columns for block in blocks), default=1)
    steps = list(_steps(groups, columns * channels + rows * outputs, run, blocks, output.itemsize))
    if len(steps) == len(blocks) == 1 and rows > 1:
        (block,), (weight,) = blocks, weights
        matrices = _matrices(planes[block.taps.plane], block, 0, run, program)
        products = _like(output, rows, program)
        multiply(weight, matrices, products[..., :run], program)
        return products
    for some, start, length in steps:
        target = output[some, :, start : start + length]
        for number, (block, weight) in enumerate(zip(blocks, weights, strict=True)):
            matrices = _matrices(planes[block.taps.plane, some], block, start, length, program)
            if number == 0 and block.taps.grid.rows == 1:
                multiply(weight[some, 0], matrices[:, 0], target, program)
                continue
            products = _like(target, block.taps.grid.rows, program)
            multiply(weight[some], matrices, products, program)
            if number == 0:
                program(np.add.reduce, products, axis=1, out=target)
                continue
            for row in range(block.taps.grid.rows):
                program(np.add, target, products[:, row], out=target)
    return None


def _like(target: Array, rows: int, program: Program) -> Array:
    """Buffer (groups, rows, outputs, places) whose last two axes are in the order that they have in ``target``."""
    groups, outputs, places = target.shape
    if target.strides[1] == target.itemsize:
        return program.buffer("products", (groups, rows, places, outputs), target.dtype).swapaxes(2, 3)
    return program.buffer("products", (groups, rows, outputs, places), target.dtype)


def add_weight_gradient(planes: Array, blocks: Sequence[Block], grad: Array, total: Array, program: Program) -> None:
    """Record the sum over a run of samples times ``grad`` (groups, outputs, run), zero at junk.

    It is added to ``total`` (groups, kh, kw, channels, outputs).
    """
    _, groups, channels, _ = planes.shape
    outputs, run = grad.shape[1:]
    for block in blocks:
        _, plane, offset, grid = block.taps
        shape = (groups, grid.rows, grid.columns, channels, outputs)
        sums = block.of(total)
        summand = program.buffer("summand", shape, grad.dtype)
        if min(channels, outputs) < WIDE:
            # Copies of the samples would take longer than their products.
            source = shifted(planes[plane], offset, grid, run)
            given = _for_columns(block, grad, program)
            if channels == outputs == 1:
                program(np.einsum, "grtn,gtn->grt", source[:, :, :, 0], given[:, :, 0], out=summand[..., 0, 0])
            else:
                program(np.matmul, source, given.swapaxes(2, 3)[:, None], out=summand)
            program(np.add, sums, summand, out=sums)
            continue
        for some, start, length in _steps(groups, grid.columns * channels + outputs, run, [block], grad.itemsize):
            part = grad[some, None, :, start : start + length].swapaxes(2, 3)
            matrices = _matrices(planes[plane, some], block, start, length, program)
            # This way round: the long dimension in front is half as fast again in OpenBLAS.
            found = summand[some].reshape(*matrices.shape[:3], outputs)
            program(np.matmul, matrices, part, out=found)
            program(np.add, sums[some], summand[some], out=sums[some])


def _for_columns(block: Block, grad: Array, program: Program) -> Array:
    """What taps of each column meet of ``grad``, (groups, columns, outputs, run): zeros where the column is masked."""
    groups, outputs, run = grad.shape
    columns = block.taps.grid.columns
    if not block.hidden:
        return np.broadcast_to(grad[:, None], (groups, columns, outputs, run))
    given = program.buffer("given", (groups, columns, outputs, run), grad.dtype)
    program(np.copyto, given, grad[:, None])
    for column in range(columns):
        block.clear(column, given[:, column], program)
    return given


def _steps(
    groups: int, values: int, run: int, blocks: Sequence[Block], itemsize: int
) -> Iterator[tuple[slice, int, int]]:
    """Slice of the groups, first place and number of places, so that ``values`` of each place fit into the columns.

    Where columns of the tile are masked, whole rows of it.
    """
    place = max(1, values * itemsize)
    chunk = balanced(run, min(max(COLUMN_BYTES // place, LEAST_PLACES), MOST_PLACES))
    if any(block.hidden for block in blocks):
        pitch = blocks[0].pitch
        chunk = -(-chunk // pitch) * pitch
    at_once = balanced_share(groups, max(1, COLUMN_BYTES // (place * chunk)))
    for group in range(0, groups, max(1, at_once)):
        for start in range(0, run, chunk):
            yield slice(group, min(group + at_once, groups)), start, min(chunk, run - start)


def _matrices(plane: Array, block: Block, start: int, length: int, program: Program) -> Array:
    """What each row of taps reads, as a view (groups, rows, columns of taps x channels, ``length``)."""
    _, _, offset, (rows, columns, row_step, column_step) = block.taps
    groups, channels, _ = plane.shape
    first, depth = offset + start, columns * channels
    if columns == 1 and not block.hidden:
        return shifted(plane, first, Grid(rows, 1, row_step, 0), length)[:, :, 0]
    reach = (rows - 1) * row_step
    shared = reach <= length
    grid, long = (Grid(1, columns, 0, column_step), length + reach) if shared else (block.taps.grid, length)
    made = program.buffer("columns", (groups, grid.rows, columns, channels, long), plane.dtype)
    program(np.copyto, made, shifted(plane, first, grid, long))
    for column in range(columns):
        block.clear(column, made[:, :, column], program)
    if not shared:
        return made.reshape(groups, rows, depth, length)
    return shifted(made.reshape(groups, depth, long), 0, Grid(rows, 1, row_step, 0), length)[:, :, 0]
