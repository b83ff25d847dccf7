"""The public setting of float32 products."""

from collections.abc import Iterator
from typing import Any

import pytest

from arrayops._core.precision import get_float32_precision, set_float32_precision


@pytest.fixture(autouse=True)
def default() -> Iterator[None]:
    yield
    set_float32_precision("highest")


def test_full_precision_unless_asked() -> None:
    assert get_float32_precision() == "highest"


@pytest.mark.parametrize("mode", ["tf32", "highest"])
def test_modes(mode: str) -> None:
    set_float32_precision(mode)
    assert get_float32_precision() == mode


@pytest.mark.parametrize("mode", ["TF32", "high", "", None, 1, ["tf32"]])
def test_other_modes_are_refused(mode: Any) -> None:
    with pytest.raises(ValueError, match=r"set_float32_precision: mode is .*, expected 'highest' or 'tf32'"):
        set_float32_precision(mode)
    assert get_float32_precision() == "highest"
