"""Depthwise convolutions of planes by products with banded matrices, in tiles of a few channels, images and rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest

import arrayops as ao
from arrayops._backends.numpy import banded, conv
from case import Case
from conv_cases import build
from conv_checks import assert_equal_bits, assert_equals_loops
from strategies import CONVOLUTIONS, DTYPES, FLOAT32

OPTIONS: dict[str, dict[str, Any]] = {
    "3x3": {"padding": 1},
    "even": {"kernel_size": (2, 4)},
    "row": {"kernel_size": (1, 3), "padding": (0, 1)},
    "column": {"kernel_size": (3, 1), "padding": (2, 0)},
    "one side": {"padding": ((0, 2), (3, 0))},
    "beyond the filter": {"padding": 4, "kernel_size": (2, 3)},
    "dilation": {"padding": (2, 3), "dilation": (2, 3)},
    "stride": {"stride": 2, "padding": 1},
    "stride and dilation": {"stride": (3, 2), "padding": 1, "dilation": (1, 2)},
    "stride beyond the filter": {"stride": (3, 4), "kernel_size": (2, 3)},
}
"""The gradient of an input is the other operator's forward: strides are stuffed zeros there."""

SMALL = {"VECTOR": 4, "BLOCK_BYTES": 1 << 10, "ROWS": 12, "LEAST_ROWS": 2}


@pytest.fixture(params=["whole", "small tiles"])
def everywhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[mock.Mock]:
    """This way goes wherever it can."""
    if request.param == "small tiles":
        for name, value in SMALL.items():
            monkeypatch.setattr(banded, name, value)
    monkeypatch.setattr(banded, "serves", lambda samples, axes, outputs: samples.size * outputs > 0)
    monkeypatch.setattr(conv, "SMALL", 0)
    taken = mock.Mock(wraps=banded.correlate)
    monkeypatch.setattr(banded, "correlate", taken)
    for cached in (banded._plan, banded._columns):
        cached.cache_clear()
    yield taken
    for cached in (banded._plan, banded._columns):
        cached.cache_clear()


def case(operator: str, name: str, dtype: np.dtype, layout: str = "NCHW", **more: Any) -> Case:
    shape = {"size": (9, 10), "channels": 5, "outputs": 5, "batch": 3, **more}
    return build(operator, dtype, layout, groups=shape["channels"], **shape, **OPTIONS[name])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_values(operator: str, name: str, dtype: np.dtype, everywhere: mock.Mock) -> None:
    assert_equals_loops(case(operator, name, dtype))
    assert everywhere.call_count == 2


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", ["3x3", "stride"])
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_several_outputs_of_a_channel(operator: str, name: str, layout: str, everywhere: mock.Mock) -> None:
    """And results that do not lie as they are made."""
    for dtype in DTYPES:
        assert_equals_loops(case(operator, name, dtype, layout, outputs=15))
    assert everywhere.called


@pytest.mark.parametrize("operator", CONVOLUTIONS)
@pytest.mark.parametrize("size", [(1, 1), (2, 33), (40, 3), (31, 17)])
def test_sizes(operator: str, size: tuple[int, int], everywhere: mock.Mock) -> None:
    """Of a vector and one more, and of images of few rows, which are stacked."""
    for name in ("3x3", "stride"):
        assert_equals_loops(case(operator, name, FLOAT32, size=size, batch=7))
    assert everywhere.called


@pytest.mark.parametrize("name", ["3x3", "stride"])
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_the_same_bits_with_any_number_of_threads(operator: str, name: str, everywhere: mock.Mock) -> None:
    assert_equal_bits(case(operator, name, FLOAT32))
    assert everywhere.called


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("name", ["3x3", "stride", "dilation"])
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_what_is_not_finite_stays_in_its_windows(
    operator: str, name: str, poison: float, everywhere: mock.Mock
) -> None:
    """Products with zero reach further, and sums of large values overflow."""
    call = case(operator, name, FLOAT32)
    clean = call.call(ao)
    impulse = np.zeros_like(call.arrays["input"])
    samples = call.arrays["input"].copy()
    for image, row, column in ((0, 0, 9), (1, 4, 5), (2, 8, 0)):
        samples[image, 2, row, column] = poison
        impulse[image, 2, row, column] = 1
    call.arrays["weight"][2] = np.abs(call.arrays["weight"][2]) + 4
    clean = call.call(ao)
    found = call.replace(input=samples).call(ao)
    seen = call.replace(input=impulse, weight=np.ones_like(call.arrays["weight"]), bias=None).call(ao) > 0
    assert seen.any()
    assert not np.isfinite(found[seen]).any()
    np.testing.assert_allclose(found[~seen], clean[~seen], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize(
    ("operator", "layout", "size", "options", "taken"),
    [
        ("conv2d", "NCHW", 20, {"stride": 2}, True),
        ("conv2d", "NHWC", 20, {"stride": 2}, False),
        ("conv2d", "NCHW", 20, {}, False),
        ("conv2d", "NCHW", 20, {"kernel_size": (7, 7), "padding": 3}, True),
        ("conv2d", "NCHW", 16, {"kernel_size": (7, 7), "padding": 3}, False),
        ("conv2d", "NCHW", 80, {"stride": 2, "dilation": 30}, False),
        ("conv2d", "NCHW", 20, {"stride": 2, "outputs": 15}, True),
        ("conv2d", "NCHW", 20, {"stride": 2, "outputs": 25}, False),
        ("conv_transpose2d", "NCHW", 20, {"stride": 2}, True),
        ("conv_transpose2d", "NCHW", 20, {"stride": 2, "kernel_size": (4, 4)}, False),
    ],
)
def test_where_it_serves(operator: str, layout: str, size: int, options: dict[str, Any], taken: bool) -> None:
    options = {"outputs": 5, **options}
    call = build(operator, FLOAT32, layout, (size, size), channels=5, groups=5, **options)
    with mock.patch.object(banded, "correlate", wraps=banded.correlate) as correlate:
        call.call(ao)
    assert correlate.called == taken
    assert_equals_loops(call)
