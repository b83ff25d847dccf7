"""Jobs whose blocks note what happens to them: how often, where, when and in which ranges they are computed."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl
from numpy.typing import NDArray

from arrayops._backends.cpu.engine.scheduler import Task, run

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "tests" / "cpu" / "scheduler"
ENOUGH_WORK = 1e9
"""Nanoseconds that are worth any number of threads."""


def compile_cpp(source: str, output: Path, *flags: str) -> Path:
    """Compile a file of tests/cpu/scheduler, which may include the headers of the kernels."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("no C++ compiler on the PATH")
    command = [
        compiler,
        "-std=c++17",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{ROOT / 'raw_kernels' / 'cpu'}",
        *flags,
    ]
    subprocess.run([*command, str(SOURCES / source), "-o", str(output)], check=True)
    return output


def compile_kernels(folder: Path) -> Path:
    """The library of the kernels that `Kernels` calls."""
    return compile_cpp("scheduler_kernels.cpp", folder / "kernels.so", "-shared", "-fPIC")


class _Arguments(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("counts", "threads", "processors", "sizes", "seen", "total")),
        ("nanoseconds", ctypes.c_int64),
        ("workspace", ctypes.c_int64),
    )


class _Cells(ctypes.Structure):
    _fields_ = (("cells", ctypes.c_void_p),)


class Blocks:
    """``count`` blocks of a task, which take some time each and write to some bytes of the workspace.

    ``counts``: how often each was computed, a thousand times if another thread wrote to its workspace; ``seen``: how
    many blocks of all tasks with the same ``total`` were finished when it began.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        count: int,
        *,
        nanoseconds: int = 0,
        workspace: int = 0,
        total: NDArray[np.int64] | None = None,
    ) -> None:
        self.count, self.nanoseconds, self.workspace = count, nanoseconds, workspace
        noted = [np.zeros(count, np.int64) for _ in range(5)]
        self.counts, self.threads, self.processors, self.sizes, self.seen = noted
        self.total = np.zeros(1, np.int64) if total is None else total
        self._address = address_of(library.observe)
        pointers = [array.ctypes.data for array in (*noted, self.total)]
        self._arguments = _Arguments(*pointers, nanoseconds, workspace)

    def task(self, most: int = 1, *, barrier: bool = False) -> Task:
        return Task(self._address, self._arguments, self.count, most, barrier)

    def run(self, most: int = 1, *, nanoseconds: float = ENOUGH_WORK) -> "Blocks":
        run([self.task(most)], workspace=self.workspace, nanoseconds=nanoseconds)
        return self

    def all_once(self) -> bool:
        return bool((self.counts == 1).all()) and int(self.total[0]) == self.count


def address_of(function: Any) -> int:
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    return address


def halve_in_blocks(library: ctypes.CDLL, cells: NDArray[np.float64]) -> None:
    """Halve numbers in place, each in a block of its own that takes 100 microseconds."""
    task = Task(address_of(library.halve), _Cells(cells.ctypes.data), cells.size)
    run([task], nanoseconds=1e5 * cells.size)


def helpers() -> dict[int, str]:
    """Names of the scheduler's threads in this process by their numbers, on Linux."""
    names = {int(path.name): (path / "comm").read_text().strip() for path in Path("/proc/self/task").iterdir()}
    return {number: name for number, name in names.items() if name.startswith("arrayops-")}


def settings() -> dict[str, Any]:
    """What a call must leave as it is: settings of the process and of all threads but the scheduler's own."""
    found: dict[str, Any] = {
        "switch interval": sys.getswitchinterval(),
        "blas": [(library["filepath"], library["num_threads"]) for library in threadpoolctl.threadpool_info()],
        "numpy errors": np.geterr(),
        "threads of Python": threading.active_count(),
    }
    if hasattr(signal, "pthread_sigmask"):
        found["blocked signals"] = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    if sys.platform == "linux":
        others = {int(path.name) for path in Path("/proc/self/task").iterdir()} - helpers().keys()
        found["processors"] = {number: os.sched_getaffinity(number) for number in others}
    return found
