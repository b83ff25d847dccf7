"""segment_* on the CUDA backend against the loops, forward and backward, and all that labels may hold."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import arrayops as ao
from arrayops._ops.segment import POSITIONS, saved_by
from oracles import segment
from pairwise import pairwise
from segment_cases import FORMS, INTEGERS, KINDS, OPERATORS, REDUCTIONS, Segments, labelled, segment_calls
from strategies import BFLOAT16, DTYPES, FLOAT16, FLOAT32, FLOAT64, MEMORY, examples, in_memory

pytest.importorskip("cupy", reason="CuPy is not installed")

import cuda_device
from cuda_checks import check_segments
from tolerances import assert_close

ORDERS = ("fifo", "lifo", "random")
ALL = (*REDUCTIONS, "count")
NAMES = {"mean": ("mean",), "sum": ("sum",), "max": ("max",), "min": ("min",), "var": ("var",), "all": ALL}


def rows(*, memory: Any = MEMORY, **factors: Any) -> list[Any]:
    """Parameters of a test: every two levels of different factors meet."""
    table = pairwise({**factors, "order": ORDERS, "memory": memory})
    return [pytest.param(*row.values(), id="-".join(map(str, row.values()))) for row in table]


def in_form(case: Segments, memory: str) -> Segments:
    return Segments(in_memory(case.features, memory), in_memory(case.labels, memory), case.segments, case.options)


# Forms of memory whose channels stay adjacent, and those whose channels are staged in shared memory.
ADJACENT, APART = ("contiguous", "read-only", "offset"), ("fortran", "every other", "negative strides")

# Channels that are read by fours, by twos, one by one, and staged, in a form for each dtype.
CHANNELS = (
    dict(zip(DTYPES, [("NHWC", 24), ("flat", 24), ("NHWC", 24), ("flat", 24)], strict=True)),
    dict(zip(DTYPES, [("flat", 18), ("NHWC", 18), ("flat", 18), ("NHWC", 18)], strict=True)),
    dict(zip(DTYPES, [("NHWC", 17), ("flat", 17), ("NHWC", 17), ("flat", 17)], strict=True)),
    dict(zip(DTYPES, [("NCHW", 17), ("NHWC", 3), ("NCHW", 3), ("flat", 1)], strict=True)),
)


@pytest.mark.parametrize(
    ("names", "dtype", "kind", "segments", "order", "memory"),
    # Slots of one digit and of two; forms of memory by their number.
    rows(names=list(NAMES), dtype=DTYPES, kind=KINDS, segments=(1, 9, 300), memory=range(3)),
)
def test_reductions(
    device: Any, names: str, dtype: np.dtype, kind: str, segments: int, order: str, memory: int
) -> None:
    """Each sum and extreme meets each dtype, and both meet each width at which channels are read."""
    # What is made by the same kernels: means and sums, the largest and the smallest.
    made = {"mean": 0, "sum": 0, "max": 1, "min": 1, "var": 2, "all": 3}[names]
    reading = (made + DTYPES.index(dtype)) % 4
    form, channels = CHANNELS[reading][dtype]
    placed = (APART if reading == 3 else ADJACENT)[memory]
    size = (13, 21) if channels > 3 else (31, 40)
    case = labelled(kind, form, dtype=dtype, channels=channels, segments=segments, size=size)
    with device.order(order):
        check_segments(device, in_form(case, placed), NAMES[names], placed)


@pytest.mark.parametrize(
    ("dtype", "kind", "form", "channels", "order", "memory"),
    # Channels that are staged, and that are read in place.
    [
        *rows(dtype=INTEGERS[:4], kind=KINDS, form=FORMS, channels=(3,)),
        *rows(dtype=INTEGERS[4:], kind=KINDS, form=FORMS[1:], channels=(36,), memory=ADJACENT),
    ],
)
def test_integer_features_are_exact(
    device: Any, dtype: np.dtype, kind: str, form: str, channels: int, order: str, memory: str
) -> None:
    case = labelled(kind, form, dtype=dtype, channels=channels, segments=11, size=(13, 12))
    limits = np.iinfo(dtype)
    # Sums of the largest numbers leave float64.
    case.features.flat[:7] = limits.max // 8
    case.features.flat[7:12] = limits.min // 8
    empty = limits.max if dtype.itemsize == 8 else 3
    with device.order(order):
        check_segments(device, in_form(case, memory), ("sum", "max", "min", "count"), memory, empty=empty)


@pytest.mark.emulator
@examples(60)
@given(data=st.data())
def test_drawn_calls(data: st.DataObject) -> None:
    """Any labels, sizes, forms of memory and keywords; all reductions, and what goes back to pixels."""
    case = data.draw(segment_calls((FLOAT32,)))
    with cuda_device.emulated() as device:
        got = check_segments(device, case, ALL)
        fill = data.draw(st.sampled_from((0, -2.5)))
        found = device.segment_unpool(got[0], case.labels, fill=fill, **case.options)
        want = segment.segment_unpool(got[0], case.labels, fill=fill, **case.options)
        np.testing.assert_array_equal(found, want)
        sums = device.segment_unpool_backward(case.features, got[0], case.labels, **case.options).pooled
        assert sums.tobytes() == got[1].tobytes() or case.segments == 0 or not_empty(case, sums, got[1])
        options = {key: value for key, value in case.options.items() if key != "layout"}
        np.testing.assert_array_equal(device.segment_count(case.labels, case.segments, **options), got[5])


def not_empty(case: Segments, sums: np.ndarray, with_empty: np.ndarray) -> bool:
    """Whether both are the same but for segments without pixels."""
    counts = segment.segment_count(case.labels, case.segments, ignore_label=case.ignore_label)
    counts = counts[..., None, :] if case.layout == "NCHW" and case.features.ndim == 4 else counts[..., None]
    return bool((np.where(counts == 0, 0, with_empty) == sums).all())


@pytest.mark.emulator
@pytest.mark.parametrize("zero", ["batch", "pixels", "channels", "segments"])
@examples(12)
@given(data=st.data())
def test_zero_sizes(zero: str, data: st.DataObject) -> None:
    case = data.draw(segment_calls((FLOAT32,), zero=zero))
    with cuda_device.emulated() as device:
        check_segments(device, case, ALL)
        arguments = case.features, case.labels, ALL, case.segments
        outputs, saved = device.segment_reduce(*arguments, **case.options, return_saved=True)
        grads = *outputs[:-1], None
        assert not device.segment_reduce_backward(grads, *arguments, **case.options, saved=saved).features.any()
        pooled = np.ones(case.pooled_shape())
        found = device.segment_unpool(pooled, case.labels, fill=7, **case.options)
        np.testing.assert_array_equal(found, segment.segment_unpool(pooled, case.labels, fill=7, **case.options))
        options = {key: value for key, value in case.options.items() if key != "layout"}
        counts = device.segment_count(case.labels, case.segments, **options)
        np.testing.assert_array_equal(counts, segment.segment_count(case.labels, case.segments, **options))


def test_the_worked_example(device: Any) -> None:
    features, labels = np.array([[[[0.1], [0.2]], [[0.3], [0.4]]]]), np.array([[[0, 0], [1, 2]]])
    got = device.segment_mean(features, labels, layout="NHWC")
    assert got.shape == (1, 3, 1)
    np.testing.assert_allclose(got, [[[0.15], [0.3], [0.4]]], rtol=1e-15)


# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [None, False])
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_labels_that_name_no_segment_are_left_out(device: Any, dtype: np.dtype, check: bool | None) -> None:
    """The largest and smallest labels a dtype has, and those next to the segments."""
    limits = np.iinfo(dtype)
    strange = [limits.max, limits.min if limits.min else limits.max, 2, limits.max - 1]
    labels = np.array([0, strange[0], 1, strange[1], 1, strange[2], strange[3]], dtype)
    features = np.array([[1.0], [np.nan], [2.0], [np.nan], [4.0], [np.nan], [np.nan]], np.float32)
    assert device.segment_sum(features, labels, 2, check=check).tolist() == [[1], [6]]
    assert device.segment_count(labels, 2, check=check).tolist() == [1, 2]
    assert device.segment_max(features, labels, 2, check=check).tolist() == [[1], [4]]
    assert device.segment_var(features, labels, 2, check=check).tolist() == [[0], [1]]
    spread = device.segment_unpool(np.array([[5], [6]], np.int32), labels, fill=-1, check=check)
    assert spread[:, 0].tolist() == [5, -1, 6, -1, 6, -1, -1]
    for name, want in (("mean", [1, 0.5, 0.5]), ("max", [1, 0, 1]), ("var", [0, -1, 1])):
        backward = getattr(device, OPERATORS[name] + "_backward")
        grad = backward(np.ones((2, 1), np.float32), features, labels, 2, check=check).features[:, 0]
        assert grad[[0, 2, 4]].tolist() == want, name
        assert not grad[[1, 3, 5, 6]].any(), name


BAD = {
    "first": lambda labels: labels.__setitem__((0, 0, 0), -1),
    "last": lambda labels: labels.__setitem__((2, 79, 73), 9),
    # A thread sees several.
    "several": lambda labels: labels.__setitem__(slice(1, None), 100),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("ignore_label", [None, 3, 77])
def test_check_raises_what_the_cpu_raises(device: Any, name: str, ignore_label: int | None) -> None:
    rng = np.random.default_rng(0)
    labels, features = rng.integers(0, 9, (3, 80, 74)), rng.standard_normal((3, 2, 80, 74))
    labels[labels == 4] = 4 if ignore_label is None else ignore_label
    pooled = np.ones((3, 2, 9))
    keywords: dict[str, Any] = {"ignore_label": ignore_label, "check": True}

    def calls(module: Any) -> list[Any]:
        return [
            lambda: module.segment_mean(features, labels, 9, **keywords),
            lambda: module.segment_mean_backward(pooled, features, labels, 9, **keywords),
            lambda: module.segment_count(labels, 9, **keywords),
            lambda: module.segment_unpool(pooled, labels, **keywords),
            lambda: module.segment_unpool_backward(features, pooled, labels, **keywords),
            lambda: module.segment_reduce(features, labels, ("max", "count"), 9, **keywords),
        ]

    for call in calls(device):
        call()
    BAD[name](labels)
    for call, same in zip(calls(device), calls(ao), strict=True):
        with pytest.raises(ValueError, match="labels") as want:
            same()
        with pytest.raises(ValueError, match="labels") as got:
            call()
        assert str(got.value) == str(want.value)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_number_of_segments_is_found(device: Any, dtype: np.dtype) -> None:
    limits = np.iinfo(dtype)
    labels = np.random.default_rng(0).integers(0, 100, (2, 40, 37)).astype(dtype)
    labels[1, 39, 36] = 101
    labels[0, 0, 0] = limits.min
    assert device.segment_count(labels).shape == (2, 102)
    labels[0, 1, 2] = limits.max
    assert device.segment_count(labels, ignore_label=int(limits.max)).shape == (2, 102)
    assert device.segment_count(np.full((1, 2, 2), limits.max), ignore_label=int(limits.max)).shape == (1, 0)
    assert device.segment_count(np.zeros(0, dtype)).shape == (0,)
    if dtype.itemsize == 8:
        for call in (device.segment_count, ao.segment_count):
            with pytest.raises(ValueError, match=r"^segment_count: num_segments is 9223372036854775807, expected 0 to"):
                call(labels)


def test_nothing_waits_for_the_gpu(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With num_segments, and without check: so that calls may be recorded into CUDA graphs."""
    import cupy

    case = labelled("some", "NHWC", dtype=FLOAT32, channels=4, segments=5, size=(5, 6))
    features, labels = (cupy.ndarray(x.shape, x.dtype) for x in (case.features, case.labels))
    device.upload(features.data, case.features.view(np.uint8).ravel())
    device.upload(labels.data, case.labels.view(np.uint8).ravel())

    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("waits")

    with monkeypatch.context() as patch:
        for name in ("get", "item", "set"):
            patch.setattr(cupy.ndarray, name, refused)
        patch.setattr(type(cupy.cuda.get_current_stream()), "synchronize", refused)
        results = ao.segment_reduce(features, labels, ALL, 5, ignore_label=1, layout="NHWC")
        ao.segment_reduce_backward((*results[:5], None), features, labels, ALL, 5, ignore_label=1, layout="NHWC")
        ao.segment_unpool(results[0], labels, layout="NHWC", check=False)
        ao.segment_unpool_backward(features, results[0], labels, layout="NHWC")
        ao.segment_count(labels, 5)
        with pytest.raises(AssertionError, match="waits"):
            ao.segment_count(labels, 5, check=True)
        with pytest.raises(AssertionError, match="waits"):
            ao.segment_count(labels)


