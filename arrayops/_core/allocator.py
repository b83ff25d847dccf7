"""Which allocator the CUDA backend's arrays of the current call come from."""

from collections.abc import Callable
from threading import local
from typing import Any

Allocate = Callable[[tuple[int, ...], Any], Any]
"""Shape and dtype -> uninitialised C-contiguous `cupy.ndarray` on the current device.

Its memory must be ordered by stream: once freed, it may be reused only by later work on the current stream.
"""


class CurrentAllocator(local):
    """The allocator of this thread's call; each thread has its own."""

    allocate: Allocate | None = None
    """None for CuPy's own memory pool."""


current = CurrentAllocator()
