"""``python -m arrayops compile`` and what ``info`` says of the CPU engine."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import planted_units
from arrayops.__main__ import main
from arrayops._backends.cpu import report, units
from planted_units import load_and_call, scaled

Only = Callable[..., Path]


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two units, in a module as those of operators are."""
    module = ModuleType("arrayops._backends.cpu.planted")
    module.UNITS = (scaled(3), scaled(4))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(units, "MODULES", ("planted",))


class TestCompile:
    def test_what_it_builds_serves_without_a_compiler(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Only, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output = tmp_path / "output"
        assert main(["compile", "--output", str(output)]) == 0
        printed = capsys.readouterr().out
        assert "[2/2] scaled.cpp (SCALE=" in printed
        assert "there already" not in printed
        only()
        monkeypatch.setenv("ARRAYOPS_CACHE_DIR", str(output))
        planted_units.forget()
        assert [load_and_call(3), load_and_call(4)] == [6, 8]

    def test_a_lower_level_serves_without_a_compiler(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: Only
    ) -> None:
        """Though nothing asks for it by name; what is built for this processor comes before it."""
        output = tmp_path / "output"
        assert main(["compile", "--output", str(output), "--arch", lowest()]) == 0
        only()
        monkeypatch.setenv("ARRAYOPS_CACHE_DIR", str(output))
        planted_units.forget()
        assert load_and_call() == 6

    def test_again(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["compile"]) == 0
        capsys.readouterr()
        assert main(["compile"]) == 0
        assert capsys.readouterr().out.count("there already") == 2

    def test_a_unit_that_fails(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "kernels" / "scaled.cpp").write_text("#if SCALE == 3\nnonsense;\n#endif\n")
        assert main(["compile"]) == 1
        printed = capsys.readouterr()
        assert "scaled.cpp (SCALE=4): " in printed.out
        assert "arrayops: scaled.cpp (SCALE=3): " in printed.err
        assert "nonsense" in printed.err

    def test_no_compiler(self, only: Only, capsys: pytest.CaptureFixture[str]) -> None:
        only()
        assert main(["compile"]) == 1
        assert "no C++ compiler was found\npip install" in capsys.readouterr().err

    def test_an_unknown_architecture(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["compile", "--arch", "386"]) == 1
        assert "the architecture is '386', expected one of native" in capsys.readouterr().err

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "file").write_text("")
        assert main(["compile", "--output", str(tmp_path / "file" / "folder")]) == 1
        assert "the cache folder cannot be used" in capsys.readouterr().err


def lowest() -> str:
    from arrayops._backends.cpu.engine.features import ARCHITECTURES
    from arrayops._backends.cpu.engine.target import target_of

    levels = ARCHITECTURES.get(target_of().machine)
    if not levels:
        pytest.skip(f"no levels are known of {target_of().machine}")
    return next(iter(levels))


class TestInfo:
    def test_compiled_kernels(self, gxx: str, monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> None:
        monkeypatch.setenv("ARRAYOPS_CXX", gxx)
        lines = dict(report.report())
        assert lines["cpu engine"] == "compiled kernels"
        assert lines["cpu compiler"].startswith(f"{gxx}, ")
        assert lines["cpu architecture"].startswith("native; ")
        assert lines["cpu kernel cache"].startswith(f"{cache_folder.resolve()}, 1 library, ")

    def test_no_compiler(self, only: Only) -> None:
        only()
        lines = dict(report.report())
        assert lines["cpu engine"].startswith("NumPy: no C++ compiler was found\n")
        assert lines["cpu compiler"] == "not available: no C++ compiler was found"

    @pytest.mark.parametrize(
        ("value", "start"),
        [
            ("numpy", "NumPy, as ARRAYOPS_CPU=numpy asks"),
            ("compiled", "compiled kernels, as ARRAYOPS_CPU=compiled asks"),
            ("other", "not available: ARRAYOPS_CPU is 'other', expected one of"),
        ],
    )
    def test_what_is_asked_for(self, value: str, start: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ARRAYOPS_CPU", value)
        assert dict(report.report())["cpu engine"].startswith(start)

    def test_an_unusable_cache(self, cache_folder: Path) -> None:
        cache_folder.write_text("")
        assert dict(report.report())["cpu kernel cache"].startswith("not available: the cache folder cannot be used")

    def test_is_part_of_the_report(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["info"]) == 0
        assert "cpu engine" in capsys.readouterr().out
