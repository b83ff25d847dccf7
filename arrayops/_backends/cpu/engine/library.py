"""Loads compiled units, each once a process: from the cache, or compiled now."""

import contextlib
import ctypes

from arrayops._backends.cpu.engine.cache import SUFFIX, Cache, CacheUnusable, Library
from arrayops._backends.cpu.engine.child import work_folder
from arrayops._backends.cpu.engine.errors import EngineUnavailable, remembered
from arrayops._backends.cpu.engine.notice import tell
from arrayops._backends.cpu.engine.target import check_processor, target_of
from arrayops._backends.cpu.engine.trust import privileges_differ
from arrayops._backends.cpu.engine.unit import TargetedUnit, Unit

_loaded: dict[Unit, ctypes.CDLL | EngineUnavailable] = {}
"""Result of `load`, or why it failed."""


def load(unit: Unit) -> ctypes.CDLL:
    """The library of a unit.

    Raises
    ------
    EngineUnavailable
        If it can be neither found nor built, or not loaded. The same again at each later call.
    ValueError
        If an environment variable has a value that it cannot have.
    """
    return remembered(_loaded, unit, _load)


def _load(unit: Unit) -> ctypes.CDLL:
    if privileges_differ():
        raise EngineUnavailable("the real and the effective user or group of this process differ")
    target = target_of()
    check_processor(target)
    targeted = TargetedUnit(unit, target)
    cache, unkept = _cache()
    if cache is not None:
        for library in targeted.stored(cache):
            # One that was built for another C library does not load: then it is built again.
            with contextlib.suppress(OSError):
                return _open(library.data, library)
    compiler, data = targeted.build()
    kept: Library | None = None
    if cache is not None:
        try:
            kept = targeted.store(cache, compiler, data)
        except OSError as error:
            unkept = str(error)
    if kept is None:
        tell(f"compiled kernels are not kept, so that each process compiles them: {unkept}")
    try:
        return _open(data, kept)
    except OSError as error:
        raise EngineUnavailable(f"{unit}, built by {compiler.command[0]}, cannot be loaded: {error}") from error


def _cache() -> tuple[Cache | None, str]:
    """The cache, or why there is none."""
    try:
        return Cache(), ""
    except CacheUnusable as error:
        return None, str(error)


def _open(data: bytes, kept: Library | None) -> ctypes.CDLL:
    """Load a library from the cache, or from a private folder if it is not kept or its folder is mounted noexec."""
    if kept is not None:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(str(kept.path))
    with work_folder() as folder:
        path = folder / f"library{SUFFIX}"
        path.write_bytes(data)
        # The file may go: the system keeps what is mapped.
        return ctypes.CDLL(str(path))