# --- order ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("segments", [1, 2, 255, 256, 1023, 1024, 2**20 - 1, 2**31 - 2])
def test_digits_of_slots(device: Any, segments: int) -> None:
    """One to four passes of up to 10 bits, over images of several tiles; the last segment, and pixels of none."""
    import cupy

    from arrayops._backends.cuda.engine import memory
    from arrayops._backends.cuda.segment.labels import SegmentIds
    from arrayops._backends.cuda.segment.order import _passes, sort_pixels

    rng = np.random.default_rng(segments)
    labels = rng.integers(0, segments, (2, 89, 100), np.int64)
    labels[:, ::7] = segments - 1
    labels[:, 3::7, 1:50] = -1
    labels[1, 5:, 2:60] = labels[1, 8, 9]
    placed = device.place(labels).array
    slots = SegmentIds("test", placed, segments, None, None)
    assert sum(bits for bits, _ in _passes(8900, segments)) == segments.bit_length()
    if segments > 10**9:
        # What comes after the passes has an entry for each segment.
        empty = memory.empty

        def noted(shape: tuple[int, ...], dtype: Any) -> Any:
            if shape[-1] > segments:
                raise MemoryError
            return empty(shape, dtype)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(memory, "empty", noted)
            with pytest.raises(MemoryError):
                sort_pixels(slots)
        assert len(_passes(8900, segments)) == 4
        return
    order = sort_pixels(slots, counted=True)
    want_slots = np.where(labels < 0, segments, labels).reshape(2, -1)
    want = np.argsort(want_slots, axis=1, kind="stable")
    np.testing.assert_array_equal(device.fetch(order.positions).reshape(2, -1), want)
    np.testing.assert_array_equal(
        device.fetch(order.segment_ids).reshape(2, -1), np.take_along_axis(want_slots, want, axis=1)
    )
    starts = np.stack([np.searchsorted(np.sort(line), np.arange(segments + 1)) for line in want_slots])
    np.testing.assert_array_equal(device.fetch(order.starts), starts)
    counts = np.stack([np.bincount(line, minlength=segments + 1)[:-1] for line in want_slots])
    np.testing.assert_array_equal(device.fetch(order.counts), counts)
    assert isinstance(order.starts, cupy.ndarray)


