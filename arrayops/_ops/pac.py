"""Records of the pixel-adaptive operators: parameters, checks and shapes."""

from collections.abc import Callable
from typing import Any, NamedTuple

from arrayops._core import checks, dtypes, shapes
from arrayops._core.op import IMAGE, ArraySpec, Axes, Linearity, Meta, Metas, Op
from arrayops._core.opaque import cached_if_hashable
from arrayops._core.shapes import Axis, Padding, Pair
from arrayops._ops.conv import FILTER, TRANSPOSED_FILTER
from arrayops._ops.images import (
    cached,
    check_filter_and_bias,
    check_input_and_weight,
    check_weight,
    image,
    image_shape,
    weight_extents,
    windows,
)

KERNEL_TYPES = ("gaussian", "inv")
FROM_WEIGHT = object()


class PacParameters(NamedTuple):
    """Parameters of every pixel-adaptive operator, normalised.

    ``kernel_size`` is None for operators with a weight, whose shape determines it. ``filters`` is "grouped" (one filter
    per pair of input and output channels of a group), "shared" (one filter for all channels) or "none" (pooling).
    """

    kernel_size: Pair | None
    stride: Pair
    padding: Padding
    output_padding: Pair
    dilation: Pair
    layout: str
    transposed: bool
    kernel_type: str
    asymmetric: bool
    normalize: bool
    channel_wise: bool
    groups: int
    filters: str


def normalized_parameters(
    op: str,
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
    layout: str,
    kernel_type: Any,
    asymmetric: Any,
    normalize: Any = False,
    normalize_kernel: Any = False,
    kernel_size: Any = FROM_WEIGHT,
    output_padding: Any = 0,
    channel_wise: Any = False,
    transposed: Any = False,
    groups: Any = 1,
    shared_filters: Any = None,
) -> PacParameters:
    """Check and normalise the keyword arguments of the public function ``op``.

    ``normalize`` and ``normalize_kernel`` are the two public names of one option. ``kernel_size`` is `FROM_WEIGHT` for
    operators with a weight; ``shared_filters`` is None for operators without one.
    """
    filters = "none" if shared_filters is None else "grouped"
    if shared_filters is not None and checks.flag(op, "shared_filters", shared_filters):
        filters = "shared"
    added = shapes.pair(op, "output_padding", output_padding, 0)
    if not transposed and added != (0, 0):
        raise ValueError(f"{op}: output_padding is {output_padding!r}, expected 0 without transposed=True")
    return PacParameters(
        kernel_size=None if kernel_size is FROM_WEIGHT else shapes.pair(op, "kernel_size", kernel_size, 1),
        stride=shapes.pair(op, "stride", stride, 1),
        padding=shapes.padding(op, padding),
        output_padding=added,
        dilation=shapes.pair(op, "dilation", dilation, 1),
        layout=layout,
        transposed=checks.flag(op, "transposed", transposed),
        kernel_type=checks.choice(op, "kernel_type", kernel_type, KERNEL_TYPES),
        asymmetric=checks.flag(op, "asymmetric", asymmetric),
        normalize=checks.flag(op, "normalize", normalize) or checks.flag(op, "normalize_kernel", normalize_kernel),
        channel_wise=checks.flag(op, "channel_wise", channel_wise),
        groups=checks.count(op, "groups", groups),
        filters=filters,
    )


cached_parameters = cached(normalized_parameters)


def kernel_shape(batch: int, channels: int, kernel_size: Pair, size: Pair, layout: str) -> tuple[int, ...]:
    """Shape of an adaptive kernel in ``layout``."""
    if layout == "NCHW":
        return (batch, channels, *kernel_size, *size)
    return (batch, *size, *kernel_size, channels)


@cached_if_hashable
def kernel_windows(op: str, parameters: PacParameters, guide_size: Pair) -> tuple[Axis, Axis]:
    """Row and column windows of `pac_kernel2d`, derived from the guide's size only."""
    assert parameters.kernel_size is not None
    size = guide_size
    if parameters.transposed:
        rows, columns = (
            shapes.transposed_input_size(
                op,
                i,
                size[i],
                parameters.kernel_size[i],
                parameters.stride[i],
                parameters.dilation[i],
                parameters.padding,
                parameters.output_padding[i],
            )
            for i in (0, 1)
        )
        size = rows, columns
    return windows(op, parameters, parameters.kernel_size, size)


