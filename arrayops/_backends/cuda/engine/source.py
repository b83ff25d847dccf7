"""Finds kernel sources and inlines their headers."""

import re
from functools import cache
from importlib.resources import files
from pathlib import Path

INCLUDE = re.compile(r'^[ \t]*#include "(?P<name>[\w.]+)"[ \t]*$', re.MULTILINE)
ONCE = re.compile(r"^[ \t]*#pragma once[ \t]*\n", re.MULTILINE)


@cache
def kernel_directory() -> Path:
    """Directory of the ``.cu`` and ``.cuh`` files: inside the installed package, or next to it in a source checkout."""
    package = Path(str(files("arrayops")))
    for directory in (package / "raw_kernels" / "cuda", package.parent / "raw_kernels" / "cuda"):
        if directory.is_dir():
            return directory
    raise FileNotFoundError(f"arrayops: kernel sources not found next to {package}: the installation is incomplete")


@cache
def read(name: str) -> str:
    """Source of a file with the project's own headers inlined, each once.

    The text must be complete: CuPy's disk cache is keyed by the text, and would return stale kernels after a change of
    a header that is read at compile time. A header is inlined at its first include, so includes must not be inside of
    ``#if``.
    """
    seen: set[str] = set()

    def inline(file: str) -> str:
        if file in seen:
            return ""
        seen.add(file)
        text = (kernel_directory() / file).read_text(encoding="utf-8")
        # Compilers warn about the pragma outside of a header.
        return INCLUDE.sub(lambda match: inline(match["name"]), ONCE.sub("", text))

    return inline(name)
