"""Runs the blocks of an operator on a few threads, with the same bits for any number of them.

Blocks are handed out in order. A block computes on its own; what it adds to arrays that other blocks add to as well it
adds in a *commit*, and commits run one at a time in the order of the blocks:

    thread A   compute 0 | commit 0 | compute 2            | commit 2 | ...
    thread B   compute 1            | commit 1 | compute 3            | commit 3 ...

The holder of the lowest unfinished block never waits, so there is no deadlock; a thread holds one block at a time, so
memory is bounded by threads times the workspace of a block. Blocks may also be told to wait for some first ones to be
computed, whose results they read.
"""

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from arrayops._backends.numpy.memory import Array, empty
from arrayops._backends.numpy.process_settings import short_turns, single_threaded_blas
from arrayops._core.threads import get_num_threads

WORKSPACE_LIMIT = 48 << 20
"""Bytes that all blocks in flight of one call may take together; the rest of 64 MiB is left for temporaries."""

SCRATCH_KEPT = 16 << 20
"""Bytes of workspace that a thread keeps between calls."""

VIEWS_KEPT = 256
"""Arrays over that workspace that a thread remembers between calls."""

UFUNC_BUFFER = 256
"""Elements of NumPy's ufunc buffer while blocks run.

With the default, 8192, ufuncs copy operands whose rows are shorter than that and not adjacent into the buffer, though
no cast asks for it: a product of (32, 512) slices then takes 0.85 ns an element, against 0.25 with a small buffer.
"""


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


_kept = threading.local()


class _Pool:
    """A thread pool that grows on demand and that a forked child replaces: threads do not survive a fork."""

    def __init__(self) -> None:
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._size = 0

    def submit(self, count: int, task: Callable[[], None]) -> list[Future[None]]:
        with self._lock:
            if self._executor is None or self._size < count:
                if self._executor is not None:
                    self._executor.shutdown(wait=False)
                self._executor = ThreadPoolExecutor(count, thread_name_prefix="arrayops")
                self._size = count
            return [self._executor.submit(task) for _ in range(count)]


_pool = _Pool()

Compute = Callable[[int], Any]
Begin = Callable[[Scratch], Compute]
Commit = Callable[[int, Any], None]


class _Run:
    """One call's blocks: which is next to compute, which is next to commit, and the first failure."""

    def __init__(self, begin: Begin, commit: Commit | None, count: int, first: int) -> None:
        self.begin, self.commit, self.count = begin, commit, count
        self.first, self.unfinished = first, first
        self.next_block = 0
        self.next_commit = 0
        self.failed = False
        self.changed = threading.Condition()

    def work(self) -> None:
        """Compute and commit blocks until none is left; runs on several threads at once."""
        # NaN and infinity in the data are the caller's business: they propagate without warnings.
        with np.errstate(all="ignore"):
            # Restored with the rest of the error state.
            np.setbufsize(UFUNC_BUFFER)
            scratch = _kept.__dict__.setdefault("scratch", Scratch())
            try:
                self._work(scratch)
            finally:
                scratch.shrink()

    def _may_commit(self, index: int) -> bool:
        return self.next_commit == index or self.failed

    def _may_compute(self) -> bool:
        return self.unfinished == 0 or self.failed

    def _work(self, scratch: Scratch) -> None:
        compute: Compute | None = None
        while True:
            with self.changed:
                index = self.next_block
                if index >= self.count or self.failed:
                    return
                self.next_block += 1
                if index >= self.first and self.unfinished:
                    self.changed.wait_for(self._may_compute)
                    if self.failed:
                        return
            try:
                if compute is None:
                    compute = self.begin(scratch)
                result = compute(index)
                if index < self.first:
                    with self.changed:
                        self.unfinished -= 1
                        if self.unfinished == 0:
                            self.changed.notify_all()
                if self.commit is not None:
                    with self.changed:
                        self.changed.wait_for(partial(self._may_commit, index))
                        if self.failed:
                            return
                    # Outside the lock: the order alone keeps commits apart, and others may fetch blocks meanwhile.
                    self.commit(index, result)
                    with self.changed:
                        self.next_commit += 1
                        self.changed.notify_all()
            except BaseException:
                with self.changed:
                    self.failed = True
                    self.changed.notify_all()
                raise


def run_blocks(count: int, begin: Begin, commit: Commit | None = None, workspace: int = 0, first: int = 0) -> None:
    """Compute blocks 0 to ``count - 1`` on the available threads, and commit each result in the order of the blocks.

    Parameters
    ----------
    count : int
        Number of blocks.
    begin : callable
        ``begin(scratch)`` is called once in each thread with that thread's `Scratch`, and returns its ``compute``.
        ``compute(index)`` returns what its commit needs, which may lie in the scratch. It must write to nothing else
        that another block reads or writes.
    commit : callable, optional
        ``commit(index, result)``, called once for each block, in order, never two at a time.
    workspace : int
        Bytes that one block takes; with large blocks fewer threads run.
    first : int
        Number of blocks, from the first on, that are computed before any other is: those read what these write.
    """
    threads = min(count, get_num_threads(), max(1, WORKSPACE_LIMIT // max(workspace, 1)))
    with single_threaded_blas:
        run = _Run(begin, commit, count, first)
        if threads <= 1:
            run.work()
            return
        with short_turns:
            helpers = _pool.submit(threads - 1, run.work)
            try:
                run.work()
            finally:
                # Helpers that have not begun find nothing to do; waiting for their turn in the pool could take as long
                # as another call's work.
                started = [helper for helper in helpers if not helper.cancel()]
                errors = [error for helper in started if (error := helper.exception()) is not None]
        if errors:
            raise errors[0]