def check_mask(op: str, mask: Meta | None, batch: int, size: Pair, layout: str) -> None:
    """Check that a mask is bool, with one channel and the input's resolution."""
    if mask is not None:
        checks.dtype(op, "mask", mask, dtypes.BOOL, "(True where the input is valid)")
        checks.shape(op, "mask", mask, image_shape(batch, 1, size, layout), "as the input, with one channel")


def check_guide_dtype(op: str, name: str, meta: Meta, input_dtype: str) -> None:
    """Check that a guide or kernel has the input's dtype, or float32 with a half-precision input."""
    checks.floating(op, name, meta)
    if meta.dtype != input_dtype and not (input_dtype in dtypes.HALF and meta.dtype == dtypes.FLOAT32):
        allowed = f"{input_dtype} or float32" if input_dtype in dtypes.HALF else input_dtype
        raise TypeError(f"{op}: {name} is {meta.dtype}, expected {allowed} for an input of {input_dtype}")


def check_adaptive(
    op: str,
    parameters: PacParameters,
    guide: Meta,
    inv_alpha: Meta | None,
    inv_lambda: Meta | None,
    smooth_kernel: Meta | None,
) -> None:
    """Check the optional arrays of the adaptive kernel against the guide."""
    channels = image(guide.shape, parameters.layout).channels
    for name, meta in (("inv_alpha", inv_alpha), ("inv_lambda", inv_lambda)):
        if (meta is None) == (parameters.kernel_type == "inv"):
            got, expected = ("None", "an array") if meta is None else ("given", "None")
            raise ValueError(f"{op}: {name} is {got}, expected {expected} with kernel_type {parameters.kernel_type!r}")
        if meta is None:
            continue
        checks.dtype(op, name, meta, guide.dtype, "as the guide")
        allowed = ((), (1,), (channels,)) if parameters.channel_wise else ((), (1,))
        if meta.shape not in allowed:
            raise ValueError(f"{op}: {name} is {meta.shape}, expected {' or '.join(map(str, allowed))}")
    if smooth_kernel is not None:
        checks.axes(op, "smooth_kernel", smooth_kernel, "sh sw")
        checks.dtype(op, "smooth_kernel", smooth_kernel, guide.dtype, "as the guide")
        # In this form the check passes for sizes that are not known yet.
        if any(extent % 2 != 1 for extent in smooth_kernel.shape):
            raise ValueError(f"{op}: smooth_kernel is {smooth_kernel.shape}, expected odd sizes")


def infer_kernel(metas: Metas, parameters: PacParameters) -> Metas:
    """Shape rules of ``pac_kernel2d``."""
    op = "pac_kernel2d"
    guide, mask, inv_alpha, inv_lambda, smooth_kernel = metas
    if guide is None or parameters.kernel_size is None:
        raise TypeError(f"{op}: guide is None, expected an array")
    checks.axes(op, "guide", guide, " ".join(parameters.layout))
    checks.floating(op, "guide", guide)
    check_adaptive(op, parameters, guide, inv_alpha, inv_lambda, smooth_kernel)
    batch, channels, size = image(guide.shape, parameters.layout)
    rows, columns = kernel_windows(op, parameters, size)
    check_mask(op, mask, batch, (rows.size, columns.size), parameters.layout)
    output = rows.output, columns.output
    kernel = kernel_shape(
        batch, channels if parameters.channel_wise else 1, parameters.kernel_size, output, parameters.layout
    )
    return Meta(kernel, guide.dtype), output_mask(mask, batch, output, parameters.layout)


def output_mask(mask: Meta | None, batch: int, size: Pair, layout: str) -> Meta | None:
    """Meta of the output mask; None without a mask."""
    return None if mask is None else Meta(image_shape(batch, 1, size, layout), dtypes.BOOL)


