"""Every gradient of conv2d and conv_transpose2d: against autograd, and against differences of the loops."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import arrayops as ao
from case import GRADIENTS, Case
from conv_cases import NAMED, build, named
from oracles import conv
from strategies import CONVOLUTIONS, DTYPES, FLOAT64, MEMORY, ONE_QUICK, convolutions, examples, in_memory
from tolerances import FINITE_DIFFERENCE, STEP, assert_close, norm


def run(case: Case, grad: np.ndarray, **extra: Any) -> Any:
    """The named tuple of gradients, its form checked, and that no input was written to."""
    arrays = [value for value in (*case.arrays.values(), grad) if value is not None]
    before = [array.tobytes() for array in arrays]
    got = case.backward(ao, grad, **extra)
    assert [array.tobytes() for array in arrays] == before, "an input was written to"
    assert got._fields == GRADIENTS[case.operator]
    for name in got._fields:
        value, gradient = case.arrays[name], getattr(got, name)
        if value is None:
            assert gradient is None, name
        elif name in extra.get("needs", got._fields):
            assert type(gradient) is np.ndarray, name
            assert (gradient.dtype, gradient.shape) == (value.dtype, value.shape), name
            assert gradient.flags.writeable, name
            assert not any(np.shares_memory(gradient, array) for array in arrays if array.size)
    return got


def check(case: Case, grad: np.ndarray, relative_to_terms: bool) -> None:
    want = conv.backward(case.operator, case.arrays, case.options, grad)
    terms = conv.backward(case.operator, case.arrays, case.options, grad, size=True)
    got = run(case, grad)
    for name in case.present:
        magnitude = terms[name] if relative_to_terms else None
        assert_close(getattr(got, name), want[name], case.dtype, magnitude, f"{name} of {case!r}")


@pytest.mark.parametrize("dtype", ONE_QUICK, ids=str)
@pytest.mark.parametrize("operator", CONVOLUTIONS)
@examples(80)
@given(data=st.data())
def test_drawn_calls_equal_autograd(operator: str, dtype: np.dtype, data: st.DataObject) -> None:
    case = data.draw(convolutions(operator, (dtype,)))
    grad = case.grad(case.call(conv).shape)
    check(case, in_memory(grad, data.draw(st.sampled_from(MEMORY))), relative_to_terms=True)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("operator", "name"), NAMED)
def test_named_calls_equal_autograd(operator: str, name: str, dtype: np.dtype, layout: str) -> None:
    """Tolerances relative to the gradients themselves."""
    case = named(operator, name, dtype=dtype, layout=layout)
    check(case, case.grad(case.call(ao).shape), relative_to_terms=False)


@pytest.mark.parametrize("operator", CONVOLUTIONS)
@examples(30)
@given(data=st.data())
def test_drawn_calls_equal_differences_of_the_loops(operator: str, data: st.DataObject) -> None:
    """The derivative in a random direction of each array."""
    case = data.draw(convolutions(operator, (FLOAT64,), memory=False))
    grad = case.grad(case.call(conv).shape)
    got = run(case, grad)
    terms = conv.backward(operator, case.arrays, case.options, grad, size=True)
    rng = np.random.default_rng(case.seed)
    for name in case.present:
        value = case.arrays[name]
        direction = rng.standard_normal(value.shape)
        up, down = ((case.replace(**{name: value + s * STEP * direction}).call(conv) * grad).sum() for s in (1, -1))
        error = abs((up - down) / (2 * STEP) - float((getattr(got, name) * direction).sum()))
        assert error <= FINITE_DIFFERENCE * (1 + norm(terms[name] * direction)), (name, error, case)


@pytest.mark.parametrize("zero", ["batch", "input", "output"])
@pytest.mark.parametrize("operator", CONVOLUTIONS)
@examples(15)
@given(data=st.data())
def test_zero_sizes(operator: str, zero: str, data: st.DataObject) -> None:
    """Sums over nothing are 0."""
    case = data.draw(convolutions(operator, (FLOAT64,), zero=zero))
    grad = case.grad(case.call(conv).shape)
    got = run(case, grad)
    for name in case.present:
        if name == "bias" and zero == "input":
            axes = (0, 2, 3) if case.options.get("layout", "NCHW") == "NCHW" else (0, 1, 2)
            assert_close(got.bias, grad.sum(axes), FLOAT64, np.abs(grad).sum(axes))
        else:
            assert not getattr(got, name).any(), name


@pytest.mark.parametrize("operator", CONVOLUTIONS)
@pytest.mark.parametrize(
    "needs", [(), ("input",), ("weight",), ("bias",), ("bias", "input"), ("input", "weight", "bias")]
)
def test_needs_selects_fields(operator: str, needs: tuple[str, ...]) -> None:
    case = build(operator, groups=2, stride=2)
    grad = case.grad(case.call(ao).shape)
    whole, got = run(case, grad), run(case, grad, needs=needs)
    for name in got._fields:
        if name in needs:
            assert getattr(got, name).tobytes() == getattr(whole, name).tobytes(), name
        else:
            assert getattr(got, name) is None, name


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_pixels_that_no_window_sees(layout: str) -> None:
    """Their gradient is 0, and what they hold reaches no other gradient."""
    case = build("conv2d", stride=(1, 4), size=(9, 12), layout=layout)
    unseen = (slice(None),) * (3 if layout == "NCHW" else 2) + (slice(3, None, 4),)
    grad = case.grad(case.call(ao).shape)
    broken = case.arrays["input"].copy()
    broken[unseen] = np.nan
    want, got = case.backward(ao, grad), case.replace(input=broken).backward(ao, grad)
    for name in case.present:
        assert getattr(got, name).tobytes() == getattr(want, name).tobytes(), name
    assert not got.input[unseen].any()
    assert got.input.any()


@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_nan_propagates(operator: str) -> None:
    case = build(operator, padding=1)
    grad = case.grad(case.call(ao).shape)
    grad[0, 0, 4, 4] = np.nan
    want, got = conv.backward(operator, case.arrays, case.options, grad), run(case, grad)
    for name in case.present:
        assert np.isnan(want[name]).any(), name
        np.testing.assert_array_equal(np.isnan(getattr(got, name)), np.isnan(want[name]), err_msg=name)
