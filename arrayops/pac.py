"""Pixel-adaptive convolution, transposed convolution and pooling (Su et al., CVPR 2019).

A pixel-adaptive convolution (PAC) is a convolution whose weights are scaled at every pixel by an *adaptive kernel* K,
computed from a guide image. K is small where the guide differs from its value at the centre of the window, so that the
filter preserves the edges of the guide.
"""

from collections.abc import Iterable
from typing import Any, Generic, NamedTuple, overload

from numpy.typing import NDArray

from arrayops._call.dispatch import dispatch, dispatch_backward
from arrayops._call.layout import resolved_layout
from arrayops._ops.pac import (
    PAC_CONV2D,
    PAC_CONV_TRANSPOSE2D,
    PAC_KERNEL2D,
    PAC_POOL2D,
    cached_parameters,
)
from arrayops._typing import (
    Array,
    ArrayT,
    GuideScalarT,
    GuideT,
    KernelType,
    Layout,
    MaskedOutput,
    MaskT,
    Padding,
    ScalarT,
    Size,
)


class PacKernel2dGradients(NamedTuple, Generic[ArrayT]):
    """Gradients of `pac_kernel2d`; None for arrays that were not passed or are not in ``needs``."""

    guide: ArrayT | None
    inv_alpha: ArrayT | None
    inv_lambda: ArrayT | None
    smooth_kernel: ArrayT | None


class PacConv2dGradients(NamedTuple, Generic[ArrayT, GuideT]):
    """Gradients of `pac_conv2d` and `pac_conv_transpose2d`; None for arrays not passed or not in ``needs``."""

    input: ArrayT | None
    guide: GuideT | None
    weight: ArrayT | None
    bias: ArrayT | None
    kernel: GuideT | None
    inv_alpha: GuideT | None
    inv_lambda: GuideT | None
    smooth_kernel: GuideT | None


class PacPool2dGradients(NamedTuple, Generic[ArrayT, GuideT]):
    """Gradients of `pac_pool2d`; None for arrays that were not passed or are not in ``needs``."""

    input: ArrayT | None
    guide: GuideT | None
    kernel: GuideT | None
    inv_alpha: GuideT | None
    inv_lambda: GuideT | None
    smooth_kernel: GuideT | None


