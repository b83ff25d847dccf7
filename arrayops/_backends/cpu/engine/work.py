"""The work of a call: its tasks, and what running them needs."""

from typing import Protocol

from arrayops._backends.cpu.engine.scheduler import Task, run


class Planned(Protocol):
    """A plan whose memory tasks read."""

    workspace: int
    """Bytes that a thread needs."""
    partial: int
    """Bytes of the sums of blocks."""


class Work:
    """Tasks of a call, what a thread needs for them, and their time."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.plans: list[Planned] = []
        self.nanoseconds = 0.0

    def add(self, tasks: list[Task], nanoseconds: float, plan: Planned | None = None) -> None:
        """Add tasks, an estimate of their time on one thread, and their plan, if they have one.

        It keeps the plan: of threads that make the same plan at the same time, only one has it in the cache.
        """
        self.tasks += tasks
        self.nanoseconds += nanoseconds
        if plan is not None:
            self.plans.append(plan)

    def run(self) -> None:
        """Compute everything."""
        if self.tasks:
            workspace = max((plan.workspace for plan in self.plans), default=0)
            partial = sum(plan.partial for plan in self.plans)
            run(self.tasks, workspace=workspace, partial=partial, nanoseconds=self.nanoseconds)
