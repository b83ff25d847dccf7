"""Plain convolutions cut into many small blocks: strips, groups, stacks of images, shares of a gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest

import arrayops as ao
from arrayops._backends.numpy import conv as ways
from arrayops._backends.numpy import (
    correlation,
    direct,
    direct_columns,
    pointwise,
    products,
    stacks,
    tap_products,
    turning,
)
from arrayops._core.shapes import Axis
from case import Case
from conv_cases import build
from conv_checks import assert_equal_bits, assert_equals_loops
from strategies import CONVOLUTIONS, DTYPES, FLOAT32

SMALL: dict[Any, dict[str, int]] = {
    ways: {"SMALL": 0},
    direct: {"ORDERED": 8, "LONG": 1, "SIDE_BY_SIDE": 2},
    direct_columns: {"COLUMN_BYTES": 1 << 11, "LEAST_ROWS": 2},
    tap_products: {"COLUMN_BYTES": 1 << 11, "LEAST_PLACES": 16, "MOST_PLACES": 48, "WIDE": 3},
    correlation: {"LEAST_DEPTH": 6, "MOST_JOBS": 2, "LEAST_BESIDE": 2},
    pointwise: {"NARROWEST": 2, "AT_ONCE": 7, "FEWEST": 5, "MOST": 20},
    turning: {"LEAST": 1, "APART": 1, "PIECE": 40},
    products: {"SMALL_PRODUCT": 1 << 9, "LEAST_FRONT": 8, "LEAST_BLOCK": 8},
}
STACKS: dict[str, dict[str, int]] = {
    "one image": {"STACKED_PLACES": 1, "LEAST_CHANNELS": 1, "CHANNELS_LAST": 1, "BLOCK_BYTES": 1},
    "two images": {"STACKED_PLACES": 300, "LEAST_CHANNELS": 3, "CHANNELS_LAST": 6, "LEAST_BLOCKS": 2},
    "all images": {"STACKED_PLACES": 1 << 20, "LEAST_CHANNELS": 4, "CHANNELS_LAST": 3, "LEAST_BLOCKS": 1},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "3x3": {"padding": 1},
    "1x1": {"kernel_size": (1, 1)},
    "row": {"kernel_size": (1, 3), "padding": (0, 1)},
    "column": {"kernel_size": (3, 1), "padding": (2, 0)},
    "two middles": {"kernel_size": (2, 4), "padding": ((1, 0), (2, 1))},
    "dilation": {"padding": (3, 2), "dilation": (3, 2)},
    "crop below": {"padding": ((0, 0), (1, 1))},
    "stride": {"padding": 1, "stride": (2, 3)},
    "no padding": {"kernel_size": (3, 2)},
}


@pytest.fixture(params=[("direct", "two images"), *(("planes", name) for name in STACKS)], ids="-".join)
def cut(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    way, name = request.param
    for module, constants in {**SMALL, stacks: STACKS[name]}.items():
        for constant, value in constants.items():
            monkeypatch.setattr(module, constant, value)
    if name == "two images":
        # Products of all planes are made and added up one by one.
        monkeypatch.setattr(tap_products, "NARROW", 0)
    if way == "planes":
        monkeypatch.setattr(ways.direct, "serves", lambda *arguments: False)
    for cached in (stacks.divide, direct_columns.plan):
        cached.cache_clear()
    yield way
    for cached in (stacks.divide, direct_columns.plan):
        cached.cache_clear()


def case(operator: str, name: str, dtype: np.dtype, layout: str, groups: int = 4) -> Case:
    return build(operator, dtype, layout, (11, 9), 12, 8, batch=5, groups=groups, **OPTIONS[name])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_values(operator: str, name: str, layout: str, cut: str) -> None:
    for dtype, groups in zip(DTYPES, (4, 1, 2, 4), strict=True):
        assert_equals_loops(case(operator, name, dtype, layout, groups))


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_a_filter_for_every_channel(operator: str, name: str, cut: str) -> None:
    for dtype in DTYPES:
        assert_equals_loops(build(operator, dtype, "NCHW", (11, 9), 6, 6, batch=5, groups=6, **OPTIONS[name]))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", ["3x3", "1x1", "stride"])
def test_the_same_bits_with_any_number_of_threads(name: str, layout: str, cut: str) -> None:
    assert_equal_bits(case("conv2d", name, FLOAT32, layout))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_neighbours_in_memory_do_not_meet(poison: float, layout: str, cut: str) -> None:
    """Ends of rows, of images and of groups: what lies next in memory is not what a window sees."""
    for place in ((1, 0, 4, 8), (1, 3, 4, 0), (2, 11, 10, 8), (0, 6, 0, 0)):
        call = case("conv2d", "3x3", FLOAT32, layout)
        clean = call.call(ao)
        samples = call.arrays["input"].copy()
        n, c, y, x = place
        samples[(n, c, y, x) if layout == "NCHW" else (n, y, x, c)] = poison
        found = call.replace(input=samples).call(ao)
        if layout == "NHWC":
            found, clean = found.transpose(0, 3, 1, 2), clean.transpose(0, 3, 1, 2)
        seen = np.zeros(found.shape, bool)
        seen[n, c // 3 * 2 : c // 3 * 2 + 2, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2] = True
        assert not np.isfinite(found[seen]).any()
        np.testing.assert_array_equal(found[~seen], clean[~seen])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", ["3x3", "column", "two middles", "dilation", "stride"])
def test_thin_products_are_joined(name: str, layout: str, cut: str) -> None:
    """Few channels and many outputs: the taps of all rows make one product."""
    with mock.patch.object(tap_products, "_join", wraps=tap_products._join) as taken:
        for dtype, groups in zip(DTYPES, (1, 2, 1, 2), strict=True):
            call = build(
                "conv2d", dtype, layout, (11, 9), 2 * groups, 24 * groups, batch=3, groups=groups, **OPTIONS[name]
            )
            assert_equals_loops(call)
    assert taken.called == (name != "stride" or tap_products.NARROW > 0)


def test_direct_is_chosen_where_outputs_are_as_wide_as_images() -> None:
    chosen = set()
    for name in OPTIONS:
        with mock.patch.object(direct, "correlate", wraps=direct.correlate) as taken:
            case("conv2d", name, FLOAT32, "NCHW").call(ao)
        if taken.called:
            chosen.add(name)
    assert chosen == {*OPTIONS} - {"stride", "no padding"}


def test_one_image_is_cut_into_strips() -> None:
    axes = Axis(64, 3, 1, 1, 1, 1, 64), Axis(64, 3, 1, 1, 1, 1, 64)
    direct_columns.plan.cache_clear()
    strips = direct_columns.plan(axes, 1, 1, 1, (8, 8), 4).strips
    assert [strip.bottom - strip.top for strip in strips] == [8] * 8
    assert [(strip.low, strip.high) for strip in strips] == [
        (max(0, 8 * number - 1), min(64, 8 * number + 9)) for number in range(8)
    ]
    assert len(direct_columns.plan(axes, 8, 1, 1, (8, 8), 4).strips) == 1
    # Columns and products of less than 128 KiB.
    assert len(direct_columns.plan(axes, 1, 1, 1, (1, 1), 4).strips) == 1
