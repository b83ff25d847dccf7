"""Depthwise convolutions of channels-last images, which have a way of their own, in tiles of a few outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest

import arrayops as ao
from arrayops._backends.numpy import conv, depthwise
from case import Case
from conv_cases import build
from conv_checks import assert_equal_bits, assert_equals_loops
from strategies import CONVOLUTIONS, DTYPES, FLOAT32

OPTIONS: dict[str, dict[str, Any]] = {
    "3x3": {"padding": 1},
    "1x1": {"kernel_size": (1, 1)},
    "no padding, even": {"kernel_size": (2, 4)},
    "one side": {"padding": ((0, 2), (3, 0))},
    "beyond the filter": {"padding": 4, "kernel_size": (2, 3)},
    "dilation": {"padding": (2, 3), "dilation": (2, 3)},
    "stride down": {"stride": (2, 1), "padding": 1},
    "stride": {"stride": (3, 2), "padding": 1, "dilation": (1, 2)},
}
"""The gradient of an input is the other operator's forward: strides are stuffed zeros there."""


@pytest.fixture(params=["whole", "small tiles"])
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "small tiles":
        monkeypatch.setattr(depthwise, "RUN", 20)
        monkeypatch.setattr(depthwise, "GRADIENT_RUN", 20)
        monkeypatch.setattr(depthwise, "TILE", 40)
        monkeypatch.setattr(depthwise, "SHORT", 2)
    monkeypatch.setattr(conv, "SMALL", 0)
    depthwise._plan.cache_clear()
    yield request.param
    depthwise._plan.cache_clear()


def case(operator: str, name: str, dtype: np.dtype, channels: int = 5) -> Case:
    return build(operator, dtype, "NHWC", (9, 10), channels, channels, groups=channels, **OPTIONS[name])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_values(operator: str, name: str, dtype: np.dtype, tiles: str) -> None:
    assert_equals_loops(case(operator, name, dtype))


@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_the_same_bits_with_any_number_of_threads(operator: str, tiles: str) -> None:
    assert_equal_bits(case(operator, "3x3", FLOAT32))


@pytest.mark.parametrize("poison", [np.nan, np.inf])
@pytest.mark.parametrize("place", [(0, 0, 9), (0, 8, 9), (1, 3, 0), (1, 0, 0)], ids=str)
def test_neighbours_in_memory_do_not_meet(place: tuple[int, int, int], poison: float, tiles: str) -> None:
    """Ends of rows and of images: what lies next in memory is not what a window sees."""
    call = case("conv2d", "3x3", FLOAT32)
    clean = call.call(ao)
    n, y, x = place
    samples = call.arrays["input"].copy()
    samples[n, y, x, 2] = poison
    found = call.replace(input=samples).call(ao)
    seen = np.zeros(found.shape, bool)
    seen[n, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2, 2] = True
    assert not np.isfinite(found[seen]).any()
    np.testing.assert_array_equal(found[~seen], clean[~seen])


@pytest.mark.parametrize("memory", ["NCHW", "every other channel", "reversed rows"])
def test_the_same_bits_in_any_memory(memory: str) -> None:
    call = case("conv2d", "3x3", FLOAT32)
    samples, grad = call.arrays["input"], call.grad(call.call(ao).shape)
    forms = {
        "NCHW": lambda array: np.ascontiguousarray(array.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1),
        "every other channel": lambda array: np.repeat(array, 2, axis=3)[..., ::2],
        "reversed rows": lambda array: array[:, ::-1].copy()[:, ::-1],
    }
    form = forms[memory]
    other = call.replace(input=form(samples))
    assert other.call(ao).tobytes() == call.call(ao).tobytes()
    for got, want in zip(other.backward(ao, form(grad)), call.backward(ao, grad), strict=True):
        assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize(
    ("channels", "outputs", "layout", "name", "taken"),
    [
        (5, 5, "NHWC", "3x3", True),
        (5, 5, "NHWC", "stride", False),
        (depthwise.SHORT, depthwise.SHORT, "NHWC", "stride", True),
        (5, 10, "NHWC", "3x3", False),
        (1, 1, "NHWC", "3x3", False),
        (5, 5, "NCHW", "3x3", False),
    ],
)
def test_where_it_serves(channels: int, outputs: int, layout: str, name: str, taken: bool) -> None:
    call = build("conv2d", FLOAT32, layout, (9, 10), channels, outputs, groups=channels, **OPTIONS[name])
    with (
        mock.patch.object(depthwise, "correlate", wraps=depthwise.correlate) as forward,
        mock.patch.object(depthwise, "weight_gradient", wraps=depthwise.weight_gradient) as backward,
    ):
        grad = call.grad(call.call(ao).shape)
        assert forward.called == taken
        call.backward(ao, grad, needs=("weight",))
        assert backward.called == taken


def test_a_gradient_of_many_images_is_summed_in_float64() -> None:
    """A float32 sum of 2^24 ones and more stops growing."""
    samples = np.ones((520, 181, 181, 2), np.float32)
    gradients = ao.conv2d_backward(
        samples, samples, np.ones((1, 1, 1, 2), np.float32), groups=2, layout="NHWC", needs=("weight",)
    )
    assert gradients.weight.ravel().tolist() == [np.float32(520 * 181 * 181)] * 2
