"""`RawModule` and its kernels, with the constructor and the calls of CuPy's."""

import ctypes
import os
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from emulator import building, sanitizer, schedule
from emulator.arguments import EmulatorError, Packed

DEFAULT_SHARED = 48 << 10

# Shared memory of a block at most, after asking for it; the CUDA programming guide's table of compute capabilities.
LARGEST_SHARED = {75: 64 << 10, 80: 163 << 10, 86: 99 << 10, 89: 99 << 10, 90: 227 << 10, 100: 227 << 10, 120: 99 << 10}


class Architecture:
    """Compute capability times ten of the device that kernels believe to run on; one for the whole process."""

    number = 80


# The runtime knows one launch at a time.
_launching = threading.Lock()


class Launch(ctypes.Structure):
    """Mirrors the struct of this name in shim/interface.h."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("dynamic_shared", ctypes.c_uint),
        ("shared_limit", ctypes.c_uint),
        ("order", ctypes.c_uint),
        ("seed", ctypes.c_uint64),
    )


@cache
def _runtime(path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(path), mode=os.RTLD_GLOBAL | os.RTLD_NOW)


@cache
def _library(path: Path) -> ctypes.CDLL:
    _runtime(building.runtime_library())
    return ctypes.CDLL(str(path))


class RawModule:
    """Stands for `cupy.RawModule`."""

    def __init__(
        self,
        *,
        code: str | None = None,
        path: str | os.PathLike[str] | None = None,
        options: Sequence[str] = (),
        backend: str = "nvrtc",
        translate_cucomplex: bool = False,
        enable_cooperative_groups: bool = False,
        name_expressions: Sequence[str] | None = None,
        jitify: bool = False,
    ) -> None:
        if (code is None) == (path is None):
            raise TypeError("exactly one of code and path has to be given")
        if backend != "nvrtc" or translate_cucomplex or enable_cooperative_groups or name_expressions or jitify:
            raise EmulatorError('the emulator knows extern "C" kernels compiled by NVRTC and nothing else')
        self.code = code or "" if path is None else Path(path).read_text(encoding="utf-8")
        library = building.kernel_library(self.code, tuple(options), Architecture.number)
        self._library = _library(library)
        self._kernels = self._described()
        self._functions: dict[str, Kernel] = {}

    def _described(self) -> dict[str, tuple[int, int, tuple[str, ...]]]:
        """By name: number, most threads of a block, parameters."""
        kernels = {}
        text = ctypes.create_string_buffer(1 << 14)
        number, count = 0, 1
        while number < count:
            count = self._library.emulator_describe(number, text, ctypes.c_size_t(len(text)))
            name, threads, *parameters = text.value.decode().split()
            kernels[name] = (number, int(threads), tuple(parameters))
            number += 1
        return kernels

    def get_function(self, name: str) -> "Kernel":
        if name not in self._kernels:
            raise EmulatorError(f"no kernel {name}; there are {', '.join(sorted(self._kernels))}")
        # One object a symbol, which all callers share with its limit on shared memory.
        if name not in self._functions:
            self._functions[name] = Kernel(self, name)
        return self._functions[name]

    def compile(self, log_stream: Any = None) -> None:
        """Done in the constructor."""


def _three(size: Sequence[int], what: str) -> Any:
    if not 1 <= len(size) <= 3:
        raise EmulatorError(f"{what} is {tuple(size)}, expected one to three sizes")
    whole = [int(part) for part in (*size, 1, 1)[:3]]
    if min(whole) < 0 or max(whole) >= 1 << 32:
        raise EmulatorError(f"{what} is {tuple(size)}, out of range")
    return (ctypes.c_uint * 3)(*whole)


class Kernel:
    """Stands for `cupy.RawKernel`."""

    def __init__(self, module: RawModule, name: str) -> None:
        self._module = module
        self.name = name
        self._number, self._threads, self._parameters = module._kernels[name]
        self._dynamic_limit: int | None = None

    def __call__(
        self,
        grid: Sequence[int],
        block: Sequence[int],
        args: Sequence[Any],
        *,
        shared_mem: int = 0,
        stream: Any = None,
    ) -> None:
        limit = self.max_dynamic_shared_size_bytes
        if not 0 <= shared_mem <= limit:
            raise EmulatorError(f"{self.name}: {shared_mem} bytes of dynamic shared memory, {limit} are allowed")
        packed = Packed(self.name, self._parameters, args)
        sizes = _three(grid, f"{self.name}: grid"), _three(block, f"{self.name}: block")
        if (threads := sizes[1][0] * sizes[1][1] * sizes[1][2]) > self._threads:
            raise EmulatorError(f"{self.name}: {threads} threads a block, its launch bounds allow {self._threads}")
        order, seed = schedule.current()
        launch = Launch(*sizes, shared_mem, self._shared_limit(), order, seed)
        message = ctypes.create_string_buffer(2048)
        with _launching, sanitizer.standard_error_kept():
            failed = self._module._library.emulator_launch(
                self._number, ctypes.byref(launch), packed.pointers, message, ctypes.c_size_t(len(message))
            )
        found = sanitizer.new_reports()
        if failed:
            raise EmulatorError(f"{self.name}: {message.value.decode()}")
        if found:
            raise EmulatorError(f"{self.name}: a sanitizer reports\n{found}")

    def _shared_limit(self) -> int:
        """Static and dynamic shared memory of a block together: whoever asks for more than usual may have all."""
        return DEFAULT_SHARED if self._dynamic_limit is None else LARGEST_SHARED[Architecture.number]

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return DEFAULT_SHARED if self._dynamic_limit is None else self._dynamic_limit

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        most = LARGEST_SHARED[Architecture.number]
        if not 0 <= size <= most:
            raise EmulatorError(f"{self.name}: {size} bytes of shared memory, a block of this device has {most}")
        self._dynamic_limit = int(size)

    @property
    def max_threads_per_block(self) -> int:
        return self._threads

    @property
    def attributes(self) -> dict[str, int]:
        """What CuPy tells of a kernel; nothing here is known of registers."""
        return {
            "max_threads_per_block": self._threads,
            "shared_size_bytes": 0,
            "const_size_bytes": 0,
            "local_size_bytes": 0,
            "num_regs": 0,
            "ptx_version": Architecture.number,
            "binary_version": Architecture.number,
            "cache_mode_ca": 0,
            "max_dynamic_shared_size_bytes": self.max_dynamic_shared_size_bytes,
            "preferred_shared_memory_carveout": -1,
        }
