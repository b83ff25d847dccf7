"""Weights of resizing on the GPU: a table for each matrix of `arrayops._core.resampling`."""

from functools import cache
from typing import Any, NamedTuple

import cupy
import numpy as np

from arrayops._backends.cuda.engine import memory
from arrayops._core import resampling
from arrayops._core.resampling import Sampling


class WeightTable(NamedTuple):
    """A matrix of weights, for one GPU.

    Attributes
    ----------
    array : cupy.ndarray
        In the layout of ``taps_of`` of ``merge_resize.cu``: first column and length of every row, then all weights.
    taps : int
        Number of weights of the longest row; all rows are padded to it.
    """

    array: Any
    taps: int


@cache
def table(number: int, sampling: Sampling, back: bool, accumulator: "np.dtype[Any]") -> WeightTable:
    """The matrix of a resizing, or with ``back`` its transpose, on GPU ``number``, which must be current.

    The first call for a size copies its table to the GPU and synchronizes: other streams may then read it. Tables are
    kept for the life of the process, so that CUDA graphs may refer to them. A table is about as large as a row of the
    image and its weights, a few kilobytes.
    """
    matrix = resampling.transposed(sampling) if back else resampling.weights(sampling)
    # Pairs of 32-bit numbers, so that the weights after them are aligned to 64 bits.
    ranges = np.stack([matrix.first, matrix.length], axis=1).astype(np.int32)
    values = np.ascontiguousarray(matrix.values.astype(accumulator))
    words = np.concatenate([ranges.ravel(), values.ravel().view(np.int32)])
    array = memory.empty(words.shape, words.dtype)
    array.set(words)
    cupy.cuda.get_current_stream().synchronize()
    return WeightTable(array, values.shape[1])


def is_identity(samplings: tuple[Sampling, Sampling]) -> bool:
    """Whether a resizing is the identity."""
    return all(resampling.weights(sampling).identity for sampling in samplings)
