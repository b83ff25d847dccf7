"""The contraction on tensor cores: when it is used, and what it gives, in half precision and in TF32."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from case import Case
from pac_cases import build, named
from strategies import BFLOAT16, FLOAT16, FLOAT32, FLOAT64
from tolerances import RELATIVE, assert_close, norm

pytest.importorskip("cupy", reason="CuPy is not installed")

import cuda_device
import cuda_units
from cuda_checks import backward, check_backward, check_forward, forward, in_form, oracle

CONVOLUTIONS = ("pac_conv2d", "pac_conv_transpose2d")
HALVES = (FLOAT16, BFLOAT16)

# Factors have 11 bits: the error of set_float32_precision's docstring.
TF32 = 1e-3


@pytest.fixture
def tf32() -> Iterator[None]:
    ao.set_float32_precision("tf32")
    yield
    ao.set_float32_precision("highest")


def contractions() -> set[str]:
    names = {kernel.identity.name for kernel in cuda_device.kernels()}
    return {name for name in names if name.startswith("contraction")}


def has_tensor_cores() -> bool:
    from arrayops._backends.cuda.engine import device

    return device.current().compute_capability >= 80


def check(device: Any, case: Case) -> None:
    """Forward and the gradient of the input, on tensor cores alone where the device has them."""
    check_forward(device, case)
    check_backward(device, case, needs=("input",))
    assert contractions() == {"contraction_mma" if has_tensor_cores() else "contraction_fma"}


SIZES: dict[str, dict[str, Any]] = {
    "masked": {"channels": 17, "outputs": 9, "masked": True, "normalize": True, "smooth": (3, 3)},
    "normalized": {"channels": 16, "outputs": 16, "normalize": True, "smooth": (3, 3), "padding": 1},
    "half a step": {"channels": 8, "outputs": 8},
    "one step and one more": {"channels": 17, "outputs": 17},
    "two steps and one more": {"channels": 33, "outputs": 33},
    "tiles of results": {"channels": 16, "outputs": 70},
    "tiles of pixels": {"channels": 10, "outputs": 9, "size": (35, 37), "padding": 1, "batch": 1},
    "groups": {"channels": 40, "outputs": 24, "groups": 2, "padding": ((1, 0), (0, 2))},
    "stride": {"channels": 16, "outputs": 16, "stride": (2, 3), "size": (19, 50), "batch": 1},
    "dilation": {"channels": 16, "outputs": 16, "dilation": (3, 2), "padding": 3},
    "phases": {"channels": 16, "outputs": 16, "dilation": 2, "stride": (4, 2), "size": (17, 18), "padding": 2},
    "chunks of taps": {"channels": 16, "outputs": 16, "kernel_size": (7, 5), "padding": 3},
    "even filter": {"channels": 16, "outputs": 16, "kernel_size": (2, 4)},
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_sizes(device: Any, operator: str, name: str) -> None:
    """In turn in both half types, which are made by the same code but for one instruction, and in both layouts."""
    number = list(SIZES).index(name)
    dtype, layout = HALVES[number % 2], ("NHWC", "NCHW")[number // 2 % 2]
    check(device, build(operator, dtype=dtype, layout=layout, **SIZES[name]))


@pytest.mark.parametrize("options", [{"kernel_type": "inv"}, {"with_kernel": True}, {"masked": True}], ids=str)
def test_bfloat16_has_the_range_for_any_kernel(device: Any, options: dict[str, Any]) -> None:
    check(device, build("pac_conv2d", dtype=BFLOAT16, layout="NHWC", channels=16, outputs=16, padding=1, **options))


@pytest.mark.parametrize("memory", ["fortran", "every other", "negative strides", "offset"])
def test_strided_arrays(device: Any, memory: str) -> None:
    case = build("pac_conv2d", dtype=FLOAT16, channels=16, outputs=16, layout="NHWC")
    check(device, in_form(case, memory))


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("one step and one more", "NCHW"),
        ("tiles of pixels", "NCHW"),
        ("stride", "NCHW"),
        ("masked", "NHWC"),
        ("groups", "NHWC"),
    ],
)
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_tf32(device: Any, tf32: None, operator: str, name: str, layout: str) -> None:
    """Rounded factors, and no more: within the promise, and not of full accuracy."""
    case = build(operator, dtype=FLOAT32, layout=layout, **SIZES[name])
    want, (got, _) = oracle(case).forward(), forward(device, case)
    grad = case.grad(want.shape)
    wanted, gradient = oracle(case).backward(grad)["input"], backward(device, case, grad, needs=("input",)).input
    for found, exact in ((got, want), (gradient, wanted)):
        error = norm(found - exact) / norm(exact)
        assert error <= TF32
        assert (error > 10 * RELATIVE[FLOAT32]) == has_tensor_cores()


def test_tf32_is_for_the_contraction_alone(device: Any, tf32: None) -> None:
    """Other gradients and dtypes have the same bits as with full precision."""
    cases = [build("pac_conv2d", dtype=dtype, channels=16, outputs=16) for dtype in (FLOAT32, FLOAT64, FLOAT16)]
    cases.append(build("pac_conv2d", dtype=FLOAT32, channels=16, outputs=16, shared_filters=True))
    for number, case in enumerate(cases):
        needs = ("guide", "weight", "bias") if number == 0 else ("input", "guide", "weight", "bias")
        grad = case.grad(oracle(case).forward().shape)
        found = []
        for mode in ("tf32", "highest"):
            ao.set_float32_precision(mode)
            results = [*backward(device, case, grad, needs=needs)] + [forward(device, case)[0]] * (number > 0)
            found.append([result.tobytes() for result in results if result is not None])
        assert found[0] == found[1], case


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_the_same_bits_in_any_order(device: Any, operator: str, dtype: np.dtype) -> None:
    case = build(operator, dtype=dtype, layout="NHWC", channels=40, outputs=20, size=(19, 21), stride=2)
    first = forward(device, case)[0].tobytes()
    for order, seed in (("fifo", 1), ("lifo", 1), ("random", 1), ("random", 2)):
        with device.order(order, seed):
            assert forward(device, case)[0].tobytes() == first, order


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_masked_out_nan(device: Any, dtype: np.dtype) -> None:
    case = build("pac_conv2d", dtype=dtype, channels=16, outputs=16, masked=True, padding=1)
    broken = np.where(case.options["mask"], case.arrays["input"], np.array(np.nan, dtype))
    zeroed = np.where(case.options["mask"], case.arrays["input"], np.array(0, dtype))
    want, got = (forward(device, case.replace(input=values))[0] for values in (zeroed, broken))
    assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("dtype", [*HALVES, FLOAT32], ids=str)
def test_nan_and_infinity_go_where_they_go_on_the_cpu(device: Any, tf32: None, dtype: np.dtype) -> None:
    case = build("pac_conv2d", dtype=dtype, channels=16, outputs=16, padding=1)
    broken = case.arrays["input"].copy()
    broken[0, 3, 4, 5], broken[1, 5, 2, 2] = np.nan, np.inf
    case = case.replace(input=broken)
    want, got = case.call(ao).astype(np.float64), forward(device, case)[0].astype(np.float64)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want))
    assert 0 < np.isfinite(want).sum() < want.size


def test_large_values_of_a_masked_window(device: Any) -> None:
    """K is up to the number of taps where most are masked out: K times a sample may be more than float16 holds."""
    case = build("pac_conv2d", dtype=FLOAT16, batch=1, size=(3, 3), channels=16, outputs=16, bias=False)
    mask = np.zeros((1, 1, 3, 3), bool)
    mask[0, 0, 1, 1] = True
    case.options["mask"] = mask
    case = case.replace(
        input=np.full_like(case.arrays["input"], 20000), weight=np.full_like(case.arrays["weight"], 0.01)
    )
    want = oracle(case).forward()
    assert np.isfinite(want.astype(np.float16)).all()
    assert_close(forward(device, case)[0], want, FLOAT16)


@pytest.mark.parametrize(
    ("dtype", "compute_capability", "mode", "name", "expected"),
    [
        (FLOAT16, 75, "highest", "gaussian", "contraction_fma"),
        (FLOAT16, 80, "highest", "gaussian", "contraction_mma"),
        (BFLOAT16, 75, "highest", "gaussian", "contraction_fma"),
        (BFLOAT16, 90, "highest", "normalize", "contraction_mma"),
        (FLOAT32, 80, "highest", "gaussian", "contraction_fma"),
        (FLOAT32, 80, "tf32", "gaussian", "contraction_mma"),
        (FLOAT32, 75, "tf32", "gaussian", "contraction_fma"),
        (FLOAT64, 100, "tf32", "gaussian", "contraction_fma"),
        # Kernels that may be large: a scaled sample has to stay in the range of float16.
        (FLOAT16, 80, "highest", "inv", "contraction_fma"),
        (FLOAT16, 80, "highest", "kernel", "contraction_fma"),
        (FLOAT16, 80, "highest", "mask", "contraction_fma"),
        (BFLOAT16, 80, "highest", "kernel", "contraction_mma"),
        (FLOAT32, 80, "tf32", "inv", "contraction_mma"),
    ],
    ids=str,
)
def test_which_kernel(dtype: np.dtype, compute_capability: int, mode: str, name: str, expected: str) -> None:
    case = named("pac_conv2d", name, dtype=dtype, channels=32, outputs=32)
    ao.set_float32_precision(mode)
    try:
        with cuda_units.nothing_launched(compute_capability) as device:
            case.call(device)
            assert contractions() == {expected}
    finally:
        ao.set_float32_precision("highest")