def check_guide_or_kernel(
    op: str,
    parameters: PacParameters,
    input: Meta,
    kernel_size: Pair,
    guide: Meta | None,
    kernel: Meta | None,
    mask: Meta | None,
    options: tuple[Meta | None, Meta | None, Meta | None],
) -> Pair:
    """Check the guide, or the precomputed kernel, and the options of the adaptive kernel; return the output size."""
    batch, channels, size = image(input.shape, parameters.layout)
    rows, columns = windows(op, parameters, kernel_size, size)
    output = rows.output, columns.output
    if guide is not None and kernel is not None:
        raise ValueError(f"{op}: guide and kernel are both given, expected exactly one of them")
    if guide is not None:
        checks.axes(op, "guide", guide, " ".join(parameters.layout))
        check_guide_dtype(op, "guide", guide, input.dtype)
        guide_image = image(guide.shape, parameters.layout)
        if guide_image.batch != batch:
            raise ValueError(f"{op}: guide is {guide.shape}, expected batch {batch} of the input")
        expected, whose = (output, "output") if parameters.transposed else (size, "input")
        if guide_image.size != expected:
            raise ValueError(f"{op}: guide is {guide.shape}, expected height and width {expected} of the {whose}")
        if parameters.filters == "none" and parameters.channel_wise and guide_image.channels != channels:
            raise ValueError(
                f"{op}: guide is {guide.shape}, expected {channels} channels as the input with channel_wise"
            )
        check_adaptive(op, parameters, guide, *options)
        check_mask(op, mask, batch, size, parameters.layout)
    elif kernel is not None:
        optional_arrays = zip(("mask", "inv_alpha", "inv_lambda", "smooth_kernel"), (mask, *options), strict=True)
        settings = (
            ("normalize_kernel", parameters.normalize),
            ("asymmetric", parameters.asymmetric),
            ("kernel_type", parameters.kernel_type != "gaussian"),
        )
        for name, present in (*((name, meta is not None) for name, meta in optional_arrays), *settings):
            if present:
                raise ValueError(f"{op}: {name} is set, expected the default with kernel: pass it to pac_kernel2d")
        letters = "N G kh kw H W" if parameters.layout == "NCHW" else "N H W kh kw G"
        checks.axes(op, "kernel", kernel, letters)
        check_guide_dtype(op, "kernel", kernel, input.dtype)
        allowed = [kernel_shape(batch, 1, kernel_size, output, parameters.layout)]
        if parameters.filters == "none":
            per_channel = kernel_shape(batch, channels, kernel_size, output, parameters.layout)
            allowed = [per_channel] if parameters.channel_wise else [*allowed, per_channel]
        if kernel.shape not in allowed:
            raise ValueError(f"{op}: kernel is {kernel.shape}, expected {' or '.join(map(str, allowed))}")
    else:
        raise ValueError(f"{op}: guide and kernel are both None, expected exactly one of them")
    return output


def infer_conv(op: str, metas: Metas, parameters: PacParameters) -> Metas:
    """Shape rules of ``pac_conv2d`` and ``pac_conv_transpose2d``."""
    input, guide, weight, bias, kernel, mask, *options = metas
    input, weight = check_input_and_weight(op, parameters, input, weight)
    batch, channels, _ = image(input.shape, parameters.layout)
    outputs = check_filters(op, parameters, weight, channels)
    kernel_size = check_filter_and_bias(op, parameters, weight, bias, outputs)
    alpha, lambda_, smooth = options
    size = check_guide_or_kernel(op, parameters, input, kernel_size, guide, kernel, mask, (alpha, lambda_, smooth))
    output = Meta(image_shape(batch, outputs, size, parameters.layout), input.dtype)
    return output, output_mask(mask, batch, size, parameters.layout)


