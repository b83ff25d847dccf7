"""Whether folders may hold code that this process loads."""

import os
import stat
from pathlib import Path


def privileges_differ() -> bool:
    """Whether the process acts for another user than the one who started it, who sets the environment."""
    if not hasattr(os, "geteuid"):
        return False
    return (os.getuid(), os.getgid()) != (os.geteuid(), os.getegid())


def distrust(folder: Path) -> str | None:
    """Why another user could put files into ``folder``, a path without symbolic links; None if nobody else can.

    On Windows every folder is taken: that of the user's cache is the user's own by default.
    """
    if not hasattr(os, "geteuid"):
        return None
    for place in (folder, *folder.parents):
        status = place.stat()
        if not _own(status):
            return f"{place} belongs to user {status.st_uid}, expected this user or root"
        # In a sticky folder, such as /tmp, others can add entries but not replace those that they do not own.
        sticky = bool(status.st_mode & stat.S_ISVTX) and place != folder
        if _others_write(status) and not sticky:
            return f"{place} can be written by others: chmod go-w {place}"
    return None


def distrust_file(descriptor: int) -> bool:
    """Whether another user owns or can write an open file."""
    status = os.fstat(descriptor)
    return hasattr(os, "geteuid") and not (_own(status) and not _others_write(status))


def _own(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())


def _others_write(status: os.stat_result) -> bool:
    return bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
