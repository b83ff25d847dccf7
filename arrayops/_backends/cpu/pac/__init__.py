"""Pixel-adaptive operators by compiled kernels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arrayops._backends.cpu.conv.channel_sums import channel_sums
from arrayops._backends.cpu.engine.choice import compiled_or
from arrayops._backends.cpu.engine.work import Work
from arrayops._backends.cpu.pac.call import Call, convolution_call, kernel_call, pooling_call
from arrayops._backends.cpu.pac.forward import forward
from arrayops._backends.cpu.pac.geometry import kernel_strides
from arrayops._backends.cpu.pac.gradient import Found, Wanted, gradient, rounding
from arrayops._backends.cpu.pac.weight_gradient import weight_gradient
from arrayops._backends.cpu.window.arrays import Array, image_strides, whole
from arrayops._backends.numpy import pac as plain
from arrayops._backends.numpy.layouts import channels_first, grouped_weight, shared_filter
from arrayops._backends.numpy.memory import as_result, empty, store, zeros
from arrayops._core.op import BackwardParameters
from arrayops._ops.images import image_shape
from arrayops._ops.pac import PacParameters

Results = tuple[Array | None, ...]

OPTIONS = ("inv_alpha", "inv_lambda", "smooth_kernel")
"""The last three arrays of every operator, which shape its adaptive kernel."""


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
    found = _gradients(call._replace(geometry=geometry), p, grad, parameters.needs, guide=guide, options=options)
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
    found = _gradients(call, p, grad, parameters.needs, samples=samples, guide=guide, kernel=kernel, options=options)
    return found.input, found.guide, found.kernel, *found.options


def _convolution_backward(op: str, arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    grad, samples, guide, weight, bias, kernel, _, *options = arrays
    p, grad = parameters.forward, whole(grad)
    call = convolution_call(op, arrays[1:], p)
    call = call._replace(geometry=call.geometry._replace(target=image_strides(grad, p.layout)))
    found = _gradients(
        call,
        p,
        grad,
        parameters.needs,
        samples=samples,
        guide=guide,
        weight=weight,
        bias=bias,
        kernel=kernel,
        options=options,
    )
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
    work.add(plan.tasks(operands, output, mask), plan.workspace, geometry.nanoseconds)
    work.run()
    return mask


@dataclass
class Gradients:
    """Gradients of a call, None for those that are not made; those of the last three arrays are ``options``."""

    input: Array | None = None
    guide: Array | None = None
    weight: Array | None = None
    bias: Array | None = None
    kernel: Array | None = None
    options: tuple[Array | None, ...] = (None, None, None)


def _gradients(
    call: Call,
    p: PacParameters,
    grad: Array,
    needs: frozenset[str],
    *,
    samples: Array | None = None,
    guide: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    kernel: Array | None = None,
    options: Sequence[Array | None],
) -> Gradients:
    """The gradients that are needed, from that of the output, or of the adaptive kernel."""
    geometry, operands = call.geometry, call.operands
    found, work = Gradients(), Work()
    wanted_options = [name in needs and option is not None for name, option in zip(OPTIONS, options, strict=True)]
    rows, columns = geometry.axes
    empty_call = geometry.images * rows.output * columns.output == 0
    # Sums, and where they are rounded to.
    added: dict[str, Array] = {}
    if samples is not None and "input" in needs:
        added["input"] = zeros(samples.shape, geometry.accumulator)
    if guide is not None and ("guide" in needs or any(wanted_options)):
        added["guide"] = zeros(guide.shape, geometry.accumulator)
    if kernel is not None and "kernel" in needs:
        found.kernel = zeros(kernel.shape, kernel.dtype)
    shared = weight is not None and "weight" in needs and p.filters == "shared"
    if weight is not None and "weight" in needs:
        found.weight = empty(weight.shape, weight.dtype)
    sums = None
    if added or found.kernel is not None or shared:
        wanted = Wanted(
            input=image_strides(added["input"], p.layout) if "input" in added else None,
            guide=image_strides(added["guide"], p.layout) if "guide" in added else None,
            kernel=None if found.kernel is None else kernel_strides(found.kernel, p.layout),
            kernel_wide=geometry.kernel_wide,
            sums=shared or any(wanted_options),
        )
        if geometry.every_tap:
            wanted = wanted._replace(kernel=geometry.kernel)
        plan = gradient(geometry, wanted)
        if wanted.sums:
            sums = np.zeros(plan.sum_count)
        if not empty_call:
            arrays = Found(added.get("input"), added.get("guide"), found.kernel, sums)
            work.add(plan.tasks(operands, grad, arrays), plan.workspace, 2 * geometry.nanoseconds)
        for name, like in (("input", samples), ("guide", guide)):
            if name in added and name in needs and like is not None:
                setattr(found, name, _rounded(work, added[name], like.dtype))
        if sums is not None:
            values = sums[plan.alphas], sums[plan.lambdas], sums[plan.smooth]
    if found.weight is not None and not shared:
        target = grouped_weight(found.weight, p.layout, p.transposed, p.groups)
        if empty_call or target.size == 0:
            target[...] = np.zeros((), target.dtype)
        else:
            weights = weight_gradient(geometry)
            work.add(weights.tasks(operands, grad, target), weights.workspace, geometry.nanoseconds)
    if bias is not None and "bias" in needs:
        found.bias = empty(bias.shape, bias.dtype)
        if grad.size == 0:
            found.bias[...] = np.zeros((), bias.dtype)
        else:
            work.add(channel_sums(channels_first(grad, p.layout), found.bias), 0, grad.size / 4)
    work.run()
    if sums is not None:
        if shared and found.weight is not None:
            store(
                shared_filter(found.weight, p.layout, p.transposed),
                sums[plan.filter].reshape(rows.kernel, columns.kernel),
            )
        found.options = tuple(
            as_result(total.sum() if like.size == 1 else total, like) if wants and like is not None else None
            for wants, total, like in zip(wanted_options, (values[0], values[1], values[2]), options, strict=True)
        )
    return found


def _rounded(work: Work, sums: Array, dtype: "np.dtype[Any]") -> Array:
    """Sums in the dtype of the result, once the work is done."""
    if sums.dtype == dtype:
        return sums
    result = empty(sums.shape, dtype)
    if result.size:
        work.add([rounding(sums, result)], 0, sums.size)
    return result
