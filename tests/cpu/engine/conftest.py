"""Planted units, an empty cache and compilers made of scripts."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import planted_units
from arrayops._backends.cpu.engine import choice, compiler
from arrayops._core import kernel_source

SETTINGS = (
    "ARRAYOPS_CPU",
    "ARRAYOPS_CPU_ARCH",
    "ARRAYOPS_CPU_FLAGS",
    "ARRAYOPS_CXX",
    "CXX",
)


@pytest.fixture(autouse=True)
def cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """An empty cache, in a process that has loaded nothing."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "cache"
    monkeypatch.setenv("ARRAYOPS_CACHE_DIR", str(folder))
    # To be put back: planting replaces it.
    monkeypatch.setattr(kernel_source, "kernel_directory", kernel_source.kernel_directory)
    monkeypatch.setattr(choice, "_choice", None)
    monkeypatch.setattr(choice, "_reason", None)
    planted_units.plant(tmp_path / "kernels")
    yield folder
    planted_units.forget()


@pytest.fixture
def gxx() -> str:
    """Absolute path of g++."""
    path = shutil.which("g++")
    if path is None:
        pytest.skip("g++ is not on the PATH")
    return path


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Path]:
    """Leaves no compilers but the given ones: ``only(name=script)``, in a folder that is returned."""
    if os.name != "posix":
        pytest.skip("the compilers of this test are shell scripts")

    def make(**scripts: str) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        for name, script in scripts.items():
            path = folder / {"cxx": "c++", "gxx": "g++", "clangxx": "clang++"}[name]
            path.write_text(f"#!/bin/sh\nPATH={os.environ['PATH']}\n{script}\n")
            path.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.setattr(compiler, "_ziglang", lambda: None)
        return folder

    return make


@pytest.fixture
def other_user() -> int:
    """Number of a user who is neither root nor the owner of this process."""
    if sys.platform == "win32" or os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    return 12345
