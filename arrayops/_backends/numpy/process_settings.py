"""Settings of the whole process that hold while blocks run: BLAS on one thread, and short turns at the interpreter.

Calls that overlap in time count themselves in and out: the first in saves the setting, the last out restores it.
"""

import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import product
from types import TracebackType
from typing import Any

from arrayops._core.process import reset_in_children


class ProcessSetting(ABC):
    """Reentrant context manager, shared by all threads of the process."""

    def __init__(self) -> None:
        self._reset()
        reset_in_children(self._reset)

    def _reset(self) -> None:
        # A child forked during a call of another thread: that call goes on in the parent alone.
        self._lock = threading.Lock()
        self._inside = 0

    @abstractmethod
    def apply(self) -> None:
        """Save the setting and change it."""

    @abstractmethod
    def restore(self) -> None:
        """Set what was saved."""

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self.apply()
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self.restore()


class SingleThreadedBlas(ProcessSetting):
    """Holds BLAS at one thread.

    The bits of a matrix product depend on the number of threads that BLAS splits it among, and BLAS threads inside our
    block threads would compete for the same cores.
    """

    libraries: list[Any] | None = None
    """Controllers of the BLAS libraries that were loaded at the first call."""

    _functions: "list[tuple[Callable[[], int], Callable[[int], Any]]] | None" = None

    def apply(self) -> None:
        """Save each library's number of threads and set it to 1."""
        if self.libraries is None:
            from threadpoolctl import ThreadpoolController

            self.libraries = ThreadpoolController().select(user_api="blas").lib_controllers
        if self._functions is None:
            self._functions = [_thread_functions(library) for library in self.libraries]
        counts = [(change, read()) for read, change in self._functions]
        self._saved = [(change, count) for change, count in counts if count != 1]
        for change, _ in self._saved:
            change(1)

    def restore(self) -> None:
        """Set each library's number of threads as it was."""
        for change, count in self._saved:
            change(count)


def _thread_functions(library: Any) -> tuple[Callable[[], int], Callable[[int], Any]]:
    """What reads and sets a library's number of threads, in any thread.

    The library's own functions where it is OpenBLAS with threads of its own. Since 3.8 threadpoolctl lets only the
    first thread that set their number set it again, and ignores all others without a word; and a call through it takes
    ten times as long.
    """
    if library.internal_api == "openblas" and library.threading_layer == "pthreads":
        for prefix, suffix in product(("", "scipy_"), ("", "64_", "_64")):
            names = [f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("get", "set")]
            if all(hasattr(library.dynlib, name) for name in names):
                read, change = (getattr(library.dynlib, name) for name in names)
                return read, change
    return library.get_num_threads, library.set_num_threads


class ShortTurns(ProcessSetting):
    """Shortens the interpreter's switch interval while several threads run blocks.

    A thread that comes back from a long NumPy call needs the interpreter lock. Another that makes short calls gives it
    up only for their length, too short for the first to wake up in, until the switch interval has passed: 5 ms by
    default, in which the first could have done many calls.
    """

    interval = 2e-4
    """Seconds: some times what waking a thread takes."""

    def apply(self) -> None:
        """Save the switch interval and shorten it."""
        self._saved = sys.getswitchinterval()
        sys.setswitchinterval(min(self._saved, self.interval))

    def restore(self) -> None:
        """Set the switch interval as it was."""
        sys.setswitchinterval(self._saved)


single_threaded_blas = SingleThreadedBlas()
short_turns = ShortTurns()
