"""Calls of pixel-adaptive operators: their arrays as kernels take them, and their geometry."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.cpu.pac.geometry import FiveInts, Operands, PacGeometry, kernel_strides, mask_type
from arrayops._backends.cpu.window.arrays import Array, accumulator, dtype_name, image_strides, whole
from arrayops._backends.numpy.layouts import grouped_weight, kernel_channels_first, shared_filter
from arrayops._backends.numpy.memory import widened
from arrayops._core.shapes import Axis
from arrayops._ops import images
from arrayops._ops import pac as records
from arrayops._ops.pac import PacParameters


class Call(NamedTuple):
    """One call; its geometry is still without the output, or the kernel, that is the result."""

    geometry: PacGeometry
    operands: Operands
    output_shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]


def kernel_call(arrays: tuple[Any, ...], p: PacParameters) -> Call:
    """A call of ``pac_kernel2d``."""
    guide, mask, *options = arrays
    axes = records.kernel_windows("pac_kernel2d", p, images.image(guide.shape, p.layout).size)
    return _call(p, axes, dtype_name(guide), len(guide), (1, 0, 0), guide=guide, mask=mask, options=options)


def convolution_call(op: str, arrays: tuple[Any, ...], p: PacParameters) -> Call:
    """A call of ``pac_conv2d`` or ``pac_conv_transpose2d``."""
    samples, guide, weight, bias, kernel, mask, *options = arrays
    image = images.image(samples.shape, p.layout)
    axes = images.windows(op, p, images.weight_extents(weight.shape, p).kernel_size, image.size)
    if p.filters == "shared":
        ordered, channels = shared_filter(whole(weight), p.layout, p.transposed), (image.channels, 1, 1)
    else:
        ordered = grouped_weight(whole(weight), p.layout, p.transposed, p.groups)
        channels = p.groups, ordered.shape[3], ordered.shape[4]
    return _call(
        p,
        axes,
        dtype_name(samples),
        len(samples),
        channels,
        samples=samples,
        guide=guide,
        weight=ordered,
        bias=bias,
        kernel=kernel,
        mask=mask,
        options=options,
    )


def pooling_call(arrays: tuple[Any, ...], p: PacParameters) -> Call:
    """A call of ``pac_pool2d``."""
    samples, guide, kernel, mask, *options = arrays
    image = images.image(samples.shape, p.layout)
    assert p.kernel_size is not None
    axes = images.windows("pac_pool2d", p, p.kernel_size, image.size)
    channels = image.channels, 1, 1
    return _call(
        p,
        axes,
        dtype_name(samples),
        len(samples),
        channels,
        samples=samples,
        guide=guide,
        kernel=kernel,
        mask=mask,
        options=options,
    )


def _call(
    p: PacParameters,
    axes: tuple[Axis, Axis],
    dtype: str,
    batch: int,
    channels: tuple[int, int, int],
    *,
    samples: Array | None = None,
    guide: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    kernel: Array | None = None,
    mask: Array | None = None,
    options: Sequence[Any],
) -> Call:
    sums = accumulator(dtype)
    alpha, lambda_, smooth = (None if option is None else widened(option, sums) for option in options)
    if mask is not None:
        mask = _mask(mask, dtype)
    operands = Operands(
        samples=None if samples is None else whole(samples),
        guide=None if guide is None else whole(guide),
        mask=None if mask is None else whole(mask),
        kernel=None if kernel is None else whole(kernel),
        weight=weight,
        bias=None if bias is None else np.ascontiguousarray(widened(bias, sums)),
        alpha=_option(alpha),
        lambda_=_option(lambda_),
        smooth=None if smooth is None else _smoothing(smooth),
    )
    guides = None if guide is None else images.image(guide.shape, p.layout)
    width = guides.channels if guides is not None and p.channel_wise else 1
    if kernel is not None:
        width = kernel_channels_first(kernel, p.layout).shape[1]
    groups, inputs, outputs = channels
    geometry = PacGeometry(
        dtype=dtype,
        layout=p.layout,
        images=batch,
        axes=axes,
        groups=groups,
        inputs=inputs,
        outputs=outputs,
        source=_strides(operands.samples, p.layout),
        target=None,
        weight=_weight_strides(weight),
        filtered=weight is not None,
        guides=0 if guides is None else guides.channels,
        guide=_strides(operands.guide, p.layout),
        guide_size=(0, 0) if guides is None else guides.size,
        guide_wide=guide is not None and dtype_name(guide) != dtype,
        mask=_strides(operands.mask, p.layout),
        mask_type=mask_type(operands.mask, dtype),
        kernel=None if operands.kernel is None else kernel_strides(operands.kernel, p.layout),
        kernel_wide=kernel is not None and dtype_name(kernel) != dtype,
        kernel_channels=width,
        inverse=alpha is not None,
        alphas=1 if alpha is None else alpha.size,
        lambdas=1 if lambda_ is None else lambda_.size,
        asymmetric=p.asymmetric,
        normalize=p.normalize,
        smooth=None if smooth is None else smooth.shape,
        every_tap=samples is None,
    )
    size = axes[0].output, axes[1].output
    kernel_size = axes[0].kernel, axes[1].kernel
    return Call(
        geometry,
        operands,
        images.image_shape(batch, groups * outputs, size, p.layout),
        records.kernel_shape(batch, width, kernel_size, size, p.layout),
    )


def _mask(mask: Array, dtype: str) -> Array:
    """A mask of a dtype that kernels read: bytes, the dtype of the samples, or that of sums."""
    if mask.dtype.kind in "biu":
        return mask if mask.dtype.itemsize == 1 else mask != 0
    return mask if dtype_name(mask) == dtype else widened(mask, accumulator(dtype))


def _option(values: Array | None) -> Array | None:
    """One value, or one a channel; kernels read the first even of no channels."""
    if values is None:
        return None
    return np.ascontiguousarray(values.reshape(-1)) if values.size else np.zeros(1, values.dtype)


def _smoothing(weights: Array) -> Array:
    """The weights of a smoothing kernel, and by how much their sum exceeds 1, without an error of the sum."""
    values = weights.reshape(-1).tolist()
    return np.array([*values, math.fsum([*values, -1.0])])


def _strides(array: Array | None, layout: str) -> tuple[int, int, int, int] | None:
    return None if array is None else image_strides(array, layout)


def _weight_strides(weight: Array | None) -> FiveInts | None:
    if weight is None or weight.ndim == 2:
        return None
    group, row, column, input, output = (stride // weight.itemsize for stride in weight.strides)
    return group, row, column, input, output
