"""Kernels of SciPy's sparse matrices, on matrices with one entry a column: a pixel's, in the row of its segment.

The public operations make a new matrix, check it and allocate their result each time. These work on arrays that are
there: on small blocks that is most of the time. SciPy has had them under these names since 2007.
"""

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from arrayops._backends.numpy.memory import Array


@cache
def _kernels() -> Any:
    # Imported at the first use, since it takes longer than the rest of this library.
    return import_module("scipy.sparse._sparsetools")


class Adder:
    """Adds rows to totals by slot; holds the parts of the sparse matrix that do not depend on labels."""

    def __init__(self, rows: int, dtype: "np.dtype[Any]") -> None:
        self._kernel = _kernels().csc_matvecs
        self._columns = np.arange(rows + 1, dtype=np.int32)
        self._ones = np.ones(rows, dtype)

    def __call__(self, totals: Array, slots: Array, rows: Array) -> None:
        """``totals[slots[i]] += rows[i]`` for every i in order; all arrays are contiguous, of the adder's dtype."""
        count, channels = rows.shape
        if count and channels:
            columns, ones = self._columns[: count + 1], self._ones[:count]
            self._kernel(len(totals), count, channels, columns, slots, ones, rows.reshape(-1), totals.reshape(-1))


class RunAdder:
    """Adds up runs of neighbouring rows."""

    def __init__(self, rows: int, dtype: "np.dtype[Any]") -> None:
        self._kernel, self._vector = _kernels().csr_matvecs, _kernels().csr_matvec
        self._columns = np.arange(rows, dtype=np.int32)
        self._ones = np.ones(rows, dtype)

    def __call__(self, totals: Array, bounds: Array, rows: Array) -> None:
        """``totals[i] = rows[bounds[i] : bounds[i + 1]].sum(axis=0)``; bounds are int32, the rest of the dtype."""
        count, channels = rows.shape
        totals[...] = np.zeros((), totals.dtype)
        if count and channels:
            sums, flat = totals.reshape(-1), rows.reshape(-1)
            self._kernel(len(totals), count, channels, bounds, self._columns[:count], self._ones[:count], flat, sums)


def sort_by(keys: Array, kinds: int, carried: Array) -> tuple[Array, Array]:
    """Positions of ``keys`` (from 0 to ``kinds - 1``), sorted by key, equal ones in order; and ``carried`` so sorted.

    All arrays are int32. It counts, and so takes time in proportion to ``len(keys) + kinds``.
    """
    count = len(keys)
    positions = np.arange(count, dtype=np.int32)
    starts, order, taken = np.empty(kinds + 1, np.int32), np.empty_like(positions), np.empty_like(carried)
    _kernels().coo_tocsr(kinds, count, count, keys, positions, carried, starts, order, taken)
    return order, taken
