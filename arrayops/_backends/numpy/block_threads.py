"""Threads that help with the blocks of a call, and what a thread keeps between calls."""

import threading
from collections.abc import Callable
from contextvars import Context
from queue import SimpleQueue

import numpy as np

from arrayops._backends.numpy.scratch import Scratch
from arrayops._core.process import reset_in_children

UFUNC_BUFFER = 256
"""Elements of NumPy's ufunc buffer while blocks run.

With the default, 8192, ufuncs copy operands whose rows are shorter than that and not adjacent into the buffer, though
no cast asks for it: a product of (32, 512) slices then takes 0.85 ns an element, against 0.25 with a small buffer.
"""

Task = Callable[[], None]


class Workplace:
    """What a thread computes blocks with: its workspace, and a context with NumPy's error state and buffer size.

    To enter a context that is there already takes a tenth of the time of changing the state and changing it back.
    """

    def __init__(self) -> None:
        self.scratch = Scratch()
        self.context = Context()
        self.context.run(self._quiet)

    @staticmethod
    def _quiet() -> None:
        # NaN and infinity in the data are the caller's business: they propagate without warnings.
        np.seterr(all="ignore")
        np.setbufsize(UFUNC_BUFFER)


_kept = threading.local()


def at_workplace(work: Callable[[Scratch], None]) -> None:
    """Call ``work`` with this thread's workspace, in its context.

    What a finalizer calls in the middle of that has a place of its own.
    """
    place = _kept.__dict__.pop("place", None) or Workplace()
    try:
        place.context.run(work, place.scratch)
    finally:
        place.scratch.shrink()
        _kept.place = place


class Helpers:
    """Threads that run tasks, started on demand, and anew in a forked child: threads do not survive a fork.

    They end with the process: one that waits for a task holds nothing, and one with a task has a caller who waits.
    """

    def __init__(self) -> None:
        self._reset()
        reset_in_children(self._reset)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._tasks: SimpleQueue[Task] = SimpleQueue()
        self._count = 0

    def ask(self, count: int, task: Task) -> None:
        """Have ``task``, which raises nothing, run ``count`` times at once, or later where helpers are busy."""
        if self._count < count:
            with self._lock:
                for number in range(self._count, count):
                    name = f"arrayops-{number}"
                    threading.Thread(target=self._serve, args=(self._tasks,), name=name, daemon=True).start()
                    self._count = number + 1
        for _ in range(count):
            self._tasks.put(task)

    @staticmethod
    def _serve(tasks: "SimpleQueue[Task]") -> None:
        while True:
            tasks.get()()


helpers = Helpers()
