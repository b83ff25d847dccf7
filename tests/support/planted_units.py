"""Small units in the place of the kernels of ``raw_kernels/cpu``, for tests of how units are built, kept and loaded."""

import ctypes
import shutil
from pathlib import Path

from arrayops._backends.cpu.engine import child, compiler, library, notice
from arrayops._backends.cpu.engine.unit import Unit
from arrayops._core import kernel_source

SCALED = """\
#include "export.h"
extern "C" double hidden() { return SCALE; }
EXPORTED double scaled(double x) { return x * hidden(); }
"""

# The control word of vector arithmetic: bit 15 takes results that are denormal for zero, bit 6 arguments.
CONTROL_WORD = """\
#include "export.h"
EXPORTED unsigned control_word() { unsigned word; __asm__ volatile("stmxcsr %0" : "=m"(word)); return word; }
"""


def plant(folder: Path) -> None:
    """Let the sources be those above, and forget all that was loaded."""
    folder.mkdir(exist_ok=True)
    shutil.copy(kernel_source.kernel_directory("cpu") / "export.h", folder)
    (folder / "scaled.cpp").write_text(SCALED)
    (folder / "control_word.cpp").write_text(CONTROL_WORD)
    kernel_source.kernel_directory = lambda backend: folder  # type: ignore[assignment]
    forget()


def forget() -> None:
    """Act like a new process."""
    kernel_source.read.cache_clear()
    library._loaded.clear()
    compiler._found.clear()
    child._waited_seconds = 0.0
    notice._told.clear()


def scaled(scale: int = 3) -> Unit:
    """A unit with the function ``scaled``, which multiplies by ``scale``."""
    return Unit("scaled.cpp", (("SCALE", scale),))


def call(loaded: ctypes.CDLL, x: float = 2.0) -> float:
    """What the function of `scaled` gives."""
    loaded.scaled.argtypes, loaded.scaled.restype = [ctypes.c_double], ctypes.c_double
    return float(loaded.scaled(x))


def load_and_call(scale: int = 3) -> float:
    """``2.0 * scale``, by compiled code."""
    return call(library.load(scaled(scale)))
