"""Pytest plugin of the gpu tests: failures with their kernels, the moment they are known.

It is told the stage by environment variables (`gpu.testing`), which pytest-xdist's processes inherit.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

from gpu import results, testing

STAGE = os.environ.get(testing.STAGE, "tests")
REPORT_EVERY = 100
"""Tests between two rows of counts."""

counts: Counter[str] = Counter()


def pytest_configure() -> None:
    """Before any test file is imported."""
    if os.environ.get(testing.FAKE):
        import cuda_device

        cuda_device.real = cuda_device.emulated
        cuda_device.why_no_gpu = _none  # type: ignore[assignment]


def _none() -> str:
    return ""


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> None:
    """In the process that ran the test: say which kernels it had loaded, and leave if the CUDA context is lost."""
    if call.excinfo is None or isinstance(call.excinfo.value, pytest.skip.Exception):
        return
    import cuda_device

    text = results.described(call.excinfo.value)
    lost = results.context_is_lost(text)
    loaded = sorted({f"{kernel.identity.file}:{kernel.identity.name}" for kernel in cuda_device.kernels()})
    row = {"case": item.nodeid, "ok": False, "when": call.when, "exception": text, "kernels": loaded, "lost": lost}
    results.emit(STAGE, **row)
    if lost:
        # pytest-xdist starts another process for the tests that are left, and says that this one crashed.
        os._exit(results.LOST)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the process that collects results: counts, now and then."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return
    if report.when == "call" or report.outcome != "passed":
        counts[report.outcome] += 1
        if counts.total() % REPORT_EVERY == 0:
            results.emit(STAGE, event="so far", **counts)


def pytest_terminal_summary() -> None:
    """At the end."""
    if not os.environ.get("PYTEST_XDIST_WORKER"):
        results.emit(STAGE, event="finished", **counts)
