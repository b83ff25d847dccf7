"""Arrays of any other library, by DLPack: ``__dlpack__`` and ``__dlpack_device__`` are all that they need."""

import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, ClassVar

import numpy as np

from arrayops._core import dtypes
from arrayops._core.op import Meta
from arrayops._frameworks.base import Device, Framework, Unreadable
from arrayops._frameworks.numpy import dtype_name

# DLPack device type -> device kind: CPU and pinned memory, CUDA and managed memory.
DEVICE_KINDS = {1: "cpu", 3: "cpu", 2: "cuda", 13: "cuda"}


class DLPackFramework(Framework):
    """Arrays with ``__dlpack__`` and ``__dlpack_device__``; one instance per library."""

    name: ClassVar[str] = "DLPack"
    package: ClassVar[str]

    @staticmethod
    def of(array_type: type) -> "DLPackFramework":
        """The framework of the library that defines ``array_type``."""
        return _library(array_type.__module__.partition(".")[0])

    def recognises(self, array_type: type) -> bool:
        return array_type.__module__.partition(".")[0] == self.package

    def describe(self, array: Any) -> Meta:
        # The string is "float32" or "library.float32".
        if str(getattr(array, "dtype", "")).rpartition(".")[2] == dtypes.BFLOAT16:
            raise Unreadable(
                f"is a bfloat16 array of {self.name}, which NumPy cannot import, expected another dtype: "
                "convert it to float32"
            )
        # Raises for a device that cannot be imported, with a better message.
        self.device(array)
        # Not by attributes, which libraries without the array API may lack or define differently.
        try:
            view = self.to_backend(array)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise Unreadable(f"is an array of {self.name} that cannot be imported by DLPack: {error}") from error
        return Meta(view.shape, dtype_name(view.dtype))

    def device(self, array: Any) -> Device:
        number, index = array.__dlpack_device__()
        kind = DEVICE_KINDS.get(int(number))
        # A library may have several devices that DLPack does not distinguish.
        label = str(getattr(array, "device", ""))
        if kind is None:
            raise Unreadable(
                f"is on {label or f'the DLPack device type {int(number)}'}, which arrayops does not support: "
                "move it to the CPU"
            )
        return Device(kind, int(index), label)

    def to_backend(self, array: Any) -> Any:
        if self.device(array).kind == "cuda":
            import cupy

            return cupy.from_dlpack(array)
        view = np.from_dlpack(array)
        view.setflags(write=False)
        return view

    def from_backend(self, result: Any, like: Any) -> Any:
        importer = _importer_of(like)
        if importer is None:
            return result
        array = importer(result)
        if hasattr(array, "to_device") and array.device != like.device:
            return array.to_device(like.device)
        return array

    def integer(self, array: Any) -> int:
        return int(self.to_backend(array))

    def launching(self, device: Device) -> Any:
        from arrayops._frameworks.cupy import launching

        return launching(device.number)


def _importer_of(array: Any) -> Callable[[Any], Any] | None:
    """The library's ``from_dlpack``: of the array's namespace, of its type, or of a module that defines the type."""
    if hasattr(array, "__array_namespace__"):
        importer: Callable[[Any], Any] | None = getattr(array.__array_namespace__(), "from_dlpack", None)
        if importer is not None:
            return importer
    array_type: type = type(array)
    return _importer_of_type(array_type)


@cache
def _importer_of_type(array_type: type) -> Callable[[Any], Any] | None:
    owners: list[Any] = [array_type]
    for base in array_type.__mro__:
        owners += [sys.modules.get(module) for module in _with_parents(base.__module__)]
    return next((owner.from_dlpack for owner in owners if hasattr(owner, "from_dlpack")), None)


def _with_parents(module: str) -> Iterator[str]:
    """Names of a module and its parent packages, such as "a.b.c", "a.b" and "a"."""
    while module:
        yield module
        module = module.rpartition(".")[0]


@cache
def _library(package: str) -> DLPackFramework:
    names = {"name": package, "package": package}
    framework_type: type[DLPackFramework] = type("DLPackFramework", (DLPackFramework,), names)
    return framework_type()
