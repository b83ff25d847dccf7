"""Convolutions by compiled kernels.

The gradient of a convolution's input is a transposed convolution, and the other way round: both operators, and the
gradients of their inputs, are correlations. The weight of a transposed convolution has the gradient of the convolution
back, with input and gradient of the output exchanged.
"""

from typing import Any

import numpy as np

from arrayops._backends.cpu.conv.channel_sums import channel_sums
from arrayops._backends.cpu.conv.correlation_kernels import correlation
from arrayops._backends.cpu.conv.geometry import Geometry
from arrayops._backends.cpu.conv.weight_gradient_kernels import weight_gradient
from arrayops._backends.cpu.engine.choice import compiled_or
from arrayops._backends.cpu.engine.work import Work
from arrayops._backends.cpu.window.arrays import Array, dtype_name, image_strides, whole
from arrayops._backends.numpy import conv as plain
from arrayops._backends.numpy.layouts import channels_first, exchanged, grouped_weight
from arrayops._backends.numpy.memory import empty
from arrayops._core.op import BackwardParameters
from arrayops._core.shapes import Axis
from arrayops._ops import images
from arrayops._ops.conv import ConvParameters

Axes = tuple[Axis, Axis]


@compiled_or(plain.conv2d)
def conv2d(arrays: tuple[Any, ...], parameters: ConvParameters) -> tuple[Array | None, ...]:
    """Convolution."""
    return _forward("conv2d", arrays, parameters)


@compiled_or(plain.conv2d_backward)
def conv2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> tuple[Array | None, ...]:
    """Gradients of `conv2d`."""
    return _backward("conv2d", arrays, parameters)


@compiled_or(plain.conv_transpose2d)
def conv_transpose2d(arrays: tuple[Any, ...], parameters: ConvParameters) -> tuple[Array | None, ...]:
    """Transposed convolution."""
    return _forward("conv_transpose2d", arrays, parameters)


@compiled_or(plain.conv_transpose2d_backward)
def conv_transpose2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> tuple[Array | None, ...]:
    """Gradients of `conv_transpose2d`."""
    return _backward("conv_transpose2d", arrays, parameters)


def _forward(op: str, arrays: tuple[Any, ...], p: ConvParameters) -> tuple[Array | None, ...]:
    samples, weight = whole(arrays[0]), whole(arrays[1])
    bias = None if arrays[2] is None else whole(arrays[2])
    work = _Work()
    ordered = grouped_weight(weight, p.layout, p.transposed, p.groups)
    output = work.correlate(samples, ordered, _axes(op, samples, weight, p), p.layout, bias)
    work.run()
    return (output,)


def _backward(op: str, arrays: tuple[Any, ...], parameters: BackwardParameters) -> tuple[Array | None, ...]:
    grad, samples, weight = whole(arrays[0]), whole(arrays[1]), whole(arrays[2])
    bias = arrays[3]
    p, needs = parameters.forward, parameters.needs
    axes = _axes(op, samples, weight, p)
    back = axes[0].reversed(), axes[1].reversed()
    grad_input = grad_weight = grad_bias = None
    work = _Work()
    if "input" in needs:
        ordered = exchanged(grouped_weight(weight, p.layout, p.transposed, p.groups))
        grad_input = work.correlate(grad, ordered, back, p.layout, None)
    if "weight" in needs:
        grad_weight = empty(weight.shape, weight.dtype)
        target = grouped_weight(grad_weight, p.layout, p.transposed, p.groups)
        if p.transposed:
            work.weight_gradient(grad, samples, exchanged(target), back, p.layout)
        else:
            work.weight_gradient(samples, grad, target, axes, p.layout)
    if bias is not None and "bias" in needs:
        grad_bias = empty(bias.shape, bias.dtype)
        work.channel_sums(grad, grad_bias, p.layout)
    work.run()
    return grad_input, grad_weight, grad_bias


class _Work(Work):
    """Work of a convolution."""

    def correlate(self, samples: Array, weight: Array, axes: Axes, layout: str, bias: Array | None) -> Array:
        """Images correlated with a weight (groups, kh, kw, inputs, outputs)."""
        groups, _, _, _, outputs = weight.shape
        size = axes[0].output, axes[1].output
        result = empty(images.image_shape(len(samples), groups * outputs, size, layout), samples.dtype)
        if result.size == 0:
            return result
        plan = None if samples.size == 0 else correlation(_geometry(samples, weight, axes, layout, result).collapsed())
        if plan is None or plan.fill:
            channels_first(result, layout)[...] = np.zeros((), result.dtype) if bias is None else bias[:, None, None]
        if plan is None:
            return result
        self.add(plan.tasks(samples, weight, bias, result), plan.geometry.nanoseconds, plan)
        return result

    def weight_gradient(self, samples: Array, grad: Array, target: Array, axes: Axes, layout: str) -> None:
        """The gradient of a weight (groups, kh, kw, inputs, outputs)."""
        if samples.size == 0 or grad.size == 0:
            target[...] = np.zeros((), target.dtype)
            return
        plan = weight_gradient(_geometry(samples, target, axes, layout, grad).collapsed())
        self.add(plan.tasks(samples, grad, target), plan.geometry.nanoseconds, plan)

    def channel_sums(self, grad: Array, target: Array, layout: str) -> None:
        """Sums over all axes but the channels."""
        if grad.size == 0:
            target[...] = np.zeros((), target.dtype)
            return
        self.add(channel_sums(channels_first(grad, layout), target), grad.size / 4)


def _axes(op: str, samples: Array, weight: Array, p: ConvParameters) -> Axes:
    size = images.image(samples.shape, p.layout).size
    return images.windows(op, p, images.weight_extents(weight.shape, p).kernel_size, size)


def _geometry(samples: Array, weight: Array, axes: Axes, layout: str, target: Array) -> Geometry:
    groups, _, _, inputs, outputs = weight.shape
    item, steps = samples.itemsize, weight.strides
    return Geometry(
        dtype=dtype_name(samples),
        itemsize=item,
        layout=layout,
        images=len(samples),
        groups=groups,
        inputs=inputs,
        outputs=outputs,
        axes=axes,
        source=image_strides(samples, layout),
        target=image_strides(target, layout),
        weight=(steps[0] // item, steps[1] // item, steps[2] // item, steps[3] // item, steps[4] // item),
    )
