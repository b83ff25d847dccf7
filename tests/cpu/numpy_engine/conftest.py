"""Tests of the NumPy engine: it serves all operators, also those that have compiled kernels."""

import pytest

from arrayops._backends.cpu.engine import choice


@pytest.fixture(autouse=True)
def numpy_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_choice", choice.NUMPY)