def check_filters(op: str, parameters: PacParameters, weight: Meta, channels: int) -> int:
    """Check the weight's channels against the input's; return the number of output channels."""
    if parameters.filters != "shared":
        return check_weight(op, parameters, weight, channels)
    inputs, outputs, _ = weight_extents(weight.shape, parameters)
    if parameters.groups != 1:
        raise ValueError(f"{op}: groups is {parameters.groups}, expected 1 with shared_filters")
    if (inputs, outputs) != (1, 1):
        raise ValueError(f"{op}: weight is {weight.shape}, expected one filter, 1 by 1 channels, with shared_filters")
    return channels


def infer_conv2d(metas: Metas, parameters: PacParameters) -> Metas:
    """Shape rules of ``pac_conv2d``."""
    return infer_conv("pac_conv2d", metas, parameters)


def infer_conv_transpose2d(metas: Metas, parameters: PacParameters) -> Metas:
    """Shape rules of ``pac_conv_transpose2d``."""
    return infer_conv("pac_conv_transpose2d", metas, parameters)


def infer_pool2d(metas: Metas, parameters: PacParameters) -> Metas:
    """Shape rules of ``pac_pool2d``."""
    op = "pac_pool2d"
    input, guide, kernel, mask, alpha, lambda_, smooth = metas
    if input is None or parameters.kernel_size is None:
        raise TypeError(f"{op}: input is None, expected an array")
    checks.axes(op, "input", input, " ".join(parameters.layout))
    checks.floating(op, "input", input)
    size = check_guide_or_kernel(
        op, parameters, input, parameters.kernel_size, guide, kernel, mask, (alpha, lambda_, smooth)
    )
    batch, channels, _ = image(input.shape, parameters.layout)
    return Meta(image_shape(batch, channels, size, parameters.layout), input.dtype), output_mask(
        mask, batch, size, parameters.layout
    )


KERNEL = Axes("NGhwHW", "NHWhwG")
GUIDE = ArraySpec("guide", optional=True, axes=IMAGE, stays_float32=True)
GIVEN_KERNEL = ArraySpec("kernel", optional=True, axes=KERNEL, stays_float32=True)
ADAPTIVE = (
    ArraySpec("mask", kind="mask", optional=True, differentiable=False, axes=IMAGE),
    ArraySpec("inv_alpha", optional=True, stays_float32=True),
    ArraySpec("inv_lambda", optional=True, stays_float32=True),
    ArraySpec("smooth_kernel", optional=True, stays_float32=True),
)
OUTPUTS = ("output", "output_mask")


def record(
    name: str,
    arrays: tuple[ArraySpec, ...],
    infer: Callable[[Metas, Any], Metas],
    linearity: Linearity | None,
    output: Axes = IMAGE,
) -> Op:
    """The record of a pixel-adaptive operator with an output and an output mask."""
    return Op(
        name,
        "pac",
        (*arrays, *ADAPTIVE),
        PacParameters,
        infer,
        OUTPUTS,
        result_axes=(output, IMAGE),
        linearity=linearity,
    )


def convolution(name: str, infer: Callable[[Metas, Any], Metas], weight: Axes) -> Op:
    """The record of a pixel-adaptive convolution."""
    arrays = (
        ArraySpec("input", axes=IMAGE),
        GUIDE,
        ArraySpec("weight", axes=weight),
        ArraySpec("bias", optional=True),
        GIVEN_KERNEL,
    )
    return record(name, arrays, infer, Linearity(("input", "weight", "kernel"), additive=("bias",)))


PAC_KERNEL2D = record("pac_kernel2d", (ArraySpec("guide", axes=IMAGE, stays_float32=True),), infer_kernel, None, KERNEL)
PAC_CONV2D = convolution("pac_conv2d", infer_conv2d, FILTER)
PAC_CONV_TRANSPOSE2D = convolution("pac_conv_transpose2d", infer_conv_transpose2d, TRANSPOSED_FILTER)
PAC_POOL2D = record(
    "pac_pool2d",
    (ArraySpec("input", axes=IMAGE), GUIDE, GIVEN_KERNEL),
    infer_pool2d,
    Linearity(("input", "kernel")),
)
OPS = (PAC_KERNEL2D, PAC_CONV2D, PAC_CONV_TRANSPOSE2D, PAC_POOL2D)
