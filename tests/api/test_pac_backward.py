"""Every gradient of every PAC operator: against autograd through the unfold oracle and differences of the loops."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import arrayops as ao
from case import GRADIENTS, Case
from oracles import pac, pac_torch
from pac_cases import NAMED, build, named
from strategies import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, MEMORY, ONE_QUICK, OPERATORS, cases, examples, in_memory
from tolerances import FINITE_DIFFERENCE, STEP, assert_close, norm


def output_shape(case: Case) -> tuple[int, ...]:
    output = case.call(pac)
    return (output[0] if isinstance(output, tuple) else output).shape


def terms(case: Case, grad: np.ndarray) -> np.ndarray:
    output = case.call(pac)
    return np.asarray((output[0] if isinstance(output, tuple) else output) * grad.astype(np.float64))


def project(case: Case, grad: np.ndarray) -> float:
    return float(terms(case, grad).sum())


def run(case: Case, grad: np.ndarray, **extra: Any) -> Any:
    """The named tuple of gradients, its form checked, and that no input was written to."""
    arrays = [v for v in {**case.arrays, **case.options, "grad": grad}.values() if isinstance(v, np.ndarray)]
    before = [a.copy() for a in arrays]
    got = case.backward(ao, grad, **extra)
    for array, copy in zip(arrays, before, strict=True):
        assert array.tobytes() == copy.tobytes(), "an input was written to"
    assert isinstance(got, tuple)
    assert got._fields == GRADIENTS[case.operator]
    for name in got._fields:
        value, gradient = case.arrays.get(name), getattr(got, name)
        if value is None:
            assert gradient is None, name
        elif "needs" not in extra or name in extra["needs"]:
            assert type(gradient) is np.ndarray, name
            assert gradient.dtype == value.dtype, name
            assert gradient.shape == value.shape, name
            assert gradient.flags.writeable, name
            assert not any(np.shares_memory(gradient, array) for array in arrays if array.size)
    return got


# Each entry of these is one sum over every output and tap, whose terms cancel a thousandfold in random calls.
PARAMETERS = ("inv_alpha", "inv_lambda", "smooth_kernel")


def check(case: Case, grad: np.ndarray, relative_to_terms: bool) -> None:
    call = pac_torch.Call(case.operator, case.arrays, case.options)
    want = call.backward(grad)
    magnitude = call.backward_magnitude(grad)
    got = run(case, grad)
    for name in case.present:
        dtype = case.arrays[name].dtype
        terms = magnitude[name] if relative_to_terms or (name in PARAMETERS and dtype == FLOAT32) else None
        assert_close(getattr(got, name), want[name], dtype, terms, f"{name} of {case!r}")


@pytest.mark.parametrize("dtype", ONE_QUICK, ids=str)
@pytest.mark.parametrize("operator", OPERATORS)
@examples(60)
@given(data=st.data())
def test_drawn_calls_equal_autograd(operator: str, dtype: np.dtype, data: st.DataObject) -> None:
    case = data.draw(cases(operator, (dtype,)))
    grad = case.grad(pac_torch.Call(operator, case.arrays, case.options).forward().shape)
    check(case, in_memory(grad, data.draw(st.sampled_from(MEMORY))), relative_to_terms=True)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ONE_QUICK, ids=str)
@pytest.mark.parametrize(("operator", "name"), NAMED)
def test_named_calls_equal_autograd(operator: str, name: str, dtype: np.dtype, layout: str) -> None:
    """Tolerances relative to the gradients themselves."""
    case = named(operator, name, dtype=dtype, layout=layout)
    grad = case.grad(pac_torch.Call(operator, case.arrays, case.options).forward().shape)
    check(case, grad, relative_to_terms=False)


@pytest.mark.parametrize("name", ["inv", "mask normalize inv smooth"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_parameter_gradients_where_nothing_cancels(operator: str, name: str) -> None:
    """Positive terms only: now the float32 gradients of the parameters are as accurate as all others."""
    case = named(operator, name, dtype=FLOAT32, asymmetric=True, normalize=False, size=(20, 23))
    signed = ("inv_alpha", "inv_lambda")
    case = case.replace(**{k: v if k in signed or v is None else np.abs(v) for k, v in case.arrays.items()})
    call = pac_torch.Call(operator, case.arrays, case.options)
    grad = np.abs(case.grad(call.forward().shape))
    want, got = call.backward(grad), run(case, grad)
    # Where tap and centre agree, log(d^2 + 1e-4) is negative: terms of inv_lambda cancel in part, but not as a whole.
    for field in PARAMETERS:
        if case.arrays.get(field) is not None:
            assert_close(getattr(got, field), want[field], FLOAT32, what=field)


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize("name", ["gaussian", "mask normalize inv smooth", "kernel"])
@pytest.mark.parametrize("operator", OPERATORS[1:])
def test_half_input_with_float32_guide(operator: str, name: str, dtype: np.dtype) -> None:
    """Each gradient has the dtype, and for guide and kernel the accuracy, of its own array."""
    case = named(operator, name, dtype=dtype, guide_dtype=FLOAT32)
    grad = case.grad(pac_torch.Call(operator, case.arrays, case.options).forward().shape)
    check(case, grad, relative_to_terms=False)


@pytest.mark.parametrize("operator", OPERATORS)
@examples(25)
@given(data=st.data())
def test_drawn_calls_equal_differences_of_the_loops(operator: str, data: st.DataObject) -> None:
    """The derivative in a random direction of each array."""
    case = data.draw(cases(operator, (FLOAT64,), memory=False))
    grad = case.grad(output_shape(case))
    got = run(case, grad)
    magnitude = pac_torch.Call(operator, case.arrays, case.options).backward_magnitude(grad)
    rng = np.random.default_rng(case.seed)
    for name in case.present:
        value = case.arrays[name]
        direction = rng.standard_normal(value.shape)
        up, down = (project(case.replace(**{name: value + s * STEP * direction}), grad) for s in (1, -1))
        error = abs((up - down) / (2 * STEP) - float((getattr(got, name) * direction).sum()))
        assert error <= FINITE_DIFFERENCE * (1 + norm(magnitude[name] * direction)), (name, error, case)


TINY = {
    "pac_kernel2d": ["gaussian", "mask normalize inv smooth", "channel_wise inv normalize", "transposed"],
    "pac_conv2d": ["inv asymmetric", "mask normalize inv smooth", "groups", "shared", "kernel"],
    "pac_conv_transpose2d": ["gaussian", "mask normalize inv smooth", "groups", "shared", "kernel"],
    "pac_pool2d": ["asymmetric", "mask normalize inv smooth", "channel_wise inv normalize", "kernel channel_wise"],
}


@pytest.mark.slow
@pytest.mark.parametrize(("operator", "name"), [(o, n) for o, names in TINY.items() for n in names])
def test_every_entry_equals_differences_of_the_loops(operator: str, name: str) -> None:
    groups = 3 if name == "groups" else 1
    case = named(
        operator, name, batch=1, channels=groups, outputs=groups, guide_channels=2, size=(3, 4), kernel_size=(2, 3)
    )
    grad = case.grad(output_shape(case))
    got = run(case, grad)
    for field in case.present:
        value = case.arrays[field]
        want = np.empty(value.shape)
        for at in np.ndindex(value.shape):
            ends = []
            for step in (STEP, -STEP):
                moved = value.copy()
                moved[at] += step
                ends.append(project(case.replace(**{field: moved}), grad))
            want[at] = (ends[0] - ends[1]) / (2 * STEP)
        np.testing.assert_allclose(getattr(got, field), want, rtol=0, atol=1e-7 * (1 + norm(want)), err_msg=field)
        assert norm(want) > 0.01, field  # a table entry whose gradient is 0 would test nothing


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["batch", "input", "output", "guide"])
@pytest.mark.parametrize("operator", OPERATORS)
@examples(10)
@given(data=st.data())
def test_zero_sizes(operator: str, zero: str, data: st.DataObject) -> None:
    case = data.draw(cases(operator, (FLOAT64,), zero=zero))
    grad = case.grad(output_shape(case))
    got = run(case, grad)
    rng = np.random.default_rng(case.seed)
    # The difference of two sums is as exact as their terms.
    rounding = np.finfo(np.float64).eps * float(np.abs(terms(case, grad)).sum()) / STEP
    for name in case.present:
        value = case.arrays[name]
        direction = rng.standard_normal(value.shape)
        up, down = (project(case.replace(**{name: value + s * STEP * direction}), grad) for s in (1, -1))
        want = (up - down) / (2 * STEP)
        error = abs(want - float((getattr(got, name) * direction).sum()))
        assert error <= 1e-7 * (1 + abs(want)) + rounding, (name, case)


# --- needs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", OPERATORS)
@examples(40)
@given(data=st.data())
def test_needs_selects_fields(operator: str, data: st.DataObject) -> None:
    case = data.draw(cases(operator, (FLOAT64,), memory=False))
    needs = data.draw(st.lists(st.sampled_from(GRADIENTS[operator]), unique=True))
    call = pac_torch.Call(operator, case.arrays, case.options)
    grad = case.grad(call.forward().shape)
    want, magnitude = call.backward(grad), call.backward_magnitude(grad)
    got = run(case, grad, needs=needs)
    for name in GRADIENTS[operator]:
        if name in needs and case.arrays.get(name) is not None:
            assert_close(getattr(got, name), want[name], FLOAT64, magnitude[name], name)
        else:
            assert getattr(got, name) is None, name


@pytest.mark.parametrize("form", [tuple, list, set, frozenset, iter, dict.fromkeys])
def test_needs_is_any_iterable(form: Any) -> None:
    case = build("pac_conv2d")
    grad = case.grad(output_shape(case))
    got = case.backward(ao, grad, needs=form(["weight", "guide"]))
    assert [name for name in got._fields if getattr(got, name) is not None] == ["guide", "weight"]


def test_needs_nothing() -> None:
    case = build("pac_conv2d")
    assert case.backward(ao, case.grad(output_shape(case)), needs=()) == (None,) * 8


# --- masks, NaN -----------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", OPERATORS[1:])
@pytest.mark.parametrize("normalize", [False, True])
def test_masked_out_pixels(operator: str, normalize: bool) -> None:
    """Their gradient is 0, and what they hold reaches no other gradient."""
    case = build(operator, masked=True, normalize=normalize, padding=1)
    grad = case.grad(output_shape(case))
    mask = np.broadcast_to(case.options["mask"], case.arrays["input"].shape)
    want = case.replace(input=np.where(mask, case.arrays["input"], 0)).backward(ao, grad)
    got = case.replace(input=np.where(mask, case.arrays["input"], np.nan)).backward(ao, grad)
    for name in case.present:
        assert np.isfinite(getattr(got, name)).all(), name
        assert getattr(got, name).tobytes() == getattr(want, name).tobytes(), name
    assert not got.input[~mask].any()
    assert got.input[mask].all()


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("normalize", [False, True])
def test_empty_windows_have_gradient_zero(operator: str, normalize: bool) -> None:
    case = build(operator, masked=np.zeros((2, 1, 9, 10), bool), normalize=normalize, smooth=(3, 3), kernel_type="inv")
    grad = case.grad(output_shape(case))
    got = run(case, grad)
    for name in case.present:
        if name == "bias":
            assert_close(got.bias, grad.sum((0, 2, 3)), FLOAT64)
        else:
            assert not getattr(got, name).any(), name


def test_a_sum_that_underflows_has_gradient_zero() -> None:
    guide = np.array([100.0, 0.0, 100.0]).reshape(1, 1, 1, 3)
    mask = np.array([True, False, True]).reshape(1, 1, 1, 3)
    got = ao.pac_kernel2d_backward(np.ones((1, 1, 1, 3, 1, 1)), guide, (1, 3), mask=mask, normalize=True)
    assert got.guide.tolist() == [[[[0, 0, 0]]]]


@pytest.mark.parametrize("operator", OPERATORS[1:])
def test_nan_propagates(operator: str) -> None:
    case = build(operator, padding=1)
    grad = case.grad(output_shape(case))
    grad[0, 0, 4, 4] = np.nan
    want = pac_torch.Call(operator, case.arrays, case.options).backward(grad)
    got = run(case, grad)
    for name in case.present:
        assert np.isnan(want[name]).any(), name
        np.testing.assert_array_equal(np.isnan(getattr(got, name)), np.isnan(want[name]), err_msg=name)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", ["gaussian", "inv", "normalize", "mask normalize inv smooth"])
@pytest.mark.parametrize("operator", ["pac_kernel2d", "pac_conv2d", "pac_pool2d"])
def test_pixels_that_no_window_sees(operator: str, name: str, layout: str) -> None:
    """Their gradient is 0, and what they hold reaches no other gradient."""
    smooth = (3, 1) if "smooth" in name else None
    case = named(operator, name, stride=(1, 4), size=(9, 12), layout=layout, smooth=smooth)
    unseen = (slice(None),) * (3 if layout == "NCHW" else 2) + (slice(3, None, 4),)  # windows see 0-2, 4-6, 8-10
    grad = case.grad(output_shape(case))
    want, broken = case.backward(ao, grad), {}
    for field in {"input", "guide"} & set(case.arrays):
        broken[field] = case.arrays[field].copy()
        broken[field][unseen] = np.nan
    got = case.replace(**broken).backward(ao, grad)
    for field in case.present:
        assert getattr(got, field).tobytes() == getattr(want, field).tobytes(), field
    for field in broken:
        assert not getattr(got, field)[unseen].any(), field


@pytest.mark.parametrize(("dtype", "distance"), [(FLOAT32, 13.6), (FLOAT64, 38.3), (FLOAT16, 13.6), (BFLOAT16, 13.6)])
def test_sums_too_small_to_invert(dtype: np.dtype, distance: float) -> None:
    """K = E / (E + E'): the derivative of the first tap by its own guide value is -K (1 - K) d."""
    guide = np.array([distance, 0, distance], dtype=dtype).reshape(1, 1, 1, 3)
    mask = np.array([True, False, True]).reshape(1, 1, 1, 3)
    grad = np.array([1, 0, 0], dtype=dtype).reshape(1, 1, 1, 3, 1, 1)
    got = ao.pac_kernel2d_backward(grad, guide, (1, 3), mask=mask, normalize=True).guide
    want = np.array([-0.25, 0, 0.25]) * distance
    np.testing.assert_allclose(got.astype(np.float64).ravel(), want, rtol=1e-2, atol=1e-5)
