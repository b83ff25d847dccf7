"""Pytest plugin for the gpu tests: emits each failure at once, with the kernels that were loaded.

Environment variables (`gpu.testing`), which pytest-xdist's workers inherit, pass the name of the stage.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

from gpu import results, testing

STAGE = os.environ.get(testing.STAGE, "tests")
REPORT_EVERY = 100
"""Number of tests after which a row of counts is emitted."""

counts: Counter[str] = Counter()


def pytest_configure() -> None:
    """Replace the GPU by the emulator if requested, before any test file is imported."""
    if os.environ.get(testing.EMULATED):
        import cuda_device

        cuda_device.real = cuda_device.emulated
        cuda_device.why_no_gpu = _none  # type: ignore[assignment]


def _none() -> str:
    return ""


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> None:
    """In the worker that ran a test: emit its failure with the loaded kernels; exit if the CUDA context is unusable."""
    if call.excinfo is None or isinstance(call.excinfo.value, pytest.skip.Exception):
        return
    import cuda_device

    text = results.describe(call.excinfo.value)
    lost = results.context_is_lost(text)
    loaded = sorted({f"{kernel.identity.file}:{kernel.identity.name}" for kernel in cuda_device.kernels()})
    row = {"case": item.nodeid, "ok": False, "when": call.when, "exception": text, "kernels": loaded, "lost": lost}
    results.emit(STAGE, **row)
    if lost:
        # pytest-xdist reports a crash and starts another worker for the remaining tests.
        os._exit(results.LOST_CONTEXT_EXIT)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the main process: emit counts at regular intervals."""
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return
    if report.when == "call" or report.outcome != "passed":
        counts[report.outcome] += 1
        if counts.total() % REPORT_EVERY == 0:
            results.emit(STAGE, event="progress", **counts)


def pytest_terminal_summary() -> None:
    """Emit the final counts."""
    if not os.environ.get("PYTEST_XDIST_WORKER"):
        results.emit(STAGE, event="finished", **counts)
