"""Which engine serves: what ARRAYOPS_CPU says, and what happens where kernels cannot be compiled."""

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from arrayops import _backends
from arrayops._backends.cpu.engine import choice
from arrayops._backends.cpu.engine.errors import EngineUnavailable
from new_process import in_new_process
from planted_units import load_and_call

Only = Callable[..., Path]


@pytest.fixture(autouse=True)
def warned(monkeypatch: pytest.MonkeyPatch) -> None:
    """No warning yet."""
    monkeypatch.setattr(choice, "_warnings", itertools.count())


def plain(arrays: Any, parameters: Any) -> tuple[Any, ...]:
    return ("NumPy", arrays, parameters)


@choice.compiled_or(plain)
def operator(arrays: Any, parameters: Any) -> tuple[Any, ...]:
    return ("compiled", load_and_call() * arrays[0], parameters)


COMPILED = ("compiled", 60, "parameters")
PLAIN = ("NumPy", (10,), "parameters")


def call() -> tuple[Any, ...]:
    return operator((10,), "parameters")


@pytest.mark.parametrize("value", ["", "auto", "compiled"])
def test_compiled_kernels_serve(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARRAYOPS_CPU", value)
    assert call() == COMPILED
    assert choice.reason() is None


def test_numpy_on_demand(monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> None:
    monkeypatch.setenv("ARRAYOPS_CPU", "numpy")
    assert call() == PLAIN
    assert not cache_folder.exists()


def test_an_unknown_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARRAYOPS_CPU", "cython")
    with pytest.raises(ValueError, match="ARRAYOPS_CPU is 'cython', expected one of auto, numpy, compiled"):
        call()


def test_numpy_serves_without_a_compiler_with_one_warning(only: Only) -> None:
    only()
    with pytest.warns(RuntimeWarning, match=r"no C\+\+ compiler was found[\s\S]*arrayops-nn\[compiler\]") as caught:
        assert [call(), call()] == [PLAIN] * 2
    assert len(caught) == 1
    assert choice.reason() == "no C++ compiler was found"


def test_a_unit_that_does_not_compile(tmp_path: Path) -> None:
    (tmp_path / "kernels" / "scaled.cpp").write_text("nonsense;\n")
    with pytest.warns(RuntimeWarning, match=r"cannot build scaled\.cpp"):
        assert call() == PLAIN


def test_an_error_instead_of_numpy(only: Only, monkeypatch: pytest.MonkeyPatch) -> None:
    only(cxx="echo no cc1plus here; exit 1")
    monkeypatch.setenv("ARRAYOPS_CPU", "compiled")
    for _ in range(2):
        with pytest.raises(EngineUnavailable, match=r"ARRAYOPS_CPU is 'compiled', but[\s\S]*no cc1plus here"):
            call()


def test_other_errors_are_not_caught() -> None:
    @choice.compiled_or(plain)
    def failing(arrays: Any, parameters: Any) -> tuple[Any, ...]:
        raise MemoryError

    with pytest.raises(MemoryError):
        failing((), None)


class TestFind:
    @pytest.fixture(autouse=True)
    def planted(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """A family with one compiled function of two."""
        _backends.find.cache_clear()
        for package, names in (("cpu", ("first",)), ("numpy", ("first", "second"))):
            module = ModuleType(f"arrayops._backends.{package}.planted")
            for name in names:
                setattr(module, name, f"{name} of {package}")
            monkeypatch.setitem(sys.modules, module.__name__, module)
        yield
        _backends.find.cache_clear()

    def test_compiled_functions_come_first(self) -> None:
        assert _backends.find("cpu", "planted", "first") == "first of cpu"
        assert _backends.find("cpu", "planted", "second") == "second of numpy"

    def test_a_function_that_no_package_has(self) -> None:
        with pytest.raises(ImportError, match=r"third: arrayops\._backends\.numpy\.planted is missing or incomplete"):
            _backends.find("cpu", "planted", "third")


def test_importing_arrayops_does_nothing_of_it() -> None:
    code = """
        import sys
        import arrayops
        print([name for name in sys.modules if name.startswith("arrayops._backends.cpu")], "subprocess" in sys.modules)
    """
    assert in_new_process(code, ARRAYOPS_CPU="no such engine").strip().startswith("[]")


def test_without_a_compiler_operators_work(tmp_path: Path) -> None:
    """In a process of its own, whose warnings are errors but for the one that is expected at most."""
    code = """
        import warnings
        import numpy as np
        import arrayops as ao
        with warnings.catch_warnings(record=True) as caught:
            x = np.ones((1, 2, 4, 4), np.float32)
            for _ in range(2):
                y = ao.conv2d(x, np.ones((1, 2, 1, 1), np.float32))
        print(y.sum(), len(caught))
    """
    folder = {"ARRAYOPS_CACHE_DIR": str(tmp_path / "empty")}
    total, count = in_new_process(code, ARRAYOPS_CXX="no-such-compiler", **folder).split()
    assert total == "32.0"
    assert int(count) <= 1
    assert in_new_process(code, ARRAYOPS_CPU="numpy", **folder).split() == ["32.0", "0"]
