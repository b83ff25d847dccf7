"""Compilers that are missing, broken, hanging, old or set to inexact arithmetic, and what a good one builds."""

import _thread
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from arrayops._backends.cpu.engine import child, compiler
from arrayops._backends.cpu.engine.cache import Cache
from arrayops._backends.cpu.engine.compiler import build, find_compiler
from arrayops._backends.cpu.engine.errors import CompilerHangs, EngineUnavailable
from arrayops._backends.cpu.engine.features import ARCHITECTURES
from arrayops._backends.cpu.engine.library import load
from arrayops._backends.cpu.engine.target import target_of
from arrayops._backends.cpu.engine.unit import TargetedUnit
from planted_units import load_and_call, scaled

Only = Callable[..., Path]


def test_no_compiler(only: Only) -> None:
    only()
    with pytest.raises(EngineUnavailable, match=r"no C\+\+ compiler was found"):
        load_and_call()


def test_a_broken_one_is_reported_in_its_own_words(only: Only) -> None:
    folder = only(cxx='case "$*" in --version) echo gcc 1;; *) echo no cc1plus here >&2; exit 1;; esac')
    with pytest.raises(EngineUnavailable, match="no cc1plus here") as caught:
        load_and_call()
    assert str(folder / "c++") in str(caught.value)


def test_one_that_writes_nothing_is_broken(only: Only) -> None:
    only(cxx="echo gcc 1")
    with pytest.raises(EngineUnavailable, match="cannot build"):
        load_and_call()


def test_one_that_is_no_program(only: Only) -> None:
    folder = only(cxx="")
    (folder / "c++").write_bytes(b"\x7fELF")
    with pytest.raises(EngineUnavailable, match="cannot be started"):
        load_and_call()


def test_the_next_one_is_taken(only: Only, gxx: str) -> None:
    folder = only(cxx="echo broken; exit 1", gxx=f'exec {gxx} "$@"')
    assert find_compiler(target_of()).command == (str(folder / "g++"),)
    assert load_and_call() == 6


def test_an_old_one_names_the_flag_it_does_not_know(only: Only, gxx: str) -> None:
    words = "error: unrecognized command line option '-std=c++17'"
    script = f'case "$*" in *-std=c++17*) echo "{words}" >&2; exit 1;; esac; exec {gxx} "$@"'
    only(cxx=script)
    with pytest.raises(EngineUnavailable, match=r"unrecognized command line option '-std=c\+\+17'"):
        load_and_call()


def test_one_for_another_processor(only: Only, gxx: str) -> None:
    only(cxx=f'exec {gxx} -U__x86_64__ -U__aarch64__ "$@"')
    if target_of().machine not in ARCHITECTURES:
        pytest.skip(f"the probe does not know {target_of().machine}")
    with pytest.raises(EngineUnavailable, match="the compiler is for another processor"):
        load_and_call()


