"""Runs the tasks of compiled calls without the scheduler, in workspaces with known surroundings."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from unittest import mock

import numpy as np

import arrayops as ao
from arrayops._backends.cpu.engine.scheduler import Task
from arrayops._backends.cpu.engine.work import Planned, Work
from case import Case
from same_bits import bits

ALIGNMENT = 64
GUARD_BYTES = 1 << 14
NAN_BYTE, TINY_BYTE = 0xFF, 0x08
"""Every floating-point number of such bytes is a NaN, or positive and close to zero."""

BLOCK_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


@contextmanager
def guarded(workspace: int, byte: int = NAN_BYTE) -> Iterator[int]:
    """Address of a workspace full of a byte; what is around it must stay unchanged."""
    buffer = np.full(workspace + 2 * GUARD_BYTES + ALIGNMENT, byte, np.uint8)
    start = GUARD_BYTES + -(buffer.ctypes.data + GUARD_BYTES) % ALIGNMENT
    yield buffer.ctypes.data + start
    for beside in (buffer[:start], buffer[start + workspace :]):
        assert (beside == byte).all(), f"written outside of the {workspace} bytes of workspace"


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
    """Tasks meanwhile run on this thread, in workspaces by ``place``; ``at_once`` blocks at a time, or `Task.most`.

    Each task has the workspace of its own plan: that of a call is the largest of its plans.
    """
    add, planned = Work.add, list[tuple[Task, int]]()

    def added(work: Work, tasks: list[Task], nanoseconds: float, plan: Planned | None = None) -> None:
        planned.extend((task, 0 if plan is None else plan.workspace) for task in tasks)
        add(work, tasks, nanoseconds, plan)

    def run(work: Work) -> None:
        assert [task for task, _ in planned] == work.tasks
        for task, workspace in planned:
            function, arguments = BLOCK_FUNCTION(task.function), ctypes.addressof(task.arguments)
            step = min(task.most, at_once or task.most)
            for first in range(0, task.blocks, step):
                with place(workspace) as address:
                    function(arguments, first, min(first + step, task.blocks), address)
        planned.clear()

    with mock.patch.multiple(Work, add=added, run=run):
        yield


def assert_same_in_guarded_workspaces(case: Case, at_once: int | None) -> None:
    """A call and its gradients have the same bits whatever is in the workspaces, beside which nothing is written."""
    found = case.call(ao)
    grad = case.grad((found[0] if isinstance(found, tuple) else found).shape)
    want = bits(case, grad)
    for byte in (NAN_BYTE, TINY_BYTE):
        with tasks_run(partial(guarded, byte=byte), at_once):
            assert bits(case, grad) == want, hex(byte)
