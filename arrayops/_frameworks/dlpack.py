"""Arrays of any other library with DLPack and the array API standard."""

from functools import cache
from typing import Any, ClassVar

import numpy as np

from arrayops._core import dtypes
from arrayops._core.op import Meta
from arrayops._frameworks.base import Device, Framework, Unreadable

# DLPack device type -> kind: CPU and pinned memory, CUDA and managed memory.
KINDS = {1: "cpu", 3: "cpu", 2: "cuda", 13: "cuda"}


class ArrayAPIFramework(Framework):
    """Arrays with ``__dlpack__`` and ``__array_namespace__``; one instance for each library."""

    name: ClassVar[str] = "array API"
    differentiates: ClassVar[bool] = False
    package: ClassVar[str]

    @staticmethod
    def of(kind: type) -> "ArrayAPIFramework":
        """The framework of the library that defines the array type ``kind``."""
        return _library(kind.__module__.partition(".")[0])

    def recognises(self, kind: type) -> bool:
        return kind.__module__.partition(".")[0] == self.package

    def describe(self, array: Any) -> Meta:
        # "float32" and "library.float32" are both usual.
        dtype = str(array.dtype).rpartition(".")[2]
        if dtype == dtypes.BFLOAT16:
            raise Unreadable(f"is a bfloat16 array of {self.name}, which NumPy cannot take: pass it as float32")
        return Meta(tuple(array.shape), dtype)

    def device(self, array: Any) -> Device:
        number, index = array.__dlpack_device__()
        kind = KINDS.get(int(number))
        if kind is None:
            raise Unreadable(f"is on {array.device}, which no backend serves: move it to the CPU")
        # A library may have several devices within one of DLPack's.
        return Device(kind, int(index), str(array.device))

    def to_backend(self, array: Any) -> Any:
        if self.device(array).kind == "cuda":
            import cupy

            return cupy.from_dlpack(array)
        view = np.from_dlpack(array)
        view.setflags(write=False)
        return view

    def from_backend(self, result: Any, like: Any) -> Any:
        array = like.__array_namespace__().from_dlpack(result)
        return array if array.device == like.device else array.to_device(like.device)

    def launching(self, device: Device) -> Any:
        from arrayops._frameworks.cupy import launching

        return launching(device.number)


@cache
def _library(package: str) -> ArrayAPIFramework:
    names = {"name": package, "package": package}
    made: type[ArrayAPIFramework] = type("ArrayAPIFramework", (ArrayAPIFramework,), names)
    return made()
