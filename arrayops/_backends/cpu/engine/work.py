"""The work of a call: its tasks, and what running them needs."""

from arrayops._backends.cpu.engine.scheduler import Task, run


class Work:
    """Tasks of a call, what a thread needs for them, and their time."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []
        self.workspace = self.partial = 0
        self.nanoseconds = 0.0

    def add(self, tasks: list[Task], workspace: int, nanoseconds: float, partial: int = 0) -> None:
        """Add tasks, bytes of workspace of a thread, an estimate of their time on one thread, and bytes of sums."""
        self.tasks += tasks
        self.workspace = max(self.workspace, workspace)
        self.nanoseconds += nanoseconds
        self.partial += partial

    def run(self) -> None:
        """Compute everything."""
        if self.tasks:
            run(self.tasks, workspace=self.workspace, partial=self.partial, nanoseconds=self.nanoseconds)
