"""What is compiled at a time, and the names of its libraries in the cache."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from arrayops._backends.cpu.engine.cache import Cache, Library, digest
from arrayops._backends.cpu.engine.compiler import Compiler, build, candidates, find_compiler, identity
from arrayops._backends.cpu.engine.errors import EngineUnavailable
from arrayops._backends.cpu.engine.flags import FAMILIES, extra_flags, flags
from arrayops._backends.cpu.engine.target import Target
from arrayops._core.kernel_source import Pairs, with_defines

ABI_VERSION = 1
"""To be raised when Python calls unchanged sources in another way."""


class Unit(NamedTuple):
    """A file of ``raw_kernels/cpu`` with values of its macros."""

    file: str
    defines: Pairs = ()

    def __str__(self) -> str:
        macros = ", ".join(macro if value == "" else f"{macro}={value}" for macro, value in sorted(self.defines))
        return f"{self.file} ({macros})" if macros else self.file


class TargetedUnit:
    """A unit for one target.

    The name of its entry in the cache is FILE-UNIT-BUILD: UNIT stands for what is compiled, which any library that
    serves must have in common, BUILD for how: a library that was built otherwise serves where none can be built.
    """

    def __init__(self, unit: Unit, target: Target) -> None:
        self.unit = unit
        self.target = target
        self.text = with_defines("cpu", unit.file, unit.defines)
        called = f"{ABI_VERSION} {target.system} {target.machine} {struct.calcsize('P')}"
        self.start = f"{Path(unit.file).stem}-{digest(called, self.text, *extra_flags())}-"

    def name(self, command: tuple[str, ...]) -> str:
        """Name of the entry that the compiler ``command`` builds."""
        arguments = [word for family in FAMILIES for word in flags(family, self.target)]
        return self.start + digest(identity(command), _c_library(), *arguments, *sorted(self.target.features))

    def stored(self, cache: Cache) -> Iterator[Library]:
        """Libraries in a cache that this processor can run, the best first.

        They are those of the compiler that would build the unit, or of any if none can: there is no compiler that
        works, or the folder, built ahead on another system, is read-only.
        """
        commands = candidates()
        # No compiler is run for what the first choice has built.
        names = [self.name(command) for command in commands[:1]]
        yield from self._entries(cache, names)
        if commands and cache.writable:
            try:
                chosen = self.name(find_compiler(self.target).command)
            except EngineUnavailable:
                pass
            else:
                yield from self._entries(cache, [chosen] if chosen not in names else [])
                return
        yield from self._entries(cache, cache.names(self.start))

    def _entries(self, cache: Cache, names: list[str]) -> Iterator[Library]:
        found = (cache.find(name, self.target.features) for name in names)
        # Those that use more features come first.
        return iter(sorted(filter(None, found), key=lambda library: -len(library.record.features)))

    def build(self) -> tuple[Compiler, bytes]:
        """Compile it; raises `EngineUnavailable`."""
        compiler = find_compiler(self.target)
        return compiler, build(compiler, self.target, self.text, self.unit.file)

    def store(self, cache: Cache, compiler: Compiler, data: bytes) -> Library:
        """Keep what `build` returned; raises `OSError`."""
        return cache.store(
            self.name(compiler.command),
            data,
            self.target.features,
            f"{compiler.command[0]} ({compiler.version})",
            self.target.architecture,
        )


def prepare(unit: Unit, target: Target, cache: Cache) -> bool:
    """Build a unit into a cache unless it is there, without loading it; return whether it was built.

    Raises
    ------
    EngineUnavailable
        If it cannot be built.
    OSError
        If it cannot be written.
    """
    targeted = TargetedUnit(unit, target)
    if cache.find(targeted.name(find_compiler(target).command), target.features):
        return False
    targeted.store(cache, *targeted.build())
    return True


def _c_library() -> str:
    """Name and version of the C library, whose symbols are versioned on Linux."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        return ""
