"""segment_mean, segment_sum, segment_max, segment_min, segment_var, segment_count, segment_reduce and segment_unpool.

Loops over images, segments and channels on boolean masks, in float64 or Python integers, after DESIGN section 3.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def channels_last(array: np.ndarray, layout: str) -> np.ndarray:
    """Features (or pooled features) with the channels behind; those without images are so already."""
    return np.moveaxis(array, 1, -1) if layout == "NCHW" and array.ndim > 2 else array


def back(array: np.ndarray, layout: str) -> np.ndarray:
    return np.moveaxis(array, -1, 1) if layout == "NCHW" and array.ndim > 2 else array


def images(features: Any, labels: Any, layout: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """For each image its pixels' features (P, C), in float64 or Python's integers, and their labels (P,)."""
    exact = object if features.dtype.kind in "iu" else np.float64
    rows = channels_last(np.asarray(features), layout)
    flat = rows.reshape(labels.shape[0] if labels.ndim == 3 else 1, -1, rows.shape[-1]) if rows.size else None
    if flat is None:
        count = int(np.prod(labels.shape[-2:] if labels.ndim == 3 else labels.shape))
        flat = rows.reshape(labels.shape[0] if labels.ndim == 3 else 1, count, rows.shape[-1])
    return [image.astype(exact) for image in flat], list(labels.reshape(len(flat), flat.shape[1]))


def found_segments(labels: Any, ignore_label: int | None) -> int:
    kept = [int(label) for label in labels.ravel() if ignore_label is None or label != ignore_label]
    return max(kept, default=-1) + 1


def members(labels: np.ndarray, segment: int, ignore_label: int | None) -> np.ndarray:
    if ignore_label is not None and segment == ignore_label:
        return np.zeros(len(labels), bool)
    return np.array([int(label) == segment for label in labels], bool)


def one(reduction: str, values: np.ndarray, empty: Any) -> Any:
    """A reduction of the values of one segment and channel."""
    if reduction == "count":
        return len(values)
    if not len(values):
        return empty
    if reduction == "mean":
        return sum(values) / len(values)
    if reduction == "sum":
        return sum(values)
    if reduction == "var":
        mean = sum(values) / len(values)
        return sum((value - mean) ** 2 for value in values) / len(values)
    if any(value != value for value in values):
        return np.nan
    return max(values) if reduction == "max" else min(values)


def reduce(
    reduction: str,
    features: Any,
    labels: Any,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: Any = 0,
    check: Any = None,
    layout: str = "NCHW",
) -> np.ndarray:
    count = found_segments(labels, ignore_label) if num_segments is None else num_segments
    rows, names = images(features, labels, layout)
    channels = channels_last(features, layout).shape[-1]
    exact = object if features.dtype.kind in "iu" else np.float64
    found = np.empty((len(rows), count, channels), exact)
    for n, (image, own) in enumerate(zip(rows, names, strict=True)):
        for s in range(count):
            inside = image[members(own, s, ignore_label)]
            for c in range(channels):
                found[n, s, c] = one(reduction, inside[:, c], empty)
    if labels.ndim == 1:
        found = found[0]
    if reduction == "count":
        # The same for every channel.
        return segment_count(labels, count, ignore_label=ignore_label)
    return back(found, layout)


def segment_count(
    labels: Any, num_segments: int | None = None, *, ignore_label: int | None = None, check: Any = None
) -> np.ndarray:
    count = found_segments(labels, ignore_label) if num_segments is None else num_segments
    batch = labels if labels.ndim == 3 else labels[None]
    found = np.array(
        [[members(image.ravel(), s, ignore_label).sum() for s in range(count)] for image in batch], np.int64
    ).reshape(len(batch), count)
    return found if labels.ndim == 3 else found[0]


def positions(
    reduction: str,
    features: Any,
    labels: Any,
    num_segments: int,
    *,
    ignore_label: int | None = None,
    check: Any = None,
    layout: str = "NCHW",
) -> np.ndarray:
    """First pixel of each segment that attains its maximum or minimum, NaN before all others; -1 without pixels."""
    rows, names = images(features, labels, layout)
    first = {"max": np.argmax, "min": np.argmin}[reduction]
    found = np.full((len(rows), num_segments, channels_last(features, layout).shape[-1]), -1)
    for n, s, c in np.ndindex(*found.shape):
        inside = np.flatnonzero(members(names[n], s, ignore_label))
        if len(inside):
            # These functions return the first NaN, if there is one.
            found[n, s, c] = inside[first(rows[n][inside, c])]
    return back(found[0] if labels.ndim == 1 else found, layout)


def backward(
    reductions: dict[str, np.ndarray],
    features: Any,
    labels: Any,
    *,
    ignore_label: int | None = None,
    layout: str = "NCHW",
) -> np.ndarray:
    """Gradient of the features from those of some reductions, by name."""
    rows, names = images(features, labels, layout)
    gradient = [np.zeros(image.shape) for image in rows]
    for reduction, grad in reductions.items():
        upstream = channels_last(np.asarray(grad).astype(np.float64), layout)
        upstream = upstream[None] if labels.ndim == 1 else upstream
        for image, own, g, target in zip(rows, names, upstream, gradient, strict=True):
            for s in range(g.shape[0]):
                inside = np.flatnonzero(members(own, s, ignore_label))
                n = len(inside)
                for c in range(image.shape[1] if n else 0):
                    values = image[inside, c]
                    if reduction == "mean":
                        target[inside, c] += g[s, c] / n
                    elif reduction == "sum":
                        target[inside, c] += g[s, c]
                    elif reduction == "var":
                        target[inside, c] += 2 * g[s, c] * (values - values.sum() / n) / n
                    else:
                        best = one(reduction, values, 0)
                        first = next(i for i, v in enumerate(values) if v == best or (v != v and best != best))
                        target[inside[first], c] += g[s, c]
    shape = channels_last(np.empty(features.shape, np.int8), layout).shape
    return back(np.array(gradient).reshape(shape), layout)


def segment_unpool(
    pooled: Any, labels: Any, *, ignore_label: int | None = None, fill: Any = 0, check: Any = None, layout: str = "NCHW"
) -> np.ndarray:
    rows = channels_last(np.asarray(pooled), layout)
    rows = rows[None] if labels.ndim == 1 else rows
    batch = labels[None] if labels.ndim == 1 else labels
    found = np.empty((*batch.shape, rows.shape[-1]), pooled.dtype)
    for at in np.ndindex(*batch.shape):
        label = int(batch[at])
        named = 0 <= label < rows.shape[1] and (ignore_label is None or label != ignore_label)
        found[at] = rows[at[0], label] if named else fill
    return back(found[0] if labels.ndim == 1 else found, layout)


def segment_unpool_backward(
    grad: Any, labels: Any, segments: int, *, ignore_label: int | None = None, layout: str = "NCHW"
) -> np.ndarray:
    return reduce("sum", grad, labels, segments, ignore_label=ignore_label, layout=layout)
