"""Runs the tasks of the compiled convolutions without the scheduler, in workspaces with known surroundings."""

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from unittest import mock

import numpy as np

from arrayops._backends.cpu import conv
from arrayops._backends.cpu.engine.scheduler import Task

ALIGNMENT = 64
GUARD_BYTES = 1 << 14
NAN_BYTE = 0xFF
"""Every floating-point number of such bytes is a NaN."""

BLOCK_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


@contextmanager
def guarded(workspace: int) -> Iterator[int]:
    """Address of a workspace full of NaN; what is around it must stay unchanged."""
    buffer = np.full(workspace + 2 * GUARD_BYTES + ALIGNMENT, NAN_BYTE, np.uint8)
    start = GUARD_BYTES + -(buffer.ctypes.data + GUARD_BYTES) % ALIGNMENT
    yield buffer.ctypes.data + start
    for beside in (buffer[:start], buffer[start + workspace :]):
        assert (beside == NAN_BYTE).all(), f"written outside of the {workspace} bytes of workspace"


@contextmanager
def exact(workspace: int) -> Iterator[int | None]:
    """Address of a workspace that is memory of its own: sanitizers see what is read or written beside it."""
    library = ctypes.CDLL(None)
    library.free.argtypes = [ctypes.c_void_p]
    address = ctypes.c_void_p()
    status = library.posix_memalign(ctypes.byref(address), ctypes.c_size_t(ALIGNMENT), ctypes.c_size_t(workspace))
    assert status == 0
    try:
        yield address.value
    finally:
        library.free(address)


@contextmanager
def tasks_run(place: Callable[[int], AbstractContextManager[int | None]], at_once: int | None = None) -> Iterator[None]:
    """Tasks meanwhile run on this thread, in workspaces by ``place``; ``at_once`` blocks at a time, or `Task.most`."""

    def run(tasks: Sequence[Task], *, workspace: int = 0, nanoseconds: float) -> None:
        for task in tasks:
            function, arguments = BLOCK_FUNCTION(task.function), ctypes.addressof(task.arguments)
            step = min(task.most, at_once or task.most)
            for first in range(0, task.blocks, step):
                with place(workspace) as address:
                    function(arguments, first, min(first + step, task.blocks), address)

    with mock.patch.object(conv, "run", run):
        yield
