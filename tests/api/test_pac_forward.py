"""Values, dtypes, shapes and types of the PAC operators against the loops and the unfold oracle."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import arrayops as ao
from case import Case
from optional import optional
from oracles import pac, pac_torch
from pac_cases import NAMED, build, named
from strategies import BFLOAT16, DTYPES, FLOAT16, FLOAT32, FLOAT64, ONE_QUICK, OPERATORS, cases, examples
from tolerances import assert_close


def run(case: Case) -> tuple[np.ndarray, np.ndarray | None]:
    """Output and output mask; inputs must come out as they went in, and results be new arrays."""
    arrays = [v for v in {**case.arrays, **case.options}.values() if isinstance(v, np.ndarray)]
    before = [a.copy() for a in arrays]
    result = case.call(ao)
    for array, copy in zip(arrays, before, strict=True):
        assert array.tobytes() == copy.tobytes(), "an input was written to"
    output_mask = None
    if case.options.get("mask") is None:
        output = result
    else:
        assert result._fields == ("output", "output_mask")
        output, output_mask = result
        assert output is result.output
        assert type(output_mask) is np.ndarray
        assert output_mask.dtype == np.bool_
    assert type(output) is np.ndarray
    assert output.dtype == case.dtype
    assert output.flags.writeable
    assert not any(np.shares_memory(output, array) for array in arrays if array.size)
    return output, output_mask


def check(case: Case, want: Any, magnitude: Any) -> None:
    output, output_mask = run(case)
    if output_mask is not None:
        want, filled = want
        np.testing.assert_array_equal(output_mask, filled)
    assert_close(output, want, case.dtype, magnitude, repr(case))


def unfolded(case: Case) -> Any:
    """Output and mask by the fast oracle, or by the loops where there is no torch."""
    if not optional("torch"):
        return case.call(pac)
    call = pac_torch.Call(case.operator, case.arrays, case.options)
    return call.forward() if case.options.get("mask") is None else (call.forward(), call.filled())


@pytest.mark.parametrize("dtype", ONE_QUICK, ids=str)
@pytest.mark.parametrize("operator", OPERATORS)
@examples(60)
@given(data=st.data())
def test_drawn_calls_equal_the_loops(operator: str, dtype: np.dtype, data: st.DataObject) -> None:
    case = data.draw(cases(operator, (dtype,)))
    call = pac_torch.Call(operator, case.arrays, case.options)
    check(case, case.call(pac), call.forward_magnitude())


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["batch", "input", "output", "guide"])
@pytest.mark.parametrize("operator", OPERATORS)
@examples(15)
@given(data=st.data())
def test_zero_sizes(operator: str, zero: str, data: st.DataObject) -> None:
    case = data.draw(cases(operator, (FLOAT64, FLOAT16), zero=zero))
    check(case, case.call(pac), None)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", ONE_QUICK, ids=str)
@pytest.mark.parametrize(("operator", "name"), NAMED)
def test_named_calls(operator: str, name: str, dtype: np.dtype, layout: str) -> None:
    case = named(operator, name, dtype=dtype, layout=layout)
    check(case, unfolded(case), None)


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize("name", ["gaussian", "mask normalize inv smooth", "kernel"])
@pytest.mark.parametrize("operator", OPERATORS[1:])
def test_half_input_with_float32_guide(operator: str, name: str, dtype: np.dtype) -> None:
    case = named(operator, name, dtype=dtype, guide_dtype=FLOAT32)
    check(case, unfolded(case), None)


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
def test_half_types_accumulate_in_float32(dtype: np.dtype) -> None:
    # 4096 ones after a large first term: a half accumulator would stop growing at 2048 (256 for bfloat16).
    x = np.ones((1, 4096, 1, 1), dtype=dtype)
    guide = np.zeros((1, 1, 1, 1), dtype=dtype)
    weight = np.ones((1, 4096, 1, 1), dtype=dtype)
    assert float(ao.pac_conv2d(x, guide, weight)[0, 0, 0, 0]) == 4096
    taps = np.ones((1, 1, 64, 64), dtype=dtype)
    assert float(ao.pac_pool2d(taps, 0 * taps, 64)[0, 0, 0, 0]) == 4096


def test_scalar_and_one_element_parameters_are_the_same() -> None:
    case = named("pac_conv2d", "inv")
    one = case.replace(**{k: case.arrays[k].reshape(1) for k in ("inv_alpha", "inv_lambda")})
    assert case.call(ao).tobytes() == one.call(ao).tobytes()


@pytest.mark.parametrize("padding", ["SAME", "Same", "same", "sAmE"])
def test_padding_in_any_case_of_letters(padding: str) -> None:
    case = build("pac_conv2d", padding=padding, stride=2)
    upper = build("pac_conv2d", padding="SAME", stride=2)
    assert case.call(ao).tobytes() == upper.call(ao).tobytes()


def test_parameters_may_be_lists_and_numpy_integers() -> None:
    case = build("pac_conv2d", padding=((1, 2), (0, 1)), stride=(2, 1), dilation=(1, 2))
    positional, keywords = case.arguments()
    want = ao.pac_conv2d(*positional, **keywords)
    keywords.update(padding=[[1, 2], [0, np.int64(1)]], stride=[np.int32(2), 1], dilation=np.array([1, 2]).tolist())
    assert ao.pac_conv2d(*positional, **keywords).tobytes() == want.tobytes()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_views_that_repeat_one_element(operator: str, layout: str) -> None:
    """Strides of 0, as np.broadcast_to makes them."""
    case = build(operator, layout=layout, padding=1, normalize=True, masked=True)
    small = {k: None if v is None else v.copy() for k, v in case.arrays.items()}
    for array in small.values():
        if array is not None and array.ndim == 4:
            array[:] = array[:, :1, :, :1]
    views = {k: v if v is None or v.ndim != 4 else np.broadcast_to(v[:, :1, :, :1], v.shape) for k, v in small.items()}
    want, got = case.replace(**small).call(ao), case.replace(**views).call(ao)
    assert got.output.tobytes() == want.output.tobytes()


def test_the_input_may_be_its_own_guide() -> None:
    case = build("pac_conv2d", guide_channels=6)
    case = case.replace(guide=case.arrays["input"])
    check(case, case.call(pac), None)


# --- NaN and infinity -----------------------------------------------------------------------------


@pytest.mark.parametrize("operator", OPERATORS[1:])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("normalize", [False, True])
def test_masked_out_values_are_never_read(operator: str, bad: float, normalize: bool) -> None:
    case = build(operator, masked=True, normalize=normalize, padding=1)
    zeroed = np.where(case.options["mask"], case.arrays["input"], 0)
    broken = np.where(case.options["mask"], case.arrays["input"], bad)
    want, got = case.replace(input=zeroed).call(ao), case.replace(input=broken).call(ao)
    assert np.isfinite(got.output).all()
    assert got.output.tobytes() == want.output.tobytes()
    np.testing.assert_array_equal(got.output_mask, want.output_mask)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", ["gaussian", "inv asymmetric", "mask", "normalize", "mask normalize inv smooth"])
def test_nan_in_the_guide_goes_where_the_loops_send_it(operator: str, name: str) -> None:
    case = named(operator, name, padding=1)
    guide = case.arrays["guide"].copy()
    guide[0, 1, 4, 4] = np.nan
    guide[1, 0, 0, 0] = np.nan
    if "mask" in name:
        case.options["mask"][0, 0, 4, 4] = False
    case = case.replace(guide=guide)
    want, got = case.call(pac), case.call(ao)
    if "mask" in name:
        want, got = want[0], got[0]
    if operator == "pac_kernel2d" and "normalize" in name:
        # Whether a dropped tap of a NaN window is 0 or NaN is nobody's promise: compare whole windows.
        want, got = want.sum((2, 3)), got.sum((2, 3))
    assert np.isnan(want).any()
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    keep = ~np.isnan(want)
    assert_close(got[keep], want[keep], FLOAT64)


@pytest.mark.parametrize("operator", OPERATORS[1:])
def test_nan_in_the_input_spreads_to_the_windows_that_see_it(operator: str) -> None:
    case = build(operator, padding=1)
    broken = case.arrays["input"].copy()
    broken[1, 2, 4, 5] = np.nan
    case = case.replace(input=broken)
    want, got = case.call(pac), case.call(ao)
    assert 0 < np.isnan(want).sum() < want.size
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_windows_of_weight_zero_are_zero_not_nan(dtype: np.dtype) -> None:
    """Kernels that underflow, and empty windows."""
    guide = np.array([[100, 0, 100, 100]], dtype=dtype).reshape(1, 1, 1, 4)
    mask = np.array([True, False, True, False]).reshape(1, 1, 1, 4)
    kernels, filled = ao.pac_kernel2d(guide, (1, 3), mask=mask)
    assert kernels.astype(np.float64).ravel().tolist()[0::2] == [0, kernels[0, 0, 0, 1, 0, 0], 0]
    assert filled.all()
    for normalize in (False, True):
        output, filled = ao.pac_pool2d(
            np.full_like(guide, np.nan), guide, (1, 3), mask=np.zeros_like(mask), normalize_kernel=normalize
        )
        assert not output.astype(np.float64).any()
        assert not filled.any()


@pytest.mark.parametrize(("dtype", "distance"), [(FLOAT32, 13.6), (FLOAT64, 38.3), (FLOAT16, 13.6), (BFLOAT16, 13.6)])
def test_sums_too_small_to_invert_still_normalize(dtype: np.dtype, distance: float) -> None:
    """The sum is a subnormal number: 1 / sum is infinite, K / sum is 1/2."""
    guide = np.array([distance, 0, distance], dtype=dtype).reshape(1, 1, 1, 3)
    mask = np.array([True, False, True]).reshape(1, 1, 1, 3)
    kernels = ao.pac_kernel2d(guide, (1, 3), mask=mask, normalize=True).output
    np.testing.assert_allclose(kernels.astype(np.float64).ravel(), [0.5, 0, 0.5], rtol=1e-2)
    pooled = ao.pac_pool2d(np.ones_like(guide), guide, (1, 3), mask=mask, normalize_kernel=True).output
    np.testing.assert_allclose(pooled.astype(np.float64).ravel(), [1], rtol=1e-2)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", ["gaussian", "inv", "normalize", "mask normalize inv smooth"])
@pytest.mark.parametrize("operator", ["pac_kernel2d", "pac_conv2d", "pac_pool2d"])
def test_pixels_that_no_window_sees_are_never_used(operator: str, name: str, layout: str) -> None:
    """Columns between and behind strided windows may hold anything."""
    smooth = (3, 1) if "smooth" in name else None
    case = named(operator, name, stride=(1, 4), size=(9, 12), layout=layout, smooth=smooth)
    unseen = (slice(None),) * (3 if layout == "NCHW" else 2) + (slice(3, None, 4),)  # windows see 0-2, 4-6, 8-10
    want, broken = case.call(ao), {}
    for field in {"input", "guide"} & set(case.arrays):
        broken[field] = case.arrays[field].copy()
        broken[field][unseen] = np.nan
    got = case.replace(**broken).call(ao)
    if "mask" in name:
        want, got = want.output, got.output
    assert got.tobytes() == want.tobytes()
