"""The gradient of a 1 x 1 filter over channels-last images, as products of pixels where they lie."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest

import arrayops as ao
from arrayops._backends.numpy import conv, pointwise
from case import Case
from conv_cases import build
from conv_checks import assert_equals_loops
from strategies import CONVOLUTIONS, FLOAT32, FLOAT64


def case(size: tuple[int, int], inputs: int, outputs: int, **options: Any) -> Case:
    options = {"operator": "conv2d", "dtype": FLOAT32, "batch": 1, "layout": "NHWC", **options}
    return build(size=size, channels=inputs, outputs=outputs, kernel_size=(1, 1), **options)


def weight_gradient(call: Case) -> np.ndarray[Any, Any]:
    grad = call.grad(call.call(ao).shape)
    return call.backward(ao, grad, needs=("weight",)).weight


@pytest.mark.parametrize("operator", CONVOLUTIONS)
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize(
    ("size", "inputs", "outputs", "groups"),
    [
        ((3, 4), 64, 32, 1),
        ((3, 4), 96, 64, 2),
        ((2, 2), 300, 33, 1),
        ((61, 50), 40, 32, 1),
        ((61, 50), 130, 32, 1),
        ((80, 120), 64, 64, 2),
    ],
    ids=["one block", "groups", "parts of the inputs", "shares of the pixels", "parts and shares", "shares, groups"],
)
def test_values(operator: str, dtype: np.dtype, size: tuple[int, int], inputs: int, outputs: int, groups: int) -> None:
    call = case(size, inputs, outputs, operator=operator, dtype=dtype, groups=groups)
    with mock.patch.object(pointwise, "weight_gradient", wraps=pointwise.weight_gradient) as taken:
        assert_equals_loops(call)
    assert taken.called


@pytest.mark.parametrize(("size", "inputs"), [((2, 2), 300), ((61, 50), 40), ((61, 50), 130)])
def test_the_same_bits_with_any_number_of_threads(
    size: tuple[int, int], inputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conv, "SMALL", 0)
    call = case(size, inputs, 32)
    found = set()
    try:
        for threads in (1, 2, 3, 8):
            ao.set_num_threads(threads)
            found.add(weight_gradient(call).tobytes())
    finally:
        ao.set_num_threads(None)
    assert len(found) == 1


@pytest.mark.parametrize(
    ("options", "taken"),
    [
        ({}, True),
        ({"operator": "conv_transpose2d"}, True),
        ({"layout": "NCHW"}, False),
        ({"stride": 2}, False),
        ({"padding": 1}, False),
        ({"groups": 2}, False),
        ({"dtype": np.dtype(np.float16)}, False),
    ],
    ids=lambda value: str(value),
)
def test_where_it_serves(options: dict[str, Any], taken: bool) -> None:
    with mock.patch.object(pointwise, "weight_gradient", wraps=pointwise.weight_gradient) as found:
        weight_gradient(case((5, 6), 32, 32, **options))
    assert found.called == taken


def test_a_gradient_of_many_pixels_is_summed_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """A float32 sum of 2^24 ones and more stops growing."""
    monkeypatch.setattr(pointwise, "NARROWEST", 1)
    samples = np.ones((1, 4100, 4100, 1), np.float32)
    weight = np.ones((1, 1, 1, 1), np.float32)
    gradients = ao.conv2d_backward(samples, samples, weight, layout="NHWC", needs=("weight",))
    assert gradients.weight.item() == np.float32(4100 * 4100)
