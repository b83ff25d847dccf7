"""An operator with an obvious result, to see what dispatch and the frameworks do to arrays on their way."""

from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.numpy.memory import empty, load, store
from arrayops._call.dispatch import dispatch
from arrayops._core.dtypes import BFLOAT16_DTYPE
from arrayops._core.op import ArraySpec, Op

FLOATS = ("float16", "bfloat16", "float32", "float64")


class Parameters(NamedTuple):
    scale: int = 2


def same_as_first(metas: Any, parameters: Parameters) -> Any:
    return (metas[0],)


SCALED = Op("scaled", "toy", (ArraySpec("input"), ArraySpec("weight", optional=True)), Parameters, same_as_first)


class Backend:
    """``scale * input``, in place of every function of every backend; keeps what it got and what it gave."""

    def __init__(self) -> None:
        self.arrays: tuple[Any, ...] = ()
        self.result: Any = None

    def find(self, kind: str, family: str, name: str) -> "Backend":
        return self

    def __call__(self, arrays: tuple[Any, ...], parameters: Parameters) -> tuple[Any, ...]:
        self.arrays = arrays
        source = arrays[0]
        self.result = empty(source.shape, source.dtype)
        if source.dtype.kind in "fV":
            wide = empty(source.shape, np.float64 if source.dtype == np.float64 else np.float32)
            load(wide, source)
            store(self.result, wide * wide.dtype.type(parameters.scale))
        else:
            np.multiply(source, parameters.scale, out=self.result, casting="unsafe")
        return (self.result,)

    def scaled(self, array: Any, weight: Any = None, scale: int = 2) -> Any:
        """The public function that `dispatch` would stand behind."""
        return dispatch(SCALED, (array, weight), Parameters(scale))[0]


def address(array: "np.ndarray[Any, Any]") -> int:
    return array.__array_interface__["data"][0]


def bfloat16(values: Any) -> "np.ndarray[Any, Any]":
    """``values`` as the backend's bfloat16."""
    array = np.asarray(values, np.float32)
    result = empty(array.shape, BFLOAT16_DTYPE)
    store(result, array)
    return result


def unaligned(array: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """A copy that starts 4 bytes behind a multiple of 64."""
    raw = empty((array.nbytes + 64,), np.uint8)[4 : 4 + array.nbytes]
    copy = raw.view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
