"""Source text of kernels: finds the files, inlines their headers and defines their macros."""

import re
from functools import cache
from importlib.resources import files
from pathlib import Path

Pairs = tuple[tuple[str, int | str], ...]
"""Macros and their values; the value "" defines a macro as empty."""

INCLUDE = re.compile(r'^[ \t]*#include "(?P<name>[\w.]+)"[ \t]*$', re.MULTILINE)
ONCE = re.compile(r"^[ \t]*#pragma once[ \t]*\n", re.MULTILINE)


@cache
def kernel_directory(backend: str) -> Path:
    """Directory of the sources of "cpu" or "cuda": inside the installed package, or next to it in a source checkout."""
    package = Path(str(files("arrayops")))
    for directory in (package / "raw_kernels" / backend, package.parent / "raw_kernels" / backend):
        if directory.is_dir():
            return directory
    raise FileNotFoundError(f"arrayops: kernel sources not found next to {package}: the installation is incomplete")


@cache
def read(backend: str, name: str) -> str:
    """Source of a file with the project's own headers inlined, each once.

    The text must be complete: caches of compiled kernels are keyed by the text, and would return stale kernels after a
    change of a header that is read at compile time. A header is inlined at its first include, so includes must not be
    inside of ``#if``.
    """
    seen: set[str] = set()

    def inline(file: str) -> str:
        if file in seen:
            return ""
        seen.add(file)
        text = (kernel_directory(backend) / file).read_text(encoding="utf-8")
        # Compilers warn about the pragma outside of a header.
        return INCLUDE.sub(lambda match: inline(match["name"]), ONCE.sub("", text))

    return inline(name)


def with_defines(backend: str, file: str, defines: Pairs) -> str:
    """Source text for the compiler: the macros in alphabetical order, then the file with its headers inlined."""
    if len(dict(defines)) != len(defines):
        raise ValueError(f"{file}: a macro is defined twice in {defines}")
    lines = [
        f"#define {macro} {int(value) if isinstance(value, int) else value}".rstrip()
        for macro, value in sorted(defines, key=lambda define: define[0])
    ]
    return "\n".join([*lines, read(backend, file)])
