"""Names of the dtypes that operators know, as every framework spells them."""

from typing import Final

FLOAT16: Final = "float16"
BFLOAT16: Final = "bfloat16"
FLOAT32: Final = "float32"
FLOAT64: Final = "float64"
BOOL: Final = "bool"

HALF: Final = frozenset({FLOAT16, BFLOAT16})
FLOATING: Final = frozenset({FLOAT16, BFLOAT16, FLOAT32, FLOAT64})
INTEGER: Final = frozenset({"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})


def accumulator(dtype: str) -> str:
    """Dtype in which sums over arrays of ``dtype`` are kept."""
    return FLOAT32 if dtype in HALF else dtype
