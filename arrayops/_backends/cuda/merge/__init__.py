"""Resizing and merging on NVIDIA GPUs; counterpart of ``arrayops._backends.numpy.merge``.

Maps are resized directly into the result. Gradients are gathered: each element is computed by one thread.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from arrayops._backends.cuda.engine import memory
from arrayops._backends.cuda.merge.resize import Samplings, copy, resize
from arrayops._backends.cuda.merge.tables import is_identity
from arrayops._core.op import BackwardParameters
from arrayops._ops.images import image, image_shape
from arrayops._ops.merge import (
    MergeParameters,
    Parameters,
    ResizeParameters,
    concatenated,
    flattened,
    merged_size,
    resized,
    samplings,
)

Results = tuple[Any, ...]


def resize2d(arrays: tuple[Any, ...], parameters: ResizeParameters) -> Results:
    """Resizing."""
    (source,) = arrays
    extents = image(source.shape, parameters.layout)
    output = memory.empty(
        image_shape(extents.batch, extents.channels, resized("resize2d", parameters, extents.size), parameters.layout),
        source.dtype,
    )
    _resize(source, output, parameters)
    return (output,)


def resize2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradient of `resize2d`."""
    grad, source = arrays
    if not parameters.needs:
        return (None,)
    grad_source = memory.empty(source.shape, source.dtype)
    _resize_back(grad, grad_source, parameters.forward)
    return (grad_source,)


def merge_feature_maps(arrays: tuple[Any, ...], parameters: MergeParameters) -> Results:
    """Merging."""
    images = [image(source.shape, parameters.layout) for source in arrays]
    size = merged_size(parameters, [extents.size for extents in images])
    channels = sum(extents.channels for extents in images) if parameters.how == "concat" else images[0].channels
    output = memory.empty(image_shape(images[0].batch, channels, size, parameters.layout), arrays[0].dtype)
    if parameters.how == "concat":
        for source, view in zip(arrays, _channel_views(output, arrays, parameters.layout), strict=True):
            _resize(source, view, parameters)
    elif parameters.how == "flat":
        *views, rest = _flat_views(output, arrays, parameters.layout)
        for source, view in zip(arrays, views, strict=True):
            copy(source, view, parameters.layout)
        copy(None, rest, parameters.layout)
    else:
        reduction = "max" if parameters.how == "max" else "add"
        factor = 1 / len(arrays) if parameters.how == "mean" else 1.0
        resize(
            arrays,
            _samplings(arrays, output, parameters),
            output,
            parameters.layout,
            reduction=reduction,
            factor=factor,
        )
    return (output,)


def merge_feature_maps_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `merge_feature_maps`."""
    grad, *maps = arrays
    forward: MergeParameters = parameters.forward
    if not parameters.needs:
        return (None,) * len(maps)
    gradients = [memory.empty(source.shape, source.dtype) for source in maps]
    if forward.how == "flat":
        for view, target in zip(
            _flat_views(memory.contiguous(grad), gradients, forward.layout), gradients, strict=False
        ):
            copy(view, target, forward.layout)
    elif forward.how == "concat":
        for view, target in zip(_channel_views(grad, maps, forward.layout), gradients, strict=True):
            _resize_back(view, target, forward)
    elif forward.how == "max":
        argmax = memory.empty(grad.shape, np.dtype(np.uint8 if len(maps) <= 256 else np.int32))
        pairs = _samplings(maps, grad, forward)
        resize(maps, pairs, argmax, forward.layout, reduction="argmax")
        for number, target in enumerate(gradients):
            resize(
                [grad], pairs[number : number + 1], target, forward.layout, back=True, argmax=argmax, map_index=number
            )
    else:
        for target in gradients:
            _resize_back(grad, target, forward, 1 / len(maps) if forward.how == "mean" else 1.0)
    return tuple(gradients)


def _resize(source: Any, target: Any, parameters: Parameters) -> None:
    (pair,) = pairs = _samplings([source], target, parameters)
    if is_identity(pair):
        copy(source, target, parameters.layout)
    else:
        resize([source], pairs, target, parameters.layout)


def _resize_back(grad: Any, target: Any, parameters: Parameters, factor: float = 1.0) -> None:
    """Write the gradient of a map that was resized to the size of ``grad``."""
    (pair,) = pairs = _samplings([target], grad, parameters)
    if factor == 1 and is_identity(pair):
        copy(grad, target, parameters.layout)
    else:
        resize([grad], pairs, target, parameters.layout, back=True, factor=factor)


def _samplings(maps: Sequence[Any], merged: Any, parameters: Parameters) -> tuple[Samplings, ...]:
    """Samplings of rows and columns from each map to the result."""
    size = image(merged.shape, parameters.layout).size
    return tuple(samplings(parameters, image(source.shape, parameters.layout).size, size) for source in maps)


def _channel_views(merged: Any, maps: Sequence[Any], layout: str) -> list[Any]:
    """The channels of each map in the concatenated result."""
    return [merged[index] for index in concatenated([source.shape for source in maps], layout)]


def _flat_views(folded: Any, maps: Sequence[Any], layout: str) -> list[Any]:
    """Views of a contiguous flat result: one for each map, of its shape, and last the elements that no map fills."""
    split = flattened(folded.shape, [source.shape for source in maps], layout)
    flat = folded.reshape(split.shape)
    return [flat[index].reshape(shape) for index, shape in split.parts]