def test_counts_of_many_tiles(device: Any) -> None:
    """The tiles of an image of 2.5 million pixels, whose counts are added up in several goes."""
    import cupy

    from arrayops._backends.cuda.engine import module
    from arrayops._backends.cuda.engine.launch import launch
    from arrayops._backends.cuda.segment import order

    counts = np.random.default_rng(0).integers(0, 4097, (10, 611)).astype(np.uint32)
    placed = cupy.ndarray(counts.shape, counts.dtype)
    device.upload(placed.data, counts.view(np.uint8).ravel())
    totals = cupy.ndarray((10,), np.uint32)
    kernel = module.kernel(order.FILE, "segment_scan", order.DEFINES)
    with device.order("random"):
        launch(kernel, (2, 1, 1), (order.THREADS, 1, 1), (np.int64(10), np.int32(611), placed, totals))
    sums = np.cumsum(counts, axis=1, dtype=np.uint32)
    np.testing.assert_array_equal(device.fetch(placed), sums - counts)
    np.testing.assert_array_equal(device.fetch(totals), sums[:, -1])


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "dtype"), [("NCHW", FLOAT32), ("NHWC", FLOAT32), ("NCHW", FLOAT64), ("NHWC", FLOAT64)]
)
@pytest.mark.parametrize("name", ["constant", "large offset", "mixed signs", "outlier first"])
def test_one_segment_over_many_blocks_keeps_its_digits(device: Any, name: str, form: str, dtype: np.dtype) -> None:
    """In float64 over more of them than one row of threads of `segment_join` merges."""
    rng = np.random.default_rng(0)
    count, channels = 20_000, 12
    values = {
        "constant": lambda: np.full((count, channels), 0.1),
        "large offset": lambda: rng.standard_normal((count, channels)) + 1e4,
        "mixed signs": lambda: rng.standard_normal((count, channels)) * 1e5,
        "outlier first": lambda: np.concatenate([np.full((1, channels), 1e20), rng.random((count - 1, channels))]),
    }[name]().astype(dtype)
    wide = values.astype(np.float64)
    features = values.reshape(1, 100, 200, channels)
    features = np.ascontiguousarray(segment.back(features, form))
    labels = np.zeros((1, 100, 200), np.uint8)
    names = ("mean", "var", "max", "min")
    mean, variance, largest, smallest = device.segment_reduce(features, labels, names, 1, layout=form)
    limit = 2e-7 if dtype == FLOAT32 else 1e-12
    assert (np.abs(mean.ravel() - wide.mean(axis=0)) <= limit * np.abs(wide).mean(axis=0)).all()
    # Those of NumPy are of a rounded mean.
    np.testing.assert_allclose(variance.ravel(), wide.var(axis=0), rtol=limit, atol=1e-18 if name == "constant" else 0)
    np.testing.assert_array_equal(largest.ravel(), values.max(axis=0))
    np.testing.assert_array_equal(smallest.ravel(), values.min(axis=0))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_nan_and_infinity_stay_in_their_segment(device: Any, reduction: str, layout: str) -> None:
    features = np.random.default_rng(0).standard_normal((1, 4, 5, 12)).astype(FLOAT32)
    labels = (np.arange(20).reshape(1, 4, 5) % 5).astype(np.int16)
    for place, value in (
        ((0, 1, 1, 0), np.nan),
        ((0, 2, 2, 1), np.inf),
        ((0, 3, 3, 0), -np.inf),
        ((0, 0, 3, 8), np.inf),
    ):
        features[place] = value
    features[0, 3, 4] = np.nan
    labels[0, 3, 4] = -1
    placed = np.ascontiguousarray(segment.back(features, layout))
    got = getattr(device, OPERATORS[reduction])(placed, labels, 5, ignore_label=-1, layout=layout)
    with np.errstate(invalid="ignore"):
        want = segment.reduce(reduction, placed, labels, 5, ignore_label=-1, layout=layout)
    assert np.isnan(want).any()
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want))
    grad = np.ones((1, 12, 5) if layout == "NCHW" else (1, 5, 12), np.float32)
    backward = getattr(device, OPERATORS[reduction] + "_backward")
    found = backward(grad, placed, labels, 5, ignore_label=-1, layout=layout).features
    assert not segment.channels_last(found, layout)[0, 3, 4].any()
    if reduction != "var":
        assert np.isfinite(found).all()


