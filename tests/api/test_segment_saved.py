"""Intermediate results that the forward returns and the backward takes, such as positions of extremes."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import arrayops as ao
from arrayops._backends.numpy import segment_gradients
from arrayops._call.dispatch import dispatch, dispatch_backward
from arrayops._core.op import Meta, Op
from arrayops._ops.segment import POSITIONS, SEGMENT_MEAN, SEGMENT_MIN, SEGMENT_VAR, SegmentParameters, saved_by
from oracles import segment
from saving import dispatch_saving
from segment_cases import INTEGERS, OPERATORS, Segments, fresh, large, segment_calls
from strategies import FLOAT32, FLOAT64, MEMORY, ONE_QUICK, examples, in_memory

FEATURES = np.ones((2, 3, 4, 5), np.float32)
LABELS = np.arange(40, dtype=np.int32).reshape(2, 4, 5) % 7
POOLED = np.ones((2, 3, 7), np.float32)


def with_nan(case: Segments, seed: int) -> Segments:
    """The case with NaN in some or all pixels."""
    rng = np.random.default_rng(seed)
    features = case.features.copy()
    features[rng.random(features.shape) < rng.choice((0.0, 0.2, 1.0))] = np.nan
    return Segments(features, case.labels, case.segments, case.options)


def expected_positions(reduction: str, case: Segments) -> np.ndarray:
    return segment.positions(reduction, case.features, case.labels, case.segments, **case.options)


def upstream(case: Segments, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(case.pooled_shape()).astype(case.features.dtype)


@pytest.mark.parametrize("dtype", ONE_QUICK, ids=str)
@pytest.mark.parametrize("reduction", POSITIONS)
@examples(60)
@given(data=st.data())
def test_drawn_calls(reduction: str, dtype: np.dtype, data: st.DataObject) -> None:
    """Positions are those of the loops, outputs and gradients have the bits of calls without them."""
    case = data.draw(segment_calls((dtype,)))
    if dtype.kind == "f":
        case = with_nan(case, data.draw(st.integers(0, 9)))
    forward, backward = (getattr(ao, OPERATORS[reduction] + end) for end in ("", "_backward"))
    arguments = case.features, case.labels, case.segments
    found = forward(*arguments, **case.options, return_saved=True)
    assert type(found) is ao.SavedOutput
    output, saved = found
    assert output.tobytes() == forward(*arguments, **case.options).tobytes()
    assert (saved.dtype, saved.shape) == (np.int64, output.shape)
    np.testing.assert_array_equal(saved, expected_positions(reduction, case))
    fresh(saved, output, case.features, case.labels)

    grad = upstream(case)
    want = backward(grad, *arguments, **case.options).features
    given_positions = in_memory(saved, data.draw(st.sampled_from(MEMORY)))
    assert backward(grad, *arguments, **case.options, saved=given_positions).features.tobytes() == want.tobytes()
    # Of the features only shape and dtype are used.
    unread = np.full_like(case.features, np.nan)
    got = backward(grad, unread, *arguments[1:], **case.options, saved=saved).features
    assert got.tobytes() == want.tobytes()
    fresh(got, saved, grad)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("reduction", POSITIONS)
@examples(10)
@given(data=st.data())
def test_positions_of_integers(reduction: str, dtype: np.dtype, data: st.DataObject) -> None:
    case = data.draw(segment_calls((dtype,)))
    forward = getattr(ao, OPERATORS[reduction])
    saved = forward(case.features, case.labels, case.segments, **case.options, return_saved=True).saved
    np.testing.assert_array_equal(saved, expected_positions(reduction, case))


@pytest.mark.parametrize("zero", ["batch", "pixels", "channels", "segments"])
@pytest.mark.parametrize("reduction", POSITIONS)
@examples(10)
@given(data=st.data())
def test_zero_sizes(reduction: str, zero: str, data: st.DataObject) -> None:
    case = data.draw(segment_calls((FLOAT64,), zero=zero))
    arguments = case.features, case.labels, case.segments
    output, saved = getattr(ao, OPERATORS[reduction])(*arguments, **case.options, return_saved=True)
    np.testing.assert_array_equal(saved, np.full(output.shape, -1))
    backward = getattr(ao, OPERATORS[reduction] + "_backward")
    assert not backward(output, *arguments, **case.options, saved=saved).features.any()
    several = case.features, case.labels, ("mean", "var", reduction), case.segments
    outputs, saved = ao.segment_reduce(*several, **case.options, return_saved=True)
    assert not ao.segment_reduce_backward(outputs, *several, **case.options, saved=saved).features.any()


@pytest.mark.parametrize(
    "names", [("max",), ("min", "mean"), ("count", "max", "mean", "min"), ("min", "var", "sum", "max")], ids="-".join
)
@examples(30)
@given(data=st.data())
def test_several_reductions(names: tuple[str, ...], data: st.DataObject) -> None:
    case = data.draw(segment_calls((FLOAT32,)))
    arguments = case.features, case.labels, names, case.segments
    outputs, saved = ao.segment_reduce(*arguments, **case.options, return_saved=True)
    for output, plain in zip(outputs, ao.segment_reduce(*arguments, **case.options), strict=True):
        assert output.tobytes() == plain.tobytes()
    for name, found in zip(saved_by(names), saved, strict=True):
        if name == "counts":
            counts = segment.segment_count(case.labels, case.segments, ignore_label=case.ignore_label)
            np.testing.assert_array_equal(found, counts)
        elif name == "means":
            means = segment.reduce("mean", case.features, case.labels, case.segments, **case.options)
            np.testing.assert_allclose(found.view(np.float64)[..., 0], means, rtol=1e-12, atol=1e-12)
        else:
            np.testing.assert_array_equal(found, expected_positions(name.partition("_")[0], case))
    grads = tuple(None if name == "count" else upstream(case, seed) for seed, name in enumerate(names))
    want = ao.segment_reduce_backward(grads, *arguments, **case.options).features
    for some in (saved, list(saved), (None, *saved[1:]), (*saved[:-1], None), (None,) * len(saved)):
        got = ao.segment_reduce_backward(grads, *arguments, **case.options, saved=some).features
        assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("dtype", ONE_QUICK, ids=str)
@pytest.mark.parametrize("op", [SEGMENT_MEAN, SEGMENT_VAR], ids=lambda op: op.name)
@examples(40)
@given(data=st.data())
def test_mean_and_variance(op: Op, dtype: np.dtype, data: st.DataObject) -> None:
    """What frameworks keep for the gradient has its bits, all of it or a part."""
    case = data.draw(segment_calls((dtype,)))
    reductions = (op.name.removeprefix("segment_"),)
    check = case.options.get("check")
    p = SegmentParameters(reductions, case.segments, case.ignore_label, 0, check, case.layout)
    arrays, grad = (case.features, case.labels), upstream(case)
    (output,), saved = dispatch_saving(op, arrays, p)
    assert output.tobytes() == dispatch(op, arrays, p)[0].tobytes()
    (want,) = dispatch_backward(op, (grad,), arrays, p, None)
    counts = np.asarray(saved[0]).astype(np.int32)
    for some in (saved, (counts, *saved[1:]), (None, *saved[1:]), (*saved[:-1], None)):
        assert dispatch_backward(op, (grad,), arrays, p, None, some)[0].tobytes() == want.tobytes()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("op", [SEGMENT_MEAN, SEGMENT_VAR], ids=lambda op: op.name)
def test_mean_and_variance_over_many_blocks(op: Op, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels = large(0, layout)
    p = SegmentParameters((op.name.removeprefix("segment_"),), 50, None, 0, None, layout)
    (output,), saved = dispatch_saving(op, (features, labels), p)
    (want,) = dispatch_backward(op, (output,), (features, labels), p, None)

    def recompute(*arguments: Any) -> None:
        raise AssertionError("a saved result was computed again")

    monkeypatch.setattr(segment_gradients, "collect", recompute)
    monkeypatch.setattr(segment_gradients, "count_pixels", recompute)
    assert dispatch_backward(op, (output,), (features, labels), p, None, saved)[0].tobytes() == want.tobytes()


def test_nothing_is_saved_for_sums() -> None:
    outputs, saved = ao.segment_reduce(FEATURES, LABELS, ("sum", "count"), return_saved=True)
    assert (len(outputs), saved) == (2, ())
    grads = outputs[0], None
    got = ao.segment_reduce_backward(grads, FEATURES, LABELS, ("sum", "count"), saved=saved).features
    assert got.tobytes() == ao.segment_sum_backward(outputs[0], FEATURES, LABELS).features.tobytes()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("reduction", POSITIONS)
def test_over_many_blocks_without_a_pass_over_the_features(
    reduction: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    features, labels = large(0, layout)
    forward, backward = (getattr(ao, OPERATORS[reduction] + end) for end in ("", "_backward"))
    output, saved = forward(features, labels, 50, layout=layout, return_saved=True)
    want = backward(output, features, labels, 50, layout=layout).features

    def collect(*arguments: Any) -> None:
        raise AssertionError("pixels were sorted and features read")

    monkeypatch.setattr(segment_gradients, "collect", collect)
    got = backward(output, features, labels, 50, layout=layout, saved=saved).features
    assert got.tobytes() == want.tobytes()
    with pytest.raises(AssertionError, match="pixels were sorted"):
        backward(output, features, labels, 50, layout=layout)


@pytest.mark.parametrize("pixels", [1, 2**31 - 1, 2**31 + 1])
def test_positions_are_int64_for_any_number_of_pixels(pixels: int) -> None:
    parameters = SegmentParameters(("min",), 3, None, 0, None, "NCHW", save=True)
    metas = Meta((4, 2, 1, pixels), "float32"), Meta((4, 1, pixels), "uint8")
    assert SEGMENT_MIN.infer(metas, parameters)[1] == ((4, 2, 3), "int64")


def test_int32_positions_are_taken_too() -> None:
    """JAX has no others without 64-bit integers."""
    output, saved = ao.segment_max(FEATURES, LABELS, return_saved=True)
    want = ao.segment_max_backward(output, FEATURES, LABELS).features
    got = ao.segment_max_backward(output, FEATURES, LABELS, saved=saved.astype(np.int32)).features
    assert got.tobytes() == want.tobytes()


# Saved positions, error, message after "segment_max_backward: ".
SAVED = np.zeros((2, 3, 7), np.int64)
BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "shape": (
        SAVED[:, :2],
        ValueError,
        "saved_max_positions is (2, 2, 7), expected (2, 3, 7) as the max_positions",
    ),
    "shape in 32 bits": (
        SAVED[:1].astype(np.int32),
        ValueError,
        "saved_max_positions is (1, 3, 7), expected (2, 3, 7) as the max_positions",
    ),
    **{
        dtype: (
            SAVED.astype(dtype),
            TypeError,
            f"saved_max_positions is {dtype}, expected int64 as the max_positions",
        )
        for dtype in ("float32", "int16", "uint32", "uint64", "bool")
    },
    "no array": (
        (SAVED,),
        TypeError,
        "saved_max_positions is tuple, expected an array of NumPy, CuPy, PyTorch, JAX, TensorFlow or another library "
        "with DLPack",
    ),
    "values": (SAVED + 20, ValueError, "saved has the position 20, expected -1 to 19"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_positions(name: str) -> None:
    saved, error, message = BAD[name]
    with pytest.raises(error) as caught:
        ao.segment_max_backward(POOLED, FEATURES, LABELS, 7, saved=saved)
    assert str(caught.value) == f"segment_max_backward: {message}"


@pytest.mark.parametrize(
    ("saved", "got"), [((SAVED,), "a sequence of 1"), ([], "a sequence of 0"), (SAVED, "ndarray"), (0, "int")]
)
def test_saved_results_of_several_reductions_are_a_tuple(saved: Any, got: str) -> None:
    with pytest.raises(ValueError, match="saved is") as caught:
        ao.segment_reduce_backward((POOLED,) * 3, FEATURES, LABELS, ("min", "mean", "max"), 7, saved=saved)
    assert str(caught.value) == (
        f"segment_reduce_backward: saved is {got}, expected a tuple of 3 arrays: max_positions, min_positions, counts"
    )


@pytest.mark.parametrize("value", [1, None, "yes"])
@pytest.mark.parametrize("name", ["segment_max", "segment_min", "segment_reduce"])
def test_return_saved_is_a_bool(name: str, value: Any) -> None:
    reductions = (("max",),) if name == "segment_reduce" else ()
    with pytest.raises(TypeError) as caught:
        getattr(ao, name)(FEATURES, LABELS, *reductions, return_saved=value)
    assert str(caught.value) == f"{name}: return_saved is {value!r}, expected True or False"
