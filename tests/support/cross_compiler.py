"""Builds units for systems other than this one, with zig."""

import importlib.util

import pytest

from arrayops._backends.cpu.engine import child, compiler
from arrayops._backends.cpu.engine.compiler import Compiler
from arrayops._backends.cpu.engine.flags import ZIG
from arrayops._backends.cpu.engine.target import Target
from arrayops._backends.cpu.engine.unit import TargetedUnit, Unit

# Zig's name of a system -> the target, and how a library for it begins.
SYSTEMS = {
    "x86_64-windows-gnu": (Target("win32", "x86_64", "x86-64-v3", frozenset()), b"MZ"),
    "aarch64-macos": (Target("darwin", "aarch64", "armv8-a", frozenset()), b"\xcf\xfa\xed\xfe"),
    "aarch64-linux-gnu": (Target("linux", "aarch64", "armv8-a", frozenset()), b"\x7fELF"),
}


def build_for(system: str, unit: Unit, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The library of a unit for one of `SYSTEMS`; skips the test where there is no zig."""
    command = compiler._ziglang() if importlib.util.find_spec("ziglang") else None
    if command is None:
        pytest.skip("ziglang is not installed")
    # Zig builds the C library of a system at first: a minute for Windows.
    monkeypatch.setattr(child, "LIMIT_SECONDS", 600.0)
    target, beginning = SYSTEMS[system]
    text = TargetedUnit(unit, target).text
    built = compiler.build(Compiler((*command, "-target", system), ZIG, "zig"), target, text, unit.file)
    assert built.startswith(beginning)
    return built
