"""Holds BLAS at one thread while our own blocks run.

The bits of a matrix product depend on the number of threads that BLAS splits it among, and BLAS threads inside our
block threads would compete for the same cores. The setting is one for the whole process, so calls that overlap in time
count themselves in and out: the first in saves the setting, the last out restores it.
"""

import os
import threading
from types import TracebackType
from typing import Any


def _set_num_threads(library: Any, count: int) -> None:
    # Since 3.8 threadpoolctl lets only the first thread that set OpenBLAS's number set it again, and ignores all others
    # without a word. Here any thread may be the first in or the last out, and the lock keeps them apart.
    if hasattr(library, "clear_controlling_thread"):
        library.clear_controlling_thread(force=True)
    library.set_num_threads(count)
    if hasattr(library, "clear_controlling_thread"):
        library.clear_controlling_thread(force=True)


class SingleThreadedBlas:
    """Reentrant context manager, shared by all threads of the process."""

    def __init__(self) -> None:
        self._libraries: list[Any] | None = None
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        # A child forked during a call of another thread: that call goes on in the parent alone.
        self._lock = threading.Lock()
        self._inside = 0
        self._saved: list[tuple[Any, int]] = []

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                if self._libraries is None:
                    from threadpoolctl import ThreadpoolController

                    self._libraries = ThreadpoolController().select(user_api="blas").lib_controllers
                self._saved = [(library, library.num_threads) for library in self._libraries]
                for library, count in self._saved:
                    if count != 1:
                        _set_num_threads(library, 1)
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for library, count in self._saved:
                    if count != 1:
                        _set_num_threads(library, count)


single_threaded = SingleThreadedBlas()
