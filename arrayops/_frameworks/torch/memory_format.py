"""Tensors in torch's channels_last memory format: NCHW by their axes, NHWC by their memory.

An NCHW call with such a tensor becomes an NHWC call on permuted views, and its results are permuted back: nothing is
copied, and the results are in channels_last as well.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from arrayops._core.op import IMAGE, BackwardParameters, Op
from arrayops._frameworks.torch.private import suggest_memory_format

Compute = Callable[[Op, Sequence[Any], Any], Sequence[Any]]
"""``(op, tensors, parameters) -> tensors or None``."""


def may_be_channels_last(tensor: torch.Tensor) -> bool:
    """Whether a tensor may be in channels_last; a quick test that is False for almost all others."""
    if tensor.dim() != 4:
        return False
    _, channels, _, columns = tensor.stride()
    return bool(channels <= columns)


def in_memory_format(compute: Compute, op: Op, arrays: Sequence[Any], parameters: Any) -> Sequence[Any]:
    """``compute(op, arrays, parameters)``, in NHWC if an image or a weight is in channels_last."""
    for array in arrays:
        if array is not None and may_be_channels_last(array):
            return _in_nhwc(compute, op, arrays, parameters)
    return compute(op, arrays, parameters)


def _in_nhwc(compute: Compute, op: Op, arrays: Sequence[Any], parameters: Any) -> Sequence[Any]:
    """`in_memory_format` of a call in which an array may be in channels_last."""
    forward = parameters.forward if op.forward is not None else parameters
    if getattr(forward, "layout", None) != "NCHW":
        return compute(op, arrays, parameters)
    specs = op.specs(len(arrays))
    pairs = list(zip(specs, arrays, strict=True))
    if not any(_decides(spec, array) for spec, array in pairs):
        return compute(op, arrays, parameters)
    nhwc = forward._replace(layout="NHWC")
    views = [_permuted(array, spec.axes, spec.axes and spec.axes.to_nhwc) for spec, array in pairs]
    try:
        results = compute(op, views, nhwc if op.forward is None else BackwardParameters(nhwc, parameters.needs))
    except (TypeError, ValueError):
        results = None
    if results is None:
        # The error has the shapes of the views: the call itself raises it with those of the caller.
        return compute(op, arrays, parameters)
    axes = op.axes_of_results(len(results))
    return [_permuted(result, own, own and own.to_nchw) for result, own in zip(results, axes, strict=True)]


def _decides(spec: Any, array: Any) -> bool:
    """Whether the array makes the call one in channels_last, as input and weight of torch's convolutions do."""
    return (
        array is not None
        and spec.axes is not None
        and spec.kind == "float"
        and array.dim() == len(IMAGE.nchw)
        and may_be_channels_last(array)
        and suggest_memory_format(array) == torch.channels_last
    )


def _permuted(array: Any, axes: Any, order: Any) -> Any:
    return array.permute(order) if array is not None and axes is not None and array.dim() == len(order) else array
