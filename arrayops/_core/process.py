"""Processes: what a forked child has to start anew."""

import os
from collections.abc import Callable


def reset_in_children(reset: Callable[[], object]) -> None:
    """Call ``reset`` in every child forked from now on; without effect where processes cannot fork (Windows)."""
    register = getattr(os, "register_at_fork", None)
    if register is not None:
        register(after_in_child=reset)
