"""Runs the blocks of compiled kernels on the calling thread and on native helpers (``raw_kernels/cpu``)."""

import ctypes
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from arrayops._backends.cpu.engine.library import load
from arrayops._backends.cpu.engine.unit import Unit
from arrayops._core.threads import get_num_threads

SCHEDULER = Unit("scheduler.cpp")
UNITS = (SCHEDULER,)

THREAD_NANOSECONDS = 50_000
"""Work worth a thread of its own: it takes as long to wake one. Less than twice this stays on the calling thread."""

WORKSPACE_BYTES = 64 << 20
"""Limit of the workspaces of all threads of a call, and sums of blocks: if they are large, fewer threads take part."""

CALL_NANOSECONDS = 80_000_000
"""Time after which the calling thread comes back to Python: 100 ms, less what helpers need to finish their blocks."""

FINISHED, TIME_IS_UP, OUT_OF_MEMORY = range(3)


class Task(NamedTuple):
    """Blocks of one kernel. It keeps ``arguments`` alive, but not the arrays that these point to."""

    function: int
    """Address of a ``BlockFunction`` (task.h)."""

    arguments: ctypes.Structure
    blocks: int

    most: int = 1
    """Consecutive blocks that the function is given at once at most, for functions that reuse what they pack."""

    barrier: bool = False
    """Begin, with all later tasks, when all blocks of the tasks before are finished; tasks may overlap otherwise."""


class _Task(ctypes.Structure):
    _fields_ = (
        ("function", ctypes.c_void_p),
        ("arguments", ctypes.c_void_p),
        ("blocks", ctypes.c_int64),
        ("most", ctypes.c_int64),
        ("barrier", ctypes.c_int64),
    )


class _Job(ctypes.Structure):
    _fields_ = (
        ("tasks", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("threads", ctypes.c_int64),
        ("workspace", ctypes.c_int64),
        ("nanoseconds", ctypes.c_int64),
        ("next", ctypes.c_int64),
    )


@cache
def _foreign_run() -> Callable[[Any, int], int]:
    function = load(SCHEDULER).arrayops_run
    function.argtypes = (ctypes.c_void_p, ctypes.c_int64)
    function.restype = ctypes.c_int32
    return function


@cache
def vector_bytes() -> int:
    """Size of the vectors of all kernels, in bytes."""
    size: int = load(SCHEDULER).arrayops_vector_bytes()
    return size


def run(tasks: Sequence[Task], *, workspace: int = 0, partial: int = 0, nanoseconds: float) -> None:
    """Compute all blocks of some tasks.

    Signal handlers run at least every 100 ms. No block is in flight while Python code runs: when an exception leaves
    this function, nothing is written afterwards.

    Parameters
    ----------
    tasks : sequence of Task
        In this order: blocks are handed out one task after the other.
    workspace : int
        Bytes of memory that each thread hands to the functions, aligned to 64 bytes.
    partial : int
        Bytes of the sums of blocks, which count as workspace.
    nanoseconds : float
        Estimated work of all blocks on one thread. It decides how many threads take part, and how many blocks a thread
        takes at once.

    Raises
    ------
    MemoryError
        If there is no memory for the workspace of the calling thread. Other threads take part if there is memory for
        theirs.
    """
    arrayops_run = _foreign_run()
    threads = 1
    if nanoseconds >= 2 * THREAD_NANOSECONDS:
        with_memory = max(1, (WORKSPACE_BYTES - partial) // max(1, workspace))
        threads = min(get_num_threads(), int(nanoseconds / THREAD_NANOSECONDS), with_memory)
    listed = (_Task * len(tasks))(
        *(_Task(task.function, ctypes.addressof(task.arguments), *task[2:]) for task in tasks)
    )
    job = _Job(ctypes.addressof(listed), len(tasks), threads, workspace, int(nanoseconds), 0)
    address = ctypes.addressof(job)
    while (state := arrayops_run(address, CALL_NANOSECONDS)) == TIME_IS_UP:
        pass
    if state == OUT_OF_MEMORY:
        raise MemoryError(f"arrayops: no memory for {workspace} bytes of workspace")
