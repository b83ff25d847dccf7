"""Memory of the host that stands for a device's, and arrays of CuPy over it.

Memory is as large as was asked for, and holds 0xFF: a NaN in every floating type, so that a result that was never
written shows. AddressSanitizer watches its two ends; without it there are guards, which are looked at when the memory
is given back, and when the emulated device goes away.
"""

import ctypes
import weakref
from functools import cache
from typing import Any

import numpy as np

from emulator import building
from emulator.arguments import EmulatorError

# As CuPy's pool aligns its blocks.
ALIGNMENT = 512
GUARD = 512
GUARD_BYTE = 0xA5

Array = np.ndarray[Any, Any]


@cache
def _libc() -> Any:
    """The C library, or what a sanitizer puts in its place."""
    library = ctypes.CDLL(None)
    library.posix_memalign.argtypes = (ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t, ctypes.c_size_t)
    library.free.argtypes = (ctypes.c_void_p,)
    return library


def _bytes(address: int, size: int) -> Array:
    memory: Any = (ctypes.c_ubyte * size).from_address(address)
    return np.asarray(np.frombuffer(memory, np.uint8))


class HostMemory:
    """One allocation; freed when nobody refers to it any more."""

    def __init__(self, size: int, report: list[str]) -> None:
        self.size = size
        self.guard = 0 if "address" in building.sanitizer() else GUARD
        begin = ctypes.c_void_p()
        if _libc().posix_memalign(ctypes.byref(begin), ALIGNMENT, size + 2 * self.guard) != 0 or begin.value is None:
            raise MemoryError(f"{size} bytes")
        self.begin: int = begin.value
        self.pointer = self.begin + self.guard
        _bytes(self.begin, size + 2 * self.guard)[:] = GUARD_BYTE
        _bytes(self.pointer, size)[:] = 0xFF
        self.report = report
        self.release = weakref.finalize(self, _release, self.begin, size, self.guard, report)

    def check(self) -> None:
        _check(self.begin, self.size, self.guard, self.report)


def _check(begin: int, size: int, guard: int, report: list[str]) -> None:
    for where, start in (("before", begin), ("behind", begin + guard + size)):
        guarded = _bytes(start, guard) if guard else np.empty(0, np.uint8)
        damaged = np.flatnonzero(guarded != GUARD_BYTE)
        if damaged.size:
            distance = int(guard - damaged[-1]) if where == "before" else int(damaged[0]) + 1
            report.append(f"a write {where} an array of {size} bytes, {distance} bytes from its end")
            guarded[:] = GUARD_BYTE


def _release(begin: int, size: int, guard: int, report: list[str]) -> None:
    _check(begin, size, guard, report)
    _libc().free(begin)


class HostAllocator:
    """What `cupy.cuda.set_allocator` takes."""

    def __init__(self) -> None:
        self.report: list[str] = []
        self.live: weakref.WeakSet[HostMemory] = weakref.WeakSet()

    def __call__(self, size: int) -> Any:
        import cupy

        if size == 0:
            # As CuPy's pool does: whoever reads an empty array reads from nowhere.
            return cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(0, 0, self, 0), 0)
        memory = HostMemory(size, self.report)
        self.live.add(memory)
        return cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(memory.pointer, size, memory, 0), 0)

    def check(self) -> None:
        """Raise if anything was written outside of the arrays that were given out."""
        for memory in list(self.live):
            memory.check()
        if self.report:
            damage, self.report[:] = "; ".join(self.report), []
            raise EmulatorError(damage)


def host_view(array: Any) -> Array:
    """A NumPy array over the memory of an array of CuPy, with its strides."""
    if array.size == 0:
        return np.empty(array.shape, array.dtype)
    reach = [(size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True)]
    below = -sum(step for step in reach if step < 0)
    above = sum(step for step in reach if step > 0) + array.dtype.itemsize
    memory = (ctypes.c_ubyte * (below + above)).from_address(array.data.ptr - below)
    # Numbers outside of NumPy's own types refuse the buffer protocol.
    view = np.ndarray(array.shape, f"V{array.dtype.itemsize}", memory, below, array.strides)
    return view.view(array.dtype)


def to_device(array: Any) -> Any:
    """An array of CuPy with these values, and the same strides. What lies between strided elements is 0xFF."""
    import cupy

    array = np.asarray(array)
    if array.size == 0:
        return cupy.empty(array.shape, array.dtype)
    low, high = np.lib.array_utils.byte_bounds(array)
    memory = cupy.cuda.alloc(high - low)
    result = cupy.ndarray(array.shape, array.dtype, memory + (int(array.ctypes.data) - low), array.strides)
    host_view(result)[...] = array
    return result


def to_host(array: Any) -> Array:
    """A copy in NumPy, contiguous in C order."""
    return host_view(array).copy(order="C")
