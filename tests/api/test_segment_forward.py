"""Values, dtypes, shapes and types of the segment operators against loops, SciPy, NumPy and torch."""

from __future__ import annotations

from collections import Counter
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy import ndimage

import arrayops as ao
from arrayops._backends.numpy import segment_ways
from optional import optional
from oracles import segment
from segment_cases import INTEGERS, OPERATORS, REDUCTIONS, Segments, fresh, large, segment_calls
from strategies import BFLOAT16, DTYPES, FLOAT16, FLOAT32, FLOAT64, MEMORY, ONE_QUICK, examples, in_memory
from tolerances import assert_close

torch = optional("torch")

OF_INTEGERS = ("sum", "max", "min")


def call(reduction: str, case: Segments, **more: Any) -> np.ndarray:
    """The operator's result; inputs must come out as they went in, and the result be a new array."""
    before = case.features.tobytes(), case.labels.tobytes()
    operator = getattr(ao, OPERATORS[reduction])
    result = operator(case.features, case.labels, case.segments, **case.options, **more)
    assert (case.features.tobytes(), case.labels.tobytes()) == before, "an input was written to"
    assert result.shape == case.pooled_shape()
    return fresh(result, case.features, case.labels)


def magnitude(reduction: str, case: Segments, **more: Any) -> Any:
    """What the sums of a reduction add up: the reduction of absolute values (of squares, for the variance)."""
    if reduction not in ("mean", "sum", "var"):
        return None
    wide = np.abs(case.features.astype(np.float64))
    if reduction == "var":
        return segment.reduce("mean", wide**2, case.labels, case.segments, **case.options, **more)
    return segment.reduce(reduction, wide, case.labels, case.segments, **case.options, **more)


@pytest.mark.parametrize("dtype", ONE_QUICK, ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@examples(40)
@given(data=st.data())
def test_drawn_calls_equal_the_loops(reduction: str, dtype: np.dtype, data: st.DataObject) -> None:
    case = data.draw(segment_calls((dtype,)))
    empty = data.draw(st.sampled_from((0, 2.5, -7)))
    got = call(reduction, case, empty=empty)
    assert got.dtype == dtype
    want = segment.reduce(reduction, case.features, case.labels, case.segments, empty=empty, **case.options)
    if reduction in ("max", "min"):
        np.testing.assert_array_equal(got.astype(np.float64), want)
    else:
        assert_close(got, want, dtype, magnitude(reduction, case, empty=empty), repr(case))


@pytest.mark.parametrize("reduction", OF_INTEGERS)
@examples(60)
@given(data=st.data())
def test_integer_features_are_exact(reduction: str, data: st.DataObject) -> None:
    case = data.draw(segment_calls(INTEGERS))
    got = call(reduction, case, empty=3)
    kind = case.features.dtype
    assert got.dtype == (kind if reduction != "sum" else np.uint64 if kind.kind == "u" else np.int64)
    want = segment.reduce(reduction, case.features, case.labels, case.segments, empty=3, **case.options)
    assert got.tolist() == want.tolist()


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_integer_sums_are_exact_beyond_float64(dtype: Any) -> None:
    features = np.array([[2**53 + 1], [2**53 + 3], [2**61 + 1]], dtype)
    assert ao.segment_sum(features, np.array([0, 0, 1])).tolist() == [[2**54 + 4], [2**61 + 1]]
    assert ao.segment_max(features, np.array([0, 0, 1])).tolist() == [[2**53 + 3], [2**61 + 1]]


@examples(60)
@given(data=st.data())
def test_count(data: st.DataObject) -> None:
    case = data.draw(segment_calls((FLOAT32,)))
    options = {key: value for key, value in case.options.items() if key != "layout"}
    got = fresh(ao.segment_count(case.labels, case.segments, **options), case.labels)
    assert got.dtype == np.int64
    np.testing.assert_array_equal(got, segment.segment_count(case.labels, case.segments, **options))


@examples(60)
@given(data=st.data())
def test_reduce_gives_the_bits_of_the_single_reductions(data: st.DataObject) -> None:
    case = data.draw(segment_calls((*DTYPES, *INTEGERS)))
    known = (*OF_INTEGERS, "count") if case.features.dtype.kind in "iu" else (*REDUCTIONS, "count")
    names = data.draw(st.permutations(known).flatmap(lambda p: st.integers(1, len(p)).map(lambda k: tuple(p[:k]))))
    got = ao.segment_reduce(case.features, case.labels, names, case.segments, empty=2, **case.options)
    assert type(got) is tuple
    assert len(got) == len(names)
    options = {key: value for key, value in case.options.items() if key != "layout"}
    for name, result in zip(names, got, strict=True):
        counted = name == "count"
        alone = ao.segment_count(case.labels, case.segments, **options) if counted else call(name, case, empty=2)
        assert (result.dtype, result.shape) == (alone.dtype, alone.shape)
        assert fresh(result, case.features).tobytes() == alone.tobytes(), name


@examples(60)
@given(data=st.data())
def test_unpool(data: st.DataObject) -> None:
    case = data.draw(segment_calls((*DTYPES, *INTEGERS, np.dtype(bool))))
    rng = np.random.default_rng(1)
    pooled = rng.integers(0, 100, case.pooled_shape()).astype(case.features.dtype)
    pooled = in_memory(pooled, data.draw(st.sampled_from(MEMORY)))
    fill = data.draw(st.sampled_from((0, 1)))
    got = fresh(ao.segment_unpool(pooled, case.labels, fill=fill, **case.options), pooled, case.labels)
    assert (got.dtype, got.shape) == (pooled.dtype, case.features.shape)
    want = segment.segment_unpool(pooled, case.labels, fill=fill, **case.options)
    np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))


