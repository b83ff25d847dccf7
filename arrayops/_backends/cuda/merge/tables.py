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
        As ``taps_of`` of ``merge_resize.cu`` reads it: first column and length of every row, then its weights.
    taps : int
        Weights of the longest row, for which every row has room.
    """

    array: Any
    taps: int


@cache
def table(number: int, sampling: Sampling, back: bool, accumulator: "np.dtype[Any]") -> WeightTable:
    """The matrix of a resizing, or ``back`` the transposed one, on GPU ``number``, which is current.

    The first call for a size copies its table and waits for that: other streams may then read it, and it stays where it
    is, so that calls recorded into a CUDA graph find it. A table is about as large as a row of the image and its
    weights, a few kilobytes; it is kept as long as the process lives.
    """
    matrix = resampling.transposed(sampling) if back else resampling.weights(sampling)
    # Pairs of 32 bits: what follows them is aligned to 64.
    runs = np.stack([matrix.first, matrix.length], axis=1).astype(np.int32)
    values = np.ascontiguousarray(matrix.values.astype(accumulator))
    words = np.concatenate([runs.ravel(), values.ravel().view(np.int32)])
    array = memory.empty(words.shape, words.dtype)
    array.set(words)
    cupy.cuda.get_current_stream().synchronize()
    return WeightTable(array, values.shape[1])


def is_identity(samplings: tuple[Sampling, Sampling]) -> bool:
    """Whether a resizing changes nothing."""
    return all(resampling.weights(sampling).identity for sampling in samplings)
