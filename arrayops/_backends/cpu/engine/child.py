"""Runs a compiler: without a shell, with a time limit for it and for all processes that it starts."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from arrayops._backends.cpu.engine.errors import CompilerHangs, EngineUnavailable
from arrayops._backends.cpu.engine.notice import tell

# At its first use on Windows, zig builds the C library, which takes a minute.
LIMIT_SECONDS = 300.0 if sys.platform == "win32" else 60.0
NOTICE_SECONDS = 2.0

_waited_seconds = 0.0


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """A new folder that only this user can enter, removed on leaving.

    `tempfile.TemporaryDirectory` also removes its folder when a forked child exits, which this process still uses.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="arrayops-"))
    except OSError as error:
        raise EngineUnavailable(f"there is no temporary folder to compile in: {error}") from error
    try:
        yield folder
    finally:
        # Windows keeps a library that is loaded.
        shutil.rmtree(folder, ignore_errors=True)


def run(command: Sequence[str], folder: Path) -> tuple[bool, str]:
    """Run a command in ``folder``. Users who have waited for commands of this process for long are told so.

    Parameters
    ----------
    command : sequence of str
    folder : Path
        Current folder of the command, and where it puts its temporary files.

    Returns
    -------
    succeeded : bool
    output : str
        What it wrote to its standard streams.

    Raises
    ------
    EngineUnavailable
        If it cannot be started.
    CompilerHangs
        If it is stopped after ``LIMIT_SECONDS``.
    """
    # Not pipes: a process that the command leaves behind would keep them open.
    output = folder / "output.txt"
    try:
        with output.open("wb") as stream:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=_environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                # A group of its own, so that all of it can be stopped.
                start_new_session=True,
            )
    except (OSError, ValueError) as error:
        raise EngineUnavailable(f"{command[0]} cannot be started: {error}") from error
    try:
        _wait(process)
    except subprocess.TimeoutExpired as error:
        _kill(process)
        raise CompilerHangs(f"{command[0]} did not finish within {LIMIT_SECONDS:g} s and was stopped") from error
    except BaseException:
        _kill(process)
        raise
    return process.returncode == 0, output.read_text(encoding="utf-8", errors="replace").strip()


def _environment(folder: Path) -> dict[str, str]:
    """Environment of a command: English messages, and temporary files in ``folder``."""
    # What is preloaded into this process, such as a sanitizer, is not for compilers.
    inherited = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return {**inherited, **dict.fromkeys(("TMPDIR", "TMP", "TEMP"), str(folder)), "LC_ALL": "C"}


def _wait(process: "subprocess.Popen[bytes]") -> None:
    global _waited_seconds
    begun = time.monotonic()
    try:
        try:
            process.wait(min(LIMIT_SECONDS, max(0.0, NOTICE_SECONDS - _waited_seconds)))
        except subprocess.TimeoutExpired:
            tell("compiling kernels for this processor")
        process.wait(max(0.0, LIMIT_SECONDS - (time.monotonic() - begun)))
    finally:
        _waited_seconds += time.monotonic() - begun


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End a process and those that it started, and wait for it."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, check=False)
    process.kill()
    process.wait()
