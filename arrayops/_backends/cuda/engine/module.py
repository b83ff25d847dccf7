"""Compiles kernels on first use, and remembers them for each device."""

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, NamedTuple

import cupy

from arrayops._backends.cuda.engine import source
from arrayops._backends.cuda.engine.errors import KernelName, kernel_error, out_of_memory
from arrayops._core.process import reset_in_children

Defines = Mapping[str, int | str]
"""Macro -> value; the value "" defines it empty. `kernel` takes them as a tuple of pairs, which it can remember."""

Pairs = tuple[tuple[str, int | str], ...]

# CuPy itself adds the folder of CUDA's headers (those of pip's packages or of a toolkit) and the architecture.
OPTIONS = ("-std=c++17",)


class Kernel(NamedTuple):
    """One symbol of a compiled unit, loaded on one device."""

    call: Callable[..., None]
    """``call(grid, block, arguments, shared_mem=...)`` launches on CuPy's current stream."""
    identity: KernelName


class LoadedKernels:
    """What is compiled so far, by device and macros."""

    def __init__(self) -> None:
        self.clear()
        # As memories made by functools.cache are cleared, so that one rule clears all of the backend.
        self.cache_clear = self.clear

    def clear(self) -> None:
        """Compile anew from now on."""
        self.kernels: dict[tuple[int, str, str, Pairs, int], Kernel] = {}
        self.units: dict[tuple[int, str, Pairs], Any] = {}
        # A forked child may have got a lock that a thread of its parent held.
        self.lock = Lock()


_loaded = LoadedKernels()

# What is loaded belongs to the parent's connection to the GPU.
reset_in_children(_loaded.clear)


def kernel(file: str, name: str, defines: Pairs, shared_bytes: int = 0) -> Kernel:
    """The kernel ``name`` of ``raw_kernels/<file>`` on the current device, compiled on first use.

    Parameters
    ----------
    file : str
        File with the kernel. All kernels of a file with the same macros are compiled at once.
    name : str
        Symbol, declared ``extern "C"``.
    defines : tuple of pairs
        Macros and their values, in any order.
    shared_bytes : int
        Dynamic shared memory that launches will ask for; above 48 KiB less what the kernel declares itself, the GPU
        wants to know beforehand.

    Returns
    -------
    Kernel

    Raises
    ------
    KernelError
        If it cannot be compiled or loaded. Nothing is remembered then.
    """
    key = (cupy.cuda.runtime.getDevice(), file, name, defines, shared_bytes)
    # One look-up, without the lock, is all that a repeated call pays.
    loaded = _loaded.kernels.get(key)
    if loaded is None:
        with _loaded.lock:
            loaded = _loaded.kernels.get(key)
            if loaded is None:
                loaded = _loaded.kernels[key] = _load(*key)
    return loaded


def text(file: str, defines: Pairs) -> str:
    """What the compiler gets: the macros in alphabetical order, then the file with its headers written out."""
    if len(dict(defines)) != len(defines):
        raise ValueError(f"{file}: a macro is defined twice in {defines}")
    lines = [
        f"#define {macro} {int(value) if isinstance(value, int) else value}".rstrip()
        for macro, value in sorted(defines, key=_macro)
    ]
    return "\n".join([*lines, source.read(file)])


def _load(device: int, file: str, name: str, defines: Pairs, shared_bytes: int) -> Kernel:
    identity = KernelName(file, name, defines)
    unit_key = (device, file, tuple(sorted(defines, key=_macro)))
    unit = _loaded.units.get(unit_key)
    code = None if unit else text(file, defines)
    try:
        if unit is None:
            unit = cupy.RawModule(code=code, options=OPTIONS)
        function = unit.get_function(name)
        # Kept at the largest wish: the limit belongs to the symbol, which several kernels here may share.
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
