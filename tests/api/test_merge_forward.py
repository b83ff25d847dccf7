"""Values, dtypes, shapes and types of resize2d and merge_feature_maps against the loops."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import arrayops as ao
from case import Case
from merge_cases import HOWS, OPERATORS, SAMPLINGS, build, magnitude, maps_of, merges, with_maps
from oracles import merge
from strategies import BFLOAT16, DTYPES, FLOAT16, FLOAT64, ONE_QUICK, examples
from tolerances import assert_close


def run(case: Case) -> np.ndarray:
    """The output; inputs must come out as they went in, and the result be a new array."""
    before = [x.tobytes() for x in maps_of(case)]
    output = case.call(ao)
    assert [x.tobytes() for x in maps_of(case)] == before, "an input was written to"
    assert type(output) is np.ndarray
    assert output.dtype == case.dtype
    assert output.flags.writeable
    assert output.flags.c_contiguous
    assert not any(np.shares_memory(output, x) for x in maps_of(case) if x.size)
    return output


@pytest.mark.parametrize("dtype", ONE_QUICK, ids=str)
@pytest.mark.parametrize("operator", OPERATORS)
@examples(120)
@given(data=st.data())
def test_drawn_calls_equal_the_loops(operator: str, dtype: np.dtype, data: st.DataObject) -> None:
    case = data.draw(merges(operator, (dtype,)))
    assert_close(run(case), case.call(merge), dtype, magnitude(case, merge), repr(case))


@pytest.mark.parametrize("zero", ["batch", "channels"])
@pytest.mark.parametrize("operator", OPERATORS)
@examples(30)
@given(data=st.data())
def test_zero_sizes(operator: str, zero: str, data: st.DataObject) -> None:
    case = data.draw(merges(operator, (FLOAT64, BFLOAT16), zero=zero))
    assert_close(run(case), case.call(merge), case.dtype, None, repr(case))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("how", HOWS)
def test_maps_of_two_depths(how: str, layout: str, dtype: np.dtype) -> None:
    """Maps of 15 x 15 and 6 x 6, to the larger, the smaller, and another size; errors relative to the result."""
    for size in ((21, 21),) if how == "flat" else ("largest", "smallest", (9, 20)):
        case = build(
            "merge_feature_maps", [(15, 15), (6, 6)], how=how, size=size, layout=layout, dtype=dtype, channels=5
        )
        assert_close(run(case), case.call(merge), dtype)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_the_flat_recipe(layout: str) -> None:
    """Flatten, append, pad with zeros, reshape: 225 + 36 positions and 180 zeros."""
    maps = [np.random.default_rng(i).random((2, size, size, 128)) + 1 for i, size in enumerate((15, 6))]
    rows = np.concatenate([x.reshape(2, -1, 128) for x in maps], axis=1)
    want = np.pad(rows, ((0, 0), (0, 21 * 21 - rows.shape[1]), (0, 0))).reshape(2, 21, 21, 128)
    if layout == "NCHW":
        maps, want = [np.ascontiguousarray(x.transpose(0, 3, 1, 2)) for x in maps], want.transpose(0, 3, 1, 2)
    got = ao.merge_feature_maps(maps, how="flat", size=(21, 21), layout=layout)
    np.testing.assert_array_equal(got, want)
    assert (got != 0).sum() == 2 * 128 * (225 + 36)
    assert (got == 0).sum() == 2 * 128 * 180


def test_largest_and_smallest_are_taken_axis_by_axis() -> None:
    maps = [np.ones((1, 1, 4, 9)), np.ones((1, 1, 6, 5))]
    assert ao.merge_feature_maps(maps).shape == (1, 2, 6, 9)
    assert ao.merge_feature_maps(maps, size="smallest").shape == (1, 2, 4, 5)


def test_scale_only_sets_the_size() -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 7, 5))
    for scale, size in ((1.5, (10, 7)), ((0.3, 2.99), (2, 14)), (np.float32(2), (14, 10)), (1, (7, 5))):
        assert ao.resize2d(x, scale=scale).tobytes() == ao.resize2d(x, size).tobytes()


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
def test_half_types_accumulate_in_float32(dtype: np.dtype) -> None:
    # A half accumulator would stop growing at 2048 (256 for bfloat16).
    maps = [np.ones((1, 1, 1, 1), dtype)] * 4096
    assert float(ao.merge_feature_maps(maps, how="add")[0, 0, 0, 0]) == 4096
    x = np.full((1, 1, 128, 128), 3, dtype)
    assert float(ao.resize2d(x, 1, mode="area")[0, 0, 0, 0]) == 3
    grad = np.ones((1, 1, 64, 64), dtype)
    assert float(ao.resize2d_backward(grad, np.ones((1, 1, 1, 1), dtype), 64).input[0, 0, 0, 0]) == 4096


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_maps_of_the_common_size_are_copied_bit_by_bit(sampling: dict[str, Any], dtype: np.dtype) -> None:
    x = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 7 * np.dtype(dtype).itemsize), np.uint8).view(dtype)
    if sampling["coordinates"] == "align_corners" and sampling.get("antialias"):
        return  # torch's kernels are no identity there
    assert ao.resize2d(x, (5, 7), **sampling).tobytes() == x.tobytes()
    assert ao.merge_feature_maps([x, x], **sampling)[:, 3:].tobytes() == x.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_values_that_are_not_finite_reach_what_has_their_weight_alone(
    sampling: dict[str, Any], value: float, layout: str
) -> None:
    for size, target in (
        ((7, 6), (5, 13)),
        ((4, 9), (4, 5)),
        ((9, 4), (7, 4)),
        ((80, 5), (100, 3)),
        ((5, 80), (3, 100)),
    ):
        case = build("resize2d", [size], size=target, layout=layout, **sampling)
        for at in ((0, 0), (3, 2), (size[0] - 1, size[1] - 1)):
            broken = maps_of(case)[0].copy()
            (broken if layout == "NCHW" else broken.transpose(0, 3, 1, 2))[1, 2, at[0], at[1]] = value
            with np.errstate(invalid="ignore"):
                want = with_maps(case, broken).call(merge)
            got = with_maps(case, broken).call(ao)
            np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
            np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
            assert_close(np.where(np.isfinite(got), got, 0), np.where(np.isfinite(want), want, 0), FLOAT64)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("how", HOWS)
def test_nan_of_one_map_reaches_what_has_its_weight_alone(how: str, layout: str) -> None:
    size = (20, 20) if how == "flat" else (9, 15)
    case = build("merge_feature_maps", [(9, 5), (9, 15), (6, 13), (4, 7)], how=how, size=size, layout=layout)
    for number in range(4):
        maps = [x.copy() for x in maps_of(case)]
        maps[number][1, 2, 1, 1] = np.nan
        got, want = with_maps(case, *maps).call(ao), with_maps(case, *maps).call(merge)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        assert_close(np.nan_to_num(got), np.nan_to_num(want), FLOAT64)


@pytest.mark.parametrize("number", [0, 1])
def test_max_is_nan_where_a_map_is(number: int) -> None:
    maps = [np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2))]
    maps[number][0, 0, 1, 0] = np.nan
    assert np.isnan(ao.merge_feature_maps(maps, how="max")).tolist() == [[[[False, False], [True, False]]]]


def test_views_that_repeat_one_element() -> None:
    for layout in ("NCHW", "NHWC"):
        for how in HOWS:
            case = build("merge_feature_maps", [(4, 5), (3, 7)], how=how, size=(8, 9), layout=layout)
            views = [np.broadcast_to(x[..., :1], x.shape) for x in maps_of(case)]
            copies = [x.copy() for x in views]
            assert with_maps(case, *views).call(ao).tobytes() == with_maps(case, *copies).call(ao).tobytes()
