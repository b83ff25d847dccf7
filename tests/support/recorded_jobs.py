"""What the compiled convolutions hand to the scheduler: kernels, blocks and workspaces."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from unittest import mock

from arrayops._backends.cpu.conv.units import FILES
from arrayops._backends.cpu.engine import work
from arrayops._backends.cpu.engine.scheduler import Task
from arrayops._backends.cpu.window.units import kernels
from arrayops._core import kernel_source

BLOCK_FUNCTION = re.compile(r"^EXPORTED void (\w+)\(const void", re.MULTILINE)


def block_functions(file: str) -> list[str]:
    """Names of the functions of a file that compute blocks."""
    return BLOCK_FUNCTION.findall(kernel_source.read("cpu", file))


@cache
def _names(dtype: str) -> dict[int, str]:
    """Address of each function that computes blocks -> "file: function"."""
    return {kernels(file, dtype).address(name): f"{file}: {name}" for file in FILES for name in block_functions(file)}


@dataclass
class Job:
    """One call of the scheduler."""

    tasks: list[tuple[str, int, int]]
    """File and function, blocks, and most blocks at once of each task."""
    workspace: int
    kept: int
    """Bytes of the packed weights and partial sums, in all."""

    def blocks(self, start: str) -> list[int]:
        """Blocks of the tasks whose function has a name that starts so."""
        return [blocks for name, blocks, _ in self.tasks if name.partition(": ")[2].startswith(start)]


@dataclass
class Recorder:
    """Takes the place of the scheduler's ``run``; ``compute`` tells whether to go on to it."""

    dtype: str
    compute: bool
    jobs: list[Job] = field(default_factory=list)
    _run: Any = work.run

    def __call__(self, tasks: Sequence[Task], *, workspace: int = 0, nanoseconds: float) -> None:
        names = _names(self.dtype)
        listed = [(names[task.function], task.blocks, task.most) for task in tasks]
        kept = {
            id(task.arguments.kept): task.arguments.kept.nbytes for task in tasks if hasattr(task.arguments, "kept")
        }
        self.jobs.append(Job(listed, workspace, sum(kept.values())))
        if self.compute:
            self._run(tasks, workspace=workspace, nanoseconds=nanoseconds)


@contextmanager
def recorded_jobs(dtype: str = "float32", *, compute: bool = False) -> Iterator[list[Job]]:
    """Jobs of the convolutions meanwhile, which are computed only if asked for."""
    recorder = Recorder(dtype, compute)
    with mock.patch.object(work, "run", recorder):
        yield recorder.jobs
