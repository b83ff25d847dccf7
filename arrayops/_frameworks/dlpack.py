"""Arrays of any other library that implements DLPack and the array API standard."""

from functools import cache
from typing import Any, ClassVar

import numpy as np

from arrayops._core import dtypes
from arrayops._core.op import Meta
from arrayops._frameworks.base import Device, Framework, Unreadable

# DLPack device type -> device kind: CPU and pinned memory, CUDA and managed memory.
DEVICE_KINDS = {1: "cpu", 3: "cpu", 2: "cuda", 13: "cuda"}


class ArrayAPIFramework(Framework):
    """Arrays with ``__dlpack__`` and ``__array_namespace__``; one instance per library."""

    name: ClassVar[str] = "array API"
    package: ClassVar[str]

    @staticmethod
    def of(array_type: type) -> "ArrayAPIFramework":
        """The framework of the library that defines ``array_type``."""
        return _library(array_type.__module__.partition(".")[0])

    def recognises(self, array_type: type) -> bool:
        return array_type.__module__.partition(".")[0] == self.package

    def describe(self, array: Any) -> Meta:
        # The string is "float32" or "library.float32".
        dtype = str(array.dtype).rpartition(".")[2]
        if dtype == dtypes.BFLOAT16:
            raise Unreadable(
                f"is a bfloat16 array of {self.name}, which NumPy cannot import, expected another dtype: "
                "convert it to float32"
            )
        return Meta(tuple(array.shape), dtype)

    def device(self, array: Any) -> Device:
        number, index = array.__dlpack_device__()
        kind = DEVICE_KINDS.get(int(number))
        if kind is None:
            raise Unreadable(f"is on {array.device}, which arrayops does not support: move it to the CPU")
        # A library may have several devices that DLPack does not distinguish.
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
    framework_type: type[ArrayAPIFramework] = type("ArrayAPIFramework", (ArrayAPIFramework,), names)
    return framework_type()
