"""What ``python -m arrayops info`` says about compiled kernels."""

from collections.abc import Iterator

from arrayops._backends.cpu.engine.cache import Cache
from arrayops._backends.cpu.engine.choice import COMPILED, NUMPY, choice
from arrayops._backends.cpu.engine.compiler import REMEDY, find_compiler
from arrayops._backends.cpu.engine.errors import EngineUnavailable
from arrayops._backends.cpu.engine.features import ARCHITECTURES, processor_features
from arrayops._backends.cpu.engine.library import load
from arrayops._backends.cpu.engine.target import target_of
from arrayops._backends.cpu.units import all_units


def report() -> Iterator[tuple[str, str]]:
    """The engine that serves and why, the compiler, the architecture and the cache. Builds a unit if none is there."""
    for name, describe in (
        ("cpu engine", engine),
        ("cpu compiler", compiler),
        ("cpu architecture", architecture),
        ("cpu kernel cache", cache),
    ):
        try:
            value = describe()
        except (EngineUnavailable, OSError, ValueError) as error:
            value = f"not available: {error}"
        yield name, value.replace("\n", "\n    ")


def engine() -> str:
    """Whether compiled kernels serve or NumPy, and why."""
    asked = choice()
    if asked == NUMPY:
        return "NumPy, as ARRAYOPS_CPU=numpy asks"
    units = all_units()
    if not units:
        return "NumPy: this version has no compiled kernels"
    try:
        load(units[0])
    except EngineUnavailable as error:
        if asked == COMPILED:
            raise
        return f"NumPy: {error}\n{REMEDY}"
    return "compiled kernels" + (", as ARRAYOPS_CPU=compiled asks" if asked == COMPILED else "")


def compiler() -> str:
    """Absolute path and version of the compiler."""
    found = find_compiler(target_of())
    return f"{' '.join(found.command)}, {found.version}"


def architecture() -> str:
    """What kernels are compiled for."""
    target = target_of()
    features = processor_features()
    levels = [name for name, needed in ARCHITECTURES.get(target.machine, {}).items() if needed <= features]
    processor = f"this processor has {levels[-1]}" if levels else target.machine
    return f"{target.architecture}; {processor}"


def cache() -> str:
    """The folder of compiled libraries and what is in it."""
    found = Cache()
    entries, size = found.size()
    read_only = "" if found.writable else ", read-only"
    return f"{found.folder}{read_only}, {entries} librar{'y' if entries == 1 else 'ies'}, {size / 2**20:.1f} MiB"
