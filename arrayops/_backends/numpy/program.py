"""Programs: the NumPy calls of a tile, recorded once on fixed buffers and run again for every tile of its shape.

All that a block does between loading its samples and storing its results is a list of NumPy calls, which depends on the
shapes alone. Slicing, making views and calling through the interpreter cost microseconds a call, in which no other
thread can begin a call of its own; so that is done once a shape and thread, and a block only goes through the list.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.scratch import Scratch


class Program:
    """A list of calls on buffers of one thread's workspace.

    A buffer's name stands for memory that later requests share, as with `Scratch`. A recorded call keeps the very
    buffer that it was recorded with.
    """

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._calls: list[Callable[[], Any]] = []

    def buffer(self, name: str, shape: tuple[int, ...], dtype: "np.dtype[Any] | type") -> Array:
        """The buffer ``name`` of the workspace, uninitialised."""
        return self._scratch(name, shape, dtype)

    def __call__(self, function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
        """Record a call."""
        self._calls.append(partial(function, *arguments, **keywords))

    def run(self) -> None:
        """Make all calls, in the order in which they were recorded."""
        for call in self._calls:
            call()


def add_sum(total: Array, values: Array) -> None:
    """Add the sum of ``values``, taken in float64, to ``total``; the sum for each channel where both have some.

    ``total`` is (1,), (1, 1) or (G, 1), ``values`` (taps, G, run) or, for one total, of any shape.
    """
    if total.size > 1:
        total[:, 0] += values.sum(axis=(0, 2), dtype=np.float64)
    else:
        total += values.sum(dtype=np.float64)
