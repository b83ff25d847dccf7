"""Devices for tests of the CUDA backend: an emulated one on any machine, a real one where there is one.

Both take the same tests: they are the public functions of `arrayops` on NumPy arrays, carried to the device and back.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any, NamedTuple

import cupy
import numpy as np

import arrayops as ao
from arrayops._backends.cuda.engine.module import Kernel
from arrayops._backends.cuda.engine.module import _loaded as loaded
from emulator import schedule
from emulator.host_cupy import host_cupy

# A NaN in every floating type: what is read without having been written shows in the result.
UNWRITTEN = 0xFF


class Placed(NamedTuple):
    """An array on the device, and all bytes from its first element to its last, those between elements included."""

    array: Any
    memory: Any
    content: np.ndarray

    @property
    def region(self) -> tuple[int, int]:
        return int(self.memory.ptr), int(self.memory.ptr) + self.content.size


class Device:
    """`device.pac_conv2d(x, ...)` is `arrayops.pac_conv2d` of arrays on the device, its result brought back.

    Every call checks what holds for all results: arrays of CuPy on the device, C-contiguous, sharing memory with no
    argument and with each other, and that no argument was written to.
    """

    emulated = True

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(ao, name)

        def on_device(*positional: Any, **keywords: Any) -> Any:
            placed: dict[int, Placed] = {}

            def place(value: Any) -> Any:
                if type(value) in (list, tuple):
                    return type(value)(map(place, value))
                if not isinstance(value, np.ndarray):
                    return value
                if id(value) not in placed:
                    placed[id(value)] = self.place(value)
                return placed[id(value)].array

            result = function(*map(place, positional), **{key: place(value) for key, value in keywords.items()})
            for argument in placed.values():
                now = self.download(argument.memory, argument.content.size)
                assert now.tobytes() == argument.content.tobytes(), f"{name}: an argument was written to"
            taken = [argument.region for argument in placed.values() if argument.array.size]

            def bring(value: Any) -> Any:
                if value is None:
                    return None
                if type(value) in (list, tuple):
                    return type(value)(map(bring, value))
                self.check_result(name, value, taken)
                return self.fetch(value)

            return type(result)(*map(bring, result)) if hasattr(result, "_fields") else bring(result)

        return on_device

    @staticmethod
    def check_result(name: str, value: Any, taken: list[tuple[int, int]]) -> None:
        """Check one result, and add its memory to what is `taken`."""
        assert type(value) is cupy.ndarray, name
        assert value.flags.c_contiguous, name
        assert value.device == cupy.cuda.Device(), name
        if value.size:
            begin, end = value.data.ptr, value.data.ptr + value.nbytes
            assert all(end <= low or high <= begin for low, high in taken), f"{name}: a result shares memory"
            taken.append((begin, end))

    def place(self, array: np.ndarray) -> Placed:
        """An array with these values and strides, in memory that begins and ends with it."""
        low, high = np.lib.array_utils.byte_bounds(array) if array.size else (0, 0)
        content = np.full(high - low, UNWRITTEN, np.uint8)
        memory = cupy.cuda.alloc(content.size)
        if array.size == 0:
            return Placed(cupy.ndarray(array.shape, array.dtype, memory), memory, content)
        first = int(array.ctypes.data) - low
        np.ndarray(array.shape, array.dtype, content, first, array.strides)[...] = array
        self.upload(memory, content)
        return Placed(cupy.ndarray(array.shape, array.dtype, memory + first, array.strides), memory, content)

    def fetch(self, array: Any) -> np.ndarray:
        """A C-contiguous array of the device."""
        return self.download(array.data, array.nbytes).view(array.dtype).reshape(array.shape)

    def upload(self, memory: Any, content: np.ndarray) -> None:
        ctypes.memmove(memory.ptr, content.ctypes.data, content.size)

    def download(self, memory: Any, size: int) -> np.ndarray:
        return np.frombuffer(ctypes.string_at(memory.ptr, size) if size else b"", np.uint8)

    def order(self, name: str, seed: int = 1) -> AbstractContextManager[None]:
        """Order of threads and blocks: "fifo", "lifo" or "random". A real device has its own."""
        return schedule(name, seed)


class RealDevice(Device):
    emulated = False

    def upload(self, memory: Any, content: np.ndarray) -> None:
        if content.size:
            memory.copy_from_host(content.ctypes.data, content.size)

    def download(self, memory: Any, size: int) -> np.ndarray:
        content = np.empty(size, np.uint8)
        if size:
            # Waits for all that was launched before.
            cupy.cuda.get_current_stream().synchronize()
            memory.copy_to_host(content.ctypes.data, size)
        return content

    def order(self, name: str, seed: int = 1) -> AbstractContextManager[None]:
        return nullcontext()


@contextmanager
def emulated(compute_capability: int = 80) -> Iterator[Device]:
    with host_cupy(compute_capability=compute_capability):
        yield Device()


@cache
def why_no_gpu() -> str:
    """Why there is no real device here; empty if there is one."""
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except (RuntimeError, ImportError) as error:
        return f"no CUDA device: {error}"
    return "" if count else "no CUDA device"


def forget() -> None:
    """Clear what the backend remembers: plans, kernels, properties of devices."""
    for name, module in list(sys.modules.items()):
        if name.startswith("arrayops._backends.cuda"):
            for value in list(vars(module).values()):
                if callable(clear := getattr(value, "cache_clear", None)):
                    clear()


@contextmanager
def allocations() -> Iterator[list[int]]:
    """Bytes of each piece of device memory that is asked for within."""
    allocate, sizes = cupy.cuda.get_allocator(), []

    def noted(size: int) -> Any:
        sizes.append(size)
        return allocate(size)

    with cupy.cuda.using_allocator(noted):
        yield sizes


def kernels() -> list[Kernel]:
    """What was asked for since `forget`, or since the emulated device is there."""
    return list(loaded.kernels.values())


@contextmanager
def real() -> Iterator[Device]:
    """The first GPU. As on the emulated one, memory holds NaN until it is written."""
    forget()
    pool = cupy.cuda.MemoryPool()

    def unwritten(size: int) -> Any:
        memory = pool.malloc(size)
        if size:
            memory.memset(UNWRITTEN, size)
        return memory

    with cupy.cuda.Device(0), cupy.cuda.using_allocator(unwritten):
        yield RealDevice()
