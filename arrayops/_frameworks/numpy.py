"""NumPy arrays, which the CPU backend uses natively."""

from typing import Any, ClassVar

import numpy as np

from arrayops._core import dtypes
from arrayops._core.dtypes import BFLOAT16_DTYPE
from arrayops._core.op import Meta
from arrayops._frameworks.base import Device, Framework, Unreadable

NAMES: dict[np.dtype[Any], str] = {
    np.dtype(name): name for name in {*dtypes.FLOATING, *dtypes.INTEGER, dtypes.BOOL} - {dtypes.BFLOAT16}
} | {BFLOAT16_DTYPE: dtypes.BFLOAT16}

HOST = Device("cpu", 0)


def dtype_name(dtype: "np.dtype[Any]") -> str:
    """Name of a NumPy dtype; unsupported dtypes keep NumPy's name and are rejected by the checks."""
    name = NAMES.get(dtype)
    if name is None:
        # ml_dtypes, which registers bfloat16, is not imported here: its dtype is identified by name.
        name = dtypes.BFLOAT16 if dtype.name == dtypes.BFLOAT16 and dtype.itemsize == 2 else str(dtype)
        NAMES[dtype] = name
    return name


def host_view(array: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """``array`` with bfloat16 viewed as the backend's dtype, whichever package registered it."""
    dtype = array.dtype
    if dtype.kind == "V" and dtype != BFLOAT16_DTYPE and dtype_name(dtype) == dtypes.BFLOAT16:
        return array.view(BFLOAT16_DTYPE)
    return array


class NumPyFramework(Framework):
    """numpy.ndarray and its scalars."""

    name: ClassVar[str] = "NumPy"

    def recognises(self, array_type: type) -> bool:
        return issubclass(array_type, (np.ndarray, np.generic))

    def describe(self, array: Any) -> Meta:
        # The first condition also avoids importing numpy.ma, which takes 20 ms, for plain arrays.
        if type(array) is not np.ndarray and isinstance(array, np.ma.MaskedArray):
            raise Unreadable("is a numpy.ma.MaskedArray, expected a plain array; pass its mask as mask=")
        dtype = array.dtype
        # Equal to Meta(...), in half the time.
        return tuple.__new__(Meta, (array.shape, NAMES.get(dtype) or dtype_name(dtype)))

    def device(self, array: Any) -> Device:
        return HOST

    def to_backend(self, array: Any) -> Any:
        if type(array) is np.ndarray and array.dtype.kind != "V":
            return array
        return host_view(np.asarray(array))

    def from_backend(self, result: Any, like: Any) -> Any:
        if result.dtype.kind == "V":
            return result.view(like.dtype)
        return result


frameworks = (NumPyFramework(),)