@pytest.mark.parametrize("reduction", ["max", "min"])
@pytest.mark.parametrize("channels", [2, 8])
def test_gradient_goes_to_the_first_pixel_that_attains_it(device: Any, channels: int, reduction: str) -> None:
    """Ties over several rows of threads and blocks; NaN before all; and segments of infinities alone."""
    features = np.zeros((20_000, channels))
    labels = np.random.default_rng(0).integers(0, 3, 20_000)
    labels[:16_000] = 1
    features[labels == 0] = -np.inf
    features[4321:, 1] = np.nan
    grad = np.arange(1.0, 3 * channels + 1).reshape(3, channels)
    got = getattr(device, OPERATORS[reduction] + "_backward")(grad, features, labels, 3).features
    want = segment.backward({reduction: grad}, features, labels)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(
        getattr(device, OPERATORS[reduction])(features, labels, 3), segment.reduce(reduction, features, labels, 3)
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reduction", POSITIONS)
def test_saved_positions(device: Any, reduction: str, form: str) -> None:
    """They are those of the loops, and replace the features in the backward."""
    case = with_empty_segment(form)
    case.features[np.random.default_rng(0).random(case.features.shape) < 0.01] = np.nan
    arguments = case.features, case.labels, case.segments
    with device.order("random"):
        output, saved = getattr(device, OPERATORS[reduction])(*arguments, **case.options, return_saved=True)
    want = segment.positions(reduction, *arguments, **case.options)
    assert saved.dtype == np.int64
    assert (want == -1).any()
    np.testing.assert_array_equal(saved, want)
    backward = getattr(device, OPERATORS[reduction] + "_backward")
    grad = np.ones_like(output)
    recomputed = backward(grad, *arguments, **case.options).features
    for given_positions in (saved, saved.astype(np.int32)):
        unread = np.full_like(case.features, np.nan), *arguments[1:]
        got = backward(grad, *unread, **case.options, saved=given_positions).features
        assert got.tobytes() == recomputed.tobytes()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "names", [("mean",), ("var",), ("count", "mean", "min"), ("mean", "min", "max", "var")], ids="-".join
)
def test_saved_results_of_several_reductions(device: Any, names: tuple[str, ...], form: str) -> None:
    """The backward has the same bits with all, some or none."""
    case = with_empty_segment(form)
    arguments = case.features, case.labels, names, case.segments
    with device.order("random"):
        outputs, saved = device.segment_reduce(*arguments, **case.options, return_saved=True)
    for output, plain in zip(outputs, device.segment_reduce(*arguments, **case.options), strict=True):
        assert output.tobytes() == plain.tobytes()
    by_name = dict(zip(saved_by(names), saved, strict=True))
    counts = segment.segment_count(case.labels, case.segments, ignore_label=case.ignore_label)
    np.testing.assert_array_equal(by_name["counts"], counts)
    grads = tuple(
        None if name == "count" else np.ones_like(output) for name, output in zip(names, outputs, strict=True)
    )
    recomputed = device.segment_reduce_backward(grads, *arguments, **case.options).features
    for some in (saved, *((*saved[:i], None, *saved[i + 1 :]) for i in range(len(saved)))):
        got = device.segment_reduce_backward(grads, *arguments, **case.options, saved=some).features
        assert got.tobytes() == recomputed.tobytes()


