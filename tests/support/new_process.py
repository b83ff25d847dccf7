"""Code in a process of its own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

SUPPORT = Path(__file__).resolve().parent


def in_new_process(code: str, *arguments: str, timeout: int = 300, **variables: str) -> str:
    """What ``code`` prints in a process of its own, which finds arrayops and these modules through PYTHONPATH alone.

    ``variables`` are added to its environment.
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env={**os.environ, **variables, "PYTHONPATH": os.pathsep.join([str(SUPPORT), str(SUPPORT.parents[1])])},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
