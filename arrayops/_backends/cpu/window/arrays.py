"""Arrays as kernels take them: dtype by name, address, strides in elements."""

from bisect import bisect_left
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from arrayops._backends.numpy.layouts import channels_first
from arrayops._core.dtypes import BFLOAT16, BFLOAT16_DTYPE

Array = np.ndarray[Any, Any]


def dtype_name(array: Array) -> str:
    """Name of the dtype, as `units.STORAGE` has it."""
    return _name(array.dtype)


@cache
def _name(dtype: "np.dtype[Any]") -> str:
    # NumPy builds the name again at each request.
    return BFLOAT16 if dtype == BFLOAT16_DTYPE else dtype.name


def accumulator(dtype: str) -> "np.dtype[Any]":
    """Dtype of the sums of arrays of ``dtype``."""
    return np.dtype(np.float64 if dtype == "float64" else np.float32)


def whole(array: Array) -> Array:
    """The array itself, or a copy if its elements are not aligned as their dtype asks: kernels count whole elements."""
    if array.flags.aligned and not any(stride % array.itemsize for stride in array.strides):
        return array
    return np.ascontiguousarray(array)


def image_strides(images: Array, layout: str) -> tuple[int, int, int, int]:
    """Elements to the next image, channel, row and column."""
    image, channel, row, column = channels_first(images, layout).strides
    item = images.itemsize
    return image // item, channel // item, row // item, column // item


def pointer(array: Array) -> int:
    """Address of the first element."""
    address: int = array.__array_interface__["data"][0]
    return address


def rounded_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


def most_that_fits(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to ``most`` that fits, or 1: larger numbers fit less."""
    if fits(most):  # As it often does, and bisection would find out last.
        return most
    return bisect_left(range(2, most), True, key=lambda number: not fits(number)) + 1
