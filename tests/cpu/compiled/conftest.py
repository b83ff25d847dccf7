"""Tests of the compiled kernels, which must serve: falling back to NumPy is an error."""

import pytest

from arrayops._backends.cpu.engine import choice


@pytest.fixture(autouse=True)
def compiled_kernels_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_choice", choice.COMPILED)
