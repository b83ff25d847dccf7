"""Segment reductions on the CPU, and the way back from segments to pixels."""

from typing import Any

import numpy as np

from arrayops._backends.numpy.memory import Array, compute_dtype, empty, store
from arrayops._backends.numpy.segment_gradients import gradient
from arrayops._backends.numpy.segment_labels import Labels, count_pixels
from arrayops._backends.numpy.segment_labels import num_segments as num_segments
from arrayops._backends.numpy.segment_reduce import reduced
from arrayops._backends.numpy.segment_rows import pixel_rows, segment_rows
from arrayops._backends.numpy.segment_spread import spread
from arrayops._core.op import BackwardParameters
from arrayops._ops.segment import (
    DIFFERENTIABLE,
    REDUCTIONS,
    SAVED,
    SegmentParameters,
    UnpoolParameters,
    pooled_segments,
    saved_by,
    unpooled_shape,
)

Results = tuple[Array | None, ...]


def segment_mean(arrays: tuple[Any, ...], parameters: SegmentParameters) -> Results:
    """Mean of each segment."""
    return _one("segment_mean", arrays, parameters)


def segment_mean_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradient of `segment_mean`."""
    return _one_backward("segment_mean_backward", arrays, parameters)


def segment_sum(arrays: tuple[Any, ...], parameters: SegmentParameters) -> Results:
    """Sum of each segment."""
    return _one("segment_sum", arrays, parameters)


def segment_sum_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradient of `segment_sum`."""
    return _one_backward("segment_sum_backward", arrays, parameters)


def segment_max(arrays: tuple[Any, ...], parameters: SegmentParameters) -> Results:
    """Largest value of each segment."""
    return _one("segment_max", arrays, parameters)


def segment_max_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradient of `segment_max`."""
    return _one_backward("segment_max_backward", arrays, parameters)


def segment_min(arrays: tuple[Any, ...], parameters: SegmentParameters) -> Results:
    """Smallest value of each segment."""
    return _one("segment_min", arrays, parameters)


def segment_min_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradient of `segment_min`."""
    return _one_backward("segment_min_backward", arrays, parameters)


def segment_var(arrays: tuple[Any, ...], parameters: SegmentParameters) -> Results:
    """Variance of each segment."""
    return _one("segment_var", arrays, parameters)


def segment_var_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradient of `segment_var`."""
    return _one_backward("segment_var_backward", arrays, parameters)


def segment_count(arrays: tuple[Any, ...], parameters: SegmentParameters) -> Results:
    """Pixels of each segment."""
    (labels,) = arrays
    known = Labels("segment_count", labels, parameters.num_segments, parameters.ignore_label, parameters.check)
    counts = empty((*labels.shape[: labels.ndim // 3], parameters.num_segments), np.int64)
    counts.reshape(known.images, parameters.num_segments)[...] = count_pixels(known)[:, :-1]
    return (counts,)


def segment_reduce(arrays: tuple[Any, ...], parameters: SegmentParameters) -> Results:
    """Several reductions from one pass over the features."""
    found = reduced("segment_reduce", arrays, parameters)
    names = REDUCTIONS + (SAVED if parameters.save else ())
    return tuple(found.get(name) for name in names)


def segment_reduce_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradient of `segment_reduce`."""
    count = len(DIFFERENTIABLE)
    given = {name: grad for name, grad in zip(DIFFERENTIABLE, arrays[:count], strict=True) if grad is not None}
    features, labels, *saved = arrays[count:]
    return _gradient(
        "segment_reduce_backward", given, features, labels, parameters, dict(zip(SAVED, saved, strict=False))
    )


def segment_unpool(arrays: tuple[Any, ...], parameters: UnpoolParameters) -> Results:
    """Each pixel's value is its segment's."""
    pooled, labels = arrays
    p, rows = parameters, segment_rows(pooled, parameters.layout)
    known = Labels("segment_unpool", labels, rows.shape[1], p.ignore_label, p.check)
    result = empty(unpooled_shape(pooled.shape, labels.shape, p.layout), pooled.dtype)
    tables = empty((rows.shape[0], rows.shape[1] + 1, rows.shape[2]), pooled.dtype)
    tables[:, :-1] = rows
    if pooled.dtype.kind in "fV":
        with np.errstate(over="ignore"):
            store(tables[:, -1], np.full(tables[:, -1].shape, p.fill, compute_dtype(pooled)))
    else:
        tables[:, -1] = p.fill
    spread(tables, known, pixel_rows(result, p.layout))
    return (result,)


def segment_unpool_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradient of `segment_unpool`: the sum of each segment."""
    grad, pooled, labels = arrays
    p: UnpoolParameters = parameters.forward
    if "pooled" not in parameters.needs:
        return (None,)
    segments = pooled_segments(pooled.shape, p.layout)
    sums = SegmentParameters(("sum",), segments, p.ignore_label, 0, p.check, p.layout)
    return (reduced("segment_unpool_backward", (grad, labels), sums)["sum"],)


def _one(op: str, arrays: tuple[Any, ...], p: SegmentParameters) -> Results:
    return tuple(reduced(op, arrays, p).values())


def _one_backward(op: str, arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    grad, features, labels, *saved = arrays
    (reduction,) = parameters.forward.reductions
    names = saved_by(parameters.forward.reductions)
    return _gradient(op, {reduction: grad}, features, labels, parameters, dict(zip(names, saved, strict=False)))


def _gradient(
    op: str,
    grads: dict[str, Array],
    features: Array,
    labels: Array,
    parameters: BackwardParameters,
    saved: dict[str, Array | None],
) -> Results:
    if "features" not in parameters.needs:
        return (None,)
    known = {name: array for name, array in saved.items() if array is not None}
    return (gradient(op, grads, features, labels, parameters.forward, known),)
