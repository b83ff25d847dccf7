"""The one place for the accuracy the tests ask for (DESIGN section 4)."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

# Relative error of a whole array, by its norm, against float64.
RELATIVE = {
    np.dtype(np.float64): 1e-12,
    np.dtype(np.float32): 2e-6,
    np.dtype(np.float16): 2e-3,
    BFLOAT16: 1e-2,
}

# Central differences in float64 with this step have an error of about step^2 + 1e-16 / step, relative to the values.
STEP = 1e-6
FINITE_DIFFERENCE = 1e-7


def norm(array: Any) -> float:
    return float(np.linalg.norm(np.asarray(array).astype(np.float64).ravel()))


def assert_close(got: Any, want: Any, dtype: Any, magnitude: Any = None, what: str = "") -> None:
    """`got` is within the tolerance of `dtype` of the float64 `want`.

    The error is relative to the norm of `want`, or, for sums that may cancel, to the norm of `magnitude`: the same sums
    over absolute values.
    """
    assert got.shape == want.shape, (what, got.shape, want.shape)
    got, want = np.asarray(got).astype(np.float64), np.asarray(want).astype(np.float64)
    scale = norm(want if magnitude is None else magnitude)
    error = norm(got - want)
    limit = RELATIVE[np.dtype(dtype)] * scale
    # Half types round tiny results to subnormals or 0; one smallest number an entry is no error of the operator.
    if np.dtype(dtype) == np.float16:
        limit += float(np.finfo(np.float16).smallest_subnormal) * want.size**0.5
    assert error <= limit, f"{what}: error {error:.3e}, allowed {limit:.3e}, relative {error / (scale or 1):.3e}"
