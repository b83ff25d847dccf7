"""Gradients of the segment operators: against loops, autograd of torch, and differences."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import arrayops as ao
from optional import optional
from oracles import segment
from segment_cases import INTEGERS, OPERATORS, REDUCTIONS, Segments, fresh, large, segment_calls
from strategies import FLOAT16, FLOAT32, FLOAT64, MEMORY, ONE_QUICK, examples, in_memory
from tolerances import FINITE_DIFFERENCE, STEP, assert_close, norm

torch = optional("torch")


def upstream(case: Segments, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(case.pooled_shape()).astype(case.features.dtype)


def oracle(case: Segments, grads: dict[str, np.ndarray]) -> np.ndarray:
    return segment.backward(grads, case.features, case.labels, ignore_label=case.ignore_label, layout=case.layout)


def run(operator: str, case: Segments, grad: Any, *names: Any, **more: Any) -> np.ndarray:
    """The gradient, its form checked, and that no input was written to."""
    arrays = [case.features, case.labels, *(grad if isinstance(grad, tuple) else (grad,))]
    arrays = [array for array in arrays if array is not None]
    before = [array.tobytes() for array in arrays]
    backward = getattr(ao, OPERATORS[operator] + "_backward")
    found = backward(grad, case.features, case.labels, *names, case.segments, **case.options, **more)
    assert [array.tobytes() for array in arrays] == before, "an input was written to"
    assert found._fields == ("features",)
    assert (found.features.dtype, found.features.shape) == (case.features.dtype, case.features.shape)
    return fresh(found.features, *arrays)


@pytest.mark.parametrize("dtype", ONE_QUICK, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@examples(40)
@given(data=st.data())
def test_drawn_calls_equal_the_loops(reduction: str, dtype: np.dtype, data: st.DataObject) -> None:
    case = data.draw(segment_calls((dtype,)))
    grad = in_memory(upstream(case), data.draw(st.sampled_from(MEMORY)))
    got, want = run(reduction, case, grad), oracle(case, {reduction: grad})
    if reduction in ("max", "min", "sum"):
        np.testing.assert_array_equal(got.astype(np.float64), want)
    else:
        wide = np.abs(case.features.astype(np.float64))
        scale = np.abs(np.asarray(grad).astype(np.float64)).max(initial=0) * (wide if reduction == "var" else 1)
        assert_close(got, want, dtype, np.broadcast_to(scale, got.shape), repr(case))


@pytest.mark.parametrize("dtype", ONE_QUICK, ids=str)
@examples(60)
@given(data=st.data())
def test_reduce_sums_the_gradients(dtype: np.dtype, data: st.DataObject) -> None:
    case = data.draw(segment_calls((dtype,)))
    order = data.draw(st.permutations((*REDUCTIONS, "count")))
    names = tuple(order[: data.draw(st.integers(1, 6))])
    absent = data.draw(st.sets(st.sampled_from(names)))
    grads = tuple(
        None if name == "count" or name in absent else upstream(case, seed) for seed, name in enumerate(names)
    )
    given_ = {name: grad for name, grad in zip(names, grads, strict=True) if grad is not None}
    got, want = run("reduce", case, grads, names), oracle(case, given_)
    scale = sum(np.abs(oracle(case, {name: grad})) for name, grad in given_.items()) if given_ else np.zeros(got.shape)
    spread = max((np.abs(grad.astype(np.float64)).max(initial=0) for grad in given_.values()), default=0)
    scale = scale + spread * np.abs(case.features.astype(np.float64)) * ("var" in given_)
    assert_close(got, want, dtype, scale, repr(case))


@pytest.mark.parametrize("dtype", ONE_QUICK, ids=str)
@examples(40)
@given(data=st.data())
def test_unpool(dtype: np.dtype, data: st.DataObject) -> None:
    case = data.draw(segment_calls((dtype,)))
    pooled = np.zeros(case.pooled_shape(), dtype)
    found = ao.segment_unpool_backward(case.features, pooled, case.labels, fill=2, **case.options)
    assert found._fields == ("pooled",)
    got = fresh(found.pooled, case.features, pooled)
    assert (got.dtype, got.shape) == (dtype, pooled.shape)
    keywords = {"ignore_label": case.ignore_label, "layout": case.layout}
    want = segment.segment_unpool_backward(case.features, case.labels, case.segments, **keywords)
    sizes = np.abs(case.features.astype(np.float64))
    terms = segment.segment_unpool_backward(sizes, case.labels, case.segments, **keywords)
    assert_close(got, want, dtype, terms, repr(case))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@examples(30)
@given(data=st.data())
def test_drawn_calls_equal_differences_of_the_loops(reduction: str, data: st.DataObject) -> None:
    """The derivative in a random direction, where no two values of a segment are equal."""
    case = data.draw(segment_calls((FLOAT64,), memory=False))
    rng = np.random.default_rng(0)
    case.features = rng.permutation(case.features.size).reshape(case.features.shape) / case.features.size
    grad, direction = upstream(case), rng.standard_normal(case.features.shape)

    def value(features: np.ndarray) -> float:
        found = segment.reduce(reduction, features, case.labels, case.segments, **case.options)
        return float((found * grad).sum())

    change = (value(case.features + STEP * direction) - value(case.features - STEP * direction)) / (2 * STEP)
    error = abs(change - float((run(reduction, case, grad) * direction).sum()))
    assert error <= FINITE_DIFFERENCE * (1 + norm(direction) * norm(grad)), (error, case)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", ["mean", "sum", "amax", "amin", "var"])
def test_equals_autograd_of_torch(name: str, layout: str) -> None:
    """Without ties or zeros: torch shares the gradient of an extreme among equal values, and with its first zeros."""
    features, labels = large(5, layout, segments=40)
    rng = np.random.default_rng(0)
    features = (rng.permutation(features.size).reshape(features.shape) + 1) / 1000
    x = torch.from_numpy(segment.channels_last(features, layout).reshape(2, -1, 6).copy()).requires_grad_()
    index = torch.from_numpy(labels.reshape(2, -1, 1).astype(np.int64)).expand(2, -1, 6)

    def scatter(values: torch.Tensor, how: str) -> torch.Tensor:
        start = torch.zeros(2, 40, 6, dtype=torch.float64)
        return start.scatter_reduce(1, index, values, how, include_self=False)

    output = scatter((x - scatter(x, "mean").gather(1, index)) ** 2, "mean") if name == "var" else scatter(x, name)
    grad = rng.standard_normal((2, 40, 6))
    (want,) = torch.autograd.grad(output, x, torch.from_numpy(grad))
    mine = grad if layout == "NHWC" else np.ascontiguousarray(grad.transpose(0, 2, 1))
    backward = getattr(ao, f"segment_{name.removeprefix('a')}_backward")
    got = backward(mine, features, labels, 40, layout=layout).features
    assert_close(segment.channels_last(got, layout).reshape(2, -1, 6), want.numpy(), FLOAT64)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("reduction", ["max", "min"])
def test_first_of_equal_values_over_many_blocks(reduction: str, layout: str) -> None:
    """Every pixel of a segment attains the extreme: all but the first get nothing."""
    features = np.zeros((1, 300, 290, 3), np.float32)
    labels = np.random.default_rng(0).integers(0, 20, (1, 300, 290))
    given_ = np.ascontiguousarray(segment.back(features, layout))
    grad = np.ones((1, 3, 20) if layout == "NCHW" else (1, 20, 3), np.float32)
    backward = getattr(ao, OPERATORS[reduction] + "_backward")
    got = segment.channels_last(backward(grad, given_, labels, 20, layout=layout).features, layout)
    want = np.zeros((300 * 290, 3))
    want[np.unique(labels, return_index=True)[1]] = 1
    np.testing.assert_array_equal(got.reshape(-1, 3), want)


@pytest.mark.parametrize("reduction", ["max", "min"])
def test_gradient_goes_to_the_first_nan(reduction: str) -> None:
    nan, inf = np.nan, np.inf
    features = np.array([[3.0, inf], [nan, inf], [-inf, -inf], [nan, -inf]])
    want = {"max": [[0, 1], [1, 0], [0, 0], [0, 0]], "min": [[0, 0], [1, 0], [0, 1], [0, 0]]}[reduction]
    backward = getattr(ao, OPERATORS[reduction] + "_backward")
    got = backward(np.ones((1, 2)), features, np.zeros(4, np.uint8), 1).features
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("zero", ["batch", "pixels", "channels", "segments"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@examples(10)
@given(data=st.data())
def test_zero_sizes(reduction: str, zero: str, data: st.DataObject) -> None:
    case = data.draw(segment_calls((FLOAT64, FLOAT16), zero=zero))
    got = run(reduction, case, upstream(case))
    assert not got.any()


def test_pixels_of_no_segment_get_nothing_even_if_they_are_nan() -> None:
    features = np.array([[1.0], [np.nan], [4.0]], np.float32)
    labels = np.array([0, 255, 0], np.uint8)
    for reduction in REDUCTIONS:
        backward = getattr(ao, OPERATORS[reduction] + "_backward")
        got = backward(np.ones((1, 1), np.float32), features, labels, 1, ignore_label=255).features
        assert got[1] == 0
        assert np.isfinite(got).all()


def test_nan_in_the_gradient_stays_in_its_segment() -> None:
    features = np.arange(6.0).reshape(6, 1)
    labels = np.array([0, 1, 0, 1, 2, 3])
    grad = np.array([[np.nan], [1.0], [2.0]])
    for reduction in REDUCTIONS:
        backward = getattr(ao, OPERATORS[reduction] + "_backward")
        got = backward(grad, features, labels, 3, ignore_label=3).features
        assert np.isnan(got[[0, 2]]).any()
        assert np.isfinite(got[[1, 3, 4, 5]]).all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_needs(reduction: str) -> None:
    backward = getattr(ao, OPERATORS[reduction] + "_backward")
    assert backward(np.ones((1, 1)), np.ones((2, 1)), np.zeros(2, int), 1, needs=()).features is None
    assert ao.segment_unpool_backward(np.ones((2, 1)), np.ones((1, 1)), np.zeros(2, int), needs=()).pooled is None


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers_have_no_gradient(dtype: np.dtype) -> None:
    features, labels = np.ones((3, 1), dtype), np.zeros(3, int)
    with pytest.raises(TypeError) as caught:
        ao.segment_max_backward(features[:1], features, labels, 1)
    message = f"segment_max_backward: features is {dtype}, expected a floating-point dtype for a gradient"
    assert str(caught.value) == message


def test_number_of_segments_is_found() -> None:
    grad = np.array([[1.0], [2.0], [6.0]], np.float32)
    features, labels = np.ones((4, 1), np.float32), np.array([2, 0, 2, 1])
    got = ao.segment_mean_backward(grad, features, labels).features
    assert got.dtype == FLOAT32
    np.testing.assert_array_equal(got[:, 0], [3, 1, 3, 2])
