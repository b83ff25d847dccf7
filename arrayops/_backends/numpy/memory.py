"""Allocation of results and workspace, and the half-precision types at the edge of a block.

Inside a block all arithmetic is float32 or float64. Half-precision arrays are widened when a block is loaded and
rounded when it is stored, so no full-size copy of an input is ever made.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from arrayops._backends.numpy import turning
from arrayops._core.dtypes import BFLOAT16_DTYPE, bfloat16_bits

Array = np.ndarray[Any, Any]

ALIGNMENT = 64
"""Bytes: a cache line and an AVX-512 vector; TensorFlow and JAX take arrays so aligned without a copy."""


WIDENED = 1 << 14
"""Values that are widened at a time, to stay in cache."""


def compute_dtype(array: Array) -> np.dtype[Any]:
    """float64 for float64 arrays, float32 for all others."""
    return array.dtype if array.dtype == np.float64 else np.dtype(np.float32)


def empty(shape: tuple[int, ...], dtype: np.dtype[Any] | type) -> Array:
    """Uninitialised C-contiguous array whose first element starts a cache line."""
    return _aligned(np.empty, shape, np.dtype(dtype))


def zeros(shape: tuple[int, ...], dtype: np.dtype[Any] | type) -> Array:
    """`empty` with zeros, as which the system hands out fresh pages: they need not be written."""
    return _aligned(np.zeros, shape, np.dtype(dtype))


def _aligned(allocate: Callable[..., Array], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    size = math.prod(shape) * dtype.itemsize
    raw = allocate(size + ALIGNMENT, np.uint8)
    offset = -raw.ctypes.data % ALIGNMENT
    return raw[offset : offset + size].view(dtype).reshape(shape)


def load(destination: Array, source: Array) -> None:
    """Copy ``source`` into a float32 or float64 array, widening half precision."""
    if source.size >= turning.LEAST:
        turned = turning.turn(source, destination)
        if turned is not None:
            for piece in turned.pieces():
                between = turned.between(piece)
                _load(between, turned.source[piece])
                np.copyto(turned.destination[piece], between)
            return
    _load(destination, source)


def _load(destination: Array, source: Array) -> None:
    if source.dtype == BFLOAT16_DTYPE:
        np.left_shift(source.view(np.uint16), 16, out=destination.view(np.uint32), dtype=np.uint32)
    else:
        np.copyto(destination, source, casting="same_kind")


def store(destination: Array, source: Array) -> None:
    """Copy float32 or float64 values into a result, rounding to nearest even where it is half precision."""
    if destination.dtype == BFLOAT16_DTYPE:
        destination.view(np.uint16)[...] = bfloat16_bits(source)
    else:
        with np.errstate(over="ignore"):
            np.copyto(destination, source, casting="same_kind")


def widened(array: Array, dtype: "np.dtype[Any]") -> Array:
    """``array`` itself where it is of the compute dtype, else a widened copy."""
    if array.dtype == dtype:
        return array
    copy = empty(array.shape, dtype)
    load(copy, array)
    return copy


def add_widened(total: Array, part: Array) -> None:
    """Add float32 values to float64 sums, a piece at a time: a ufunc that widens goes through its small buffer.

    ``total`` is contiguous: flattened, a view with gaps would be a copy, and what is added to that is lost.
    """
    if total.dtype == part.dtype or total.size < WIDENED:
        np.add(total, part, out=total)
        return
    sums, values = total.reshape(-1), part.reshape(-1)
    for start in range(0, sums.size, WIDENED):
        piece = sums[start : start + WIDENED]
        np.add(piece, values[start : start + WIDENED].astype(np.float64), out=piece)


def as_result(total: Array, like: Array) -> Array:
    """A small gradient, summed in float64, in the shape and dtype of its array."""
    result = empty(like.shape, like.dtype)
    store(result, total.reshape(like.shape))
    return result
