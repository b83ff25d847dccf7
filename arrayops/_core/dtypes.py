"""Names of the supported dtypes, the same in every framework, and a bfloat16 dtype for NumPy, which lacks one."""

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
"""Dtype of bfloat16 arrays in the CPU backends: opaque 16-bit values, with or without ml_dtypes installed."""


def bfloat16_bits(values: "np.ndarray[Any, Any]") -> "np.ndarray[Any, np.dtype[np.uint32]]":
    """Convert float32 or float64 ``values`` to bfloat16 bit patterns; float64 is rounded to float32 first."""
    bits: np.ndarray[Any, np.dtype[np.uint32]] = np.ascontiguousarray(values, np.float32).view(np.uint32)
    # Round to nearest, ties to even: add half a unit in the last kept bit, minus one if that bit is 0, and truncate.
    # NaN is handled separately, because the carry could turn it into infinity.
    rounded = (bits + (((bits >> 16) & 1) + np.uint32(0x7FFF))) >> 16
    quiet = (bits >> 16) | 0x40
    return np.where(np.isnan(values), quiet, rounded)
