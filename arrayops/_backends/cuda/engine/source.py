"""Finds kernel sources, and makes one self-contained text of each."""

import re
from functools import cache
from importlib.resources import files
from pathlib import Path

INCLUDE = re.compile(r'^[ \t]*#include "(?P<name>[\w.]+)"[ \t]*$', re.MULTILINE)
ONCE = re.compile(r"^[ \t]*#pragma once[ \t]*\n", re.MULTILINE)


@cache
def kernel_directory() -> Path:
    """Where the ``.cu`` and ``.cuh`` files are: inside the package once installed, beside it in a checkout."""
    package = Path(str(files("arrayops")))
    for directory in (package / "raw_kernels" / "cuda", package.parent / "raw_kernels" / "cuda"):
        if directory.is_dir():
            return directory
    raise FileNotFoundError(f"arrayops: no kernel sources beside {package}; the installation is not complete")


@cache
def read(name: str) -> str:
    """Source of a file with the project's own headers written out in place, each once.

    The text must hold all that it depends on: CuPy's disk cache knows a kernel by its text, and would go on using a
    stale one if a header were read at compile time. A header stands where it is included first, so that an include
    belongs outside of ``#if``.
    """
    seen: set[str] = set()

    def inline(file: str) -> str:
        if file in seen:
            return ""
        seen.add(file)
        text = (kernel_directory() / file).read_text(encoding="utf-8")
        # Compilers warn about the pragma where it no longer stands in a header.
        return INCLUDE.sub(lambda match: inline(match["name"]), ONCE.sub("", text))

    return inline(name)
