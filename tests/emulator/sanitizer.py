"""Runs tests in a child process whose kernels are watched by AddressSanitizer and UBSan, or by ThreadSanitizer.

The sanitizer's library has to be loaded before everything else, and Python is not built with it: it is preloaded. What
it finds goes to files, which pytest does not capture, and which the child reads after every launch: a launch with a
finding raises, so that the test that made it fails.
"""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

KINDS = {"address,undefined": ("libasan.so", "libubsan.so"), "thread": ("libtsan.so",)}

# Leaks are Python's. A wrong line is reported in every test that runs it, except for races: those come in thousands,
# and each report takes long, so that one pair of stacks is reported once in a process.
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=0:suppress_equal_pcs=0:exitcode=66:log_path={reports}/address",
    "UBSAN_OPTIONS": "print_stacktrace=0:halt_on_error=0",
    "TSAN_OPTIONS": "exitcode=0:report_signal_unsafe=0:report_thread_leaks=0:history_size=4:"
    "suppress_equal_addresses=0:log_path={reports}/thread",
}

REPORTS = "EMULATOR_REPORTS"
FAILED = 66

_read: dict[Path, int] = {}


class Outcome(NamedTuple):
    """Of a child: its exit status, its output with errors, and what the sanitizer found in it and its own children."""

    status: int
    output: str
    reports: str


@contextmanager
def standard_error_kept() -> Iterator[None]:
    """Send what is written to standard error meanwhile to a file of reports.

    With AddressSanitizer and UBSan in one process, log_path holds for some of their reports only.
    """
    directory = os.environ.get(REPORTS)
    if directory is None:
        yield
        return
    before = os.dup(2)
    target = os.open(f"{directory}/error.{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(target, 2)
    os.close(target)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def new_reports() -> str:
    """What sanitizers found in this process since the last call."""
    directory = os.environ.get(REPORTS)
    if directory is None:
        return ""
    found = []
    for file in sorted(Path(directory).glob(f"*.{os.getpid()}")):
        text = file.read_bytes()[_read.get(file, 0) :]
        _read[file] = _read.get(file, 0) + len(text)
        found.append(text.decode(errors="replace"))
    return "".join(found)


@cache
def _library(name: str) -> str:
    compiler = os.environ.get("EMULATOR_CXX", "g++")
    path = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
    return path if os.path.isabs(path) else ""


def why_not(kind: str) -> str:
    """Why this kind cannot be used here; empty if it can."""
    missing = [name for name in KINDS[kind] if not _library(name)]
    return f"{', '.join(missing)} of the compiler not found" if missing else ""


@cache
def _without_randomised_addresses() -> tuple[str, ...]:
    """ThreadSanitizer wants memory where older kernels put it; where the system allows it, addresses are not random."""
    command = ("setarch", platform.machine(), "-R")
    try:
        allowed = subprocess.run([*command, "true"], capture_output=True).returncode == 0
    except OSError:
        allowed = False
    return command if allowed else ()


def environment(kind: str, reports: str) -> dict[str, str]:
    """Variables for a child whose findings go to a directory."""
    options = {name: value.format(reports=reports) for name, value in OPTIONS.items()}
    libraries = " ".join(_library(name) for name in KINDS[kind])
    return {**options, "LD_PRELOAD": libraries, "EMULATOR_SANITIZER": kind, REPORTS: reports}


def run(
    kind: str,
    command: Sequence[str],
    *,
    variables: Mapping[str, str] | None = None,
    timeout: float | None = None,
    capture: bool = True,
) -> Outcome:
    """Run a command with the sanitizer of this kind, "address,undefined" or "thread"."""
    if kind not in KINDS:
        raise ValueError(f"sanitizer is {kind!r}, expected one of {', '.join(KINDS)}")
    if reason := why_not(kind):
        raise RuntimeError(reason)
    prefix = _without_randomised_addresses() if kind == "thread" else ()
    with tempfile.TemporaryDirectory() as reports:
        done = subprocess.run(
            [*prefix, *command],
            env={**os.environ, **(variables or {}), **environment(kind, reports)},
            stdout=subprocess.PIPE if capture else None,
            stderr=subprocess.STDOUT if capture else None,
            text=True,
            timeout=timeout,
        )
        files = sorted(Path(reports).iterdir())
        found = "".join(file.read_text(encoding="utf-8", errors="replace") for file in files)
    return Outcome(done.returncode, done.stdout or "", found)


def run_python(kind: str, code: str, *arguments: str, timeout: float | None = None) -> Outcome:
    """Run Python code that can import `emulator`."""
    tests = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(part for part in (tests, os.environ.get("PYTHONPATH", "")) if part)
    return run(kind, [sys.executable, "-c", code, *arguments], variables={"PYTHONPATH": path}, timeout=timeout)