def with_empty_segment(form: str) -> Segments:
    case = labelled("random", form, dtype=FLOAT32, channels=3, segments=9)
    case.labels[case.labels == 4] = 5
    return case


def test_saved_positions_need_no_sorted_pixels(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from arrayops._backends.cuda.segment import gradients

    case = labelled("random", "NHWC", dtype=FLOAT32, channels=3, segments=9)
    arguments = case.features, case.labels, case.segments
    output, saved = device.segment_min(*arguments, **case.options, return_saved=True)

    def sort_pixels(*arguments: Any, **keywords: Any) -> None:
        raise AssertionError("pixels were sorted")

    monkeypatch.setattr(gradients, "sort_pixels", sort_pixels)
    assert device.segment_min_backward(output, *arguments, **case.options, saved=saved).features.any()
    with pytest.raises(AssertionError, match="pixels were sorted"):
        device.segment_min_backward(output, *arguments, **case.options)


@pytest.mark.parametrize("dtype", [FLOAT32, FLOAT64], ids=str)
def test_equal_bits_wherever_features_begin(device: Any, dtype: np.dtype) -> None:
    """Sums of many pixels, of channels that are read at once where memory allows."""
    case = labelled("one", "NHWC", dtype=dtype, channels=16, segments=2, size=(60, 61), batch=1)
    labels = device.place(case.labels).array
    found = []
    for first in (0, 1):
        flat = device.place(np.concatenate([np.zeros(first, dtype), case.features.ravel()])).array
        features = flat[first:].reshape(case.features.shape)
        pooled = ao.segment_reduce(features, labels, ("mean", "max", "min", "var"), 2, layout="NHWC")
        found.append([device.fetch(result).tobytes() for result in pooled])
    assert found[0] == found[1]


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
def test_half_types_are_summed_wide(device: Any, dtype: np.dtype) -> None:
    assert float(device.segment_sum(np.ones((4096, 1), dtype), np.zeros(4096, int))[0, 0]) == 4096


def test_integer_sums_are_exact_beyond_float64(device: Any) -> None:
    for dtype in (np.int64, np.uint64):
        features = np.array([[2**53 + 1], [2**53 + 3], [2**61 + 1]], dtype)
        assert device.segment_sum(features, np.array([0, 0, 1])).tolist() == [[2**54 + 4], [2**61 + 1]]
        assert device.segment_max(features, np.array([0, 0, 1])).tolist() == [[2**53 + 3], [2**61 + 1]]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -7, 2.5, 1e300])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_empty_and_fill(device: Any, dtype: np.dtype, value: float) -> None:
    """As the CPU rounds them."""
    features, labels = np.ones((3, 2), dtype), np.array([0, 0, 2])
    with np.errstate(over="ignore"):
        for name in ("mean", "max"):
            options: dict[str, Any] = {"empty": value}
            got, want = (getattr(m, OPERATORS[name])(features, labels, 4, **options) for m in (device, ao))
            np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))
        labels = np.array([0, 9, 2, 1, 9])
        got, want = (m.segment_unpool(features, labels, fill=value, ignore_label=9) for m in (device, ao))
    np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64))


