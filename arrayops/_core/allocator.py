"""The allocator from which the CUDA backend takes its arrays during the current call."""

from collections.abc import Callable
from threading import local
from typing import Any

Allocate = Callable[[tuple[int, ...], Any], Any]
"""Shape and dtype -> uninitialised C-contiguous `cupy.ndarray` on the current device.

The memory must be stream-ordered: once freed, only later work on the current stream may reuse it.
"""


class CurrentAllocator(local):
    """The allocator of the call that this thread is running; thread-local."""

    allocate: Allocate | None = None
    """None: use CuPy's memory pool."""


current = CurrentAllocator()
