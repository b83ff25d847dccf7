"""Runs the blocks of an operator on a few threads, with the same bits for any number of them.

Blocks are handed out in order. A block computes on its own; what it adds to arrays that other blocks add to as well it
adds in a *commit*, and commits run one at a time in the order of the blocks:

    thread A   compute 0 | commit 0 | compute 2            | commit 2 | ...
    thread B   compute 1            | commit 1 | compute 3            | commit 3 ...

The holder of the lowest unfinished block never waits, so there is no deadlock; a thread holds one block at a time, so
memory is bounded by threads times the workspace of a block. Blocks may also be told to wait for some first ones to be
computed, whose results they read.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from arrayops._backends.numpy.block_threads import at_workplace, helpers
from arrayops._backends.numpy.process_settings import short_turns, single_threaded_blas
from arrayops._backends.numpy.scratch import Scratch
from arrayops._core.threads import get_num_threads

WORKSPACE_LIMIT = 48 << 20
"""Bytes that all blocks in flight of one call may take together; the rest of 64 MiB is left for temporaries."""

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
        self.failure: BaseException | None = None
        self.helping = 0
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)

    def work(self) -> None:
        """Compute and commit blocks until none is left; runs on several threads at once."""
        try:
            at_workplace(self._work)
        except BaseException as failure:
            with self.lock:
                self.next_block = self.count
                if self.failure is None:
                    self.failure = failure
                self.changed.notify_all()

    def help(self) -> None:
        """`work` in another thread, unless all blocks are taken by the time that it begins."""
        with self.lock:
            if self.next_block >= self.count:
                return
            self.helping += 1
        self.work()
        with self.lock:
            self.helping -= 1
            if self.helping == 0:
                self.changed.notify_all()

    def finish(self) -> None:
        """Wait for the helpers that have begun, and raise the first failure."""
        with self.lock:
            while self.helping:
                self.changed.wait()
        # Helpers that were busy all the time still have this run before them, but need not keep its arrays, which the
        # frames of a failure hold as well.
        self.works.clear()
        failure, self.failure = self.failure, None
        if failure is not None:
            try:
                raise failure
            finally:
                del failure

    def _work(self, scratch: Scratch) -> None:
        compute: Compute | None = None
        works = iter(self.works)
        progress = next(works)
        while True:
            with self.lock:
                number = self.next_block
                if number >= self.count:
                    return
                self.next_block += 1
                while number >= progress.stop:
                    progress, compute = next(works), None
                index, work = number - progress.start, progress.work
                if index >= work.first and progress.unfinished:
                    self.changed.wait_for(partial(self._may_compute, progress))
                    if self.failure is not None:
                        return
            if compute is None:
                compute = work.begin(scratch)
            result = compute(index)
            if index < work.first:
                with self.lock:
                    progress.unfinished -= 1
                    if progress.unfinished == 0:
                        self.changed.notify_all()
            if work.commit is not None:
                with self.lock:
                    if progress.next_commit != index:
                        self.changed.wait_for(partial(self._may_commit, progress, index))
                    if self.failure is not None:
                        return
                # Outside the lock: the order alone keeps commits apart, and others may fetch blocks meanwhile.
                work.commit(index, result)
                with self.lock:
                    progress.next_commit += 1
                    self.changed.notify_all()

    def _may_compute(self, progress: _Progress) -> bool:
        return progress.unfinished == 0 or self.failure is not None

    def _may_commit(self, progress: _Progress, index: int) -> bool:
        return progress.next_commit == index or self.failure is not None


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


def run_works(*works: Work, small: bool = False) -> None:
    """Run the blocks of several works as those of one: of one after the other, but without a pause in between.

    Works know nothing of each other: they share neither order of commits nor contents of the scratch. What is ``small``
    is done before another thread has woken up.
    """
    count = sum(work.count for work in works)
    workspace = max((work.workspace for work in works if work.count), default=0)
    threads = 1 if small else min(count, get_num_threads(), max(1, WORKSPACE_LIMIT // max(workspace, 1)))
    if count == 0:
        return
    run = _Run([work for work in works if work.count])
    if threads <= 1:
        with single_threaded_blas:
            run.work()
            run.finish()
    else:
        with single_threaded_blas, short_turns:
            helpers.ask(threads - 1, run.help)
            run.work()
            run.finish()