# --- the way back to pixels -----------------------------------------------------------------------

MOVED = (*INTEGERS, *DTYPES, np.dtype(bool))


@pytest.mark.parametrize(
    ("dtype", "form", "channels", "kind", "order", "memory"),
    rows(dtype=MOVED, form=FORMS, channels=(1, 3, 10, 32, 200), kind=("random", "patches", "some")),
)
def test_unpool(device: Any, dtype: np.dtype, form: str, channels: int, kind: str, order: str, memory: str) -> None:
    """Any bits; wide channels are moved up to 16 bytes at a time."""
    case = in_form(labelled(kind, form, dtype=FLOAT32, channels=channels, segments=23, size=(7, 19)), memory)
    bits = np.random.default_rng(1).integers(0, 2 if dtype.kind == "b" else 256, (*case.pooled_shape(), dtype.itemsize))
    pooled = in_memory(bits.astype(np.uint8).view(dtype)[..., 0], memory)
    with device.order(order):
        got = device.segment_unpool(pooled, case.labels, fill=1, **case.options)
    assert got.dtype == dtype
    raw = np.dtype(f"V{dtype.itemsize}")
    as_bits = np.ascontiguousarray(pooled).view(raw).reshape(pooled.shape)
    one = np.ones(1, dtype).view(raw)[0]
    want = segment.segment_unpool(as_bits, case.labels, fill=one, **case.options)
    assert got.tobytes() == want.tobytes()


