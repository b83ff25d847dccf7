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
