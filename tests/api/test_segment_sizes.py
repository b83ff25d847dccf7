"""Reductions of images of any size, over labels in runs of any length, by every way that sums may go."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import arrayops as ao
from arrayops._backends.numpy import segment_totals, segment_way, segment_ways
from segment_cases import REDUCTIONS
from strategies import FLOAT32, examples
from tolerances import assert_close

LONGEST_RUNS = (1, 200, 1, 30, 9, 3)


@st.composite
def runs(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    """Labels (N, H, W) of a number of segments, and -1; some images are too small for the sums of runs to pay."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = (draw(st.integers(1, 3)), *rng.integers(1, draw(st.sampled_from((9, 90, 90))), 2))
    count, segments = int(np.prod(size)), draw(st.sampled_from((1, 3, 300, 3000)))
    labels, longest = rng.integers(0, segments, count), draw(st.sampled_from(LONGEST_RUNS))
    labels = np.repeat(labels, rng.integers(1, longest + 1, count))[:count]
    # Here and there runs are cut up.
    cut_up = rng.random(count) < draw(st.sampled_from((0, 0.02, 0.3)))
    labels = np.where(cut_up, rng.integers(-1, segments, count), labels)
    return labels.reshape(size), segments


def loops(features: np.ndarray, labels: np.ndarray, segments: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Reductions of (N, pixels, C) in float64, and the mean of absolute values."""
    batch, _, channels = features.shape
    shape = batch, segments + 1, channels
    total, size, squares = (np.zeros(shape) for _ in range(3))
    largest, smallest = np.full(shape, -np.inf), np.full(shape, np.inf)
    count = np.zeros((batch, segments + 1, 1))
    for image in range(batch):
        rows, slots = features[image].astype(np.float64), labels[image].reshape(-1)
        np.add.at(count[image], slots, 1)
        np.add.at(total[image], slots, rows)
        np.add.at(size[image], slots, np.abs(rows))
        np.maximum.at(largest[image], slots, rows)
        np.minimum.at(smallest[image], slots, rows)
        mean = total[image] / np.maximum(count[image], 1)
        np.add.at(squares[image], slots, (rows - mean[slots]) ** 2)
    # Labels of -1 went to the last row.
    divisor, present = np.maximum(count, 1), count > 0
    found = {
        "mean": total / divisor,
        "sum": total,
        "max": np.where(present, largest, 0),
        "min": np.where(present, smallest, 0),
        "var": squares / divisor,
        "count": count,
    }
    return {name: values[:, :-1] for name, values in found.items()}, (size / divisor)[:, :-1]


@pytest.mark.slow
def test_drawn_sizes_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every way is taken several times, in both layouts."""
    taken: Counter[tuple[str, str]] = Counter()
    found = segment_ways.way

    def way(slots: np.ndarray, segments: int, block: int, planes: bool) -> segment_way.Way:
        made = found(slots, segments, block, planes)
        taken["planes" if planes else "pixels", type(made).__name__] += 1
        return made

    @examples(200)
    @given(drawn=runs(), channels=st.sampled_from((3, 33, 130)), seed=st.integers(0, 2**32 - 1))
    def check(drawn: tuple[np.ndarray, int], channels: int, seed: int) -> None:
        labels, segments = drawn
        batch, height, width = labels.shape
        features = np.random.default_rng(seed).standard_normal((batch, height, width, channels), np.float32) + 0.5
        want, size = loops(features.reshape(batch, -1, channels), labels, segments)
        for layout in ("NHWC", "NCHW"):
            given = features if layout == "NHWC" else np.ascontiguousarray(np.moveaxis(features, -1, 1))
            got = ao.segment_reduce(given, labels, (*REDUCTIONS, "count"), segments, ignore_label=-1, layout=layout)
            for name, values in zip((*REDUCTIONS, "count"), got, strict=True):
                if name == "count":
                    np.testing.assert_array_equal(values, want[name][..., 0], layout)
                    continue
                values = values if layout == "NHWC" else np.moveaxis(values, 1, -1)
                if name in ("max", "min"):
                    np.testing.assert_array_equal(values, want[name], f"{name} {layout}")
                else:
                    magnitude = want["var"] + size**2 if name == "var" else size * (want["count"] ** (name == "sum"))
                    assert_close(values, want[name], FLOAT32, magnitude, f"{name} {layout}")

    monkeypatch.setattr(segment_totals, "way", way)
    check()
    every = {"pixels": ("Runs", "Intervals", "Way"), "planes": ("Runs", "Intervals", "Way", "Products")}
    assert all(taken[lie, kind] >= 5 for lie, kinds in every.items() for kind in kinds), taken