@pytest.mark.slow
@pytest.mark.parametrize("zero", ["batch", "pixels", "channels", "segments"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@examples(15)
@given(data=st.data())
def test_zero_sizes(reduction: str, zero: str, data: st.DataObject) -> None:
    case = data.draw(segment_calls((FLOAT64, FLOAT16), zero=zero))
    got = call(reduction, case, empty=-1.5)
    want = segment.reduce(reduction, case.features, case.labels, case.segments, empty=-1.5, **case.options)
    assert_close(got, want, case.features.dtype, magnitude(reduction, case, empty=-1.5), repr(case))
    pooled = np.ones(case.pooled_shape())
    assert ao.segment_unpool(pooled, case.labels, **case.options).shape == case.features.shape
    options = {key: value for key, value in case.options.items() if key != "layout"}
    counts = ao.segment_count(case.labels, case.segments, **options)
    np.testing.assert_array_equal(counts, segment.segment_count(case.labels, case.segments, **options))


@examples(60)
@given(data=st.data())
def test_number_of_segments_is_found(data: st.DataObject) -> None:
    case = data.draw(segment_calls((FLOAT64,)).filter(lambda made: made.options.get("check") is not False))
    want = segment.found_segments(case.labels, case.ignore_label)
    options = {key: value for key, value in case.options.items() if key != "layout"}
    assert ao.segment_count(case.labels, **options).shape[-1] == want
    found = ao.segment_sum(case.features, case.labels, **case.options)
    given_ = ao.segment_sum(case.features, case.labels, want, **case.options)
    assert found.shape == given_.shape
    assert found.tobytes() == given_.tobytes()


def test_the_worked_example() -> None:
    features, labels = np.array([[[[0.1], [0.2]], [[0.3], [0.4]]]]), np.array([[[0, 0], [1, 2]]])
    got = ao.segment_mean(features, labels, layout="NHWC")
    assert got.shape == (1, 3, 1)
    np.testing.assert_allclose(got, [[[0.15], [0.3], [0.4]]], rtol=1e-15)


# --- against others, on images as large as several blocks and parts -------------------------------


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("reduction", "theirs"),
    [
        ("mean", ndimage.mean),
        ("sum", ndimage.sum_labels),
        ("max", ndimage.maximum),
        ("min", ndimage.minimum),
        ("var", ndimage.variance),
    ],
)
def test_equals_scipy(reduction: str, theirs: Any, layout: str) -> None:
    features, labels = large(0, layout)
    got = getattr(ao, OPERATORS[reduction])(features, labels, 50, layout=layout)
    for image in range(2):
        for channel in range(6):
            plane = segment.channels_last(features, layout)[image, :, :, channel].astype(np.float64)
            want = theirs(plane, labels[image], np.arange(50))
            mine = got[image, channel] if layout == "NCHW" else got[image, :, channel]
            assert_close(mine, np.asarray(want), FLOAT32, want if reduction != "mean" else plane[:1])


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("segments", [1, 50, 20000])
def test_sums_equal_add_at_in_float64(layout: str, segments: int) -> None:
    features, labels = large(1, layout)
    labels = np.random.default_rng(2).integers(0, segments, labels.shape)
    rows = segment.channels_last(features, layout).reshape(2, -1, 6)
    want = np.zeros((2, segments, 6))
    for image in range(2):
        np.add.at(want[image], labels[image].ravel(), rows[image].astype(np.float64))
    got = segment.channels_last(ao.segment_sum(features, labels, segments, layout=layout), layout)
    assert_close(got, want, FLOAT32)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [FLOAT64, FLOAT32, FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize(("reduction", "theirs"), [("mean", "mean"), ("sum", "sum"), ("max", "amax"), ("min", "amin")])
def test_equals_torch_scatter_reduce(reduction: str, theirs: str, dtype: np.dtype, layout: str) -> None:
    features, labels = large(3, layout, segments=40)
    features = features.astype(dtype)
    rows = segment.channels_last(features, layout).reshape(2, -1, 6).astype(np.float64)
    index = torch.from_numpy(labels.reshape(2, -1, 1).astype(np.int64)).expand(2, -1, 6)
    want = torch.zeros(2, 40, 6, dtype=torch.float64).scatter_reduce(
        1, index, torch.from_numpy(rows), theirs, include_self=False
    )
    got = getattr(ao, OPERATORS[reduction])(features, labels, 40, layout=layout)
    assert got.dtype == dtype
    assert_close(segment.channels_last(got, layout), want.numpy(), dtype)


@pytest.mark.parametrize("channels", [1, 3, 64, 700])
def test_widths_and_many_parts(channels: int) -> None:
    """One image that is cut into parts, and rows from one value to more than a block's share."""
    pixels = {1: 300_000, 3: 120_000, 64: 40_000, 700: 2_000}[channels]
    rng = np.random.default_rng(channels)
    features = rng.standard_normal((pixels, channels)).astype(np.float32)
    labels = np.sort(rng.integers(0, 30, pixels)) if channels == 3 else rng.integers(0, 30, pixels)
    wide = features.astype(np.float64)
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(30))
    for reduction, best in (("max", np.maximum), ("min", np.minimum)):
        want = best.reduceat(features[order], starts)
        np.testing.assert_array_equal(getattr(ao, OPERATORS[reduction])(features, labels, 30), want)
    total = np.add.reduceat(wide[order], starts)
    assert_close(ao.segment_sum(features, labels, 30), total, FLOAT32)
    mean = total / np.bincount(labels)[:, None]
    squares = np.add.reduceat((wide[order] - mean[labels[order]]) ** 2, starts) / np.bincount(labels)[:, None]
    assert_close(ao.segment_var(features, labels, 30), squares, FLOAT32)


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("name", ["constant", "large offset", "mixed signs", "outlier first", "all but one lost"])
def test_a_mean_of_ten_million_pixels_keeps_its_digits(name: str, layout: str) -> None:
    rng = np.random.default_rng(0)
    values = {
        "constant": lambda: np.full(10**7, 0.1, np.float32),
        "large offset": lambda: (rng.standard_normal(10**7, np.float32) + 1e4).astype(np.float32),
        "mixed signs": lambda: rng.standard_normal(10**7, np.float32) * np.float32(1e5),
        # Added to 1 in float32, none of the others leaves anything: the most that a sum of 32 can lose.
        "all but one lost": lambda: np.tile(np.where(np.arange(32) == 0, 1, 2.0**-24).astype(np.float32), 312_500),
        "outlier first": lambda: np.concatenate([[1e20], rng.random(10**7 - 1)]).astype(np.float32),
    }[name]()
    want, size = values.mean(dtype=np.float64), np.abs(values).mean(dtype=np.float64)
    features = values.reshape((1, 2500, 4000, 1) if layout == "NHWC" else (1, 1, 2500, 4000))
    labels = np.zeros((1, 2500, 4000), np.uint8)
    mean = ao.segment_mean(features, labels, 1, layout=layout)
    assert abs(mean.item() - want) <= 2e-6 * size
    variance = ao.segment_var(features, labels, 1, layout=layout)
    exact = np.square(values.astype(np.float64) - want).mean()
    assert abs(variance.item() - exact) <= 2e-6 * exact + (1e-18 if name == "constant" else 0)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("segments", [2, 3, 40, 700, 2000, 13_000, 40_000])
def test_few_rows_are_added_in_float32(segments: int, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two flushes of the float32 totals, each place of random labels has 32 rows at most."""
    labels = np.random.default_rng(0).integers(0, segments, (1, 600, 500))
    labels[:, ::7] = -1
    hits: Counter[int] = Counter()
    most = 0

    class Counting(segment_ways.Intervals):
        def add(self, totals: Any, adders: Any, scratch: Any, start: int, slots: Any, rows: Any) -> None:
            nonlocal most
            super().add(totals, adders, scratch, start, slots, rows)
            places = self._places[start : start + len(rows)]
            hits.update(places[slots < segments].tolist())
            most = max(most, *hits.values())

        def end(self, totals: Any) -> None:
            super().end(totals)
            hits.clear()

    monkeypatch.setattr(segment_ways, "Intervals", Counting)
    ao.set_num_threads(1)
    try:
        features = np.full((1, 600, 500, 3) if layout == "NHWC" else (1, 3, 600, 500), 0.1, np.float32)
        got = ao.segment_mean(features, labels, segments, ignore_label=-1, layout=layout)
    finally:
        ao.set_num_threads(None)
    assert 0 < most <= 32
    present = np.unique(labels[labels >= 0])
    assert np.abs(segment.channels_last(got, layout)[0, present] / np.float64(np.float32(0.1)) - 1).max() <= 2e-6


def test_variance_of_a_large_offset_in_float64() -> None:
    values = np.random.default_rng(0).standard_normal((10**5, 2))
    want = values.var(axis=0)
    got = ao.segment_var(values + 1e6, np.zeros(10**5, np.int8), 1)[0]
    # The offset itself rounds the values to 1e-10.
    np.testing.assert_allclose(got, want, rtol=1e-11)


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
def test_half_types_are_summed_wide(dtype: np.dtype) -> None:
    assert float(ao.segment_sum(np.ones((4096, 1), dtype), np.zeros(4096, int))[0, 0]) == 4096


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT16, BFLOAT16], ids=str)
def test_nan_and_infinity_stay_in_their_segment(reduction: str, layout: str, dtype: np.dtype) -> None:
    features = np.random.default_rng(0).standard_normal((1, 4, 5, 2)).astype(dtype)
    labels = (np.arange(20).reshape(1, 4, 5) % 5).astype(np.int16)
    for place, value in (((0, 1, 1, 0), np.nan), ((0, 2, 2, 1), np.inf), ((0, 3, 3, 0), -np.inf)):
        features[place] = value
    features[0, 3, 4] = np.nan
    labels[0, 3, 4] = -1
    given = np.ascontiguousarray(segment.back(features, layout))
    got = getattr(ao, OPERATORS[reduction])(given, labels, 5, ignore_label=-1, layout=layout)
    with np.errstate(invalid="ignore"):
        want = segment.reduce(reduction, given, labels, 5, ignore_label=-1, layout=layout)
    assert np.isnan(want).any()
    np.testing.assert_array_equal(np.isnan(got.astype(np.float64)), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(got.astype(np.float64)), np.isinf(want))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", ["coherent", "random, few", "random", "random, many"])
def test_what_float32_cannot_hold(kind: str, layout: str) -> None:
    """However sums are made, NaN and infinity stay in their segments, and sums on the way may be too large."""
    rng = np.random.default_rng(0)
    segments = {"coherent": 4, "random, few": 4, "random": 300, "random, many": 60_000}[kind]
    labels = rng.integers(0, segments, (1, 200, 300))
    if kind == "coherent":
        labels = np.broadcast_to(np.arange(200)[:, None] // 50, (1, 200, 300)).copy()
    rows = rng.standard_normal((60_000, 3), np.float32)
    flat = labels.reshape(-1)
    rows[flat == 0, 0] = 3e38
    rows[np.flatnonzero(flat == 1)[:1], 1] = np.nan
    rows[np.flatnonzero(flat == 2)[:1], 2] = -np.inf
    want = np.zeros((segments, 3))
    np.add.at(want, flat, rows.astype(np.float64))
    want /= np.maximum(np.bincount(flat, minlength=segments), 1)[:, None]
    features = np.ascontiguousarray(segment.back(rows.reshape(1, 200, 300, 3), layout))
    got = segment.channels_last(ao.segment_mean(features, labels, segments, layout=layout), layout)[0]
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    # The other values are 0.8 on average.
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=1.6e-6)


def test_empty_and_fill_may_be_nan_or_infinite() -> None:
    features, labels = np.ones((3, 1), np.float32), np.array([0, 0, 2])
    assert np.isnan(ao.segment_mean(features, labels, 3, empty=float("nan"))[1, 0])
    assert ao.segment_max(features, labels, 3, empty=float("-inf"))[1, 0] == -np.inf
    found = ao.segment_unpool(features, np.array([0, 9]), ignore_label=9, fill=float("nan"))
    np.testing.assert_array_equal(found, [[1], [np.nan]])


def test_segments_of_infinities_alone() -> None:
    features = np.array([[-np.inf], [np.inf]], np.float32)
    assert ao.segment_max(features, np.array([0, 1]))[:, 0].tolist() == [-np.inf, np.inf]
    assert ao.segment_min(features, np.array([0, 1]))[:, 0].tolist() == [-np.inf, np.inf]