@overload
def pac_kernel2d(
    guide: NDArray[ScalarT],
    kernel_size: Size,
    *,
    mask: None = None,
    normalize: bool = False,
    channel_wise: bool = False,
    transposed: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: Array | None = None,
    inv_lambda: Array | None = None,
    asymmetric: bool = False,
    smooth_kernel: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
) -> NDArray[ScalarT]: ...
@overload
def pac_kernel2d(
    guide: NDArray[ScalarT],
    kernel_size: Size,
    *,
    mask: MaskT,
    normalize: bool = False,
    channel_wise: bool = False,
    transposed: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: Array | None = None,
    inv_lambda: Array | None = None,
    asymmetric: bool = False,
    smooth_kernel: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
) -> MaskedOutput[NDArray[ScalarT], MaskT]: ...
@overload
def pac_kernel2d(
    guide: ArrayT,
    kernel_size: Size,
    *,
    mask: None = None,
    normalize: bool = False,
    channel_wise: bool = False,
    transposed: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: Array | None = None,
    inv_lambda: Array | None = None,
    asymmetric: bool = False,
    smooth_kernel: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
) -> ArrayT: ...
@overload
def pac_kernel2d(
    guide: ArrayT,
    kernel_size: Size,
    *,
    mask: MaskT,
    normalize: bool = False,
    channel_wise: bool = False,
    transposed: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: Array | None = None,
    inv_lambda: Array | None = None,
    asymmetric: bool = False,
    smooth_kernel: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
) -> MaskedOutput[ArrayT, MaskT]: ...
def pac_kernel2d(
    guide: Array,
    kernel_size: Size,
    *,
    mask: Array | None = None,
    normalize: bool = False,
    channel_wise: bool = False,
    transposed: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: Array | None = None,
    inv_lambda: Array | None = None,
    asymmetric: bool = False,
    smooth_kernel: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
) -> Any:
    """Adaptive kernel of a guide image, for reuse as ``kernel`` in several calls of the other PAC functions.

    With f the guide, stride s, dilation d, padding p, at output pixel (y, x) and tap (i, j)::

        K[i, j, y, x] = exp(-1/2 * sum over g of (f[g, y s + i d - p, x s + j d - p] - f_centre[g]) ** 2)

    where f_centre is f at the centre tap (kh // 2, kw // 2), and f is 0 outside the image.

    Parameters
    ----------
    guide : array, (N, G, H, W)
        Guide features, float16, bfloat16, float32 or float64. They are not normalised: scale
        them so that a difference of 1 is a significant difference. NHWC: (N, H, W, G).
    kernel_size : int or pair of int
        Height and width of the filter.
    mask : array of bool, (N, 1, H, W), optional
        True where the input is valid. It has the resolution of the input, even if ``transposed``. NHWC: (N, H, W, 1).
    normalize : bool, default False
        Divide K by its sum over the valid taps, and set K to 0 at the others. A tap is valid if it reads an input pixel
        that is not masked out: not padding, and not a zero inserted by a transposed convolution. Without ``normalize``
        and ``mask``, K is computed at every tap.
    channel_wise : bool, default False
        Compute one kernel per guide channel, without the sum over g.
    transposed : bool, default False
        Compute the kernel for `pac_conv_transpose2d`: the guide has the resolution of the output, with a centred
        window and stride 1; ``stride``, ``padding`` and ``output_padding`` determine which taps read input pixels.
    kernel_type : {"gaussian", "inv"}, default "gaussian"
        "inv" is ``inv_alpha + (sum over g of (...) ** 2 + 1e-4) ** (inv_lambda / 2)`` instead of the exponential.
    inv_alpha, inv_lambda : array, () or (1,), or (G,) with ``channel_wise``; dtype of the guide
        Parameters of the "inv" kernel; required for "inv", not allowed otherwise.
    asymmetric : bool, default False
        Apply max(0, .) to each difference before squaring.
    smooth_kernel : array, (sh, sw), both odd, dtype of the guide, optional
        Replace f_centre by the guide at the centre tap, filtered (cross-correlated) with this kernel.
    stride, dilation, output_padding : int or pair of int, default 1, 1, 0
        Step of the window, spacing of the taps, and output padding (only with ``transposed``).
    padding : int, pair, pair of pairs ((top, bottom), (left, right)), "SAME" or "VALID", default 0
        As in `pac_conv2d`.
    layout : {"NCHW", "NHWC", "channels_first", "channels_last"}, optional
        Order of the axes: NCHW (channels_first) as in PyTorch, or NHWC (channels_last) as in TensorFlow. By default
        NHWC for TensorFlow arrays, ``keras.config.image_data_format()`` for KerasTensors, and NCHW for all others.

    Returns
    -------
    array, (N, 1 or G, kh, kw, Ho, Wo), or (N, Ho, Wo, kh, kw, 1 or G) in NHWC
        K, with the dtype, framework and device of the guide. With ``mask``, a named tuple (output, output_mask): K is
        scaled by (taps inside the image) / (of these, taps not masked out) unless ``normalize``, and ``output_mask``,
        bool, (N, 1, Ho, Wo), is False where no valid tap is left; K is 0 there.

    Raises
    ------
    TypeError
        If dtypes or frameworks do not match.
    ValueError
        If shapes do not match or a keyword has an invalid value.

    See Also
    --------
    pac_kernel2d_backward : gradients.

    References
    ----------
    H. Su et al., "Pixel-Adaptive Convolutional Neural Networks", CVPR 2019, equation 3.

    Examples
    --------
    A guide with a step edge between columns 1 and 2, and the kernel at column 1:

    >>> import numpy as np
    >>> import arrayops as ao
    >>> guide = np.array([[[[0.0, 0.0, 2.0, 2.0]]]])
    >>> kernel = ao.pac_kernel2d(guide, (1, 3), padding=(0, 1))
    >>> kernel.shape
    (1, 1, 1, 3, 1, 4)
    >>> kernel[0, 0, 0, :, 0, 1].round(4)
    array([1.    , 1.    , 0.1353])
    """
    parameters = cached_parameters(
        "pac_kernel2d",
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        layout=resolved_layout("pac_kernel2d", layout, guide),
        transposed=transposed,
        kernel_type=kernel_type,
        asymmetric=asymmetric,
        normalize=normalize,
        channel_wise=channel_wise,
    )
    return _result(dispatch(PAC_KERNEL2D, (guide, mask, inv_alpha, inv_lambda, smooth_kernel), parameters))