# --- bits, memory ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["random", "patches", "one"])
@pytest.mark.parametrize(("form", "channels"), [("NCHW", 9), ("NHWC", 12)])
def test_equal_bits_in_any_order(device: Any, form: str, channels: int, kind: str) -> None:
    case = labelled(kind, form, dtype=FLOAT32, channels=channels, segments=50, size=(53, 47))
    pooled = ao.segment_reduce(case.features, case.labels, ALL, 50, layout=form)
    found = set()
    orders = [("fifo", 1), ("lifo", 1), ("random", 1), ("random", 2)]
    for order, seed in orders if device.emulated else [("the device's own", 0)] * 50:
        with device.order(order, seed):
            results: list[Any] = [
                *device.segment_reduce(case.features, case.labels, ALL, 50, layout=form),
                device.segment_reduce_backward((*pooled[:5], None), case.features, case.labels, ALL, 50, layout=form)[
                    0
                ],
                device.segment_mean_backward(pooled[0], case.features, case.labels, 50, layout=form)[0],
                device.segment_unpool(pooled[0], case.labels, layout=form),
                device.segment_unpool_backward(case.features, pooled[0], case.labels, layout=form)[0],
                device.segment_count(case.labels, 50),
            ]
        found.add(tuple(result.tobytes() for result in results))
    assert len(found) == 1


