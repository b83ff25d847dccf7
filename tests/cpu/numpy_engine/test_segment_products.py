"""Sums of planes by products of matrices: when they are taken, and that nobody can tell by the values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from arrayops._backends.numpy import segment_products, segment_ways
from arrayops._backends.numpy.segment_intervals import Intervals
from arrayops._backends.numpy.segment_products import Products
from arrayops._backends.numpy.segment_runs import Runs
from arrayops._backends.numpy.segment_way import WIDE
from oracles import segment
from strategies import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, MEMORY, in_memory
from tolerances import assert_close


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Products]]:
    """The products that calls have made."""
    made: list[Products] = []

    class Noting(Products):
        def add(self, *arguments: Any) -> None:
            made.append(self)
            super().add(*arguments)

    monkeypatch.setattr(segment_ways, "Products", Noting)
    yield made
    ao.set_num_threads(None)


def patches(size: tuple[int, int], batch: int = 1, noise: float = 0.004, ignored: float = 0.0) -> np.ndarray:
    """Labels in patches with ragged edges, and some -1: most pieces of 32 have few, some have many."""
    rng = np.random.default_rng(size[0])
    rows, columns = np.indices(size)
    ragged = columns + rng.integers(0, 3, (batch, *size))
    labels = rows // 11 * 5 + ragged // 37
    labels = np.where(rng.random(labels.shape) < noise, rng.integers(0, labels.max() + 1, labels.shape), labels)
    labels[:, 5:7, 20:80] = rng.integers(0, labels.max() + 1, labels[:, 5:7, 20:80].shape)
    labels[rng.random(labels.shape) < ignored] = -1
    return labels.astype(np.int32)


def normal(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    return (np.random.default_rng(len(shape)).standard_normal(shape) + 0.5).astype(dtype)


def totals(features: np.ndarray, labels: np.ndarray, segments: int) -> np.ndarray:
    """Sums of (N, C, H, W) in float64, (N, C, S)."""
    batch, channels = features.shape[:2]
    found = np.zeros((batch, segments + 1, channels))
    for image in range(batch):
        rows = features[image].astype(np.float64).reshape(channels, -1).T
        np.add.at(found[image], labels[image].reshape(-1), rows)
    # Labels of -1 went to the last row.
    return found[:, :-1].swapaxes(1, 2)


@pytest.mark.parametrize("channels", [9, 32, 33, 70])
@pytest.mark.parametrize("size", [(37, 101), (211, 190), (1, 5), (3, 11), (1, 1)])
def test_values(channels: int, size: tuple[int, int], products: list[Products]) -> None:
    """Planes that fill no whole groups, pieces that end inside the last one, several blocks, images of one pixel."""
    labels = patches(size, 2, ignored=0.004) if size[1] > 90 else np.zeros((2, *size), np.int32)
    features, segments = normal((2, channels, *size)), max(int(labels.max()) + 1, 3)
    want = totals(features, labels, segments)
    size_of_sums = totals(np.abs(features), labels, segments)
    assert_close(ao.segment_sum(features, labels, segments, ignore_label=-1), want, FLOAT32, size_of_sums)
    counts = ao.segment_count(labels, segments, ignore_label=-1)
    mean, counted = ao.segment_reduce(features, labels, ("mean", "count"), segments, ignore_label=-1)
    np.testing.assert_array_equal(counted, counts)
    np.testing.assert_array_equal(counts.sum(axis=1), (labels >= 0).reshape(2, -1).sum(axis=1))
    divisor = np.maximum(counts, 1)[:, None]
    assert_close(mean, want / divisor, FLOAT32, size_of_sums / divisor)
    assert bool(products) is (size != (1, 1))
    if size[1] > 90:
        assert all(made.left > 0 for made in products)


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16, FLOAT64, np.dtype(np.int16)], ids=str)
def test_other_dtypes(dtype: np.dtype, products: list[Products]) -> None:
    """Half precision is widened on the way; what float32 cannot hold goes another way."""
    labels = patches((60, 130))
    segments = int(labels.max()) + 1
    features = (normal((1, 12, 60, 130)) * 8).astype(dtype)
    got = ao.segment_sum(features, labels, segments)
    want, size = totals(features, labels, segments), totals(np.abs(features.astype(np.float64)), labels, segments)
    if dtype.kind == "i":
        np.testing.assert_array_equal(got, want)
    else:
        assert_close(got, want, dtype, size)
    assert bool(products) is (dtype in (FLOAT16, BFLOAT16))


@pytest.mark.parametrize("form", MEMORY)
def test_any_memory(form: str) -> None:
    """Strides and place of planes in memory; where they only begin elsewhere, bits are the same."""
    labels, features = patches((60, 130)), normal((1, 12, 60, 130))
    segments = int(labels.max()) + 1
    want = ao.segment_sum(features, labels, segments)
    got = ao.segment_sum(in_memory(features, form), in_memory(labels, form), segments)
    assert_close(got, totals(features, labels, segments), FLOAT32, totals(np.abs(features), labels, segments))
    if form != "fortran":
        assert got.tobytes() == want.tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_what_float32_cannot_hold_stays_in_its_segment(bad: float, products: list[Products]) -> None:
    """Every piece around has pixels of several segments, which products with 0 must not reach."""
    labels = patches((64, 130), ignored=0.004)
    segments = int(labels.max()) + 1
    features = normal((1, 10, 64, 130))
    clean = ao.segment_mean(features, labels, segments, ignore_label=-1)
    ignored = np.argwhere(labels[0] < 0)
    spoilt = features.copy()
    # Of a segment, of its second pixel as well (two of 3e38 are too many), and of pixels that are left out.
    victims = np.argwhere(labels[0] == 7)[:2]
    spoilt[0, 3, victims[:, 0], victims[:, 1]] = bad
    spoilt[0, 5, ignored[:, 0], ignored[:, 1]] = bad
    got = ao.segment_mean(spoilt, labels, segments, ignore_label=-1)
    assert products
    with np.errstate(invalid="ignore"):
        want = segment.reduce("mean", spoilt, labels, segments, ignore_label=-1)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.isinf(got), np.isinf(want))
    hit = np.zeros(got.shape, bool)
    hit[0, 3, 7] = True
    np.testing.assert_allclose(got[~hit], clean[~hit], rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(got[hit], want[hit], rtol=2e-6)


@pytest.mark.parametrize("name", ["constant", "all but one lost", "large offset", "mixed signs"])
def test_means_keep_their_digits(name: str, products: list[Products]) -> None:
    rng = np.random.default_rng(0)
    shape = (1, 9, 512, 1024)
    features = {
        "constant": lambda: np.full(shape, 0.1, np.float32),
        # Added to 1 in float32, none of the others leaves anything: the most that a sum of 32 can lose.
        "all but one lost": lambda: np.tile(
            np.where(np.arange(32) == 0, 1, 2.0**-24).astype(np.float32), (1, 9, 512, 32)
        ),
        "large offset": lambda: (rng.standard_normal(shape, np.float32) + 1e4).astype(np.float32),
        "mixed signs": lambda: rng.standard_normal(shape, np.float32) * np.float32(1e5),
    }[name]()
    got = ao.segment_mean(features, np.zeros((1, 512, 1024), np.uint8), 1)[..., 0]
    assert products
    want = features.mean(axis=(2, 3), dtype=np.float64)
    assert (np.abs(got - want) <= 2e-6 * np.abs(features).mean(axis=(2, 3), dtype=np.float64)).all()


def test_equal_bits(products: list[Products]) -> None:
    """For any number of threads, and with other reductions beside, which are taken in other blocks."""
    labels, features = patches((300, 411), 2), normal((2, 40, 300, 411))
    segments = int(labels.max()) + 1
    ao.set_num_threads(1)
    want = ao.segment_mean(features, labels, segments).tobytes()
    assert products
    for threads in (1, 2, 3, 8):
        ao.set_num_threads(threads)
        assert ao.segment_mean(features, labels, segments).tobytes() == want
        assert ao.segment_reduce(features, labels, ("max", "mean"), segments)[1].tobytes() == want
        assert ao.segment_reduce(features, labels, ("mean", "var"), segments)[0].tobytes() == want


def test_many_channels_in_several_slices(monkeypatch: pytest.MonkeyPatch, products: list[Products]) -> None:
    """Totals that leave room for a few channels at a time, the last slice a single plane."""
    monkeypatch.setattr("arrayops._backends.numpy.segment_rows.TOTALS", 0)
    labels, features = patches((60, 130)), normal((1, 33, 60, 130))
    segments = int(labels.max()) + 1
    got = ao.segment_sum(features, labels, segments)
    assert products
    assert_close(got, totals(features, labels, segments), FLOAT32, totals(np.abs(features), labels, segments))


def test_the_way_follows_from_the_labels() -> None:
    """Few runs a piece are products' in planes; many runs, that they would leave, are not."""
    place = np.arange(65536, dtype=np.int32)

    def kind(slots: np.ndarray, planes: bool, segments: int = 400) -> Any:
        made = segment_ways.way(slots, segments, 4096, planes)
        return made if made is WIDE else type(made)

    for slots in (place // 700, place // 9, place % 1, np.sort(place * 7919 % 400)):
        assert kind(slots, planes=True) is Products
        assert kind(slots, planes=False) is Runs
    assert kind(place // 3 % 400, planes=True) is Runs
    scattered = np.random.default_rng(0).integers(0, 400, 65536).astype(np.int32)
    assert kind(scattered, planes=True) is Intervals
    assert kind(np.where(place % 2, 5, scattered).astype(np.int32), planes=True) is WIDE


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 9])
def test_pieces_of_many_runs(length: int) -> None:
    """Whatever way they go: runs as short as a pixel, beside pieces of one run."""
    pixels = 70 * 999
    labels = np.where(np.arange(pixels) // 64 % 5 == 0, np.arange(pixels) // length % 50, 3).reshape(1, 70, 999)
    features = normal((1, 17, 70, 999))
    got = ao.segment_sum(features, labels, 50)
    assert_close(got, totals(features, labels, 50), FLOAT32, totals(np.abs(features), labels, 50))


@pytest.mark.parametrize("last", [1, 7, 20, 31, 32])
@pytest.mark.parametrize("length", [1, 2, 40])
def test_products_and_what_they_leave_are_all_pixels(last: int, length: int) -> None:
    """Each pixel is summed once: by one row of ones and zeros, or as one of those left. Any last piece will do."""
    labels = patches((64, 140)).reshape(-1)
    labels = np.append(labels, np.arange(last, dtype=np.int32) // length)
    first = np.append(True, labels[1:] != labels[:-1])
    first[::32] = True
    made = Products(labels, first)
    weights = segment_products._weights()[made._intervals].reshape(-1, segment_products.MOST, 32)
    covered = weights.sum(axis=1).reshape(-1)
    assert not covered[len(labels) :].any()
    covered[made._left] += 1
    np.testing.assert_array_equal(covered[: len(labels)], 1)
    row, column = np.nonzero(weights.reshape(-1, 32))
    np.testing.assert_array_equal(made._slots[row], labels[row // segment_products.MOST * 32 + column])
    np.testing.assert_array_equal(made._left_slots, labels[made._left])
    assert 0 < made.left < len(labels) / 16


@pytest.mark.parametrize("last", [7, 20, 31])
def test_a_short_last_piece_of_many_runs(last: int, products: list[Products]) -> None:
    """Its pixels that products leave end where the image does."""
    labels = np.append(np.zeros(32 * 19, np.int32), np.arange(last, dtype=np.int32)).reshape(1, 1, -1)
    features = normal((1, 12, 1, labels.size))
    got = ao.segment_sum(features, labels, 40)
    assert products
    assert products[0].left == max(last - segment_products.MOST, 0)
    assert_close(got, totals(features, labels, 40), FLOAT32, totals(np.abs(features), labels, 40))