def test_a_hanging_one_is_stopped_with_what_it_started(
    only: Only, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    only(cxx=f"sleep 1000 & echo $! > {tmp_path}/started; sleep 1000", gxx="echo must not run; exit 1")
    monkeypatch.setattr(child, "LIMIT_SECONDS", 0.5)
    begun = time.monotonic()
    with pytest.raises(EngineUnavailable, match=r"did not finish within 0\.5 s and was stopped"):
        load_and_call()
    assert time.monotonic() - begun < 10
    started = int((tmp_path / "started").read_text())
    for _ in range(100):
        # A process that has ended stays as a zombie where nobody waits for the orphans.
        if not Path(f"/proc/{started}").exists() or "(sleep) Z" in Path(f"/proc/{started}/stat").read_text():
            break
        time.sleep(0.05)
    else:
        pytest.fail("what the compiler started still runs")


def test_nobody_waits_twice_for_a_hanging_one(only: Only, monkeypatch: pytest.MonkeyPatch) -> None:
    only(cxx="sleep 1000")
    monkeypatch.setattr(child, "LIMIT_SECONDS", 0.5)
    with pytest.raises(CompilerHangs):
        compiler._find(target_of())
    with pytest.raises(EngineUnavailable):
        load(scaled(3))
    begun = time.monotonic()
    for unit in (scaled(3), scaled(4)):
        with pytest.raises(EngineUnavailable, match="did not finish"):
            load(unit)
    assert time.monotonic() - begun < 0.4


def test_an_interrupt_ends_the_compiler(only: Only, gxx: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of it is left, and the next call compiles."""
    folder = only(cxx=f"echo $$ > {tmp_path}/new && mv {tmp_path}/new {tmp_path}/started; exec sleep 1000")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))

    def interrupt() -> None:
        while not (tmp_path / "started").exists():
            time.sleep(0.01)
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        load_and_call()
    thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "started").read_text()), 0)
    assert not list((tmp_path / "temporary").iterdir())
    (folder / "c++").write_text(f'#!/bin/sh\nPATH=/usr/bin:/bin\nexec {gxx} "$@"\n')
    assert load_and_call() == 6


@pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast", "-funsafe-math-optimizations"])
class TestInexactArithmetic:
    def test_is_refused_in_the_environment(self, monkeypatch: pytest.MonkeyPatch, gxx: str, flag: str) -> None:
        monkeypatch.setenv("ARRAYOPS_CXX", f"{gxx} {flag}")
        with pytest.raises(EngineUnavailable, match=f"ARRAYOPS_CXX has {flag}, which"):
            load_and_call()
        monkeypatch.delenv("ARRAYOPS_CXX")
        monkeypatch.setenv("ARRAYOPS_CPU_FLAGS", f"-g {flag}")
        with pytest.raises(EngineUnavailable, match=f"ARRAYOPS_CPU_FLAGS has {flag}, which"):
            load(scaled(5))

    def test_in_cxx_another_compiler_is_taken(
        self, monkeypatch: pytest.MonkeyPatch, only: Only, gxx: str, flag: str
    ) -> None:
        folder = only(gxx=f'exec {gxx} "$@"')
        monkeypatch.setenv("CXX", f"{gxx} {flag}")
        assert find_compiler(target_of()).command == (str(folder / "g++"),)

    def test_of_a_wrapper_is_undone_or_found(self, only: Only, gxx: str, flag: str) -> None:
        """It comes before our arguments, which undo it; some of it reaches the linker."""
        only(cxx=f'exec {gxx} {flag} "$@"')
        text = "#ifdef __FAST_MATH__\n#error fast\n#endif\n"
        try:
            built = build(find_compiler(target_of()), target_of(), text, "text.cpp")
        except EngineUnavailable as error:
            reason = str(error)
        else:
            reason = ""
            assert b"set_fast_math" not in built
        assert not reason or "links the start-up code of -ffast-math" in reason

    def test_behind_our_arguments_is_found(self, only: Only, gxx: str, flag: str) -> None:
        only(cxx=f'exec {gxx} "$@" {flag}')
        with pytest.raises(EngineUnavailable, match=r"inexact arithmetic|start-up code of -ffast-math"):
            find_compiler(target_of())


class TestEnvironment:
    def test_arguments(self, monkeypatch: pytest.MonkeyPatch, gxx: str) -> None:
        environment = shutil.which("env")
        if environment is None:
            pytest.skip("there is no program env, which runs its arguments")
        monkeypatch.setenv("ARRAYOPS_CXX", f"env 'A=some value' {gxx}")
        assert find_compiler(target_of()).command == (environment, "A=some value", gxx)
        assert load_and_call() == 6

    def test_a_path_with_spaces(self, monkeypatch: pytest.MonkeyPatch, gxx: str, tmp_path: Path) -> None:
        folder = tmp_path / "a folder"
        folder.mkdir()
        (folder / "compiler").symlink_to(gxx)
        monkeypatch.setenv("ARRAYOPS_CXX", str(folder / "compiler"))
        assert load_and_call() == 6

    def test_no_such_program(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ARRAYOPS_CXX", "no-such-compiler -m64")
        with pytest.raises(EngineUnavailable, match="ARRAYOPS_CXX is 'no-such-compiler -m64', but there is no such"):
            load_and_call()

    def test_an_open_quotation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ARRAYOPS_CXX", "'g++")
        with pytest.raises(EngineUnavailable, match="is not a command with arguments"):
            load_and_call()

    def test_order(self, monkeypatch: pytest.MonkeyPatch, only: Only, gxx: str) -> None:
        folder = only(cxx="true", gxx="true", clangxx="true")
        rest = [(str(folder / name),) for name in ("c++", "g++", "clang++")]
        assert compiler.candidates() == rest
        monkeypatch.setenv("CXX", gxx)
        assert compiler.candidates() == [(gxx,), *rest]
        monkeypatch.setenv("ARRAYOPS_CXX", str(folder / "g++"))
        assert compiler.candidates() == [(str(folder / "g++"),)]

    def test_extra_flags_are_part_of_the_key(self, monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> None:
        assert load_and_call() == 6
        monkeypatch.setenv("ARRAYOPS_CPU_FLAGS", "-USCALE -DSCALE=7")
        unit = TargetedUnit(scaled(), target_of())
        assert not list(unit.stored(Cache(cache_folder)))


needs_zig = pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")


class TestLibrary:
    @needs_zig
    def test_ziglang_is_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        command = find_compiler(target_of()).command
        assert Path(command[0]).is_absolute()
        assert Path(command[0]).stem == "zig"
        assert load_and_call() == 6

    @needs_zig
    def test_ziglang_as_a_module(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ARRAYOPS_CXX", f"{shlex.quote(sys.executable)} -m ziglang c++")
        assert find_compiler(target_of()).family == "zig"

    @pytest.mark.parametrize("name", ["g++", "clang++", pytest.param("zig", marks=needs_zig)])
    def test_needs_no_cxx_library(self, name: str, monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> None:
        if sys.platform != "linux" or shutil.which("readelf") is None:
            pytest.skip("readelf, which lists the libraries that another one needs, is not on the PATH")
        if name == "zig":
            monkeypatch.setenv("ARRAYOPS_CXX", f"{shlex.quote(sys.executable)} -m ziglang c++")
        elif path := shutil.which(name):
            monkeypatch.setenv("ARRAYOPS_CXX", path)
        else:
            pytest.skip(f"{name} is not on the PATH")
        load_and_call()
        (path_of_library,) = cache_folder.glob("*.so")
        listed = subprocess.run(["readelf", "-d", path_of_library], capture_output=True, text=True, check=True).stdout
        needed = [line for line in listed.splitlines() if "(NEEDED)" in line]
        assert all("libc.so" in line or "libm.so" in line or "ld-linux" in line for line in needed), needed

    def test_shows_only_what_is_exported(self) -> None:
        found = load(scaled())
        assert hasattr(found, "scaled")
        assert not hasattr(found, "hidden")

    def test_words_of_the_compiler_are_in_the_error(self) -> None:
        with pytest.raises(EngineUnavailable, match=r"cannot build text\.cpp.*nonsense") as caught:
            build(find_compiler(target_of()), target_of(), "nonsense;\n" * 50, "text.cpp")
        assert "more lines)" in str(caught.value)
