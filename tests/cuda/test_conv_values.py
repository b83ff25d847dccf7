"""Named calls of the plain convolutions on the CUDA backend against the float64 oracle, forward and each gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayops as ao
from conv_cases import CALLS, build, named
from strategies import BFLOAT16, CONVOLUTIONS, FLOAT16, FLOAT32, FLOAT64

pytest.importorskip("cupy", reason="CuPy is not installed")

import cuda_device
from arrayops._backends.cuda.conv import direct as conv_direct
from arrayops._backends.cuda.engine import sums
from cuda_checks import check_backward, check_forward, in_form, orders_and_forms


def rows() -> list[Any]:
    """Parameters of a test: calls with orders of threads and forms of memory."""
    parameters = [(*call, *CALLS[call], order, memory) for call, order, memory in orders_and_forms(CALLS)]
    return [pytest.param(*row, id="-".join(str(each) for each in row if type(each) is not dict)) for row in parameters]


@pytest.mark.parametrize(("operator", "name", "options", "dtype", "layout", "order", "memory"), rows())
def test_named_calls(
    device: Any,
    operator: str,
    name: str,
    options: dict[str, Any],
    dtype: np.dtype,
    layout: str,
    order: str,
    memory: str,
) -> None:
    call = in_form(build(operator, dtype=dtype, layout=layout, **options), memory)
    with device.order(order):
        check_forward(device, call)
        check_backward(device, call, memory=memory)


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_half_types_accumulate_in_float32(device: Any, operator: str, dtype: np.dtype) -> None:
    # A half accumulator would stop growing at 2048 (256 for bfloat16).
    x, weight = np.ones((1, 4096, 1, 1), dtype), np.ones((4096, 1, 1, 1), dtype)
    weight = weight if operator == "conv_transpose2d" else weight.transpose(1, 0, 2, 3)
    assert float(getattr(device, operator)(x, weight)[0, 0, 0, 0]) == 4096


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_views_that_repeat_one_element(device: Any, operator: str, layout: str) -> None:
    case = build(operator, layout=layout, padding=1)
    views = {k: np.broadcast_to(v[..., :1], v.shape) for k, v in case.arrays.items()}
    copies = {k: v.copy() for k, v in views.items()}
    assert case.replace(**views).call(device).tobytes() == case.replace(**copies).call(device).tobytes()


ZERO = {"batch": {"batch": 0}, "input": {"channels": 0}, "output": {"outputs": 0}}


@pytest.mark.parametrize("zero", ZERO)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("groups", [1, 3, 6])
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_zero_sizes(device: Any, operator: str, groups: int, layout: str, zero: str) -> None:
    """As on the CPU, and so 0 where a sum has no terms."""
    case = build(operator, layout=layout, groups=groups, padding=1, **ZERO[zero])
    want = case.call(ao)
    got = case.call(device)
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    grad = case.grad(want.shape)
    wanted, gradients = case.backward(ao, grad), case.backward(device, grad)
    for field in case.present:
        assert getattr(gradients, field).shape == getattr(wanted, field).shape, field
        np.testing.assert_allclose(getattr(gradients, field), getattr(wanted, field), rtol=1e-12, err_msg=field)


@pytest.mark.parametrize("groups", [1, 6])
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_needs(device: Any, operator: str, groups: int) -> None:
    """Each gradient alone is the one of all together, and nothing is made that nobody wants."""
    case = build(operator, groups=groups, stride=2)
    everything = check_backward(device, case)
    for field in case.present:
        alone = check_backward(device, case, needs=(field,))
        assert getattr(alone, field).tobytes() == getattr(everything, field).tobytes(), field
    assert check_backward(device, case, needs=()) == (None,) * len(everything)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT16], ids=str)
@pytest.mark.parametrize("name", ["groups", "depthwise", "3x3"])
def test_equal_bits_in_any_order(device: Any, name: str, dtype: np.dtype) -> None:
    case = named("conv2d", name, dtype=dtype, layout="NHWC", batch=3)
    grad = case.grad(case.call(ao).shape)
    found = set()
    for order, seed in (("fifo", 1), ("lifo", 1), ("random", 1), ("random", 2)):
        with device.order(order, seed):
            found.add((case.call(device).tobytes(), *(g.tobytes() for g in case.backward(device, grad))))
    assert len(found) == 1


@pytest.mark.parametrize(
    ("groups", "dtype", "kernel"),
    [
        (1, FLOAT16, "contraction_mma"),
        (8, BFLOAT16, "contraction_mma"),
        (32, FLOAT16, "conv_direct"),
        (16, FLOAT16, "conv_direct"),
        (8, FLOAT32, "contraction_fma"),
        (8, FLOAT64, "contraction_fma"),
    ],
)
def test_kernel_by_width(device: Any, groups: int, dtype: np.dtype, kernel: str) -> None:
    """32 channels in groups of 32, 4, 2 and 1."""
    build("conv2d", dtype=dtype, channels=32, outputs=32, groups=groups, layout="NHWC").call(device)
    names = {found.identity.name for found in cuda_device.kernels()} - {"pack_weights", "copy_strided"}
    assert names == {kernel}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_wide_offsets(device: Any, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = build("conv2d", groups=6, layout=layout, padding=1, stride=2)
    near = case.call(device)
    monkeypatch.setattr(conv_direct, "MAX_32BIT_ELEMENTS", 10)
    cuda_device.forget()
    assert case.call(device).tobytes() == near.tobytes()
    assert ("INDEX_64BIT", "") in cuda_device.kernels()[0].identity.defines


@pytest.mark.parametrize(
    ("channels", "dtype"), [(1, FLOAT32), (2, FLOAT16), (3, FLOAT64), (16, FLOAT32), (32, BFLOAT16), (70, FLOAT16)]
)
def test_gradient_of_a_bias_whose_channels_share_blocks(
    device: Any, channels: int, dtype: np.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in more blocks, which many pixels take."""
    case = build(
        "conv2d", dtype=dtype, channels=channels, outputs=channels, layout="NHWC", kernel_size=(1, 1), size=(9, 70)
    )
    check_backward(device, case, needs=("bias",))
    monkeypatch.setattr(sums, "PIXELS_PER_THREAD", 1)
    check_backward(device, case, needs=("bias",))


@pytest.mark.parametrize("groups", [1, 8])
def test_tf32(device: Any, groups: int) -> None:
    """On tensor cores only when asked for, with about three digits."""
    case = build("conv2d", dtype=FLOAT32, channels=32, outputs=32, groups=groups, padding=1)
    want = case.call(ao)
    ao.set_float32_precision("tf32")
    try:
        got = case.call(device)
    finally:
        ao.set_float32_precision("highest")
    assert "contraction_mma" in {found.identity.name for found in cuda_device.kernels()}
    error = np.linalg.norm(got - want) / np.linalg.norm(want)
    assert 1e-6 < error < 1e-3
