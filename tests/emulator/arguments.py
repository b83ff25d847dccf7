"""Launch arguments as the bytes that a kernel reads, checked against its parameters.

On a device nothing checks them: an int64 where the kernel reads an int, or an array of the wrong type, gives nonsense.
"""

import ctypes
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

# What a parameter takes, by its letter in shim/launch.h and its size in bytes.
LETTERS = {
    "b1": ("bool", "uint8", "int8"),
    "i1": ("int8", "bool"),
    "u1": ("uint8", "bool"),
    "i2": ("int16",),
    "u2": ("uint16",),
    "i4": ("int32",),
    "u4": ("uint32",),
    "i8": ("int64",),
    "u8": ("uint64",),
    "f4": ("float32",),
    "f8": ("float64",),
    "h2": ("float16",),
    "B2": ("bfloat16",),
}


class EmulatorError(RuntimeError):
    """A launch that a device would not do, or would do with nonsense."""


def _is_cupy_array(value: Any) -> bool:
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(value, (cupy.ndarray, cupy.cuda.MemoryPointer))


def _type_name(dtype: "np.dtype[Any]") -> str:
    """bfloat16 also comes as a struct of one field of that name, which is what CuPy makes of PyTorch's arrays."""
    return dtype.names[0] if dtype.names else dtype.name


def _address(value: Any, target: str, where: str) -> int:
    """The pointer that stands for an array, which must hold what the parameter points to."""
    if value is None:
        return 0
    if isinstance(value, np.ndarray):
        address = int(value.ctypes.data)
    elif _is_cupy_array(value):
        if not hasattr(value, "dtype"):
            return int(value.ptr)
        address = int(value.data.ptr)
    elif isinstance(value, np.generic) and value.dtype.kind in "iu" and value.dtype.itemsize == 8:
        return int(value)
    else:
        raise EmulatorError(f"{where} is a pointer, and the launch passes {type(value).__name__}")
    # Vector types, structs and void stand for memory of any type.
    if target[0] not in "SV" and _type_name(value.dtype) not in LETTERS[target]:
        raise EmulatorError(f"{where} points to {LETTERS[target][0]}, and the array is {value.dtype}")
    return address


def _scalar(value: Any, parameter: str, where: str) -> bytes:
    """The bytes of a scalar or of a struct."""
    if not isinstance(value, np.generic):
        # CuPy makes these of Python's numbers.
        kinds = {bool: np.bool_, int: np.int64, float: np.float64}
        if type(value) not in kinds:
            raise EmulatorError(f"{where} is {parameter}, and the launch passes {type(value).__name__}")
        value = kinds[type(value)](value)
    if parameter[0] == "S":
        if value.dtype.itemsize != int(parameter[1:]):
            raise EmulatorError(
                f"{where} is a struct of {parameter[1:]} bytes, and the launch passes {value.dtype.itemsize} bytes"
            )
    elif _type_name(value.dtype) not in LETTERS[parameter]:
        raise EmulatorError(f"{where} is {LETTERS[parameter][0]}, and the launch passes {value.dtype}")
    return bytes(value.tobytes())


class Packed:
    """Arguments in memory of their own, kept as long as the kernel runs."""

    def __init__(self, kernel: str, parameters: Sequence[str], arguments: Sequence[Any]) -> None:
        if len(arguments) != len(parameters):
            raise EmulatorError(f"{kernel} has {len(parameters)} parameters, and the launch passes {len(arguments)}")
        self.values = []
        for number, (value, parameter) in enumerate(zip(arguments, parameters, strict=True)):
            where = f"{kernel}: parameter {number}"
            if parameter[0] == "*":
                address = _address(value, parameter[1:], where)
                content = address.to_bytes(ctypes.sizeof(ctypes.c_void_p), sys.byteorder)
            elif isinstance(value, np.ndarray) or _is_cupy_array(value):
                raise EmulatorError(f"{where} is {parameter}, no pointer, and the launch passes an array")
            else:
                content = _scalar(value, parameter, where)
            self.values.append(_aligned_copy(content))
        self.pointers = (ctypes.c_void_p * max(1, len(self.values)))()
        for number, buffer in enumerate(self.values):
            self.pointers[number] = buffer.ctypes.data


def _aligned_copy(content: bytes) -> "np.ndarray[Any, Any]":
    """A copy at a multiple of 16, which structs of vector types need."""
    room = np.zeros(len(content) + 16, np.uint8)
    begin = -int(room.ctypes.data) % 16
    buffer = room[begin : begin + len(content)]
    buffer[:] = np.frombuffer(content, np.uint8)
    return buffer
