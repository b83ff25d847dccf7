"""64-bit integers in JAX, which by default has only 32-bit ones."""

from typing import Any

import numpy as np


def check_fits(result: Any, dtype: "np.dtype[Any]") -> None:
    """Raise OverflowError if integers do not fit the 32-bit ``dtype``."""
    limits = np.iinfo(dtype)
    if result.size and not limits.min <= int(result.min()) <= int(result.max()) <= limits.max:
        raise OverflowError(
            f"a result is {result.dtype} with values out of range of {limits.dtype}, which JAX would "
            "truncate: set jax_enable_x64"
        )
