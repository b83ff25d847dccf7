"""Workspace of a thread, kept from block to block and from call to call."""

import math
from typing import Any

import numpy as np

from arrayops._backends.numpy.memory import Array, empty

SCRATCH_KEPT = 16 << 20
"""Bytes of workspace that a thread keeps between calls."""

VIEWS_KEPT = 256
"""Arrays over that workspace that a thread remembers between calls."""


class Scratch:
    """Workspace of one thread: named buffers, kept from block to block, and up to a limit from call to call.

    Fresh memory costs a page fault for every 4 KiB on first use, which can be more than the work of a block.
    """

    def __init__(self) -> None:
        self._buffers: dict[str, Array] = {}
        self._views: dict[tuple[str, tuple[int, ...], Any], Array] = {}

    def __call__(self, name: str, shape: tuple[int, ...], dtype: "np.dtype[Any] | type") -> Array:
        """The buffer ``name`` as an uninitialised array; the next call with this name hands out the same memory."""
        key = name, shape, dtype
        view = self._views.get(key)
        if view is None:
            size = math.prod(shape) * np.dtype(dtype).itemsize
            buffer = self._buffers.get(name)
            if buffer is None or buffer.size < size:
                buffer = self._buffers[name] = empty((size,), np.uint8)
                self._views = {other: made for other, made in self._views.items() if other[0] != name}
            view = self._views[key] = buffer[:size].view(dtype).reshape(shape)
        return view

    def shrink(self) -> None:
        """Give memory back if it is more than a thread should keep between calls."""
        if sum(buffer.size for buffer in self._buffers.values()) > SCRATCH_KEPT:
            self._buffers.clear()
            self._views.clear()
        elif len(self._views) > VIEWS_KEPT:
            self._views.clear()
