"""Records of the convolutions: parameters, checks and shapes."""

from collections.abc import Callable
from typing import Any, NamedTuple

from arrayops._core import checks, shapes
from arrayops._core.op import IMAGE, ArraySpec, Axes, Linearity, Meta, Metas, Op
from arrayops._core.shapes import Padding, Pair
from arrayops._ops.images import (
    cached,
    check_filter_and_bias,
    check_input_and_weight,
    check_weight,
    image,
    image_shape,
    windows,
)


class ConvParameters(NamedTuple):
    """Parameters of every convolution, normalised."""

    stride: Pair
    padding: Padding
    output_padding: Pair
    dilation: Pair
    layout: str
    transposed: bool
    groups: int


def normalized_parameters(
    op: str,
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
    layout: str,
    groups: Any,
    output_padding: Any = 0,
    transposed: bool = False,
) -> ConvParameters:
    """Check and normalise the keyword arguments of the public function ``op``."""
    return ConvParameters(
        stride=shapes.pair(op, "stride", stride, 1),
        padding=shapes.padding(op, padding),
        output_padding=shapes.pair(op, "output_padding", output_padding, 0),
        dilation=shapes.pair(op, "dilation", dilation, 1),
        layout=layout,
        transposed=transposed,
        groups=checks.count(op, "groups", groups),
    )


cached_parameters = cached(normalized_parameters)


def infer(op: str, metas: Metas, parameters: ConvParameters) -> Metas:
    """Shape rules of ``conv2d`` and ``conv_transpose2d``."""
    input, weight, bias = metas
    input, weight = check_input_and_weight(op, parameters, input, weight)
    batch, channels, size = image(input.shape, parameters.layout)
    outputs = check_weight(op, parameters, weight, channels)
    rows, columns = windows(op, parameters, check_filter_and_bias(op, parameters, weight, bias, outputs), size)
    return (Meta(image_shape(batch, outputs, (rows.output, columns.output), parameters.layout), input.dtype),)


def infer_conv2d(metas: Metas, parameters: ConvParameters) -> Metas:
    """Shape rules of ``conv2d``."""
    return infer("conv2d", metas, parameters)


def infer_conv_transpose2d(metas: Metas, parameters: ConvParameters) -> Metas:
    """Shape rules of ``conv_transpose2d``."""
    return infer("conv_transpose2d", metas, parameters)


FILTER = Axes("OIhw", "hwIO")
TRANSPOSED_FILTER = Axes("IOhw", "hwOI")
LINEAR = Linearity(("input", "weight"), additive=("bias",))


def record(name: str, infer: Callable[[Metas, Any], Metas], weight: Axes) -> Op:
    """The record of a convolution."""
    arrays = (ArraySpec("input", axes=IMAGE), ArraySpec("weight", axes=weight), ArraySpec("bias", optional=True))
    return Op(name, "conv", arrays, ConvParameters, infer, result_axes=(IMAGE,), linearity=LINEAR)


CONV2D = record("conv2d", infer_conv2d, FILTER)
CONV_TRANSPOSE2D = record("conv_transpose2d", infer_conv_transpose2d, TRANSPOSED_FILTER)
OPS = (CONV2D, CONV_TRANSPOSE2D)
