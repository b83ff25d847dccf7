"""Every named PAC call on the CUDA backend against the float64 oracle, forward and each gradient."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from pac_cases import ASSIGNED, NAMED, TABLE, build, named
from strategies import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, OPERATORS
from tolerances import assert_close

pytest.importorskip("cupy", reason="CuPy is not installed")

import cuda_device
from cuda_checks import backward, check, check_backward, check_forward, forward, in_form, orders_and_forms


def rows() -> list[Any]:
    """Parameters of a test: calls with orders of threads and forms of memory."""
    parameters = [(*call, *ASSIGNED[call], order, memory) for call, order, memory in orders_and_forms(NAMED)]
    return [pytest.param(*row, id="-".join(map(str, row))) for row in parameters]


@pytest.mark.parametrize(("operator", "name", "dtype", "layout", "order", "memory"), rows())
def test_named_calls(
    device: Any, operator: str, name: str, dtype: np.dtype, layout: str, order: str, memory: str
) -> None:
    case = in_form(named(operator, name, dtype=dtype, layout=layout), memory)
    with device.order(order):
        check_forward(device, case)
        check_backward(device, case, memory=memory)


@pytest.mark.parametrize(
    ("operator", "name", "dtype"),
    [
        ("pac_conv2d", "mask normalize inv smooth", BFLOAT16),
        ("pac_conv2d", "kernel", FLOAT16),
        ("pac_conv_transpose2d", "mask normalize inv smooth", BFLOAT16),
        ("pac_conv_transpose2d", "kernel", FLOAT16),
        ("pac_pool2d", "mask normalize inv smooth", FLOAT16),
        ("pac_pool2d", "kernel", BFLOAT16),
    ],
    ids=str,
)
def test_half_input_with_float32_guide(device: Any, operator: str, name: str, dtype: np.dtype) -> None:
    """Each gradient has the dtype, and for guide and kernel the accuracy, of its own array."""
    check(device, named(operator, name, dtype=dtype, guide_dtype=FLOAT32))


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
def test_half_types_accumulate_in_float32(device: Any, dtype: np.dtype) -> None:
    # 4096 ones after a large first term: a half accumulator would stop growing at 2048 (256 for bfloat16).
    x = np.ones((1, 4096, 1, 1), dtype=dtype)
    guide = np.zeros((1, 1, 1, 1), dtype=dtype)
    weight = np.ones((1, 4096, 1, 1), dtype=dtype)
    assert float(device.pac_conv2d(x, guide, weight)[0, 0, 0, 0]) == 4096
    taps = np.ones((1, 1, 64, 64), dtype=dtype)
    assert float(device.pac_pool2d(taps, 0 * taps, 64)[0, 0, 0, 0]) == 4096


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("operator", OPERATORS)
def test_views_that_repeat_one_element(device: Any, operator: str, layout: str) -> None:
    """Strides of 0, as np.broadcast_to makes them."""
    case = named(operator, "mask normalize inv smooth", layout=layout, padding=1)
    small = {k: None if v is None else v.copy() for k, v in case.arrays.items()}
    for array in small.values():
        if array is not None and array.ndim == 4:
            array[:] = array[:, :1, :, :1]
    views = {k: v if v is None or v.ndim != 4 else np.broadcast_to(v[:, :1, :, :1], v.shape) for k, v in small.items()}
    want, got = case.replace(**small).call(device), case.replace(**views).call(device)
    assert got.output.tobytes() == want.output.tobytes()


def test_the_input_may_be_its_own_guide(device: Any) -> None:
    case = build("pac_conv2d", guide_channels=6)
    check(device, case.replace(guide=case.arrays["input"]))


ZERO = {
    "batch": {"batch": 0},
    "input": {"channels": 0},
    "output": {"outputs": 0},
    "guide": {"guide_channels": 0},
}


@pytest.mark.parametrize(("name", "layout"), [("gaussian", "NCHW"), ("mask normalize inv smooth", "NHWC")])
@pytest.mark.parametrize(
    ("operator", "zero"),
    [
        (operator, zero)
        for operator in OPERATORS
        for zero in ZERO
        if zero != "output" or operator.startswith("pac_conv")
        if zero != "input" or operator != "pac_kernel2d"
    ],
)
def test_zero_sizes(device: Any, operator: str, zero: str, name: str, layout: str) -> None:
    """Against the NumPy backend: the oracle's unfold wants channels."""
    case = named(operator, name, layout=layout, **ZERO[zero])
    want = case.call(ao)
    got, got_mask = forward(device, case)
    if got_mask is not None:
        want, mask = want
        np.testing.assert_array_equal(got_mask, mask)
    assert_close(got, want, FLOAT64)
    grad = case.grad(want.shape)
    wanted, gradients = case.backward(ao, grad), backward(device, case, grad)
    for field in case.present:
        # Without a guide, all taps weigh the same, and sums of terms near 1 may cancel to nothing.
        terms = np.maximum(np.abs(getattr(wanted, field)), 1)
        assert_close(getattr(gradients, field), getattr(wanted, field), FLOAT64, terms, field)


@pytest.mark.parametrize(("operator", "name"), list(zip(cycle(OPERATORS[1:3]), TABLE["pac_conv2d"], strict=False)))
def test_needs(device: Any, operator: str, name: str) -> None:
    """Each gradient alone is the one of all together, and nothing is made that nobody wants."""
    dtype, layout = ASSIGNED[operator, name]
    case = named(operator, name, dtype=dtype, layout=layout)
    everything = check_backward(device, case)
    for field in case.present:
        alone = check_backward(device, case, needs=(field,))
        assert getattr(alone, field).tobytes() == getattr(everything, field).tobytes(), field
    assert check_backward(device, case, needs=()) == (None,) * len(everything)


def test_what_nobody_wants_is_not_prepared(device: Any) -> None:
    """The gradient of a bias asks for nothing but the output's."""
    case = named("pac_conv2d", "mask normalize inv smooth")
    cuda_device.forget()
    check_backward(device, case, needs=("bias",))
    assert {kernel.identity.name for kernel in cuda_device.kernels()} == {"sum_pixels", "sum_parts"}
