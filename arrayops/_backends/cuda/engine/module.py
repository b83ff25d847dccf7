"""Compiles kernels on first use and caches them for each device."""

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, NamedTuple

import cupy

from arrayops._backends.cuda.engine.errors import KernelName, kernel_error, out_of_memory
from arrayops._core.kernel_source import Pairs, with_defines
from arrayops._core.process import reset_in_children

Defines = Mapping[str, int | str]
"""Macro -> value; the value "" defines it empty. `kernel` takes a tuple of pairs instead, which is hashable."""

# CuPy adds the include directory of CUDA's headers (of pip packages or of a toolkit) and the architecture.
OPTIONS = ("-std=c++17",)


class Kernel(NamedTuple):
    """One symbol of a compiled unit, loaded on one device."""

    call: Callable[..., None]
    """``call(grid, block, arguments, shared_mem=...)`` launches on CuPy's current stream."""
    identity: KernelName


class LoadedKernels:
    """Compiled units and loaded kernels, by device and macros."""

    def __init__(self) -> None:
        self.clear()
        # The name that functools.cache uses, so that tests clear all caches of the backend in one way.
        self.cache_clear = self.clear

    def clear(self) -> None:
        """Forget all kernels: they are compiled again on next use."""
        self.kernels: dict[tuple[int, str, str, Pairs, int], Kernel] = {}
        self.units: dict[tuple[int, str, Pairs], Any] = {}
        # A lock that was held by another thread during a fork would stay locked in the child.
        self.lock = Lock()


_loaded = LoadedKernels()

# Loaded kernels belong to the CUDA context of the parent process.
reset_in_children(_loaded.clear)


def kernel(file: str, name: str, defines: Pairs, shared_bytes: int = 0) -> Kernel:
    """The kernel ``name`` of ``raw_kernels/<file>`` on the current device, compiled on first use.

    Parameters
    ----------
    file : str
        File with the kernel. All kernels of a file with the same macros are compiled together.
    name : str
        Symbol, declared ``extern "C"``.
    defines : tuple of pairs
        Macros and their values, in any order.
    shared_bytes : int
        Maximum dynamic shared memory of later launches. Static and dynamic shared memory above 48 KiB need an opt-in.

    Returns
    -------
    Kernel

    Raises
    ------
    KernelError
        If it cannot be compiled or loaded. Failures are not cached.
    """
    key = (cupy.cuda.runtime.getDevice(), file, name, defines, shared_bytes)
    # Repeated calls need only this look-up, without the lock.
    loaded = _loaded.kernels.get(key)
    if loaded is None:
        with _loaded.lock:
            loaded = _loaded.kernels.get(key)
            if loaded is None:
                loaded = _loaded.kernels[key] = _load(*key)
    return loaded


def text(file: str, defines: Pairs) -> str:
    """Source text for the compiler."""
    return with_defines("cuda", file, defines)


def _load(device: int, file: str, name: str, defines: Pairs, shared_bytes: int) -> Kernel:
    identity = KernelName(file, name, defines)
    unit_key = (device, file, tuple(sorted(defines, key=_macro)))
    unit = _loaded.units.get(unit_key)
    code = None if unit else text(file, defines)
    try:
        if unit is None:
            unit = cupy.RawModule(code=code, options=OPTIONS)
        function = unit.get_function(name)
        # Only ever raised: the limit belongs to the symbol, which several entries of the cache may share.
        if shared_bytes > 0 and shared_bytes > function.max_dynamic_shared_size_bytes:
            function.max_dynamic_shared_size_bytes = shared_bytes
    except (RuntimeError, cupy.cuda.compiler.CompileException) as error:
        if out_of_memory(error):
            raise
        raise kernel_error(identity, "cannot be compiled or loaded", error) from error
    _loaded.units[unit_key] = unit
    return Kernel(function, identity)


def _macro(define: tuple[str, int | str]) -> str:
    return define[0]
