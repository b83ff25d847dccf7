"""The Gaussian kernel is within 2 units in the last place of the exponential, of normal and subnormal results."""

import decimal
from fractions import Fraction

import numpy as np
import pytest

import arrayops as ao
from strategies import FLOAT32, FLOAT64

LARGEST = {FLOAT32: 14.5, FLOAT64: 38.7}
"""Distances whose kernel is 0."""
UNITS = 2


def gaussian(distances: np.ndarray) -> np.ndarray:
    """Kernels of guides 0 and a distance: of a filter of two taps, the second is the centre."""
    guide = np.stack([distances, np.zeros_like(distances)], axis=-1)[None, None]
    found = ao.pac_kernel2d(guide, (1, 2))
    assert found.shape == (1, 1, 1, 2, len(distances), 1)
    np.testing.assert_array_equal(found[0, 0, 0, 1, :, 0], 1)
    return found[0, 0, 0, 0, :, 0]


def drawn_distances(dtype: np.dtype, count: int) -> np.ndarray:
    """Over the whole range, more of them where results are subnormal or vanish."""
    random, largest = np.random.default_rng(3), LARGEST[dtype]
    ranges = ((0.0, largest), (0.0, 1e-3), (0.85 * largest, largest))
    return np.concatenate([[0.0], *(random.uniform(*bounds, count) for bounds in ranges)]).astype(dtype)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_within_two_units(dtype: np.dtype) -> None:
    distances = drawn_distances(dtype, 20_000 if dtype == FLOAT32 else 3_000)
    found, format = gaussian(distances), np.finfo(dtype)
    assert (found > 0).any()
    assert ((found > 0) & (found < format.smallest_normal)).sum() > 100
    assert (found == 0).sum() > 10
    # The square is rounded once; halving it is exact.
    arguments = -(distances * distances) / dtype.type(2)
    with decimal.localcontext(prec=40):
        for argument, kernel in zip(arguments.tolist(), found.tolist(), strict=True):
            exact = Fraction(decimal.Decimal(argument).exp())
            unit = Fraction(float(np.spacing(dtype.type(float(exact)))))
            assert abs(Fraction(kernel) - exact) <= UNITS * unit, argument


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_ends_of_the_range(dtype: np.dtype) -> None:
    """Infinite squares give 0, NaN gives NaN."""
    largest = np.finfo(dtype).max
    distances = np.array([0, np.inf, -np.inf, largest, -largest, 1e15, np.nan, 1], dtype)
    found = gaussian(distances)
    np.testing.assert_array_equal(found[:7], np.array([1, 0, 0, 0, 0, 0, np.nan], dtype))
    assert found[7] == pytest.approx(np.exp(-0.5), rel=1e-6)
