"""Convolutions on the CPU: windows of a tile side by side, and products with the weights of each group.

The gradient of a convolution's input is a transposed convolution, and the other way round. So both operators, and both
gradients of their inputs, are one function: `_correlate`. Their weights have one gradient too: the transposed
convolution's is that of the convolution back, with input and gradient of the output exchanged.
"""

from types import ModuleType
from typing import Any

import numpy as np

from arrayops._backends.numpy import banded, correlation, depthwise, direct, pointwise
from arrayops._backends.numpy.blocks import Compute, Work, run_works
from arrayops._backends.numpy.layouts import channels_first, exchanged, grouped_weight
from arrayops._backends.numpy.memory import Array, compute_dtype, empty, load, store, widened
from arrayops._backends.numpy.scratch import Scratch
from arrayops._core.op import BackwardParameters
from arrayops._core.shapes import Axis
from arrayops._ops import images
from arrayops._ops.conv import ConvParameters

Axes = tuple[Axis, Axis]
SMALL, MULTIPLICATIONS = 1 << 17, 1 << 24
"""Values of all arrays, and multiplications, of a convolution for which waking a thread takes longer than it saves."""

Correlated = tuple[Array, Work]
"""A result, and the work that fills it."""


def conv2d(arrays: tuple[Any, ...], parameters: ConvParameters) -> tuple[Array | None, ...]:
    """Convolution."""
    return _forward("conv2d", arrays, parameters)


def conv2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> tuple[Array | None, ...]:
    """Gradients of `conv2d`."""
    return _backward("conv2d", arrays, parameters)


def conv_transpose2d(arrays: tuple[Any, ...], parameters: ConvParameters) -> tuple[Array | None, ...]:
    """Transposed convolution."""
    return _forward("conv_transpose2d", arrays, parameters)


def conv_transpose2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> tuple[Array | None, ...]:
    """Gradients of `conv_transpose2d`."""
    return _backward("conv_transpose2d", arrays, parameters)


def _forward(op: str, arrays: tuple[Any, ...], p: ConvParameters) -> tuple[Array | None, ...]:
    samples, weight, bias = arrays
    ordered = grouped_weight(weight, p.layout, p.transposed, p.groups)
    output, work = _correlate(samples, ordered, _axes(op, samples, weight, p), p.layout, bias)
    run_works(work, small=_small(samples, output, weight, p.layout))
    return (output,)


def _backward(op: str, arrays: tuple[Any, ...], parameters: BackwardParameters) -> tuple[Array | None, ...]:
    grad, samples, weight, bias = arrays
    p, needs = parameters.forward, parameters.needs
    axes = _axes(op, samples, weight, p)
    back = axes[0].reversed(), axes[1].reversed()
    grad_input = grad_weight = grad_bias = None
    works = []
    if "input" in needs:
        ordered = exchanged(grouped_weight(weight, p.layout, p.transposed, p.groups))
        grad_input, work = _correlate(grad, ordered, back, p.layout)
        works.append(work)
    if "weight" in needs:
        grad_weight = empty(weight.shape, weight.dtype)
        target = grouped_weight(grad_weight, p.layout, p.transposed, p.groups)
        if p.transposed:
            works.append(_weight_gradient(grad, samples, exchanged(target), back, p.layout))
        else:
            works.append(_weight_gradient(samples, grad, target, axes, p.layout))
    if bias is not None and "bias" in needs:
        grad_bias = empty(bias.shape, bias.dtype)
        works.append(_channel_sums(channels_first(grad, p.layout), grad_bias))
    # A run of its own for each would make the threads wait for each other three times.
    run_works(*works, small=_small(samples, grad, weight, p.layout))
    return grad_input, grad_weight, grad_bias


def _small(samples: Array, outputs: Array, weight: Array, layout: str) -> bool:
    """Whether a convolution of ``samples`` to ``outputs``, or back, takes no longer than waking a thread."""
    # Every value of a weight is multiplied once for each window, of which there are as many as there are pixels left.
    windows = min(array.size // max(1, channels_first(array, layout).shape[1]) for array in (samples, outputs))
    return samples.size + outputs.size + weight.size <= SMALL and windows * weight.size <= MULTIPLICATIONS


def _axes(op: str, samples: Array, weight: Array, p: ConvParameters) -> Axes:
    size = images.image(samples.shape, p.layout).size
    return images.windows(op, p, images.weight_extents(weight.shape, p).kernel_size, size)


def _correlate(samples: Array, weight: Array, axes: Axes, layout: str, bias: Array | None = None) -> Correlated:
    """Images correlated with a weight (groups, kh, kw, inputs, outputs), over samples or over stuffed zeros."""
    groups, _, _, _, outputs = weight.shape
    size = axes[0].output, axes[1].output
    result = empty(images.image_shape(len(samples), groups * outputs, size, layout), samples.dtype)
    if _depthwise(samples, weight, axes, layout):
        dtype = compute_dtype(samples)
        filters = np.ascontiguousarray(widened(weight[..., 0, 0].transpose(1, 2, 0), dtype))
        work = depthwise.correlate(samples, filters, axes, None if bias is None else widened(bias, dtype), result)
    else:
        source, target = channels_first(samples, layout), channels_first(result, layout)
        work = _way(source, weight, axes).correlate(source, weight, axes, bias, target)
    return result, work


def _way(samples: Array, weight: Array, axes: Axes) -> ModuleType:
    """The quickest way of planes."""
    inputs, outputs = weight.shape[3:]
    if inputs == 1 and banded.serves(samples, axes, outputs):
        return banded
    return direct if direct.serves(samples, axes, (inputs, outputs)) else correlation


def _weight_gradient(samples: Array, grad: Array, target: Array, axes: Axes, layout: str) -> Work:
    """Work that stores the gradient of a convolution's weight in ``target`` (groups, kh, kw, inputs, outputs)."""
    if _depthwise(samples, target, axes, layout):
        return depthwise.weight_gradient(samples, grad, target[..., 0, 0].transpose(1, 2, 0), axes)
    if layout == "NHWC" and pointwise.serves(samples, grad, target, axes):
        return pointwise.weight_gradient(samples, grad, target)
    return correlation.weight_gradient(channels_first(samples, layout), channels_first(grad, layout), target, axes)


def _depthwise(samples: Array, weight: Array, axes: Axes, layout: str) -> bool:
    """Whether every channel has a filter of its own, and channels lie side by side."""
    if layout != "NHWC" or weight.shape[3:] != (1, 1):
        return False
    return samples.size > 0 and depthwise.serves(samples.shape[3], axes)


def _channel_sums(images: Array, target: Array) -> Work:
    """Work that stores the sum of (N, C, H, W) for each channel in ``target``."""
    sums = np.zeros(images.shape[1])
    if len(images) == 0:
        target[...] = 0

    def begin(scratch: Scratch) -> Compute:
        def compute(index: int) -> Array:
            plain = scratch("channels", images.shape[1:], compute_dtype(images))
            load(plain, images[index])
            found: Array = plain.sum(axis=(1, 2), dtype=np.float64)
            return found

        return compute

    def commit(index: int, found: Array) -> None:
        np.add(sums, found, out=sums)
        if index == len(images) - 1:
            store(target, sums)

    return Work(len(images), begin, commit)
