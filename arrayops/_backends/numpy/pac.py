"""Pixel-adaptive operators by NumPy: each tile computes its adaptive kernel and contracts it at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from arrayops._backends.numpy.adaptive import AdaptiveKernel
from arrayops._backends.numpy.layouts import channels_first, grouped_weight, kernel_channels_first, shared_filter
from arrayops._backends.numpy.memory import as_result, compute_dtype, empty, store, widened
from arrayops._backends.numpy.pac_backward import backward
from arrayops._backends.numpy.pac_call import Call, prepare
from arrayops._backends.numpy.pac_contraction import Channelwise, Contraction, Grouped
from arrayops._backends.numpy.pac_forward import Results, forward, kernel_forward
from arrayops._core.op import BackwardParameters
from arrayops._ops import images
from arrayops._ops import pac as records
from arrayops._ops.pac import PacParameters


def pac_kernel2d(arrays: tuple[Any, ...], parameters: PacParameters) -> Results:
    """Adaptive kernel, and output mask."""
    assert parameters.kernel_size is not None
    return kernel_forward(_kernel_call(arrays, parameters, backward=False), parameters.kernel_size, arrays[0])


def pac_kernel2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `pac_kernel2d`."""
    grad, *forward = arrays
    p = parameters.forward
    call = _kernel_call(tuple(forward), p, backward=True)
    found = backward(call, kernel_channels_first(grad, p.layout), parameters.needs)
    return found.guide, *found.adaptive_options(forward[-3:])


def pac_conv2d(arrays: tuple[Any, ...], parameters: PacParameters) -> Results:
    """Pixel-adaptive convolution, and output mask."""
    return forward(_convolution_call("pac_conv2d", arrays, parameters), arrays[0].dtype)


def pac_conv2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `pac_conv2d`."""
    return _convolution_backward("pac_conv2d", arrays, parameters)


def pac_conv_transpose2d(arrays: tuple[Any, ...], parameters: PacParameters) -> Results:
    """Transposed pixel-adaptive convolution, and output mask."""
    return forward(_convolution_call("pac_conv_transpose2d", arrays, parameters), arrays[0].dtype)


def pac_conv_transpose2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `pac_conv_transpose2d`."""
    return _convolution_backward("pac_conv_transpose2d", arrays, parameters)


def pac_pool2d(arrays: tuple[Any, ...], parameters: PacParameters) -> Results:
    """Pixel-adaptive pooling, and output mask."""
    return forward(_pooling_call(arrays, parameters), arrays[0].dtype)


def pac_pool2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `pac_pool2d`."""
    grad, *forward = arrays
    p = parameters.forward
    call = _pooling_call(tuple(forward), p, backward=True)
    found = backward(call, channels_first(grad, p.layout), parameters.needs)
    return found.input, found.guide, found.kernel, *found.adaptive_options(forward[-3:])


def _adaptive(p: PacParameters, guide: Any, options: Sequence[Any], dtype: "np.dtype[Any]") -> AdaptiveKernel | None:
    """What the adaptive kernel depends on beside the guide, None without one."""
    if guide is None:
        return None
    alpha, lambda_, smooth = options
    return AdaptiveKernel(
        dtype=dtype,
        channels=images.image(guide.shape, p.layout).channels,
        asymmetric=p.asymmetric,
        channel_wise=p.channel_wise,
        normalize=p.normalize,
        inv_alpha=None if alpha is None else widened(alpha, dtype).reshape(-1, 1),
        inv_lambda=None if lambda_ is None else widened(lambda_, dtype).reshape(-1, 1),
        smooth=None if smooth is None else widened(smooth, dtype),
    )


def _kernel_call(arrays: tuple[Any, ...], p: PacParameters, backward: bool) -> Call:
    guide, mask, *options = arrays
    size = images.image(guide.shape, p.layout).size
    axes = records.kernel_windows("pac_kernel2d", p, size)
    return prepare(
        p.layout,
        axes,
        size,
        guide=guide,
        adaptive=_adaptive(p, guide, options, compute_dtype(guide)),
        mask=mask,
        backward=backward,
    )


def _convolution_call(op: str, arrays: tuple[Any, ...], p: PacParameters, backward: bool = False) -> Call:
    samples, guide, weight, bias, kernel, mask, *options = arrays
    image = images.image(samples.shape, p.layout)
    axes = images.windows(op, p, images.weight_extents(weight.shape, p).kernel_size, image.size)
    dtype = compute_dtype(samples)
    contraction: Contraction
    if p.filters == "shared":
        plain = shared_filter(weight, p.layout, p.transposed)
        contraction = Channelwise(widened(plain, dtype), image.channels, dtype)
    else:
        ordered = grouped_weight(weight, p.layout, p.transposed, p.groups)
        contraction = Grouped(np.ascontiguousarray(widened(ordered, dtype)))
    return prepare(
        p.layout,
        axes,
        (axes[0].output, axes[1].output) if p.transposed else image.size,
        guide=guide,
        adaptive=_adaptive(p, guide, options, dtype),
        kernel=kernel,
        mask=mask,
        samples=samples,
        contraction=contraction,
        bias=bias,
        backward=backward,
    )


def _pooling_call(arrays: tuple[Any, ...], p: PacParameters, backward: bool = False) -> Call:
    samples, guide, kernel, mask, *options = arrays
    image = images.image(samples.shape, p.layout)
    assert p.kernel_size is not None
    dtype = compute_dtype(samples)
    axes = images.windows("pac_pool2d", p, p.kernel_size, image.size)
    return prepare(
        p.layout,
        axes,
        image.size,
        guide=guide,
        adaptive=_adaptive(p, guide, options, dtype),
        kernel=kernel,
        mask=mask,
        samples=samples,
        contraction=Channelwise(None, image.channels, dtype),
        backward=backward,
    )


def _convolution_backward(op: str, arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    grad, *forward = arrays
    p, needs = parameters.forward, parameters.needs
    call = _convolution_call(op, tuple(forward), p, backward=True)
    found = backward(call, channels_first(grad, p.layout), needs)
    weight, bias = forward[2], forward[3]
    grad_weight = grad_bias = None
    if found.weight is not None:
        grad_weight = empty(weight.shape, weight.dtype)
        if p.filters == "shared":
            view = shared_filter(grad_weight, p.layout, p.transposed)
        else:
            view = grouped_weight(grad_weight, p.layout, p.transposed, p.groups)
        store(view, found.weight)
    if found.bias is not None:
        grad_bias = as_result(found.bias, bias)
    return found.input, found.guide, grad_weight, grad_bias, found.kernel, *found.adaptive_options(forward[-3:])
