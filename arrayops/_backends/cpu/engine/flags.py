"""Arguments of compilers."""

import os
import shlex
from collections.abc import Sequence

from arrayops._backends.cpu.engine.errors import EngineUnavailable
from arrayops._backends.cpu.engine.target import NATIVE, Target

POSIX = os.name == "posix"

GCC, CLANG, ZIG = FAMILIES = ("gcc", "clang", "zig")

# -fno-fast-math is first: it sets the options for which it stands, and those that follow are to last.
COMMON = (
    "-x",
    "c++",
    "-std=c++17",
    "-O3",
    "-g0",
    "-shared",
    "-fno-fast-math",
    "-fno-math-errno",
    "-ffp-contract=fast",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-threadsafe-statics",
    "-fvisibility=hidden",
)

# A library compiled or linked with one of these gives other results, and some of them change how the whole process that
# loads it treats denormal numbers.
REFUSED = frozenset(
    {
        "-ffast-math",
        "-Ofast",
        "-funsafe-math-optimizations",
        "-fassociative-math",
        "-freciprocal-math",
        "-ffinite-math-only",
        "-fno-signed-zeros",
        "-mdaz-ftz",
        "-ffp-model=fast",
        "-ffp-model=aggressive",
    }
)

# What a compiler that takes those options from elsewhere, such as a wrapper or a configuration file, stops at.
GUARD = """\
#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "the compiler is set to inexact arithmetic (-ffast-math or the like), which would change results"
#endif
"""


def split(value: str) -> list[str]:
    """Words of an environment variable, as a shell splits them; on Windows, backslashes are kept."""
    try:
        return [word if POSIX else word.strip('"') for word in shlex.split(value, posix=POSIX)]
    except ValueError as error:
        raise EngineUnavailable(f"{value!r} is not a command with arguments: {error}") from error


def refuse_inexact(words: Sequence[str], variable: str) -> None:
    """Raise `EngineUnavailable` if an option is among ``words`` that changes results or the process."""
    if found := REFUSED.intersection(words):
        raise EngineUnavailable(
            f"{variable} has {', '.join(sorted(found))}, which would change the results of arrayops and how the whole "
            "process treats denormal numbers: remove it"
        )


def extra_flags() -> list[str]:
    """Words of ``ARRAYOPS_CPU_FLAGS``, for developers: sanitizers, debug information."""
    words = split(os.environ.get("ARRAYOPS_CPU_FLAGS", ""))
    refuse_inexact(words, "ARRAYOPS_CPU_FLAGS")
    return words


def flags(family: str, target: Target) -> list[str]:
    """Arguments for a compiler of a family, without the names of files."""
    # Threads are a library of their own in glibc before 2.34.
    posix = [] if target.system == "win32" else ["-fPIC", "-pthread"]
    return [*COMMON, *posix, *_architecture(family, target), *_without_cxx_library(family, target)]


def _architecture(family: str, target: Target) -> list[str]:
    name = target.architecture
    if family == ZIG:
        name = name.replace("-", "_") if target.machine == "x86_64" else name
        return [f"-mcpu={'generic' if name == 'armv8-a' else name}"]
    if target.machine == "x86_64":
        return [f"-march={name}"]
    if target.machine == "aarch64":
        return ["-mcpu=native"] if name == NATIVE else [f"-march={name}"]
    return []


def _without_cxx_library(family: str, target: Target) -> list[str]:
    """Keep the driver from making libraries depend on the C++ library, of which kernels use nothing."""
    if family != GCC:
        return ["-nostdlib++"]
    # GCC has that option since 13 only. On Windows, a library names what it uses; GCC's own would not be found there.
    return {"win32": ["-static-libgcc"], "darwin": ["-Wl,-dead_strip_dylibs"]}.get(target.system, ["-Wl,--as-needed"])
