"""Features of processors: those of this one, and those that a named architecture requires."""

import platform
import re
from functools import cache
from importlib import import_module
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

_FLAGS = re.compile(r"(?:flags|Features)\s*:(.*)")

_V2 = frozenset({"pni", "ssse3", "sse4_1", "sse4_2", "popcnt", "cx16"})
_V3 = _V2 | {"avx", "avx2", "f16c", "fma", "bmi1", "bmi2", "abm", "movbe"}
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

# Machine -> architecture -> the features that its instructions need, by the names of Linux.
ARCHITECTURES: dict[str, dict[str, frozenset[str]]] = {
    "x86_64": {"x86-64": frozenset(), "x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": _V4},
    "aarch64": {"armv8-a": frozenset()},
}

# NumPy's names in lower case, where they are not those of Linux.
_LINUX_NAMES = {"sse3": "pni", "sse41": "sse4_1", "sse42": "sse4_2", "fma3": "fma"}
# NumPy 2.0 does not list these; no processor has AVX2 without them.
_WITH_AVX2 = frozenset({"cx16", "bmi1", "bmi2", "abm", "movbe"})


@cache
def processor_features() -> frozenset[str]:
    """Names of the instruction sets of this processor.

    Linux lists all of them. NumPy's list serves elsewhere; it is shorter, and ``NPY_DISABLE_CPU_FEATURES`` takes names
    off it.
    """
    return _features_of_linux() or _features_of_numpy() or frozenset({platform.processor() or platform.machine()})


def _features_of_linux() -> frozenset[str]:
    try:
        with CPUINFO.open(encoding="utf-8") as lines:
            # The file goes on for all other processors, and takes long on machines that have many.
            listed = next(filter(None, map(_FLAGS.match, lines)), None)
    except OSError:
        return frozenset()
    return frozenset(listed[1].split()) if listed else frozenset()


def _features_of_numpy() -> frozenset[str]:
    try:
        listed: dict[str, bool] = import_module("numpy._core._multiarray_umath").__cpu_features__
    except (ImportError, AttributeError):
        return frozenset()
    names = {name.lower() for name, available in listed.items() if available}
    features = frozenset(_LINUX_NAMES.get(name, name) for name in names)
    return features | _WITH_AVX2 if "avx2" in features else features
