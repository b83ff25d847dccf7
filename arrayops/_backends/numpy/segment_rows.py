"""Features as rows, one for each pixel, whatever their layout: loaded and stored a block that stays in cache at a time.

Layouts become strides: features are (images, pixels, channels), and pooled features (images, segments, channels). Where
channels lie far apart (NCHW), a block goes through a contiguous buffer, in which transposing costs a tenth of what it
costs between planes that are a power of two apart.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.numpy.memory import Array, compute_dtype, load, store
from arrayops._backends.numpy.scratch import Scratch
from arrayops._core.dtypes import BFLOAT16_DTYPE

BLOCK = 1 << 16
"""Values of a block of rows: half a MiB as float64, a quarter of a second-level cache."""

LONGEST = 1 << 13
"""Rows of a block; positions inside it fit into 16 bits."""

SHORTEST = 1 << 5
"""Rows of a block of very many channels."""

NARROW = 8
"""Planes that are read side by side at most: with more, their lines push each other out of cache."""

PADDING = 16
"""Values between planes of a buffer: a power of two apart, they would do the same there."""

TOTALS = 8 << 20
"""Values of a part's running totals: more channels than this leaves room for are taken in several goes."""


def pixel_rows(features: Array, layout: str) -> Array:
    """Features of either layout, or without images, as (images, pixels, channels)."""
    if features.ndim == 2:
        return features[None]
    if layout == "NCHW":
        batch, channels, height, width = features.shape
        return features.reshape(batch, channels, height * width).swapaxes(1, 2)
    batch, height, width, channels = features.shape
    return features.reshape(batch, height * width, channels)


def segment_rows(pooled: Array, layout: str) -> Array:
    """Pooled features of either layout, or without images, as (images, segments, channels)."""
    if pooled.ndim == 2:
        return pooled[None]
    return pooled.swapaxes(1, 2) if layout == "NCHW" else pooled


class Part(NamedTuple):
    """Pixels and channels that one block of work takes; the pixels of an image are cut at multiples of `rows`."""

    image: int
    start: int
    stop: int
    channels: slice
    last: bool
    """Whether no other part follows with the same image and channels."""


class Cut(NamedTuple):
    """How a call is cut into parts, by its shape alone."""

    parts: tuple[Part, ...]
    rows: int
    """Pixels of a block: many where they take many short calls, or leave hardly anything in cache."""

    wide_rows: int
    """Pixels of it that are widened at a time."""

    shared: bool
    """Whether several parts have the same image and channels."""


def cut(rows: Array, segments: int) -> Cut:
    """Cut a call on ``rows`` (images, pixels, channels) into parts.

    They are whole images, or where these are few and large, several parts of one. A part's totals are as large as the
    result for its image and are added to those of other parts: it has many times as many pixels as there are segments.
    Where the pixels are cut does not depend on the number of channels.
    """
    images, pixels, channels = rows.shape
    width = max(1, min(channels, TOTALS // (segments + 1) // 16 * 16 or 16))
    slices = [slice(start, min(start + width, channels)) for start in range(0, channels, width)] or [slice(0, 0)]
    most = pixels // max(64 * (segments + 1), 2 * LONGEST)
    wanted = max(1, min(math.ceil(16 / max(1, images)), most))
    length = LONGEST * max(1, math.ceil(pixels / wanted / LONGEST))
    starts = range(0, max(pixels, 1), length)
    parts = tuple(
        Part(image, start, min(start + length, pixels), channels_, start == starts[-1])
        for image in range(images)
        for start in starts
        for channels_ in slices
    )
    wide_rows = block_rows(width)
    return Cut(parts, min(4 * wide_rows, LONGEST), wide_rows, len(starts) > 1)


def block_rows(width: int) -> int:
    """Rows of a block, a power of 2."""
    return min(max(1 << (BLOCK // max(width, 1)).bit_length() - 1, SHORTEST), LONGEST)


def wide_dtype(dtype: "np.dtype[Any]") -> "np.dtype[Any]":
    """Dtype in which values of ``dtype`` are added up."""
    if dtype.kind in "iu":
        return np.dtype(np.int64 if dtype.kind == "i" else np.uint64)
    return np.dtype(np.float64)


def plain_dtype(array: Array) -> "np.dtype[Any]":
    """Dtype in which values of ``array`` are compared: their own, or float32 for half precision."""
    return array.dtype if array.dtype.kind in "iu" else compute_dtype(array)


def transposed(rows: Array) -> bool:
    """Whether neighbours in memory are rows of one channel rather than channels of one row."""
    return rows.shape[1] > 1 and abs(rows.strides[0]) < abs(rows.strides[1])


def in_planes(rows: Array) -> bool:
    """Whether channels lie too far apart to be read side by side."""
    return transposed(rows) and rows.shape[1] > NARROW


def load_rows(scratch: Scratch, name: str, rows: Array, dtype: "np.dtype[Any]") -> Array:
    """``rows`` (pixels, channels) C-contiguous and of ``dtype``: themselves, or a copy in the buffer ``name``."""
    if rows.dtype == dtype and rows.flags.c_contiguous:
        return rows
    loaded = scratch(name, rows.shape, dtype)
    if in_planes(rows):
        length = block_rows(rows.shape[1])
        for start in range(0, len(rows), length):
            some = rows[start : start + length].T
            planes = scratch("planes", (len(some), length + PADDING), plain_dtype(rows))[:, : some.shape[1]]
            load(planes, some)
            load(loaded[start : start + length], planes.T)
        return loaded
    if rows.dtype == BFLOAT16_DTYPE and dtype != np.float32:
        plain = scratch("widened", rows.shape, np.float32)
        load(plain, rows)
        rows = plain
    load(loaded, rows)
    return loaded


def store_rows(scratch: Scratch, target: Array, rows: Array) -> None:
    """Store contiguous ``rows`` in a result of any strides, rounding half precision."""
    if not transposed(target):
        store(target, rows)
        return
    length = block_rows(rows.shape[1])
    for start in range(0, len(rows), length):
        some = rows[start : start + length]
        plane = scratch("planes", some.shape[::-1], rows.dtype)
        np.copyto(plane, some.T)
        store(target[start : start + length].T, plane)
