"""A device for CuPy that is not there: real `cupy.ndarray` objects over host memory, kernels run by the emulator.

    with host_cupy(compute_capability=90) as device:
        result = to_host(backend_function(to_device(array)))

What works inside: `cupy.empty` and views, `RawModule`, devices, streams, and the few functions replaced below.
Everything else of CuPy that computes asks for a driver and raises.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

from emulator.arguments import EmulatorError
from emulator.host_memory import Array, HostAllocator, host_view, to_device, to_host
from emulator.kernels import DEFAULT_SHARED, LARGEST_SHARED, Architecture, RawModule

__all__ = ["HostDevice", "HostStream", "host_cupy", "to_device", "to_host"]

_current_device: ContextVar[int] = ContextVar("emulator_device", default=0)
_current_stream: ContextVar[Any] = ContextVar("emulator_stream", default=None)

# Numbers of cudaDeviceAttr that are asked for by number.
ATTRIBUTE_NUMBERS = {
    1: "MaxThreadsPerBlock",
    8: "MaxSharedMemoryPerBlock",
    10: "WarpSize",
    16: "MultiProcessorCount",
    39: "MaxThreadsPerMultiProcessor",
    75: "ComputeCapabilityMajor",
    76: "ComputeCapabilityMinor",
    81: "MaxSharedMemoryPerMultiprocessor",
    97: "MaxSharedMemoryPerBlockOptin",
}


class Emulated:
    """What the emulated machine has."""

    def __init__(self, compute_capability: int, devices: int, multiprocessors: int) -> None:
        self.compute_capability = compute_capability
        self.devices = devices
        self.attributes = {
            "MaxThreadsPerBlock": 1024,
            "MaxBlockDimX": 1024,
            "MaxBlockDimY": 1024,
            "MaxBlockDimZ": 64,
            "MaxGridDimX": (1 << 31) - 1,
            "MaxGridDimY": 65535,
            "MaxGridDimZ": 65535,
            "MaxSharedMemoryPerBlock": DEFAULT_SHARED,
            "MaxSharedMemoryPerBlockOptin": LARGEST_SHARED[compute_capability],
            "MaxSharedMemoryPerMultiprocessor": LARGEST_SHARED[compute_capability] + 1024,
            "MaxThreadsPerMultiProcessor": 1024 if compute_capability == 75 else 2048,
            "MultiProcessorCount": multiprocessors,
            "WarpSize": 32,
            "ComputeCapabilityMajor": compute_capability // 10,
            "ComputeCapabilityMinor": compute_capability % 10,
        }

    def check(self, number: int) -> int:
        if not 0 <= number < self.devices:
            raise EmulatorError(f"there is no device {number}, of {self.devices}")
        return number


# The machine of the innermost `host_cupy`, which is the same for all threads.
_machines: list[Emulated] = []


class HostDevice:
    """Stands for `cupy.cuda.Device`."""

    def __init__(self, device: Any = None) -> None:
        number = _current_device.get() if device is None else int(device)
        self.id = _machines[-1].check(number)
        self._tokens: list[Any] = []

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HostDevice) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<emulated CUDA Device {self.id}>"

    def __enter__(self) -> "HostDevice":
        self._tokens.append(_current_device.set(self.id))
        return self

    def __exit__(self, *_: object) -> None:
        _current_device.reset(self._tokens.pop())

    def use(self) -> None:
        _current_device.set(self.id)

    def synchronize(self) -> None:
        """Launches are done when they return."""

    @property
    def compute_capability(self) -> str:
        return str(_machines[-1].compute_capability)

    @property
    def attributes(self) -> dict[str, int]:
        return dict(_machines[-1].attributes)

    @property
    def mem_info(self) -> tuple[int, int]:
        return 1 << 34, 1 << 34


class HostStream:
    """Stands for a stream. `foreign` is what it was made from, None for one of CuPy's own."""

    def __init__(self, foreign: Any = None, **_: Any) -> None:
        self.foreign = foreign
        self.ptr = 0
        self._tokens: list[Any] = []

    def __enter__(self) -> "HostStream":
        self._tokens.append(_current_stream.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        _current_stream.reset(self._tokens.pop())

    def synchronize(self) -> None:
        """Launches are done when they return."""

    @classmethod
    def from_external(cls, foreign: Any) -> "HostStream":
        return cls(foreign)


def _current() -> HostStream:
    return _current_stream.get() or HostStream()


# ---- replacements for what CuPy does with kernels of its own


def _get(self: Any, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> Array:
    if out is not None:
        out[...] = host_view(self)
        return out  # type: ignore[no-any-return]
    return to_host(self)


def _set(self: Any, values: Any, stream: Any = None) -> None:
    host_view(self)[...] = values


def _item(self: Any, *index: Any) -> Any:
    return host_view(self).item(*index)


def _fill(self: Any, value: Any) -> None:
    host_view(self)[...] = value


def _copy(self: Any, order: str = "C") -> Any:
    return to_device(to_host(self))


def _device(self: Any) -> HostDevice:
    return HostDevice(self.data.device_id)


def _zeros(shape: Any, dtype: Any = float, order: str = "C") -> Any:
    return _full(shape, 0, dtype)


def _full(shape: Any, value: Any, dtype: Any = None, order: str = "C") -> Any:
    import cupy

    result = cupy.empty(shape, np.asarray(value).dtype if dtype is None else dtype)
    _fill(result, value)
    return result


def _ascontiguousarray(array: Any, dtype: Any = None) -> Any:
    wanted = array.dtype if dtype is None else np.dtype(dtype)
    if array.flags.c_contiguous and wanted == array.dtype:
        return array
    return to_device(to_host(array).astype(wanted))


def _forget_modules() -> None:
    """Clear what the backend remembers of devices and compiled kernels, which another device must not be given."""
    for name, module in list(sys.modules.items()):
        if name.startswith("arrayops._backends.cuda"):
            if callable(forget := getattr(module, "forget", None)):
                forget()
            for value in list(vars(module).values()):
                if callable(clear := getattr(value, "cache_clear", None)):
                    clear()


def _replacements(cupy: Any, machine: Emulated) -> list[tuple[Any, str, Any]]:
    runtime = cupy.cuda.runtime
    attribute_of = machine.attributes
    properties = {
        "name": b"emulated",
        "major": attribute_of["ComputeCapabilityMajor"],
        "minor": attribute_of["ComputeCapabilityMinor"],
        "multiProcessorCount": attribute_of["MultiProcessorCount"],
        "sharedMemPerBlock": attribute_of["MaxSharedMemoryPerBlock"],
        "sharedMemPerBlockOptin": attribute_of["MaxSharedMemoryPerBlockOptin"],
        "warpSize": 32,
    }
    return [
        (cupy, "RawModule", RawModule),
        (cupy, "zeros", _zeros),
        (cupy, "full", _full),
        (cupy, "ascontiguousarray", _ascontiguousarray),
        (cupy.ndarray, "device", property(_device)),
        (cupy.ndarray, "get", _get),
        (cupy.ndarray, "set", _set),
        (cupy.ndarray, "item", _item),
        (cupy.ndarray, "fill", _fill),
        (cupy.ndarray, "copy", _copy),
        (cupy.cuda, "Device", HostDevice),
        (cupy.cuda, "Stream", HostStream),
        (cupy.cuda, "get_current_stream", _current),
        (cupy.cuda, "is_available", lambda: True),
        (cupy.cuda.device, "get_device_id", _current_device.get),
        (cupy.cuda.device, "get_compute_capability", lambda: str(machine.compute_capability)),
        (runtime, "getDevice", _current_device.get),
        (runtime, "setDevice", lambda number: _current_device.set(machine.check(number)) and None),
        (runtime, "getDeviceCount", lambda: machine.devices),
        (runtime, "deviceGetAttribute", lambda number, _device: attribute_of[ATTRIBUTE_NUMBERS[number]]),
        (runtime, "getDeviceProperties", lambda _device: dict(properties)),
        (runtime, "deviceSynchronize", lambda: None),
        (runtime, "streamSynchronize", lambda _stream: None),
    ]


@contextmanager
def host_cupy(compute_capability: int = 80, *, devices: int = 1, multiprocessors: int = 4) -> Iterator[SimpleNamespace]:
    """Give CuPy an emulated device, with a compute capability times ten. Yields `memory`, its allocator."""
    import cupy

    if compute_capability not in LARGEST_SHARED:
        raise ValueError(f"compute capability is {compute_capability}, expected one of {sorted(LARGEST_SHARED)}")
    machine = Emulated(compute_capability, devices, multiprocessors)
    allocator = HostAllocator()
    before = cupy.cuda.get_allocator()
    architecture = Architecture.number
    _forget_modules()
    cupy.cuda.set_allocator(allocator)
    patches = [mock.patch.object(owner, name, value) for owner, name, value in _replacements(cupy, machine)]
    started = []
    _machines.append(machine)
    Architecture.number = compute_capability
    try:
        for patch in patches:
            patch.start()
            started.append(patch)
        yield SimpleNamespace(memory=allocator)
        allocator.check()
    finally:
        for patch in reversed(started):
            patch.stop()
        cupy.cuda.set_allocator(before)
        _forget_modules()
        Architecture.number = architecture
        _machines.pop()
