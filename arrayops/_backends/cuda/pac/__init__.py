"""Pixel-adaptive operators on NVIDIA GPUs; counterpart of ``arrayops._backends.numpy.pac``."""

from typing import Any

from arrayops._backends.cuda.engine import memory
from arrayops._backends.cuda.engine.sums import channel_sums
from arrayops._backends.cuda.pac.call import PacCall
from arrayops._backends.cuda.pac.channelwise import channelwise
from arrayops._backends.cuda.pac.gradients import AdaptiveKernelGradients
from arrayops._backends.cuda.window.contraction import contract
from arrayops._backends.cuda.window.weight_gradient import grad_weight
from arrayops._core.op import BackwardParameters
from arrayops._ops import pac as records
from arrayops._ops.pac import PacParameters

Results = tuple[Any, ...]


def pac_kernel2d(arrays: tuple[Any, ...], parameters: PacParameters) -> Results:
    """Adaptive kernel, and output mask."""
    call = _kernel_call(arrays, parameters)
    plan = call.plan
    shape = records.kernel_shape(
        plan.batch, plan.kernel_channels, plan.kernel_size, plan.output_size, parameters.layout
    )
    result = memory.empty(shape, arrays[0].dtype)
    call.store_kernel(result)
    return result, call.output_mask


def pac_kernel2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `pac_kernel2d`."""
    grad, *forward_arrays = arrays
    call = _kernel_call(tuple(forward_arrays), parameters.forward)
    gradients = AdaptiveKernelGradients(call, grad, parameters.needs)
    return gradients.guide, gradients.inv_alpha, gradients.inv_lambda, gradients.smooth_kernel


def pac_conv2d(arrays: tuple[Any, ...], parameters: PacParameters) -> Results:
    """Pixel-adaptive convolution, and output mask."""
    return _forward(_convolution_call("pac_conv2d", arrays, parameters))


def pac_conv2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `pac_conv2d`."""
    return _convolution_backward("pac_conv2d", arrays, parameters)


def pac_conv_transpose2d(arrays: tuple[Any, ...], parameters: PacParameters) -> Results:
    """Transposed pixel-adaptive convolution, and output mask."""
    return _forward(_convolution_call("pac_conv_transpose2d", arrays, parameters))


def pac_conv_transpose2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `pac_conv_transpose2d`."""
    return _convolution_backward("pac_conv_transpose2d", arrays, parameters)


def pac_pool2d(arrays: tuple[Any, ...], parameters: PacParameters) -> Results:
    """Pixel-adaptive pooling, and output mask."""
    return _forward(_pooling_call(arrays, parameters))


def pac_pool2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `pac_pool2d`."""
    grad, *forward_arrays = arrays
    needs = parameters.needs
    call = _pooling_call(tuple(forward_arrays), parameters.forward)
    gradients = AdaptiveKernelGradients(call, grad, needs)
    grad_input = _grad_input(call, grad) if "input" in needs else None
    return (
        grad_input,
        gradients.guide,
        gradients.kernel,
        gradients.inv_alpha,
        gradients.inv_lambda,
        gradients.smooth_kernel,
    )


def _kernel_call(arrays: tuple[Any, ...], parameters: PacParameters) -> PacCall:
    guide, mask, *options = arrays
    return PacCall("pac_kernel2d", parameters, guide=guide, mask=mask, options=tuple(options))


def _convolution_call(op: str, arrays: tuple[Any, ...], parameters: PacParameters) -> PacCall:
    samples, guide, weight, bias, kernel, mask, *options = arrays
    return PacCall(
        op,
        parameters,
        guide=guide,
        mask=mask,
        options=tuple(options),
        samples=samples,
        weight=weight,
        bias=None if bias is None else memory.contiguous(bias),
        kernel=kernel,
    )


def _pooling_call(arrays: tuple[Any, ...], parameters: PacParameters) -> PacCall:
    samples, guide, kernel, mask, *options = arrays
    return PacCall(
        "pac_pool2d", parameters, guide=guide, mask=mask, options=tuple(options), samples=samples, kernel=kernel
    )


def _forward(call: PacCall) -> Results:
    plan = call.plan
    result = memory.empty(plan.output_shape, plan.dtype)
    if result.size:
        sums = contract if plan.filters == "grouped" else channelwise
        sums(call, call.samples, call.bias, result)
    return result, call.output_mask


def _grad_input(call: PacCall, grad: Any) -> Any:
    result = memory.empty(call.samples.shape, call.plan.dtype)
    if result.size:
        sums = contract if call.plan.filters == "grouped" else channelwise
        sums(call, grad, None, result, backward=True)
    return result


def _convolution_backward(op: str, arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    grad, *forward_arrays = arrays
    forward, needs = parameters.forward, parameters.needs
    call = _convolution_call(op, tuple(forward_arrays), forward)
    gradients = AdaptiveKernelGradients(call, grad, needs)
    return (
        _grad_input(call, grad) if "input" in needs else None,
        gradients.guide,
        grad_weight(call, grad) if "weight" in needs else None,
        channel_sums(grad, forward.layout, call.plan.accumulator)
        if call.bias is not None and "bias" in needs
        else None,
        gradients.kernel,
        gradients.inv_alpha,
        gradients.inv_lambda,
        gradients.smooth_kernel,
    )
