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

from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.products import DEEPEST, balanced, is_thin, multiply
from arrayops._backends.numpy.program import Program
from arrayops._backends.numpy.stacks import balanced_share
from arrayops._backends.numpy.tiles import FlatPhase, TapBlock
from arrayops._backends.numpy.views import Grid, shifted

COLUMN_BYTES = 3 << 19
"""Size of the columns of some groups and places, with their products: most of a core's second-level cache."""

LEAST_PLACES, MOST_PLACES = 512, 4096
"""Places that are taken at a time where the run has as many."""

NARROW = 64
"""Depth of the product of a row of taps, columns times channels, up to which all taps of several planes make one."""

MANY, WIDE = 2, 64
"""Groups from which, and channels of each up to which, the gradient of a weight is made of samples where they lie."""


class Block(NamedTuple):
    """Taps of one plane, which lie on ``rows`` and ``columns`` of the filter."""

    taps: TapBlock
    rows: slice
    columns: slice

    def of(self, weight: Array) -> Array:
        """Their part of a weight (groups, kh, kw, ...), as a view."""
        return weight[:, self.rows, self.columns]


def filter_blocks(phase: FlatPhase) -> list[Block]:
    """The blocks of a phase; the taps of each are a constant number of rows and of columns apart."""
    found = []
    for block in phase.blocks:
        rows, columns, _, _ = block.grid
        first = phase.taps[block.first]
        below = phase.taps[block.first + columns].row - first.row if rows > 1 else 1
        beside = phase.taps[block.first + 1].column - first.column if columns > 1 else 1
        found.append(Block(block, _every(first.row, rows, below), _every(first.column, columns, beside)))
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
    depth = columns * channels
    if _joins(blocks, channels, outputs):
        _join(planes, blocks, weights, output, run, program)
        return None
    steps = list(_steps(groups, depth + rows * outputs, run, output.itemsize))
    if len(steps) == len(blocks) == 1 and rows > 1:
        (block,), (weight,) = blocks, weights
        matrices = _matrices(planes[block.taps.plane], block.taps, 0, run, program)
        products = _like(output, rows, program)
        multiply(weight, matrices, products[..., :run], program)
        return products
    for some, start, length in steps:
        target = output[some, :, start : start + length]
        for number, (block, weight) in enumerate(zip(blocks, weights, strict=True)):
            matrices = _matrices(planes[block.taps.plane, some], block.taps, start, length, program)
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


def _joins(blocks: Sequence[Block], channels: int, outputs: int) -> bool:
    """Whether all taps make one product."""
    grids = [block.taps.grid for block in blocks]
    if len(grids) == 1:
        return is_thin(grids[0].rows, grids[0].columns * channels, outputs)
    narrow = all(grid.columns * channels <= NARROW for grid in grids)
    return len(grids) > 1 and narrow and sum(grid.taps for grid in grids) * channels <= DEEPEST


def _join(
    planes: Array, blocks: Sequence[Block], weights: Sequence[Array], output: Array, run: int, program: Program
) -> None:
    """Record `add_up` by one product of the columns of all taps, one below the other."""
    _, groups, channels, _ = planes.shape
    outputs = output.shape[1]
    depths = [block.taps.grid.taps * channels for block in blocks]
    starts = [sum(depths[:number]) for number in range(len(depths))]
    joined = program.buffer("joined", (groups, sum(depths), outputs), output.dtype)
    for weight, start, depth in zip(weights, starts, depths, strict=True):
        program(np.copyto, joined[:, start : start + depth], weight.reshape(groups, depth, outputs))
    for some, first, length in _steps(groups, sum(depths) + outputs, run, output.itemsize):
        made = program.buffer("columns", (some.stop - some.start, sum(depths), length), planes.dtype)
        for block, start, depth in zip(blocks, starts, depths, strict=True):
            _, plane, offset, grid = block.taps
            read = shifted(planes[plane, some], offset + first, grid, length)
            program(np.copyto, made[:, start : start + depth].reshape(read.shape), read)
        multiply(joined[some], made, output[some, :, first : first + length], program)