@overload
def pac_kernel2d_backward(
    grad_output: Array,
    guide: NDArray[ScalarT],
    kernel_size: Size,
    *,
    mask: Array | None = None,
    normalize: bool = False,
    channel_wise: bool = False,
    transposed: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: NDArray[ScalarT] | None = None,
    inv_lambda: NDArray[ScalarT] | None = None,
    asymmetric: bool = False,
    smooth_kernel: NDArray[ScalarT] | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> PacKernel2dGradients[NDArray[ScalarT]]: ...
@overload
def pac_kernel2d_backward(
    grad_output: Array,
    guide: ArrayT,
    kernel_size: Size,
    *,
    mask: Array | None = None,
    normalize: bool = False,
    channel_wise: bool = False,
    transposed: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: ArrayT | None = None,
    inv_lambda: ArrayT | None = None,
    asymmetric: bool = False,
    smooth_kernel: ArrayT | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> PacKernel2dGradients[ArrayT]: ...
def pac_kernel2d_backward(
    grad_output: Array,
    guide: Array,
    kernel_size: Size,
    *,
    mask: Array | None = None,
    normalize: bool = False,
    channel_wise: bool = False,
    transposed: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: Array | None = None,
    inv_lambda: Array | None = None,
    asymmetric: bool = False,
    smooth_kernel: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> PacKernel2dGradients[Any]:
    """Gradients of `pac_kernel2d`.

    Parameters
    ----------
    grad_output : array
        Gradient of the kernel, with the shape and dtype of the kernel.
    guide, kernel_size, mask, normalize, channel_wise, transposed, kernel_type, inv_alpha, inv_lambda, asymmetric, \
smooth_kernel, stride, padding, output_padding, dilation, layout
        As passed to `pac_kernel2d`.
    needs : iterable of str, optional
        Names of the gradients to compute (fields of the result). By default, all.

    Returns
    -------
    PacKernel2dGradients
        Named tuple (guide, inv_alpha, inv_lambda, smooth_kernel), each with the shape and dtype of its array, or None.

    Raises
    ------
    TypeError, ValueError
        Same as `pac_kernel2d`; also ValueError for unknown names in ``needs``.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> guide = np.array([[[[0.0, 0.0, 2.0, 2.0]]]])
    >>> ones = np.ones((1, 1, 1, 3, 1, 4))
    >>> ao.pac_kernel2d_backward(ones, guide, (1, 3), padding=(0, 1)).guide.round(4)
    array([[[[ 0.    ,  0.5413, -0.5413, -0.2707]]]])
    """
    parameters = cached_parameters(
        "pac_kernel2d_backward",
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        layout=resolved_layout("pac_kernel2d_backward", layout, guide),
        transposed=transposed,
        kernel_type=kernel_type,
        asymmetric=asymmetric,
        normalize=normalize,
        channel_wise=channel_wise,
    )
    arrays = (guide, mask, inv_alpha, inv_lambda, smooth_kernel)
    return PacKernel2dGradients(*dispatch_backward(PAC_KERNEL2D, (grad_output,), arrays, parameters, needs))


@overload
def pac_conv2d(
    input: ArrayT,
    guide: Array | None,
    weight: Array,
    bias: Array | None = None,
    *,
    kernel: Array | None = None,
    mask: None = None,
    normalize_kernel: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: Array | None = None,
    inv_lambda: Array | None = None,
    asymmetric: bool = False,
    smooth_kernel: Array | None = None,
    groups: int = 1,
    shared_filters: bool = False,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
) -> ArrayT: ...
@overload
def pac_conv2d(
    input: ArrayT,
    guide: Array | None,
    weight: Array,
    bias: Array | None = None,
    *,
    kernel: Array | None = None,
    mask: MaskT,
    normalize_kernel: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: Array | None = None,
    inv_lambda: Array | None = None,
    asymmetric: bool = False,
    smooth_kernel: Array | None = None,
    groups: int = 1,
    shared_filters: bool = False,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
) -> MaskedOutput[ArrayT, MaskT]: ...
def pac_conv2d(
    input: Array,
    guide: Array | None,
    weight: Array,
    bias: Array | None = None,
    *,
    kernel: Array | None = None,
    mask: Array | None = None,
    normalize_kernel: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: Array | None = None,
    inv_lambda: Array | None = None,
    asymmetric: bool = False,
    smooth_kernel: Array | None = None,
    groups: int = 1,
    shared_filters: bool = False,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
) -> Any:
    """Pixel-adaptive convolution: a convolution whose weights are scaled at every pixel by a kernel of guide features.

    With x the input, W the weight, K the adaptive kernel of the guide (see `pac_kernel2d`), stride s, dilation d::

        y[o, h, w] = b[o] + sum over i, j of K[i, j, h, w]
                     * sum over c of W[o, c, i, j] x[c, h s + i d - top, w s + j d - left]

    K is computed on the fly and never stored at full size. With a constant guide this is `conv2d`.

    Parameters
    ----------
    input : array, (N, C, H, W), or (N, H, W, C) in NHWC
        float16, bfloat16, float32 or float64; half precision is accumulated in float32.
    guide : array, (N, G, H, W), or (N, H, W, G) in NHWC; or None with ``kernel``
        Guide features, same dtype as the input; float32 is also allowed if the input is half precision.
    weight : array, (O, C / groups, kh, kw), or (kh, kw, C / groups, O) in NHWC
        Filter, same dtype as the input.
    bias : array, (O,), optional
        Same dtype as the input.
    kernel : array, (N, 1, kh, kw, Ho, Wo), or (N, Ho, Wo, kh, kw, 1) in NHWC, optional
        K as returned by `pac_kernel2d`, instead of ``guide``. Options that affect K are then not allowed.
    mask : array of bool, (N, 1, H, W), or (N, H, W, 1) in NHWC, optional
        True where the input is valid. Masked-out pixels, also NaN, are treated as 0, and the kernel is rescaled.
    normalize_kernel : bool, default False
        Normalise K, see ``normalize`` of `pac_kernel2d`.
    kernel_type, inv_alpha, inv_lambda, asymmetric, smooth_kernel
        As in `pac_kernel2d`.
    groups : int, default 1
        Number of groups, as in PyTorch and ONNX: each output channel depends only on the input channels of its group.
    shared_filters : bool, default False
        One filter for every channel: weight (1, 1, kh, kw), or (kh, kw, 1, 1) in NHWC; O = C, groups 1.
    stride, dilation : int or pair of int, default 1
        Step of the window between outputs, and spacing of the filter taps.
    padding : int, pair, pair of pairs ((top, bottom), (left, right)), "SAME" or "VALID", default 0
        Zero padding. "SAME" pads as TensorFlow and ONNX (SAME_UPPER) do, for any stride; lower case is accepted too.
    layout : {"NCHW", "NHWC", "channels_first", "channels_last"}, optional
        Order of the axes: NCHW (channels_first) as in PyTorch, or NHWC (channels_last) as in TensorFlow. By default
        NHWC for TensorFlow arrays, ``keras.config.image_data_format()`` for KerasTensors, and NCHW for all others.

    Returns
    -------
    array, (N, O, Ho, Wo), or (N, Ho, Wo, O) in NHWC
        Same dtype, framework and device as the input; Ho = (H + top + bottom - (kh - 1) d - 1) // s + 1, or
        ceil(H / s) with "SAME". With ``mask``, a named tuple (output, output_mask); output_mask, bool, (N, 1, Ho, Wo),
        is False where the window contains no valid pixel; the output there is the bias.

    Raises
    ------
    TypeError
        If dtypes or frameworks do not match.
    ValueError
        If shapes do not match or a keyword has an invalid value.

    See Also
    --------
    pac_conv2d_backward : gradients.

    References
    ----------
    H. Su et al., "Pixel-Adaptive Convolutional Neural Networks", CVPR 2019, equations 3 and 4.

    Examples
    --------
    A box filter that does not blur across an edge of the guide:

    >>> import numpy as np
    >>> import arrayops as ao
    >>> image = np.array([[[[1.0, 2.0, 8.0, 9.0]]]])
    >>> guide = np.array([[[[0.0, 0.0, 9.0, 9.0]]]])
    >>> ao.pac_conv2d(image, guide, np.ones((1, 1, 1, 3)), padding=(0, 1), normalize_kernel=True)
    array([[[[1.5, 1.5, 8.5, 8.5]]]])
    """
    parameters = cached_parameters(
        "pac_conv2d",
        stride=stride,
        padding=padding,
        dilation=dilation,
        layout=resolved_layout("pac_conv2d", layout, input),
        kernel_type=kernel_type,
        asymmetric=asymmetric,
        normalize_kernel=normalize_kernel,
        groups=groups,
        shared_filters=shared_filters,
    )
    arrays = (input, guide, weight, bias, kernel, mask, inv_alpha, inv_lambda, smooth_kernel)
    return _result(dispatch(PAC_CONV2D, arrays, parameters))


@overload
def pac_conv2d_backward(
    grad_output: Array,
    input: NDArray[ScalarT],
    guide: NDArray[GuideScalarT] | None,
    weight: NDArray[ScalarT],
    bias: NDArray[ScalarT] | None = None,
    *,
    kernel: NDArray[GuideScalarT] | None = None,
    mask: Array | None = None,
    normalize_kernel: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: NDArray[GuideScalarT] | None = None,
    inv_lambda: NDArray[GuideScalarT] | None = None,
    asymmetric: bool = False,
    smooth_kernel: NDArray[GuideScalarT] | None = None,
    groups: int = 1,
    shared_filters: bool = False,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> PacConv2dGradients[NDArray[ScalarT], NDArray[GuideScalarT]]: ...
@overload
def pac_conv2d_backward(
    grad_output: Array,
    input: ArrayT,
    guide: GuideT | None,
    weight: ArrayT,
    bias: ArrayT | None = None,
    *,
    kernel: GuideT | None = None,
    mask: Array | None = None,
    normalize_kernel: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: GuideT | None = None,
    inv_lambda: GuideT | None = None,
    asymmetric: bool = False,
    smooth_kernel: GuideT | None = None,
    groups: int = 1,
    shared_filters: bool = False,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> PacConv2dGradients[ArrayT, GuideT]: ...
def pac_conv2d_backward(
    grad_output: Array,
    input: Array,
    guide: Array | None,
    weight: Array,
    bias: Array | None = None,
    *,
    kernel: Array | None = None,
    mask: Array | None = None,
    normalize_kernel: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: Array | None = None,
    inv_lambda: Array | None = None,
    asymmetric: bool = False,
    smooth_kernel: Array | None = None,
    groups: int = 1,
    shared_filters: bool = False,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> PacConv2dGradients[Any, Any]:
    """Gradients of `pac_conv2d`.

    Parameters
    ----------
    grad_output : array
        Gradient of the output, with the shape and dtype of the output.
    input, guide, weight, bias, kernel, mask, normalize_kernel, kernel_type, inv_alpha, inv_lambda, asymmetric, \
smooth_kernel, groups, shared_filters, stride, padding, dilation, layout
        As passed to `pac_conv2d`.
    needs : iterable of str, optional
        Names of the gradients to compute (fields of the result). By default, all.

    Returns
    -------
    PacConv2dGradients
        Named tuple (input, guide, weight, bias, kernel, inv_alpha, inv_lambda, smooth_kernel), each with the shape
        and dtype of its array, or None.

    Raises
    ------
    TypeError, ValueError
        Same as `pac_conv2d`; also ValueError for unknown names in ``needs``.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> image = np.array([[[[1.0, 2.0, 8.0, 9.0]]]])
    >>> guide = np.array([[[[0.0, 0.0, 9.0, 9.0]]]])
    >>> weight = np.ones((1, 1, 1, 3))
    >>> gradients = ao.pac_conv2d_backward(np.ones_like(image), image, guide, weight, padding=(0, 1), needs=["weight"])
    >>> gradients.weight.round(4)
    array([[[[ 9., 20., 11.]]]])
    >>> gradients.input is None
    True
    """
    parameters = cached_parameters(
        "pac_conv2d_backward",
        stride=stride,
        padding=padding,
        dilation=dilation,
        layout=resolved_layout("pac_conv2d_backward", layout, input),
        kernel_type=kernel_type,
        asymmetric=asymmetric,
        normalize_kernel=normalize_kernel,
        groups=groups,
        shared_filters=shared_filters,
    )
    arrays = (input, guide, weight, bias, kernel, mask, inv_alpha, inv_lambda, smooth_kernel)
    return PacConv2dGradients(*dispatch_backward(PAC_CONV2D, (grad_output,), arrays, parameters, needs))


@overload
def pac_conv_transpose2d(
    input: ArrayT,
    guide: Array | None,
    weight: Array,
    bias: Array | None = None,
    *,
    kernel: Array | None = None,
    mask: None = None,
    normalize_kernel: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: Array | None = None,
    inv_lambda: Array | None = None,
    asymmetric: bool = False,
    smooth_kernel: Array | None = None,
    groups: int = 1,
    shared_filters: bool = False,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
) -> ArrayT: ...
@overload
def pac_conv_transpose2d(
    input: ArrayT,
    guide: Array | None,
    weight: Array,
    bias: Array | None = None,
    *,
    kernel: Array | None = None,
    mask: MaskT,
    normalize_kernel: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: Array | None = None,
    inv_lambda: Array | None = None,
    asymmetric: bool = False,
    smooth_kernel: Array | None = None,
    groups: int = 1,
    shared_filters: bool = False,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
) -> MaskedOutput[ArrayT, MaskT]: ...
def pac_conv_transpose2d(
    input: Array,
    guide: Array | None,
    weight: Array,
    bias: Array | None = None,
    *,
    kernel: Array | None = None,
    mask: Array | None = None,
    normalize_kernel: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: Array | None = None,
    inv_lambda: Array | None = None,
    asymmetric: bool = False,
    smooth_kernel: Array | None = None,
    groups: int = 1,
    shared_filters: bool = False,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
) -> Any:
    """Transposed pixel-adaptive convolution: upsampling guided by an image at the output resolution.

    ``stride - 1`` zeros are inserted between input pixels, and the result is cross-correlated with the spatially
    flipped weight, scaled at every output pixel by the adaptive kernel of the guide (see `pac_kernel2d` with
    ``transposed``). The inserted zeros are skipped, not computed. With a constant guide this is `conv_transpose2d`.

    Parameters
    ----------
    input : array, (N, C, H, W), or (N, H, W, C) in NHWC
        float16, bfloat16, float32 or float64; half precision is accumulated in float32.
    guide : array, (N, G, Ho, Wo), or (N, Ho, Wo, G) in NHWC; or None with ``kernel``
        Guide features at the resolution of the output, same dtype as the input; float32 is also
        allowed if the input is half precision.
    weight : array, (C, O / groups, kh, kw), or (kh, kw, O / groups, C) in NHWC
        Filter, same dtype as the input; axes as in PyTorch and TensorFlow.
    bias : array, (O,), optional
        Same dtype as the input.
    kernel : array, (N, 1, kh, kw, Ho, Wo), or (N, Ho, Wo, kh, kw, 1) in NHWC, optional
        K as returned by `pac_kernel2d` with ``transposed=True``, instead of ``guide``. Options that affect K are then
        not allowed.
    mask : array of bool, (N, 1, H, W), or (N, H, W, 1) in NHWC, optional
        True where the input is valid. Masked-out pixels, also NaN, are treated as 0, and the kernel is rescaled.
    normalize_kernel, kernel_type, inv_alpha, inv_lambda, asymmetric, smooth_kernel, groups, shared_filters
        As in `pac_conv2d`.
    stride, dilation : int or pair of int, default 1
        Upsampling factor, and spacing of the filter taps.
    padding : int, pair, pair of pairs ((top, bottom), (left, right)), "SAME" or "VALID", default 0
        Rows and columns cropped from the output, as in PyTorch. With "SAME" the output is H * stride by W * stride, as
        in TensorFlow.
    output_padding : int or pair of int, default 0
        Rows added at the bottom and columns added at the right of the output; less than the larger of stride and
        dilation, and 0 with "SAME".
    layout : {"NCHW", "NHWC", "channels_first", "channels_last"}, optional
        Order of the axes: NCHW (channels_first) as in PyTorch, or NHWC (channels_last) as in TensorFlow. By default
        NHWC for TensorFlow arrays, ``keras.config.image_data_format()`` for KerasTensors, and NCHW for all others.

    Returns
    -------
    array, (N, O, Ho, Wo), or (N, Ho, Wo, O) in NHWC
        Same dtype, framework and device as the input; Ho = (H - 1) s - top - bottom + (kh - 1) d + output_padding
        + 1, or H s with "SAME". With ``mask``, a named tuple (output, output_mask), as for `pac_conv2d`.

    Raises
    ------
    TypeError
        If dtypes or frameworks do not match.
    ValueError
        If shapes do not match or a keyword has an invalid value.

    See Also
    --------
    pac_conv_transpose2d_backward : gradients.

    Notes
    -----
    The authors' PyTorch code does not flip the weight, unlike PyTorch's transposed convolution. Flip weights trained
    with it along both spatial axes.

    References
    ----------
    H. Su et al., "Pixel-Adaptive Convolutional Neural Networks", CVPR 2019, section 4.1.

    Examples
    --------
    Two pixels upsampled by 2; the guide determines which of them each output pixel copies:

    >>> import numpy as np
    >>> import arrayops as ao
    >>> image = np.array([[[[1.0, 5.0]]]])
    >>> guide = np.array([[[[0.0, 0.0, 9.0, 9.0]]]])
    >>> box = np.ones((1, 1, 1, 3))
    >>> ao.pac_conv_transpose2d(image, guide, box, stride=(1, 2), padding="SAME", normalize_kernel=True)
    array([[[[1., 1., 5., 5.]]]])
    """
    parameters = cached_parameters(
        "pac_conv_transpose2d",
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        layout=resolved_layout("pac_conv_transpose2d", layout, input),
        transposed=True,
        kernel_type=kernel_type,
        asymmetric=asymmetric,
        normalize_kernel=normalize_kernel,
        groups=groups,
        shared_filters=shared_filters,
    )
    arrays = (input, guide, weight, bias, kernel, mask, inv_alpha, inv_lambda, smooth_kernel)
    return _result(dispatch(PAC_CONV_TRANSPOSE2D, arrays, parameters))


@overload
def pac_conv_transpose2d_backward(
    grad_output: Array,
    input: NDArray[ScalarT],
    guide: NDArray[GuideScalarT] | None,
    weight: NDArray[ScalarT],
    bias: NDArray[ScalarT] | None = None,
    *,
    kernel: NDArray[GuideScalarT] | None = None,
    mask: Array | None = None,
    normalize_kernel: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: NDArray[GuideScalarT] | None = None,
    inv_lambda: NDArray[GuideScalarT] | None = None,
    asymmetric: bool = False,
    smooth_kernel: NDArray[GuideScalarT] | None = None,
    groups: int = 1,
    shared_filters: bool = False,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> PacConv2dGradients[NDArray[ScalarT], NDArray[GuideScalarT]]: ...
@overload
def pac_conv_transpose2d_backward(
    grad_output: Array,
    input: ArrayT,
    guide: GuideT | None,
    weight: ArrayT,
    bias: ArrayT | None = None,
    *,
    kernel: GuideT | None = None,
    mask: Array | None = None,
    normalize_kernel: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: GuideT | None = None,
    inv_lambda: GuideT | None = None,
    asymmetric: bool = False,
    smooth_kernel: GuideT | None = None,
    groups: int = 1,
    shared_filters: bool = False,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> PacConv2dGradients[ArrayT, GuideT]: ...
def pac_conv_transpose2d_backward(
    grad_output: Array,
    input: Array,
    guide: Array | None,
    weight: Array,
    bias: Array | None = None,
    *,
    kernel: Array | None = None,
    mask: Array | None = None,
    normalize_kernel: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: Array | None = None,
    inv_lambda: Array | None = None,
    asymmetric: bool = False,
    smooth_kernel: Array | None = None,
    groups: int = 1,
    shared_filters: bool = False,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> PacConv2dGradients[Any, Any]:
    """Gradients of `pac_conv_transpose2d`.

    Parameters
    ----------
    grad_output : array
        Gradient of the output, with the shape and dtype of the output.
    input, guide, weight, bias, kernel, mask, normalize_kernel, kernel_type, inv_alpha, inv_lambda, asymmetric, \
smooth_kernel, groups, shared_filters, stride, padding, output_padding, dilation, layout
        As passed to `pac_conv_transpose2d`.
    needs : iterable of str, optional
        Names of the gradients to compute (fields of the result). By default, all.

    Returns
    -------
    PacConv2dGradients
        Named tuple (input, guide, weight, bias, kernel, inv_alpha, inv_lambda, smooth_kernel), each with the shape
        and dtype of its array, or None.

    Raises
    ------
    TypeError, ValueError
        Same as `pac_conv_transpose2d`; also ValueError for unknown names in ``needs``.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> image, guide = np.ones((1, 1, 2, 2)), np.zeros((1, 3, 4, 4))
    >>> weight = np.ones((1, 1, 2, 2))
    >>> ao.pac_conv_transpose2d_backward(np.ones((1, 1, 4, 4)), image, guide, weight, stride=2).input
    array([[[[4., 4.],
             [4., 4.]]]])
    """
    parameters = cached_parameters(
        "pac_conv_transpose2d_backward",
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        layout=resolved_layout("pac_conv_transpose2d_backward", layout, input),
        transposed=True,
        kernel_type=kernel_type,
        asymmetric=asymmetric,
        normalize_kernel=normalize_kernel,
        groups=groups,
        shared_filters=shared_filters,
    )
    arrays = (input, guide, weight, bias, kernel, mask, inv_alpha, inv_lambda, smooth_kernel)
    return PacConv2dGradients(*dispatch_backward(PAC_CONV_TRANSPOSE2D, (grad_output,), arrays, parameters, needs))


@overload
def pac_pool2d(
    input: ArrayT,
    guide: Array | None,
    kernel_size: Size,
    *,
    kernel: Array | None = None,
    mask: None = None,
    normalize_kernel: bool = False,
    channel_wise: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: Array | None = None,
    inv_lambda: Array | None = None,
    asymmetric: bool = False,
    smooth_kernel: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
) -> ArrayT: ...
@overload
def pac_pool2d(
    input: ArrayT,
    guide: Array | None,
    kernel_size: Size,
    *,
    kernel: Array | None = None,
    mask: MaskT,
    normalize_kernel: bool = False,
    channel_wise: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: Array | None = None,
    inv_lambda: Array | None = None,
    asymmetric: bool = False,
    smooth_kernel: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
) -> MaskedOutput[ArrayT, MaskT]: ...
def pac_pool2d(
    input: Array,
    guide: Array | None,
    kernel_size: Size,
    *,
    kernel: Array | None = None,
    mask: Array | None = None,
    normalize_kernel: bool = False,
    channel_wise: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: Array | None = None,
    inv_lambda: Array | None = None,
    asymmetric: bool = False,
    smooth_kernel: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
) -> Any:
    """Pixel-adaptive pooling: sums over windows, weighted at every pixel by the adaptive kernel of the guide.

    With x the input and K the adaptive kernel (see `pac_kernel2d`)::

        y[c, h, w] = sum over i, j of K[i, j, h, w] x[c, h s + i d - top, w s + j d - left]

    With ``normalize_kernel`` this is a weighted mean, for example a joint bilateral filter. Without it, and with a
    constant guide, it is kh * kw times average pooling (with padding included in the average).

    Parameters
    ----------
    input : array, (N, C, H, W), or (N, H, W, C) in NHWC
        float16, bfloat16, float32 or float64; half precision is accumulated in float32.
    guide : array, (N, G, H, W), or (N, H, W, G) in NHWC; or None with ``kernel``
        Guide features, same dtype as the input; float32 is also allowed if the input is half precision.
    kernel_size : int or pair of int
        Height and width of the window.
    kernel : array, (N, 1 or C, kh, kw, Ho, Wo), or (N, Ho, Wo, kh, kw, 1 or C) in NHWC, optional
        K as returned by `pac_kernel2d`, instead of ``guide``. Options that affect K are then not allowed.
    mask : array of bool, (N, 1, H, W), or (N, H, W, 1) in NHWC, optional
        True where the input is valid. Masked-out pixels, also NaN, are treated as 0, and the kernel is rescaled.
    channel_wise : bool, default False
        Compute one kernel per channel, from the guide channel with the same index (requires G = C).
    normalize_kernel, kernel_type, inv_alpha, inv_lambda, asymmetric, smooth_kernel
        As in `pac_conv2d`.
    stride, padding, dilation, layout
        As in `pac_conv2d`.

    Returns
    -------
    array, (N, C, Ho, Wo), or (N, Ho, Wo, C) in NHWC
        Same dtype, framework and device as the input. With ``mask``, a named tuple (output, output_mask), as for
        `pac_conv2d`.

    Raises
    ------
    TypeError
        If dtypes or frameworks do not match.
    ValueError
        If shapes do not match or a keyword has an invalid value.

    See Also
    --------
    pac_pool2d_backward : gradients.

    References
    ----------
    H. Su et al., "Pixel-Adaptive Convolutional Neural Networks", CVPR 2019, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> image = np.array([[[[1.0, 2.0, 8.0, 9.0]]]])
    >>> ao.pac_pool2d(image, np.zeros((1, 1, 1, 4)), (1, 2), stride=(1, 2))
    array([[[[ 3., 17.]]]])
    """
    parameters = cached_parameters(
        "pac_pool2d",
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        layout=resolved_layout("pac_pool2d", layout, input),
        kernel_type=kernel_type,
        asymmetric=asymmetric,
        normalize_kernel=normalize_kernel,
        channel_wise=channel_wise,
    )
    return _result(dispatch(PAC_POOL2D, (input, guide, kernel, mask, inv_alpha, inv_lambda, smooth_kernel), parameters))


@overload
def pac_pool2d_backward(
    grad_output: Array,
    input: NDArray[ScalarT],
    guide: NDArray[GuideScalarT] | None,
    kernel_size: Size,
    *,
    kernel: NDArray[GuideScalarT] | None = None,
    mask: Array | None = None,
    normalize_kernel: bool = False,
    channel_wise: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: NDArray[GuideScalarT] | None = None,
    inv_lambda: NDArray[GuideScalarT] | None = None,
    asymmetric: bool = False,
    smooth_kernel: NDArray[GuideScalarT] | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> PacPool2dGradients[NDArray[ScalarT], NDArray[GuideScalarT]]: ...
@overload
def pac_pool2d_backward(
    grad_output: Array,
    input: ArrayT,
    guide: GuideT | None,
    kernel_size: Size,
    *,
    kernel: GuideT | None = None,
    mask: Array | None = None,
    normalize_kernel: bool = False,
    channel_wise: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: GuideT | None = None,
    inv_lambda: GuideT | None = None,
    asymmetric: bool = False,
    smooth_kernel: GuideT | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> PacPool2dGradients[ArrayT, GuideT]: ...
def pac_pool2d_backward(
    grad_output: Array,
    input: Array,
    guide: Array | None,
    kernel_size: Size,
    *,
    kernel: Array | None = None,
    mask: Array | None = None,
    normalize_kernel: bool = False,
    channel_wise: bool = False,
    kernel_type: KernelType = "gaussian",
    inv_alpha: Array | None = None,
    inv_lambda: Array | None = None,
    asymmetric: bool = False,
    smooth_kernel: Array | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> PacPool2dGradients[Any, Any]:
    """Gradients of `pac_pool2d`.

    Parameters
    ----------
    grad_output : array
        Gradient of the output, with the shape and dtype of the output.
    input, guide, kernel_size, kernel, mask, normalize_kernel, channel_wise, kernel_type, inv_alpha, inv_lambda, \
asymmetric, smooth_kernel, stride, padding, dilation, layout
        As passed to `pac_pool2d`.
    needs : iterable of str, optional
        Names of the gradients to compute (fields of the result). By default, all.

    Returns
    -------
    PacPool2dGradients
        Named tuple (input, guide, kernel, inv_alpha, inv_lambda, smooth_kernel), each with the shape and dtype of
        its array, or None.

    Raises
    ------
    TypeError, ValueError
        Same as `pac_pool2d`; also ValueError for unknown names in ``needs``.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> image, guide = np.ones((1, 1, 1, 4)), np.array([[[[0.0, 0.0, 9.0, 9.0]]]])
    >>> ao.pac_pool2d_backward(np.ones((1, 1, 1, 4)), image, guide, (1, 3), padding=(0, 1)).input.round(4)
    array([[[[2., 2., 2., 2.]]]])
    """
    parameters = cached_parameters(
        "pac_pool2d_backward",
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        dilation=dilation,
        layout=resolved_layout("pac_pool2d_backward", layout, input),
        kernel_type=kernel_type,
        asymmetric=asymmetric,
        normalize_kernel=normalize_kernel,
        channel_wise=channel_wise,
    )
    arrays = (input, guide, kernel, mask, inv_alpha, inv_lambda, smooth_kernel)
    return PacPool2dGradients(*dispatch_backward(PAC_POOL2D, (grad_output,), arrays, parameters, needs))


def _result(outputs: tuple[Any, ...]) -> Any:
    output, output_mask = outputs
    return output if output_mask is None else MaskedOutput(output, output_mask)
