"""Finds a C++ compiler and builds libraries with it."""

import importlib.util
import os
import shutil
import struct
from pathlib import Path
from typing import NamedTuple

from arrayops._backends.cpu.engine import child
from arrayops._backends.cpu.engine.errors import CompilerHangs, EngineUnavailable, remembered
from arrayops._backends.cpu.engine.features import ARCHITECTURES
from arrayops._backends.cpu.engine.flags import CLANG, GCC, GUARD, ZIG, extra_flags, flags, refuse_inexact, split
from arrayops._backends.cpu.engine.target import Target

REMEDY = 'pip install "arrayops-nn[compiler]", or install a C++ compiler such as g++ or clang++'
MAX_LOG_LINES = 12

NAMES = ("c++", "g++", "clang++")

# Compiled by the same arguments as kernels: the language, the headers, the machine and the size of pointers.
PROBE = """\
#ifndef MACHINE
#error "the compiler is for another processor"
#endif
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
template <class T> static T twice(T x) { if constexpr (sizeof(T) == 4) return x + x; else return 2 * x; }
extern "C" float probe(float x) { return twice(x); }
static_assert(sizeof(void*) == POINTER_BYTES, "the size of pointers is not that of Python");
"""

# The start-up code that -ffast-math links: it changes how the whole process treats denormal numbers.
START_UP_CODE = b"set_fast_math"


class Compiler(NamedTuple):
    """A compiler that builds libraries for a target."""

    command: tuple[str, ...]
    """Absolute path and leading arguments."""
    family: str
    version: str


_found: dict[Target, Compiler | EngineUnavailable] = {}
"""Result of `find_compiler`, or why it failed."""


def candidates() -> list[tuple[str, ...]]:
    """Commands of compilers that exist here, the first choice first; none is run.

    Raises
    ------
    EngineUnavailable
        If ``ARRAYOPS_CXX`` names none, or one with arguments that must not be.
    """
    if value := os.environ.get("ARRAYOPS_CXX"):
        command = _command(value)
        if command is None:
            raise EngineUnavailable(f"ARRAYOPS_CXX is {value!r}, but there is no such program")
        refuse_inexact(command, "ARRAYOPS_CXX")
        return [command]
    # Unlike ARRAYOPS_CXX, CXX is set for other programs as well: if it does not suit, the next one is taken.
    found = [_command(name) for name in (os.environ.get("CXX", ""), *NAMES)]
    return list(dict.fromkeys(command for command in (*found, _ziglang()) if command is not None))


def _command(value: str) -> tuple[str, ...] | None:
    """The program that an environment variable names, with an absolute path, and its arguments."""
    # A path may have spaces.
    whole = shutil.which(value) if value else None
    words = [value] if whole else split(value)
    path = whole or (shutil.which(words[0]) if words else None)
    return (os.path.abspath(path), *words[1:]) if path else None


def _ziglang() -> tuple[str, ...] | None:
    """The compiler of the package ziglang, which is a program beside its module."""
    spec = importlib.util.find_spec("ziglang")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if program := shutil.which("zig", path=folder):
            return (os.path.abspath(program), "c++")
    return None


def find_compiler(target: Target) -> Compiler:
    """The first compiler that builds a small library for ``target``.

    Raises
    ------
    EngineUnavailable
        If there is none. The message has the words of those that failed.
    """
    return remembered(_found, target, _find)


def _find(target: Target) -> Compiler:
    failures = []
    for command in candidates():
        try:
            return _probe(command, target)
        except CompilerHangs:
            # Others are likely to be links to the same program: the user waits once.
            raise
        except EngineUnavailable as error:
            failures.append(str(error))
    if not failures:
        raise EngineUnavailable("no C++ compiler was found")
    raise EngineUnavailable("\n".join(["no C++ compiler works:", *failures]))


def _probe(command: tuple[str, ...], target: Target) -> Compiler:
    refuse_inexact(command, command[0])
    with child.work_folder() as folder:
        succeeded, version = child.run([*command, "--version"], folder)
    if not succeeded or not version:
        raise EngineUnavailable(f"{' '.join(command)} --version failed: {_shortened(version)}")
    compiler = Compiler(command, _family(command, version), version.splitlines()[0])
    # __x86_64__ or __aarch64__, on every system; any C++ compiler will do for machines that are not told apart.
    machine = f"__{target.machine}__" if target.machine in ARCHITECTURES else "__cplusplus"
    text = PROBE.replace("POINTER_BYTES", str(struct.calcsize("P"))).replace("MACHINE", machine)
    build(compiler, target, text, "probe.cpp")
    return compiler


def _family(command: tuple[str, ...], version: str) -> str:
    # Zig calls itself clang.
    if any(Path(word).stem in ("zig", "ziglang") for word in command):
        return ZIG
    return CLANG if "clang" in version or "LLVM" in version else GCC


def build(compiler: Compiler, target: Target, text: str, name: str) -> bytes:
    """Compile and link ``text``, named ``name`` in messages; return the bytes of the library.

    Raises
    ------
    EngineUnavailable
        If it fails. The message has the compiler's words.
    """
    with child.work_folder() as folder:
        try:
            (folder / name).write_text(GUARD + text, encoding="utf-8")
            output = "library.dll" if target.system == "win32" else "library.so"
            arguments = [*compiler.command, *flags(compiler.family, target), *extra_flags(), name, "-o", output]
            succeeded, words = child.run(arguments, folder)
            if succeeded and (library := (folder / output).read_bytes()):
                if START_UP_CODE in library:
                    raise EngineUnavailable(f"{compiler.command[0]} links the start-up code of -ffast-math")
                return library
        except OSError as error:
            words = str(error)
    called = f"{' '.join(compiler.command)} ({compiler.version})"
    raise EngineUnavailable(f"{called} cannot build {name}: {_shortened(words)}")


def identity(command: tuple[str, ...]) -> str:
    """Text that changes when the compiler does, found without running it: its files and their times."""
    parts = list(command)
    for word in command:
        path = Path(word)
        if path.is_absolute() and path.is_file():
            status = path.stat()
            parts.append(f"{path.resolve()} {status.st_size} {status.st_mtime_ns}")
    return "\n".join(parts)


def _shortened(words: str) -> str:
    lines = words.splitlines() or ["it says nothing"]
    omitted = [f"({len(lines) - MAX_LOG_LINES} more lines)"] * (len(lines) > MAX_LOG_LINES)
    return "\n".join(lines[:MAX_LOG_LINES] + omitted)
