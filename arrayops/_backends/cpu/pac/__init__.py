"""Pixel-adaptive operators by compiled kernels."""

from typing import Any

import numpy as np

from arrayops._backends.cpu.engine.choice import compiled_or
from arrayops._backends.cpu.engine.work import Work
from arrayops._backends.cpu.pac.backward import Backward, PacArrays
from arrayops._backends.cpu.pac.call import Call, convolution_call, kernel_call, pooling_call
from arrayops._backends.cpu.pac.forward import forward
from arrayops._backends.cpu.pac.geometry import kernel_strides
from arrayops._backends.cpu.window.arrays import Array, image_strides, whole
from arrayops._backends.numpy import pac as plain
from arrayops._backends.numpy.layouts import channels_first
from arrayops._backends.numpy.memory import empty, zeros
from arrayops._core.op import BackwardParameters
from arrayops._ops.images import image_shape
from arrayops._ops.pac import PacParameters

Results = tuple[Array | None, ...]


@compiled_or(plain.pac_kernel2d)
def pac_kernel2d(arrays: tuple[Any, ...], parameters: PacParameters) -> Results:
    """Adaptive kernel, and output mask."""
    call, layout = kernel_call(arrays, parameters), parameters.layout
    kernel = empty(call.kernel_shape, arrays[0].dtype)
    geometry = call.geometry._replace(kernel=kernel_strides(kernel, layout))
    call = call._replace(geometry=geometry, operands=call.operands._replace(kernel=kernel))
    return kernel, _run_forward(call, None, layout)


@compiled_or(plain.pac_kernel2d_backward)
def pac_kernel2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `pac_kernel2d`."""
    grad, guide, _, *options = arrays
    p, grad = parameters.forward, whole(grad)
    call = kernel_call(arrays[1:], p)
    geometry = call.geometry._replace(kernel=kernel_strides(grad, p.layout))
    given = PacArrays(guide=guide, options=options)
    found = Backward(call._replace(geometry=geometry), p, grad, parameters.needs, given).run()
    return found.guide, *found.options


@compiled_or(plain.pac_conv2d)
def pac_conv2d(arrays: tuple[Any, ...], parameters: PacParameters) -> Results:
    """Pixel-adaptive convolution, and output mask."""
    return _forward(convolution_call("pac_conv2d", arrays, parameters), parameters)


@compiled_or(plain.pac_conv2d_backward)
def pac_conv2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `pac_conv2d`."""
    return _convolution_backward("pac_conv2d", arrays, parameters)


@compiled_or(plain.pac_conv_transpose2d)
def pac_conv_transpose2d(arrays: tuple[Any, ...], parameters: PacParameters) -> Results:
    """Transposed pixel-adaptive convolution, and output mask."""
    return _forward(convolution_call("pac_conv_transpose2d", arrays, parameters), parameters)


@compiled_or(plain.pac_conv_transpose2d_backward)
def pac_conv_transpose2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `pac_conv_transpose2d`."""
    return _convolution_backward("pac_conv_transpose2d", arrays, parameters)


@compiled_or(plain.pac_pool2d)
def pac_pool2d(arrays: tuple[Any, ...], parameters: PacParameters) -> Results:
    """Pixel-adaptive pooling, and output mask."""
    return _forward(pooling_call(arrays, parameters), parameters)


@compiled_or(plain.pac_pool2d_backward)
def pac_pool2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `pac_pool2d`."""
    grad, samples, guide, kernel, _, *options = arrays
    p, grad = parameters.forward, whole(grad)
    call = pooling_call(arrays[1:], p)
    call = call._replace(geometry=call.geometry._replace(target=image_strides(grad, p.layout)))
    given = PacArrays(samples, guide, kernel=kernel, options=options)
    found = Backward(call, p, grad, parameters.needs, given).run()
    return found.input, found.guide, found.kernel, *found.options


def _convolution_backward(op: str, arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    grad, samples, guide, weight, bias, kernel, _, *options = arrays
    p, grad = parameters.forward, whole(grad)
    call = convolution_call(op, arrays[1:], p)
    call = call._replace(geometry=call.geometry._replace(target=image_strides(grad, p.layout)))
    given = PacArrays(samples, guide, weight, bias, kernel, options)
    found = Backward(call, p, grad, parameters.needs, given).run()
    return found.input, found.guide, found.weight, found.bias, found.kernel, *found.options


def _forward(call: Call, p: PacParameters) -> Results:
    assert call.operands.samples is not None
    output = empty(call.output_shape, call.operands.samples.dtype)
    call = call._replace(geometry=call.geometry._replace(target=image_strides(output, p.layout)))
    return output, _run_forward(call, output, p.layout)


def _run_forward(call: Call, output: Array | None, layout: str) -> Array | None:
    """Compute the output, or else the adaptive kernel; return the output mask of a call with a mask."""
    geometry, operands = call.geometry, call.operands
    mask = None
    if operands.mask is not None:
        mask = zeros(
            image_shape(geometry.images, 1, (geometry.axes[0].output, geometry.axes[1].output), layout), np.bool_
        )
    if geometry.images * geometry.axes[0].output * geometry.axes[1].output == 0:
        return mask
    plan = forward(geometry)
    if output is not None and plan.fill:
        bias = np.zeros((), output.dtype) if operands.bias is None else operands.bias[:, None, None]
        channels_first(output, layout)[...] = bias
    work = Work()
    work.add(plan.tasks(operands, output, mask), plan.nanoseconds, plan)
    work.run()
    return mask
