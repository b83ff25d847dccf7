"""Tests of the compiled kernels, which must serve: falling back to NumPy is an error."""

import pytest

from arrayops._backends.cpu.engine import choice, scheduler


@pytest.fixture(autouse=True)
def compiled_kernels_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_choice", choice.COMPILED)


@pytest.fixture
def any_work_takes_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "THREAD_NANOSECONDS", 1)
