"""Names of the dtypes that operators know, as every framework spells them, and bfloat16 for NumPy, which has none."""

from typing import Any, Final

import numpy as np

FLOAT16: Final = "float16"
BFLOAT16: Final = "bfloat16"
FLOAT32: Final = "float32"
FLOAT64: Final = "float64"
BOOL: Final = "bool"

HALF: Final = frozenset({FLOAT16, BFLOAT16})
FLOATING: Final = frozenset({FLOAT16, BFLOAT16, FLOAT32, FLOAT64})
INTEGER: Final = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})

BFLOAT16_DTYPE: Final = np.dtype([(BFLOAT16, np.uint16)])
"""How bfloat16 arrays reach the CPU backends: 16 bits without arithmetic, whether or not ml_dtypes is installed."""


def bfloat16_bits(values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, np.dtype[np.uint32]]":
    """The bits of float32 or float64 ``values`` as bfloat16, rounded to nearest even by way of float32."""
    bits: np.ndarray[Any, np.dtype[np.uint32]] = np.ascontiguousarray(values, np.float32).view(np.uint32)
    # Adding half a unit of the last digit kept, less one where that digit is even, carries into it as rounding to
    # nearest even does. NaN is set apart: the carry could turn it into infinity.
    rounded = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16
    quiet = (bits >> 16) | 0x40
    return np.where(np.isnan(values), quiet, rounded)
