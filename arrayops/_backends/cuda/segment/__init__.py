"""Segment reductions on NVIDIA GPUs and their gradients; counterpart of ``arrayops._backends.numpy.segment``.

Pixels are first sorted by segment id, with integer operations only (`segment.order`). Features are then read once in
that order and summed over fixed ranges of it (`segment.reduction`). There are no floating-point atomics, and no
synchronization with the GPU unless labels are checked.
"""

from typing import Any

import numpy as np

from arrayops._backends.cuda.engine import memory
from arrayops._backends.cuda.segment.gather import unpool
from arrayops._backends.cuda.segment.gradients import gradient
from arrayops._backends.cuda.segment.labels import SegmentIds
from arrayops._backends.cuda.segment.labels import num_segments as num_segments
from arrayops._backends.cuda.segment.reduction import reduce_segments
from arrayops._core.dtypes import bfloat16_bits
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

Results = tuple[Any, ...]


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
    """Number of pixels of each segment."""
    (labels,) = arrays
    segment_ids = SegmentIds(
        "segment_count", labels, parameters.num_segments, parameters.ignore_label, parameters.check, counted=True
    )
    counts: Any = segment_ids.counts
    return (counts.reshape(*labels.shape[: labels.ndim // 3], parameters.num_segments),)


def segment_reduce(arrays: tuple[Any, ...], parameters: SegmentParameters) -> Results:
    """Several reductions in one pass over the features."""
    results = reduce_segments("segment_reduce", arrays, parameters)
    names = REDUCTIONS + (SAVED if parameters.save else ())
    return tuple(results.get(name) for name in names)


def segment_reduce_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradient of `segment_reduce`."""
    count = len(DIFFERENTIABLE)
    grads = {name: grad for name, grad in zip(DIFFERENTIABLE, arrays[:count], strict=True) if grad is not None}
    features, labels, *saved = arrays[count:]
    return _gradient(
        "segment_reduce_backward", grads, features, labels, parameters, dict(zip(SAVED, saved, strict=False))
    )


def segment_unpool(arrays: tuple[Any, ...], parameters: UnpoolParameters) -> Results:
    """Copy the value of each segment to its pixels."""
    pooled, labels = arrays
    segments = pooled_segments(pooled.shape, parameters.layout)
    segment_ids = SegmentIds("segment_unpool", labels, segments, parameters.ignore_label, parameters.check)
    result = memory.empty(unpooled_shape(pooled.shape, labels.shape, parameters.layout), pooled.dtype)
    unpool(memory.contiguous(pooled), segment_ids, result, parameters.layout, _item(parameters.fill, pooled.dtype))
    return (result,)


def segment_unpool_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradient of `segment_unpool`: the sum of each segment."""
    grad, pooled, labels = arrays
    forward: UnpoolParameters = parameters.forward
    if "pooled" not in parameters.needs:
        return (None,)
    segments = pooled_segments(pooled.shape, forward.layout)
    sums = SegmentParameters(("sum",), segments, forward.ignore_label, 0, forward.check, forward.layout)
    return (reduce_segments("segment_unpool_backward", (grad, labels), sums)["sum"],)


def _one(op: str, arrays: tuple[Any, ...], parameters: SegmentParameters) -> Results:
    return tuple(reduce_segments(op, arrays, parameters).values())


def _one_backward(op: str, arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    grad, features, labels, *saved = arrays
    (reduction,) = parameters.forward.reductions
    names = saved_by(parameters.forward.reductions)
    return _gradient(op, {reduction: grad}, features, labels, parameters, dict(zip(names, saved, strict=False)))


def _gradient(
    op: str,
    grads: dict[str, Any],
    features: Any,
    labels: Any,
    parameters: BackwardParameters,
    saved: dict[str, Any],
) -> Results:
    if "features" not in parameters.needs:
        return (None,)
    known = {name: array for name, array in saved.items() if array is not None}
    return (gradient(op, grads, features, labels, parameters.forward, known),)


def _item(value: float, dtype: "np.dtype[Any]") -> bytes:
    """The bytes of a number, rounded to ``dtype`` in the same way as in the CPU backend."""
    if dtype.kind in "iub" or dtype == np.float64:
        return np.array(value, dtype).tobytes()
    with np.errstate(over="ignore"):
        single = np.array(value, np.float32)
        return (bfloat16_bits(single).astype(np.uint16) if dtype.kind == "V" else single.astype(dtype)).tobytes()
