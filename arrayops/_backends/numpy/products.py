"""Matrix products in blocks of a size that BLAS is quick at."""

from collections.abc import Callable

import numpy as np

from arrayops._backends.numpy.memory import Array

SMALL_PRODUCT = 10**6
"""Multiply-adds up to which OpenBLAS multiplies matrices where they lie, without packing them first.

Places are therefore multiplied in blocks: with 64 channels a product of (24 places, 640) and (640, 64) runs at 122
GFLOP/s where one of 528 places runs at 103. That holds with places in front, the weights behind.
"""

LEAST_FRONT, LEAST_BLOCK = 16, 128
"""Places of such a block, in front and behind: smaller ones take longer than what blocks gain."""


DEEPEST = 512
"""Depth of the product of all taps that may take the place of those of their rows."""


def balanced(run: int, chunk: int) -> int:
    """Length, in whole cache lines, of the fewest about equal chunks of at most about ``chunk`` that make up a run."""
    chunks = max(1, -(-run // chunk))
    return -(-max(run, 1) // chunks // 16) * 16


def is_thin(rows: int, depth: int, outputs: int) -> bool:
    """Whether products for ``rows`` of taps, each of ``depth``, take less time than adding them up does.

    All taps then better make one product, though their columns are to be copied row by row.
    """
    return rows > 1 and 2 * depth <= outputs and rows * depth <= DEEPEST


def multiply(factors: Array, matrix: Array, target: Array, program: Callable[..., None]) -> None:
    """Write the products of ``factors`` (..., n, outputs) and ``matrix`` (..., n, places) to ``target``.

    ``target`` is (..., outputs, places). Where its outputs lie side by side, products are made with places in front.
    """
    depth, outputs = factors.shape[-2:]
    places = matrix.shape[-1]
    side_by_side = target.strides[-2] == target.itemsize
    block = SMALL_PRODUCT // max(1, depth * outputs)
    if block >= places or block < (LEAST_FRONT if side_by_side else LEAST_BLOCK):
        block = max(1, places)
    else:
        block = block // 8 * 8
    whole = places // block * block

    def record(factors: Array, matrix: Array, target: Array) -> None:
        if side_by_side:
            program(np.matmul, matrix.swapaxes(-1, -2), factors, out=target.swapaxes(-1, -2))
        else:
            program(np.matmul, factors.swapaxes(-1, -2), matrix, out=target)

    def blocks(array: Array) -> Array:
        return array.reshape(*array.shape[:-1], array.shape[-1] // block, block).swapaxes(-2, -3)

    if whole:
        record(factors[..., None, :, :], blocks(matrix[..., :whole]), blocks(target[..., :whole]))
    if whole < places:
        record(factors, matrix[..., whole:], target[..., whole:])
