"""What every way to add a part's rows to its totals has in common, and the one that serves any rows."""

from typing import Any

import numpy as np

from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.scratch import Scratch
from arrayops._backends.numpy.segment_sparse import Adder, RunAdder

FEW = 32
"""Rows that are added in float32 at most."""


class Adders:
    """What adds rows in one thread."""

    def __init__(self, rows: int, dtype: "np.dtype[Any]") -> None:
        self.wide = Adder(rows, dtype)
        self.narrow = Adder(rows, np.dtype(np.float32))
        self.runs = RunAdder(rows, np.dtype(np.float32))


class Way:
    """How the rows of a part are added to its totals; this one takes every row as a wide one."""

    narrow = False
    """Whether rows are float32."""

    single = False
    """Whether float32 totals do for all rows of the part; `add` then takes such as well."""

    in_planes = False
    """Whether rows are taken as they lie, of any strides and float dtype, instead of contiguous ones."""

    def add(self, totals: Array, adders: Adders, scratch: Scratch, start: int, slots: Array, rows: Array) -> None:
        """Add the rows of a block, the first of which is pixel ``start`` of the part."""
        adders.wide(totals, slots, rows)

    def end(self, totals: Array) -> None:
        """Add what is left over."""

    def count(self, slots: Array, segments: int) -> Array:
        """Pixels of each slot of the part."""
        return np.bincount(slots, minlength=segments + 1)


WIDE = Way()