def test_single_reductions_have_the_bits_of_several(device: Any) -> None:
    """Sums and extremes: what is asked for beside them changes nothing."""
    case = labelled("patches", "NHWC", dtype=FLOAT32, channels=12, segments=40)
    together = device.segment_reduce(case.features, case.labels, ALL, 40, layout="NHWC")
    for name, got in zip(REDUCTIONS, together, strict=False):
        alone = getattr(device, OPERATORS[name])(case.features, case.labels, 40, layout="NHWC")
        assert alone.tobytes() == got.tobytes(), name


def test_layouts_of_memory_are_read_in_place(device: Any) -> None:
    """Other than rows that do not follow each other, which are copied."""
    case = labelled("patches", "NHWC", dtype=FLOAT32, channels=40, segments=10)
    size = case.features.nbytes
    turned = case.features.transpose(0, 3, 1, 2)
    views = {
        "channels last as NCHW": (turned, "NCHW", 0),
        "some channels": (case.features[..., 3:33], "NHWC", 0),
        "backwards": (case.features[:, ::-1, ::-1], "NHWC", 0),
        "columns left out": (case.features[:, :, :30], "NHWC", size * 30 // 40),
    }
    for name, (features, layout, copied) in views.items():
        labels = case.labels[:, :, :30] if copied else case.labels
        copy = np.ascontiguousarray(features)
        want = ao.segment_mean(copy, labels, 10, layout=layout)
        placed = device.place(features).array, device.place(np.ascontiguousarray(labels)).array
        with cuda_device.allocations() as sizes:
            got = device.fetch(ao.segment_mean(*placed, 10, layout=layout))
        assert_close(got, want.astype(np.float64), FLOAT32, what=name)
        assert (copied in sizes) == (copied > 0), name
        assert sum(sizes) - copied < size / 4, name


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_needs(device: Any, reduction: str) -> None:
    backward = getattr(device, OPERATORS[reduction] + "_backward")
    assert backward(np.ones((1, 1)), np.ones((2, 1)), np.zeros(2, int), 1, needs=()).features is None
    found = device.segment_unpool_backward(np.ones((2, 1)), np.ones((1, 1)), np.zeros(2, int), needs=())
    assert found.pooled is None


def test_gradients_that_are_not_given(device: Any) -> None:
    case = labelled("patches", "NCHW", dtype=FLOAT64, channels=3, segments=7, size=(5, 6))
    found = device.segment_reduce_backward((None, None), case.features, case.labels, ("mean", "var"), 7)
    assert found.features.dtype == FLOAT64
    assert not found.features.any()


@pytest.mark.emulator
def test_images_of_more_pixels_than_positions_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from arrayops._backends.cuda.segment import labels as segment_labels

    monkeypatch.setattr(segment_labels, "MAX_PIXELS", 30)
    with cuda_device.emulated() as device:
        features, labels = np.ones((2, 3, 4, 8)), np.zeros((2, 4, 8), int)
        with pytest.raises(
            ValueError, match=r"^segment_sum: labels is \(2, 4, 8\), expected at most 30 pixels per image"
        ):
            device.segment_sum(features, labels, 1)
