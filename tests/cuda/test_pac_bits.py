"""PAC on the CUDA backend bit by bit: the same call again, masked-out and unseen pixels, NaN, infinity, tiny sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayops as ao
from case import Case
from oracles import pac_torch
from pac_cases import ASSIGNED, build, named
from strategies import BFLOAT16, DTYPES, FLOAT16, FLOAT32, FLOAT64, OPERATORS

pytest.importorskip("cupy", reason="CuPy is not installed")

from cuda_checks import backward, forward, oracle
from tolerances import assert_close


def gradient_for(case: Case) -> np.ndarray:
    return case.grad(oracle(case).forward().shape)


def bits(device: Any, case: Case) -> list[bytes]:
    """Of every result, forward and backward."""
    results = [*forward(device, case), *backward(device, case, gradient_for(case))]
    return [result.tobytes() for result in results if result is not None]


# Several tiles, shares and bands' worth of blocks in each.
REPEATED: list[tuple[str, str, dict[str, Any]]] = [
    ("pac_kernel2d", "mask normalize inv smooth", {}),
    ("pac_kernel2d", "channel_wise inv normalize", {}),
    ("pac_conv2d", "mask normalize inv smooth", {}),
    ("pac_conv2d", "shared", {}),
    ("pac_conv2d", "kernel", {"dtype": BFLOAT16, "channels": 12, "outputs": 20}),
    ("pac_conv_transpose2d", "mask normalize inv smooth", {"stride": 2}),
    ("pac_conv_transpose2d", "gaussian", {"dtype": FLOAT32, "channels": 17, "outputs": 65}),
    ("pac_conv_transpose2d", "groups", {"stride": (1, 3)}),
    ("pac_pool2d", "mask normalize inv smooth", {"channels": 40}),
    ("pac_pool2d", "channel_wise inv normalize", {"channels": 40}),
]


@pytest.mark.parametrize(("operator", "name", "options"), REPEATED, ids=str)
def test_the_same_bits_again_in_any_order(device: Any, operator: str, name: str, options: dict[str, Any]) -> None:
    dtype, layout = ASSIGNED[operator, name]
    case = named(operator, name, **{"dtype": dtype, "layout": layout, "size": (19, 21), "padding": 1, **options})
    first = bits(device, case)
    for order, seed in (("fifo", 1), ("lifo", 1), ("random", 1), ("random", 2)):
        with device.order(order, seed):
            assert bits(device, case) == first, order


# --- masks ----------------------------------------------------------------------------------------


MASKED = [("mask", FLOAT32), ("mask normalize inv smooth", FLOAT64)]


@pytest.mark.parametrize("operator", OPERATORS[1:])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(("name", "dtype"), MASKED, ids=str)
def test_masked_out_values_are_never_read(device: Any, operator: str, bad: float, name: str, dtype: np.dtype) -> None:
    """Not forward, and not into any gradient; their own is 0."""
    case = named(operator, name, dtype=dtype, padding=1)
    mask = np.broadcast_to(case.options["mask"], case.arrays["input"].shape)
    zeroed = case.replace(input=np.where(mask, case.arrays["input"], 0))
    broken = case.replace(input=np.where(mask, case.arrays["input"], bad))
    (want, want_mask), (got, got_mask) = forward(device, zeroed), forward(device, broken)
    assert np.isfinite(got).all()
    assert got.tobytes() == want.tobytes()
    np.testing.assert_array_equal(got_mask, want_mask)
    grad = gradient_for(case)
    wanted, gradients = backward(device, zeroed, grad), backward(device, broken, grad)
    for name in case.present:
        assert np.isfinite(getattr(gradients, name)).all(), name
        assert getattr(gradients, name).tobytes() == getattr(wanted, name).tobytes(), name
    assert not gradients.input[~mask].any()
    assert gradients.input[mask].all()


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(("name", "dtype"), MASKED, ids=str)
def test_empty_windows_have_gradient_zero(device: Any, operator: str, name: str, dtype: np.dtype) -> None:
    case = named(operator, name, dtype=dtype, masked=np.zeros((2, 1, 9, 10), bool))
    output, filled = forward(device, case)
    assert filled is not None
    assert not filled.any()
    bias = case.arrays.get("bias")
    assert (output == (0 if bias is None else bias[:, None, None])).all()
    grad = gradient_for(case)
    got = backward(device, case, grad)
    for name in case.present:
        if name == "bias":
            assert_close(got.bias, grad.sum((0, 2, 3)), dtype)
        else:
            assert not getattr(got, name).any(), name


@pytest.mark.parametrize("name", ["gaussian", "inv", "normalize", "mask normalize inv smooth"])
@pytest.mark.parametrize("operator", ["pac_kernel2d", "pac_conv2d", "pac_pool2d"])
def test_pixels_that_no_window_sees(device: Any, operator: str, name: str) -> None:
    """Columns between and behind strided windows may hold anything, and have gradient 0."""
    smooth = (3, 1) if "smooth" in name else None
    dtype, layout = ASSIGNED[operator, name]
    case = named(operator, name, stride=(1, 4), size=(9, 12), dtype=dtype, layout=layout, smooth=smooth)
    unseen = (slice(None),) * (3 if layout == "NCHW" else 2) + (slice(3, None, 4),)  # windows see 0-2, 4-6, 8-10
    broken = {}
    for field in {"input", "guide"} & set(case.arrays):
        broken[field] = case.arrays[field].copy()
        broken[field][unseen] = np.nan
    assert bits(device, case.replace(**broken)) == bits(device, case)
    gradients = backward(device, case, gradient_for(case))
    for field in broken:
        assert not getattr(gradients, field)[unseen].any(), field


# --- NaN and infinity: in the same places as on the CPU -------------------------------------------


def assert_nan_alike(got: Any, want: Any, dtype: Any, what: str = "") -> None:
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want), err_msg=what)
    keep = ~np.isnan(want)
    assert_close(got[keep], want[keep], dtype, what=what)


@pytest.mark.parametrize("name", ["gaussian", "inv asymmetric", "mask", "normalize", "mask normalize inv smooth"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_nan_in_the_guide(device: Any, operator: str, name: str) -> None:
    dtype, _ = ASSIGNED[operator, name]
    case = named(operator, name, dtype=dtype, padding=1)
    guide = case.arrays["guide"].copy()
    guide[0, 1, 4, 4] = np.nan
    guide[1, 0, 0, 0] = np.nan
    if "mask" in name:
        case.options["mask"][0, 0, 4, 4] = False
    case = case.replace(guide=guide)
    want, (got, got_mask) = case.call(ao), forward(device, case)
    if got_mask is not None:
        want = want[0]
    want, got = want.astype(np.float64), got.astype(np.float64)
    if operator == "pac_kernel2d" and "normalize" in name:
        # Whether a dropped tap of a NaN window is 0 or NaN is nobody's promise: compare whole windows.
        want, got = want.sum((2, 3)), got.sum((2, 3))
    assert np.isnan(want).any()
    assert_nan_alike(got, want, dtype)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("operator", OPERATORS[1:])
def test_nan_in_the_input(device: Any, operator: str, dtype: np.dtype, layout: str) -> None:
    case = build(operator, padding=1, dtype=dtype, layout=layout)
    broken = case.arrays["input"].copy()
    broken[1, 2, 4, 5] = np.nan
    case = case.replace(input=broken)
    want, (got, _) = case.call(ao).astype(np.float64), forward(device, case)
    assert 0 < np.isnan(want).sum() < want.size
    assert_nan_alike(got.astype(np.float64), want, dtype)


@pytest.mark.parametrize("field", ["input", "weight", "grad"])
@pytest.mark.parametrize("operator", OPERATORS[1:])
def test_nan_in_gradients(device: Any, operator: str, field: str) -> None:
    if field == "weight" and operator == "pac_pool2d":
        pytest.skip("pac_pool2d has no weight")
    case = build(operator, padding=1)
    grad = gradient_for(case)
    broken = (grad if field == "grad" else case.arrays[field]).copy()
    broken[0, 0, 1, 1] = np.nan
    if field == "grad":
        grad = broken
    else:
        case = case.replace(**{field: broken})
    want, got = pac_torch.Call(operator, case.arrays, case.options).backward(grad), backward(device, case, grad)
    assert any(np.isnan(want[name]).any() for name in case.present)
    for name in case.present:
        assert_nan_alike(getattr(got, name), want[name], FLOAT64, name)


@pytest.mark.parametrize("operator", OPERATORS)
def test_infinity_in_the_guide(device: Any, operator: str) -> None:
    """A gaussian of an infinite distance is 0, and the centre itself, infinity minus infinity, NaN."""
    case = build(operator, padding=1)
    guide = case.arrays["guide"].copy()
    guide[0, 1, 4, 4] = np.inf
    case = case.replace(guide=guide)
    assert_nan_alike(forward(device, case)[0], case.call(ao), FLOAT64)


# --- tiny sums ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "normalize"), [(FLOAT64, False), (FLOAT64, True), (FLOAT16, True)], ids=str)
def test_windows_of_weight_zero_are_zero_not_nan(device: Any, dtype: np.dtype, normalize: bool) -> None:
    """Sums that underflow, and empty windows."""
    guide = np.array([[100, 0, 100, 100]], dtype=dtype).reshape(1, 1, 1, 4)
    mask = np.array([True, False, True, False]).reshape(1, 1, 1, 4)
    kernels, filled = device.pac_kernel2d(guide, (1, 3), mask=mask, normalize=normalize)
    row = kernels.astype(np.float64).ravel().tolist()
    assert np.isfinite(row).all()
    assert row[0] == row[4] == 0
    assert filled.all()
    output, filled = device.pac_pool2d(
        np.full_like(guide, np.nan), guide, (1, 3), mask=np.zeros_like(mask), normalize_kernel=normalize
    )
    assert not output.astype(np.float64).any()
    assert not filled.any()
    gradients = device.pac_kernel2d_backward(
        np.ones(kernels.shape, dtype), guide, (1, 3), mask=mask, normalize=True, needs=("guide",)
    )
    assert np.isfinite(gradients.guide.astype(np.float64)).all()


@pytest.mark.parametrize(("dtype", "distance"), [(FLOAT32, 13.6), (FLOAT64, 38.3), (FLOAT16, 13.6), (BFLOAT16, 13.6)])
def test_sums_too_small_to_invert_still_normalize(device: Any, dtype: np.dtype, distance: float) -> None:
    """The sum is a subnormal number: 1 / sum is infinite, K / sum is 1/2, and dK / d guide is -K (1 - K) distance."""
    guide = np.array([distance, 0, distance], dtype=dtype).reshape(1, 1, 1, 3)
    mask = np.array([True, False, True]).reshape(1, 1, 1, 3)
    kernels = device.pac_kernel2d(guide, (1, 3), mask=mask, normalize=True).output
    if not device.emulated and dtype != FLOAT64:
        # CuPy compiles with -ftz=true: subnormal float32 numbers are 0, and a window of nothing else is empty.
        assert set(kernels.astype(np.float64).ravel().tolist()) <= {0.0, 0.5}
        return
    np.testing.assert_allclose(kernels.astype(np.float64).ravel(), [0.5, 0, 0.5], rtol=1e-2)
    pooled = device.pac_pool2d(np.ones_like(guide), guide, (1, 3), mask=mask, normalize_kernel=True).output
    np.testing.assert_allclose(pooled.astype(np.float64).ravel(), [1], rtol=1e-2)
    grad = np.array([1, 0, 0], dtype=dtype).reshape(1, 1, 1, 3, 1, 1)
    gradient = device.pac_kernel2d_backward(grad, guide, (1, 3), mask=mask, normalize=True).guide
    want = np.array([-0.25, 0, 0.25]) * distance
    np.testing.assert_allclose(gradient.astype(np.float64).ravel(), want, rtol=1e-2, atol=1e-5)
