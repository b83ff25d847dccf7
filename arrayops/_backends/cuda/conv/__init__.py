"""Convolutions on NVIDIA GPUs; counterpart of ``arrayops._backends.numpy.conv``.

Convolutions of few channels in each group, above all depthwise, are memory-bound and computed by `direct_sums`. All
others use the contraction of the pixel-adaptive convolution, without its adaptive kernel (`contract`).
"""

from typing import Any

from arrayops._backends.cuda.conv.call import ConvCall
from arrayops._backends.cuda.conv.direct import direct_sums, direct_weight_grad, is_direct
from arrayops._backends.cuda.engine import memory
from arrayops._backends.cuda.engine.sums import channel_sums
from arrayops._backends.cuda.window.contraction import contract
from arrayops._backends.cuda.window.weight_gradient import grad_weight
from arrayops._core.op import BackwardParameters
from arrayops._ops.conv import ConvParameters

Results = tuple[Any, ...]


def conv2d(arrays: tuple[Any, ...], parameters: ConvParameters) -> Results:
    """Convolution."""
    return _forward("conv2d", arrays, parameters)


def conv2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `conv2d`."""
    return _backward("conv2d", arrays, parameters)


def conv_transpose2d(arrays: tuple[Any, ...], parameters: ConvParameters) -> Results:
    """Transposed convolution."""
    return _forward("conv_transpose2d", arrays, parameters)


def conv_transpose2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `conv_transpose2d`."""
    return _backward("conv_transpose2d", arrays, parameters)


def _forward(op: str, arrays: tuple[Any, ...], parameters: ConvParameters) -> Results:
    samples, weight, bias = arrays
    call = ConvCall(op, parameters, samples, weight)
    result = memory.empty(call.plan.output_shape, call.plan.dtype)
    if result.size:
        sums = direct_sums if is_direct(call.plan) else contract
        sums(call, samples, None if bias is None else memory.contiguous(bias), result)
    return (result,)


def _backward(op: str, arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    grad, samples, weight, bias = arrays
    forward, needs = parameters.forward, parameters.needs
    call = ConvCall(op, forward, samples, weight)
    use_direct = is_direct(call.plan)
    grad_input = weight_gradient = grad_bias = None
    if "input" in needs:
        grad_input = memory.empty(samples.shape, call.plan.dtype)
        if grad_input.size:
            (direct_sums if use_direct else contract)(call, grad, None, grad_input, backward=True)
    if "weight" in needs:
        weight_gradient = (direct_weight_grad if use_direct else grad_weight)(call, grad)
    if bias is not None and "bias" in needs:
        grad_bias = channel_sums(grad, forward.layout, call.plan.accumulator)
    return grad_input, weight_gradient, grad_bias
