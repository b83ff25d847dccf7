"""What the compiled convolutions, and PAC operators, hand to the scheduler: kernels, blocks and workspaces."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest import mock

import numpy as np

from arrayops._backends.cpu.conv import units as conv
from arrayops._backends.cpu.engine import work
from arrayops._backends.cpu.engine.scheduler import Task, run
from arrayops._backends.cpu.pac import units as pac
from arrayops._backends.cpu.window.units import kernels
from arrayops._core import kernel_source

BLOCK_FUNCTION = re.compile(r"^EXPORTED void (\w+)\(const void", re.MULTILINE)
WORKSPACE_BYTES, THREADS = 64 << 20, 64
FILES = (*conv.FILES, *pac.FILES)


def block_functions(file: str) -> list[str]:
    """Names of the functions of a file that compute blocks."""
    return BLOCK_FUNCTION.findall(kernel_source.read("cpu", file))


@cache
def _names(file: str, dtype: str) -> dict[int, str]:
    """Address of each function that computes blocks -> "file: function"."""
    return {kernels(file, dtype).address(name): f"{file}: {name}" for name in block_functions(file)}


def _name(function: int, dtype: str) -> str:
    """Of a function for arrays of the dtype, or of float32, which weights and results beside those may have."""
    for unit in ((file, found) for found in dict.fromkeys((dtype, "float32")) for file in FILES):
        if function in _names(*unit):
            return _names(*unit)[function]
    raise KeyError(function)


def _arrays(kept: object) -> dict[int, int]:
    """Bytes of each array that arguments keep, alone or in tuples."""
    if isinstance(kept, tuple):
        return {key: size for part in kept for key, size in _arrays(part).items()}
    return {id(kept): kept.nbytes} if isinstance(kept, np.ndarray) else {}


@dataclass
class Job:
    """One call of the scheduler."""

    tasks: list[tuple[str, int, int]]
    """File and function, blocks, and most blocks at once of each task."""
    workspace: int
    kept: int
    """Bytes of the packed weights and partial sums, in all."""
    partial: int
    """Bytes of the sums of blocks among these."""
    nanoseconds: float
    """Estimated work on one thread."""

    def blocks(self, start: str) -> list[int]:
        """Blocks of the tasks whose function has a name that starts so."""
        return [blocks for name, blocks, _ in self.tasks if name.partition(": ")[2].startswith(start)]


@dataclass
class Recorder:
    """Takes the place of the scheduler's ``run``; ``compute`` tells whether to go on to it."""

    dtype: str
    compute: bool
    jobs: list[Job] = field(default_factory=list)
    _run: Any = run

    def __call__(self, tasks: Sequence[Task], *, workspace: int = 0, partial: int = 0, nanoseconds: float) -> None:
        listed = [(_name(task.function, self.dtype), task.blocks, task.most) for task in tasks]
        kept = _arrays(tuple(getattr(task.arguments, "kept", None) for task in tasks))
        self.jobs.append(Job(listed, workspace, sum(kept.values()), partial, nanoseconds))
        if self.compute:
            self._run(tasks, workspace=workspace, partial=partial, nanoseconds=nanoseconds)


@contextmanager
def recorded_jobs(dtype: str = "float32", *, compute: bool = False) -> Iterator[list[Job]]:
    """Jobs of calls meanwhile, whose images have the dtype; they are computed only if asked for."""
    recorder = Recorder(dtype, compute)
    with mock.patch.object(work, "run", recorder):
        yield recorder.jobs


def assert_little_memory(job: Job, weight_bytes: int) -> None:
    """With as many threads as have workspace: see `scheduler.run`."""
    threads = min(THREADS, (WORKSPACE_BYTES - job.partial) // job.workspace) if job.workspace else THREADS
    assert threads >= 1, job
    assert job.workspace * threads + job.kept <= WORKSPACE_BYTES + 2 * weight_bytes, job
