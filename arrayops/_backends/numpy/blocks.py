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
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Work:
    """Blocks of one kind, as `run_blocks` takes them."""

    count: int
    begin: Begin
    commit: Commit | None = None
    workspace: int = 0
    first: int = 0


NO_WORK = Work(0, lambda scratch: lambda index: None)
"""For results that are there already."""


class _Progress:
    """How far the blocks of a work are, which are numbered ``start`` to ``stop - 1`` among those of a call."""

    def __init__(self, work: Work, start: int) -> None:
        self.work, self.start, self.stop = work, start, start + work.count
        self.unfinished = work.first
        self.next_commit = 0


class _Run:
    """One call's blocks: which is next to compute, which are next to commit, and the first failure."""

    def __init__(self, works: Sequence[Work]) -> None:
        self.works: list[_Progress] = []
        self.count = 0
        for work in works:
            self.works.append(_Progress(work, self.count))
            self.count += work.count
        self.next_block = 0
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

    def _work(self, scratch: Scratch) -> None:
        compute: Compute | None = None
        works = iter(self.works)
        progress = next(works)
        while True:
            with self.changed:
                number = self.next_block
                if number >= self.count or self.failed:
                    return
                self.next_block += 1
                while number >= progress.stop:
                    progress, compute = next(works), None
                index, work = number - progress.start, progress.work
                if index >= work.first and progress.unfinished:
                    self.changed.wait_for(partial(self._may_compute, progress))
                    if self.failed:
                        return
            try:
                if compute is None:
                    compute = work.begin(scratch)
                result = compute(index)
                if index < work.first:
                    with self.changed:
                        progress.unfinished -= 1
                        if progress.unfinished == 0:
                            self.changed.notify_all()
                if work.commit is not None:
                    with self.changed:
                        self.changed.wait_for(partial(self._may_commit, progress, index))
                        if self.failed:
                            return
                    # Outside the lock: the order alone keeps commits apart, and others may fetch blocks meanwhile.
                    work.commit(index, result)
                    with self.changed:
                        progress.next_commit += 1
                        self.changed.notify_all()
            except BaseException:
                with self.changed:
                    self.failed = True
                    self.changed.notify_all()
                raise

    def _may_compute(self, progress: _Progress) -> bool:
        return progress.unfinished == 0 or self.failed

    def _may_commit(self, progress: _Progress, index: int) -> bool:
        return progress.next_commit == index or self.failed


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
    run_works(Work(count, begin, commit, workspace, first))


def run_works(*works: Work) -> None:
    """Run the blocks of several works as those of one: of one after the other, but without a pause in between.

    Works know nothing of each other: they share neither order of commits nor contents of the scratch.
    """
    count = sum(work.count for work in works)
    workspace = max((work.workspace for work in works if work.count), default=0)
    threads = min(count, get_num_threads(), max(1, WORKSPACE_LIMIT // max(workspace, 1)))
    if count == 0:
        return
    with single_threaded_blas:
        run = _Run([work for work in works if work.count])
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
