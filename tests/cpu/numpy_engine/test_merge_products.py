"""Products of bands of a resizing matrix, and gradients that go to several maps by one of them."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given

import arrayops as ao
from arrayops._backends.numpy import merge_products
from merge_cases import build, gradients, maps_of
from oracles import merge
from strategies import FLOAT32, FLOAT64
from tolerances import assert_close

SKIPS = [(28, 28), (14, 14), (7, 7)]


@given(st.integers(0, 20_000), st.integers(0, 5_000))
@example(7168, 14 * 28)
@example(7919, 2000)
@example(0, 0)
def test_pieces_divide_and_are_small_unless_too_thin(length: int, multiplications: int) -> None:
    found = merge_products.piece(length, multiplications)
    assert length % found == 0
    if found == length or length == 0:
        return
    assert found >= merge_products.THINNEST
    assert found * multiplications <= merge_products.UNPACKED
    larger = [length // count for count in range(1, length // found) if length % count == 0]
    assert all(width * multiplications > merge_products.UNPACKED for width in larger)


@pytest.mark.parametrize("length", [7168, 7919, 70, 1])
def test_products_in_pieces_equal_whole_ones(length: int) -> None:
    """Lengths of many divisors, a prime one, a short one and one; operands with gaps between rows, in and out."""
    random = np.random.default_rng(0)
    block = random.standard_normal((21, 28))
    values, out = random.standard_normal((2, 28, length + 5))[..., :length], np.zeros((2, 21, length + 3))[..., :length]
    merge_products.left_product(block, values, out)
    np.testing.assert_allclose(out, np.einsum("ij,njk->nik", block, values), rtol=1e-11, atol=1e-11)
    lines, turned = random.standard_normal((3, length, 28)), np.ascontiguousarray(block.T)
    for left, target in ((lines, np.zeros((3, length, 21))), (lines[:, :, ::-1], np.zeros((3, length, 42))[..., ::2])):
        merge_products.right_product(left, turned, target)
        np.testing.assert_allclose(target, np.einsum("njk,ki->nji", left, turned), rtol=1e-11, atol=1e-11)


def spoiled(case: Any, value: float, at: tuple[int, int]) -> np.ndarray:
    grad = case.grad((2, 28, 28, 70))
    grad[1, at[0], at[1], 66] = value
    return grad


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "area"])
@pytest.mark.parametrize("how", ["add", "mean"])
@pytest.mark.parametrize("value", [1.0, np.nan, -np.inf])
def test_gradients_of_many_channels_equal_those_of_each_map(value: float, how: str, mode: str) -> None:
    """Channels enough that rows are multiplied where they lie; the maps that stay and those that change on one axis."""
    case = build("merge_feature_maps", [*SKIPS, (28, 9), (6, 28)], channels=70, how=how, mode=mode, layout="NHWC")
    for at in ((0, 0), (13, 27), (27, 5)):
        grad = spoiled(case, value, at)
        for got, x in zip(gradients(case, ao, grad), maps_of(case), strict=True):
            with np.errstate(invalid="ignore"):
                want = merge.resize2d_backward(grad[..., 64:], x[..., 64:], (28, 28), mode=mode, layout="NHWC")
            want = want / (5 if how == "mean" else 1)
            np.testing.assert_array_equal(np.isfinite(got[..., 64:]), np.isfinite(want))
            np.testing.assert_array_equal(np.isnan(got[..., 64:]), np.isnan(want))
            finite = np.isfinite(want)
            assert_close(np.where(finite, got[..., 64:], 0), np.where(finite, want, 0), FLOAT64)
            assert np.isfinite(got[..., :64]).all()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_sums_that_overflow_do_so_alone(layout: str) -> None:
    """A row that overflows on the way makes nothing NaN that has no weight of it."""
    case = build("merge_feature_maps", SKIPS, channels=2, how="add", dtype=FLOAT32, layout=layout)
    grad = case.grad((2, 2, 28, 28) if layout == "NCHW" else (2, 28, 28, 2))
    image = grad if layout == "NCHW" else grad.transpose(0, 3, 1, 2)
    image[1, 1, 20, 10:14] = 3e38
    for got in gradients(case, ao, grad)[1:]:
        found = got if layout == "NCHW" else got.transpose(0, 3, 1, 2)
        assert np.isinf(found[1, 1]).any()
        assert not np.isnan(found).any()
        assert np.isfinite(found[1, 1, :2]).all()
        assert np.isfinite(found[1, 0]).all()
        assert np.isfinite(found[0]).all()
