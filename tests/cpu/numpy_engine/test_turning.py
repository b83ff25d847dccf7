"""Copies of channels-last images into planes, by pieces with room between the pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrayops._backends.numpy import turning
from arrayops._backends.numpy.memory import load
from strategies import DTYPES, FLOAT32

Array = np.ndarray[Any, Any]


def images(shape: tuple[int, ...], dtype: np.dtype = FLOAT32) -> Array:
    """Every value another, exact in half precision as long as there are no more than 256."""
    return (np.arange(np.prod(shape)) % 251).astype(dtype).reshape(shape)


def planes(source: Array) -> Array:
    """Images (N, H, W, groups, channels) as (groups, channels, N, H, W), a view."""
    return source.transpose(3, 4, 0, 1, 2)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    for constant, value in {"LEAST": 0, "APART": 1, "PIECE": 100}.items():
        monkeypatch.setattr(turning, constant, value)


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "size", [(1, 1, 1, 1, 1), (1, 4, 5, 1, 3), (2, 7, 3, 2, 4), (3, 1, 9, 1, 30), (1, 2, 2, 2, 200)]
)
def test_values(size: tuple[int, ...], dtype: np.dtype) -> None:
    source = planes(images(size, dtype))
    target = np.full(source.shape, -1, np.float64 if dtype == np.float64 else np.float32)
    load(target, source)
    np.testing.assert_array_equal(target, source.astype(np.float64))


@pytest.mark.usefixtures("always")
@given(
    size=st.tuples(st.integers(1, 3), *(st.integers(1, 8) for _ in range(2)), st.integers(1, 3), st.integers(1, 9)),
    steps=st.tuples(*(st.sampled_from([1, 2, -1]) for _ in range(2))),
    channels=st.integers(0, 3),
    around=st.integers(0, 2),
    turned=st.booleans(),
)
def test_views(size: tuple[int, ...], steps: tuple[int, int], channels: int, around: int, turned: bool) -> None:
    """Every other row, reversed columns, some of the channels; into planes with places around them, or as they lie."""
    source = images(size)[:, :: steps[0], :: steps[1], :, min(channels, size[4] - 1) :]
    source = planes(source) if turned else source
    room = np.full([length + 2 * around for length in source.shape], -1, np.float32)
    target = room[tuple(slice(around, around + length) for length in source.shape)]
    load(target, source)
    np.testing.assert_array_equal(target, source)
    assert np.count_nonzero(room == -1) == room.size - target.size


@pytest.mark.parametrize(
    ("shape", "taken"),
    [
        ((1, 32, 32, 1, 256), True),
        ((1, 32, 32, 8, 32), True),
        ((1, 32, 32, 1, 255), False),
        ((1, 22, 22, 1, 256), False),
        ((1, 64, 64, 1, 64), False),
    ],
    ids=["a power of two apart", "groups", "not so", "small", "64 channels"],
)
def test_where_it_is_taken(shape: tuple[int, ...], taken: bool) -> None:
    source = planes(np.zeros(shape, np.float32))
    found = source.size >= turning.LEAST and turning.turn(source, np.empty(source.shape, np.float32)) is not None
    assert found == taken


def test_values_that_lie_in_order_are_not_turned() -> None:
    source = np.zeros((1, 32, 32, 1, 256), np.float32)
    assert turning.turn(source, np.empty(source.shape, np.float32)) is None
