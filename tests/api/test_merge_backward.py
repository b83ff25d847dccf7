"""Gradients of resize2d and merge_feature_maps: against the loops, their differences, and as adjoints."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import arrayops as ao
from case import Case
from merge_cases import HOWS, OPERATORS, SAMPLINGS, build, gradients, maps_of, merges, with_maps
from oracles import merge
from strategies import BFLOAT16, FLOAT64, MEMORY, ONE_QUICK, examples, in_memory
from tolerances import FINITE_DIFFERENCE, STEP, assert_close, norm


def run(case: Case, grad: np.ndarray, **extra: Any) -> list[Any]:
    """The gradients, their form checked, and that no input was written to."""
    before = [x.tobytes() for x in (*maps_of(case), grad)]
    found = gradients(case, ao, grad, **extra)
    assert [x.tobytes() for x in (*maps_of(case), grad)] == before, "an input was written to"
    for x, gradient in zip(maps_of(case), found, strict=True):
        assert type(gradient) is np.ndarray
        assert (gradient.dtype, gradient.shape) == (x.dtype, x.shape)
        assert gradient.flags.writeable
        assert gradient.flags.c_contiguous
        assert not any(np.shares_memory(gradient, a) for a in (*maps_of(case), grad) if a.size)
    return found


def check(case: Case, grad: np.ndarray) -> None:
    want, terms = gradients(case, merge, grad), gradients(case, merge, grad, magnitude=True)
    for number, (got, value, size) in enumerate(zip(run(case, grad), want, terms, strict=True)):
        assert_close(got, value, case.dtype, size, f"map {number} of {case!r}")


@pytest.mark.parametrize("dtype", ONE_QUICK, ids=str)
@pytest.mark.parametrize("operator", OPERATORS)
@examples(120)
@given(data=st.data())
def test_drawn_calls_equal_the_loops(operator: str, dtype: np.dtype, data: st.DataObject) -> None:
    case = data.draw(merges(operator, (dtype,)))
    check(case, in_memory(case.grad(case.call(merge).shape), data.draw(st.sampled_from(MEMORY))))


@pytest.mark.slow
@pytest.mark.parametrize("operator", OPERATORS)
@examples(60)
@given(data=st.data())
def test_drawn_calls_equal_differences_of_the_loops(operator: str, data: st.DataObject) -> None:
    """The derivative in a random direction of each map."""
    case = data.draw(merges(operator, (FLOAT64,), memory=False))
    grad = case.grad(case.call(merge).shape)
    found, terms = run(case, grad), gradients(case, merge, grad, magnitude=True)
    rng = np.random.default_rng(case.seed)
    for number, x in enumerate(maps_of(case)):
        direction = rng.standard_normal(x.shape)
        ends = []
        for sign in (1, -1):
            moved = list(maps_of(case))
            moved[number] = x + sign * STEP * direction
            ends.append((with_maps(case, *moved).call(merge) * grad).sum())
        error = abs((ends[0] - ends[1]) / (2 * STEP) - float((found[number] * direction).sum()))
        assert error <= FINITE_DIFFERENCE * (1 + norm(terms[number] * direction)), (number, error, case)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("how", ["concat", "add", "mean", "flat"])
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_gradients_are_adjoints(sampling: dict[str, Any], how: str, layout: str) -> None:
    """<merge(x), y> is the sum over maps of <x, gradient for y>."""
    sizes = [(15, 15), (6, 17), (40, 3)]
    size = (50, 20) if how == "flat" else (21, 16)
    case = build("merge_feature_maps", sizes, how=how, size=size, layout=layout, **sampling)
    output = case.call(ao)
    grad = np.random.default_rng(5).standard_normal(output.shape)
    found = gradients(case, ao, grad)
    got = sum((gradient * x).sum() for gradient, x in zip(found, maps_of(case), strict=True))
    assert abs(got - (grad * output).sum()) <= 1e-12 * (np.abs(grad) * np.abs(output)).sum()


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("zero", ["batch", "channels"])
@examples(20)
@given(data=st.data())
def test_zero_sizes(operator: str, zero: str, data: st.DataObject) -> None:
    case = data.draw(merges(operator, (FLOAT64, BFLOAT16), zero=zero))
    check(case, case.grad(case.call(merge).shape))


def test_max_gives_the_gradient_to_the_first_map_that_attains_it() -> None:
    maps = [
        np.array([[[[1.0, 5.0, 2.0, np.nan]]]]),
        np.array([[[[1.0, 4.0, 3.0, np.nan]]]]),
        np.full((1, 1, 1, 4), 3.0),
    ]
    grad = np.array([[[[10.0, 20.0, 30.0, 40.0]]]])
    found = ao.merge_feature_maps_backward(grad, maps, how="max").maps
    assert [g.ravel().tolist() for g in found] == [[0, 20, 0, 40], [0, 0, 30, 0], [10, 0, 0, 0]]
    # Of many equal maps of one size, and of equal maps on two ways to one size.
    same = [np.ones((1, 1, 3, 3))] * 300
    found = ao.merge_feature_maps_backward(np.ones((1, 1, 5, 4)), same, how="max", size=(5, 4)).maps
    assert abs(found[0].sum() - 20) < 1e-12
    assert not any(g.any() for g in found[1:])
    assert len({id(g) for g in found}) == 300
    last = [np.zeros((1, 1, 3, 3))] * 299 + [np.ones((1, 1, 2, 2))]
    found = ao.merge_feature_maps_backward(np.ones((1, 1, 5, 4)), last, how="max", size=(5, 4)).maps
    assert abs(found[299].sum() - 20) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ONE_QUICK, ids=str)
def test_max_over_many_tiles(dtype: np.dtype, layout: str) -> None:
    """Rows and columns of several bands; the winners of half types are those of the widened maps."""
    case = build(
        "merge_feature_maps", [(60, 70), (7, 5), (90, 31)], how="max", size=(53, 66), layout=layout, dtype=dtype
    )
    grad = case.grad(case.call(ao).shape)
    check(case, grad)


@pytest.mark.parametrize("operator", OPERATORS)
def test_needs_selects_fields(operator: str) -> None:
    case = build(operator, [(4, 5)], size=(6, 7))
    grad = case.grad((2, 3, 6, 7))
    field = "input" if operator == "resize2d" else "maps"
    assert gradients(case, ao, grad, needs=()) == [None]
    whole, got = gradients(case, ao, grad), gradients(case, ao, grad, needs=(field,))
    assert [a.tobytes() for a in got] == [a.tobytes() for a in whole]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("how", HOWS)
def test_nan_reaches_what_has_its_weight_alone(how: str, layout: str) -> None:
    size = (12, 20) if how == "flat" else (9, 15)
    case = build("merge_feature_maps", [(9, 5), (6, 13), (4, 7)], how=how, size=size, layout=layout)
    grad = case.grad(case.call(ao).shape)
    for at in ((0, 0), (4, 4), (8, 9)):
        spoiled = grad.copy()
        (spoiled if layout == "NCHW" else spoiled.transpose(0, 3, 1, 2))[0, 1, at[0], at[1]] = np.nan
        for got, want in zip(run(case, spoiled), gradients(case, merge, spoiled), strict=True):
            np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
            assert_close(np.nan_to_num(got), np.nan_to_num(want), FLOAT64)


def test_samples_that_no_output_reads_have_gradient_zero() -> None:
    x = np.full((1, 1, 9, 9), np.nan)
    x[:, :, ::3, ::3] = 1
    options: dict[str, Any] = {"mode": "nearest", "coordinates": "asymmetric"}
    assert ao.resize2d(x, (3, 3), **options).tolist() == [[[[1.0] * 3] * 3]]
    found = ao.resize2d_backward(np.full((1, 1, 3, 3), 2.0), x, (3, 3), **options).input
    assert (found[:, :, ::3, ::3] == 2).all()
    assert found.sum() == 18