def _like(target: Array, rows: int, program: Program) -> Array:
    """Buffer (groups, rows, outputs, places) whose last two axes are in the order that they have in ``target``."""
    groups, outputs, places = target.shape
    if target.strides[1] == target.itemsize:
        return program.buffer("products", (groups, rows, places, outputs), target.dtype).swapaxes(2, 3)
    return program.buffer("products", (groups, rows, outputs, places), target.dtype)


def weight_sums(
    planes: Array, blocks: Sequence[Block], grad: Array, total: Array, first: bool, program: Program
) -> None:
    """Record the sum over a run of samples times ``grad`` (groups, outputs, run), zero at junk.

    It is added to ``total`` (groups, kh, kw, channels, outputs), or written there if it is the ``first``.
    """
    _, groups, channels, _ = planes.shape
    outputs, run = grad.shape[1:]
    for block in blocks:
        _, plane, offset, grid = block.taps
        sums = block.of(total)
        summand = program.buffer("summand", sums.shape, grad.dtype)
        if groups >= MANY and min(channels, outputs) < WIDE:
            # Copies of the samples would take longer than their products.
            found = sums if first else summand
            source = shifted(planes[plane], offset, grid, run)
            if channels == outputs == 1:
                program(np.einsum, "grtn,gn->grt", source[:, :, :, 0], grad[:, 0], out=found[..., 0, 0])
            else:
                program(np.matmul, source, grad.transpose(0, 2, 1)[:, None, None], out=found)
            if not first:
                program(np.add, sums, summand, out=sums)
            continue
        if first:
            program(sums.fill, 0)
        for some, start, length in _steps(groups, grid.columns * channels + outputs, run, grad.itemsize):
            part = grad[some, None, :, start : start + length].swapaxes(2, 3)
            matrices = _matrices(planes[plane, some], block.taps, start, length, program)
            # This way round: the long dimension in front is half as fast again in OpenBLAS.
            program(np.matmul, matrices, part, out=summand[some].reshape(*matrices.shape[:3], outputs))
            program(np.add, sums[some], summand[some], out=sums[some])


def _steps(groups: int, values: int, run: int, itemsize: int) -> Iterator[tuple[slice, int, int]]:
    """Slice of the groups, first place and number of places, so that ``values`` of each place fit into the columns."""
    place = max(1, values * itemsize)
    chunk = balanced(run, min(max(COLUMN_BYTES // place, LEAST_PLACES), MOST_PLACES))
    at_once = balanced_share(groups, max(1, COLUMN_BYTES // (place * chunk)))
    for group in range(0, groups, max(1, at_once)):
        for start in range(0, run, chunk):
            yield slice(group, min(group + at_once, groups)), start, min(chunk, run - start)


def _matrices(plane: Array, taps: TapBlock, start: int, length: int, program: Program) -> Array:
    """What each row of taps reads, as a view (groups, rows, columns of taps x channels, ``length``)."""
    _, _, offset, (rows, columns, row_step, column_step) = taps
    groups, channels, _ = plane.shape
    first, depth = offset + start, columns * channels
    if columns == 1:
        return shifted(plane, first, Grid(rows, 1, row_step, 0), length)[:, :, 0]
    reach = (rows - 1) * row_step
    shared = reach <= length
    grid, long = (Grid(1, columns, 0, column_step), length + reach) if shared else (taps.grid, length)
    made = program.buffer("columns", (groups, grid.rows, columns, channels, long), plane.dtype)
    program(np.copyto, made, shifted(plane, first, grid, long))
    if not shared:
        return made.reshape(groups, rows, depth, length)
    return shifted(made.reshape(groups, depth, long), 0, Grid(rows, 1, row_step, 0), length)[:, :, 0]
