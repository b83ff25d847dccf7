"""Process hooks: resetting state in forked children."""

import os
from collections.abc import Callable


def reset_in_children(reset: Callable[[], object]) -> None:
    """Call ``reset`` in every child process forked from now on; no effect on systems without fork (Windows)."""
    register = getattr(os, "register_at_fork", None)
    if register is not None:
        register(after_in_child=reset)
