"""Units that are compiled for a dtype, and their functions."""

from ctypes import CDLL, c_int64, c_void_p, cast
from functools import cache

from arrayops._backends.cpu.engine.library import load
from arrayops._backends.cpu.engine.unit import Unit
from arrayops._core.dtypes import BFLOAT16

STORAGE = {"float32": "float", "float64": "double", "float16": "float16", BFLOAT16: "bfloat16"}
"""Dtype -> type of ``storage.h``."""


def unit(file: str, dtype: str) -> Unit:
    """A file compiled for arrays of one dtype."""
    return Unit(file, (("ACCUMULATOR", "double" if dtype == "float64" else "float"), ("STORAGE", STORAGE[dtype])))


class UnitFunctions:
    """Functions of a unit, by name."""

    def __init__(self, library: CDLL) -> None:
        self._library = library
        self._addresses: dict[str, int] = {}

    def address(self, name: str) -> int:
        """Address of a function that computes blocks."""
        if name not in self._addresses:
            address = cast(getattr(self._library, name), c_void_p).value
            assert address is not None
            self._addresses[name] = address
        return self._addresses[name]

    def number(self, name: str, *arguments: int) -> int:
        """Value of a function of integers."""
        function = getattr(self._library, name)
        function.restype = c_int64
        function.argtypes = [c_int64] * len(arguments)
        found: int = function(*arguments)
        return found


@cache
def kernels(file: str, dtype: str) -> UnitFunctions:
    """The functions of a file compiled for a dtype."""
    return UnitFunctions(load(unit(file, dtype)))
