"""Products of the bands of a resizing matrix with parts of maps, (planes, rows, columns, run).

OpenBLAS multiplies small matrices where they lie, and packs the operands of larger ones first, which takes longer than
the product where one of them is as thin as a band. So a large product is made as a stack of small ones, by one call.

Products also multiply zeros, and zero times NaN or infinity is NaN. So what is not finite shows in the first row, or
column, that a band makes, in whatever rows or columns it has a weight.
"""

import math
from functools import lru_cache

import numpy as np

from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.merge_bands import Band

UNPACKED = 10**6
"""Multiply-adds of a product of matrices that OpenBLAS does not pack."""

THINNEST = 64
"""Columns, or rows, that a piece of a product has at least: with fewer the price of a call to BLAS tells."""


def multiplies_columns(part: Array) -> bool:
    """Whether the columns of (..., rows, columns, run) can be multiplied as they are."""
    run = part.shape[-1]
    return _apart(part) if run > 1 else _gapless(part)


def multiplies_rows(part: Array) -> bool:
    """Whether the rows of (..., rows, columns, run) can be multiplied as they are."""
    return _gapless(part) or (part.shape[-1] >= THINNEST and _apart(part))


def _apart(part: Array) -> bool:
    """Whether runs are runs of memory, in order and apart."""
    rows, columns, run = part.shape[-3:]
    above, beside, next_to = part.strides[-3:]
    item = part.itemsize
    return (
        bool(part.flags.aligned)
        and next_to == item
        and (columns == 1 or (beside >= run * item and beside % item == 0))
        and (rows == 1 or (above >= run * item and above % item == 0))
    )


def _gapless(part: Array) -> bool:
    """Whether rows are runs of memory, in order and apart."""
    rows, columns, run = part.shape[-3:]
    above, beside, next_to = part.strides[-3:]
    item = part.itemsize
    return (
        bool(part.flags.aligned)
        and (run == 1 or next_to == item)
        and (columns == 1 or beside == run * item)
        and (rows == 1 or (above >= columns * run * item and above % item == 0))
    )


def rows_product(band: Band, part: Array, out: Array) -> None:
    """Multiply rows of ``part`` into ``out``, both of which `multiplies_rows`."""
    planes, rows, columns, run = part.shape
    if run >= THINNEST:
        left_product(band.block, part.swapaxes(1, 2), out.swapaxes(1, 2))
    else:
        length = columns * run
        left_product(band.block, part.reshape(planes, rows, length), out.reshape(planes, out.shape[1], length))


def columns_product(between: Array, across: tuple[Band, ...], origin: int, out: Array) -> None:
    """Multiply columns of ``between``, the first of which is ``origin``, into ``out``, band by band."""
    start = across[0].start
    for band in across:
        inputs = slice(band.first - origin, band.last - origin) if band.last > band.first else slice(0, 0)
        outputs = slice(band.start - start, band.stop - start)
        if between.shape[3] > 1:
            left_product(band.block, between[:, :, inputs], out[:, :, outputs])
        else:
            right_product(between[:, :, inputs, 0], band.turned, out[:, :, outputs, 0])


def left_product(block: Array, values: Array, out: Array) -> None:
    """``block @ values`` over the last two axes, of which the last is a run of memory."""
    length = values.shape[-1]
    width = piece(length, block.size)
    if width < length:
        values, out = (a.reshape(*a.shape[:-1], length // width, width).swapaxes(-3, -2) for a in (values, out))
    np.matmul(block, values, out=out)


def right_product(lines: Array, turned: Array, out: Array) -> None:
    """``lines @ turned`` over the last two axes: those before are joined with them where no gap is between."""
    if out.flags.c_contiguous and lines.flags.c_contiguous:
        count = lines.shape[0] * lines.shape[1]
        height = piece(count, turned.size)
        lines, out = (a.reshape(count // height, height, a.shape[2]) for a in (lines, out))
    np.matmul(lines, turned, out=out)


@lru_cache(maxsize=256)
def piece(length: int, multiplications: int) -> int:
    """The largest part that divides ``length`` and makes a product small, all of it if that were too thin.

    ``multiplications`` are those for one of ``length``.
    """
    fewest = max(-(-length * multiplications // UNPACKED), 1)
    for count in range(fewest, length // THINNEST + 1):
        if length % count == 0:
            return length // count
    return max(length, 1)


def reach(across: tuple[Band, ...]) -> slice:
    """Inputs that some bands need."""
    some = [band for band in across if band.last > band.first]
    if not some:
        return slice(0, 0)
    return slice(min(band.first for band in some), max(band.last for band in some))


def finite_rows(out: Array) -> bool:
    """Whether all of which a band has made the rows of ``out`` is finite."""
    return finite(out[:, 0])


def finite_columns(out: Array, across: tuple[Band, ...]) -> bool:
    """Whether all of which bands, of one length but for the last, have made the columns of ``out`` is finite."""
    return finite(out[:, :, :: across[0].stop - across[0].start])


def finite(values: Array) -> bool:
    """Whether no value is NaN or infinite; a sum of squares that overflows says no as well, which costs time alone."""
    flat = values.reshape(-1)
    return math.isfinite(flat.dot(flat))
