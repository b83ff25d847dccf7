"""Units are compiled for systems on which they are not run here."""

import pytest

import cross_compiler
from planted_units import scaled


@pytest.mark.slow
@pytest.mark.parametrize("system", cross_compiler.SYSTEMS)
def test_exports_the_function(system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert b"scaled" in cross_compiler.build_for(system, scaled(), monkeypatch)
