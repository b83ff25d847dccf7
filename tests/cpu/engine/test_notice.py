"""What users in front of a terminal are told."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest

from arrayops._backends.cpu.engine import child, notice
from planted_units import load_and_call


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """In the place of standard error."""
    stream = Terminal()
    monkeypatch.setattr(notice, "sys", SimpleNamespace(stderr=stream))
    return stream


def test_why_they_wait(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "NOTICE_SECONDS", 0.01)
    assert [load_and_call(3), load_and_call(4)] == [6, 8]
    assert terminal.getvalue() == "arrayops: compiling kernels for this processor\n"


def test_nothing_of_a_short_wait(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "NOTICE_SECONDS", 50)
    load_and_call()
    assert terminal.getvalue() == ""


def test_why_they_will_wait_again(terminal: Terminal, cache_folder: Path) -> None:
    cache_folder.write_text("")
    assert [load_and_call(3), load_and_call(4)] == [6, 8]
    told = "compiled kernels are not kept, so that each process compiles them: the cache folder cannot be used: "
    assert terminal.getvalue().count(told) == 1


def test_nothing_without_a_terminal(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(child, "NOTICE_SECONDS", 0.01)
    cache_folder.write_text("")
    load_and_call()
    assert capsys.readouterr().err == ""
