"""Convolution and transposed convolution with groups, including depthwise, and their gradients."""

from collections.abc import Iterable
from typing import Any, Generic, NamedTuple, overload

from numpy.typing import NDArray

from arrayops._call.dispatch import dispatch, dispatch_backward
from arrayops._call.layout import resolved_layout
from arrayops._ops.conv import CONV2D, CONV_TRANSPOSE2D, cached_parameters
from arrayops._typing import Array, ArrayT, Layout, Padding, ScalarT, Size


class Conv2dGradients(NamedTuple, Generic[ArrayT]):
    """Gradients of `conv2d` and `conv_transpose2d`; None for arrays that were not passed or are not in ``needs``."""

    input: ArrayT | None
    weight: ArrayT | None
    bias: ArrayT | None


def conv2d(
    input: ArrayT,
    weight: Array,
    bias: Array | None = None,
    *,
    groups: int = 1,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
) -> ArrayT:
    """Grouped convolution (cross-correlation, as in every deep learning framework).

    With x the input, W the weight, stride s, dilation d, and c running over the input channels of the group of o::

        y[o, h, w] = b[o] + sum over c, i, j of W[o, c, i, j] x[c, h s + i d - top, w s + j d - left]

    Parameters
    ----------
    input : array, (N, C, H, W), or (N, H, W, C) in NHWC
        float16, bfloat16, float32 or float64; half precision is accumulated in float32.
    weight : array, (O, C / groups, kh, kw), or (kh, kw, C / groups, O) in NHWC
        Filter, same dtype as the input.
        TensorFlow's depthwise weights (kh, kw, C, m) must be reshaped to (kh, kw, 1, C * m), with ``groups=C``.
    bias : array, (O,), optional
        Same dtype as the input.
    groups : int, default 1
        Number of groups, as in PyTorch and ONNX: each output channel depends only on the input channels of its group.
        C and O must be divisible by it. ``groups=C`` is a depthwise convolution with channel multiplier O / C.
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
        ceil(H / s) with "SAME".

    Raises
    ------
    TypeError
        If dtypes or frameworks do not match.
    ValueError
        If shapes do not match or a keyword has an invalid value.

    See Also
    --------
    conv2d_backward : gradients.
    conv_transpose2d : transposed convolution, for upsampling.

    References
    ----------
    Grouped convolution: S. Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017,
    figure 3c.

    Examples
    --------
    Two groups: sums of adjacent pixels in the first, differences in the second.

    >>> import numpy as np
    >>> import arrayops as ao
    >>> image = np.array([[[[1.0, 2.0, 8.0, 9.0]], [[1.0, 2.0, 8.0, 9.0]]]])
    >>> weight = np.array([[[[1.0, 1.0]]], [[[-1.0, 1.0]]]])
    >>> ao.conv2d(image, weight, groups=2)
    array([[[[ 3., 10., 17.]],
    <BLANKLINE>
            [[ 1.,  6.,  1.]]]])
    """
    parameters = cached_parameters(
        "conv2d",
        stride=stride,
        padding=padding,
        dilation=dilation,
        layout=resolved_layout("conv2d", layout, input),
        groups=groups,
    )
    output: ArrayT = dispatch(CONV2D, (input, weight, bias), parameters)[0]
    return output


@overload
def conv2d_backward(
    grad_output: Array,
    input: NDArray[ScalarT],
    weight: NDArray[ScalarT],
    bias: NDArray[ScalarT] | None = None,
    *,
    groups: int = 1,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> Conv2dGradients[NDArray[ScalarT]]: ...
@overload
def conv2d_backward(
    grad_output: Array,
    input: ArrayT,
    weight: ArrayT,
    bias: ArrayT | None = None,
    *,
    groups: int = 1,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> Conv2dGradients[ArrayT]: ...
def conv2d_backward(
    grad_output: Array,
    input: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    groups: int = 1,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> Conv2dGradients[Any]:
    """Gradients of `conv2d`.

    Parameters
    ----------
    grad_output : array
        Gradient of the output, with the shape and dtype of the output.
    input, weight, bias, groups, stride, padding, dilation, layout
        As passed to `conv2d`.
    needs : iterable of str, optional
        Names of the gradients to compute (fields of the result). By default, all.

    Returns
    -------
    Conv2dGradients
        Named tuple (input, weight, bias), each with the shape and dtype of its array, or None.

    Raises
    ------
    TypeError, ValueError
        Same as `conv2d`; also ValueError for unknown names in ``needs``.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> image = np.array([[[[1.0, 2.0, 8.0, 9.0]]]])
    >>> gradients = ao.conv2d_backward(np.ones((1, 1, 1, 3)), image, np.array([[[[-1.0, 1.0]]]]))
    >>> gradients.input
    array([[[[-1.,  0.,  0.,  1.]]]])
    >>> gradients.weight
    array([[[[11., 19.]]]])
    """
    parameters = cached_parameters(
        "conv2d_backward",
        stride=stride,
        padding=padding,
        dilation=dilation,
        layout=resolved_layout("conv2d_backward", layout, input),
        groups=groups,
    )
    return Conv2dGradients(*dispatch_backward(CONV2D, (grad_output,), (input, weight, bias), parameters, needs))


def conv_transpose2d(
    input: ArrayT,
    weight: Array,
    bias: Array | None = None,
    *,
    groups: int = 1,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
) -> ArrayT:
    """Transposed convolution (also called deconvolution), with groups.

    This is the gradient of `conv2d` with respect to its input. Every input pixel adds the filter, multiplied by its
    value, to the output. With x the input, W the weight, stride s, dilation d::

        y[o, h s + i d - top, w s + j d - left] += W[c, o, i, j] x[c, h, w]

    Parameters
    ----------
    input : array, (N, C, H, W), or (N, H, W, C) in NHWC
        float16, bfloat16, float32 or float64; half precision is accumulated in float32.
    weight : array, (C, O / groups, kh, kw), or (kh, kw, O / groups, C) in NHWC
        Filter, same dtype as the input.
    bias : array, (O,), optional
        Same dtype as the input.
    groups : int, default 1
        Number of groups, as in PyTorch and ONNX: each output channel depends only on the input channels of its group.
    stride, dilation : int or pair of int, default 1
        Upsampling factor, and spacing of the filter taps.
    padding : int, pair, pair of pairs ((top, bottom), (left, right)), "SAME" or "VALID", default 0
        Rows and columns cropped from each side of the output. With "SAME" the output is ``stride`` times as large as
        the input.
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
        + 1, or H s with "SAME".

    Raises
    ------
    TypeError
        If dtypes or frameworks do not match.
    ValueError
        If shapes do not match or a keyword has an invalid value.

    See Also
    --------
    conv_transpose2d_backward : gradients.

    References
    ----------
    V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning", 2016, chapter 4.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> image = np.array([[[[1.0, 5.0]]]])
    >>> ao.conv_transpose2d(image, np.array([[[[0.5, 1.0, 0.5]]]]), stride=(1, 2))
    array([[[[0.5, 1. , 3. , 5. , 2.5]]]])
    """
    parameters = cached_parameters(
        "conv_transpose2d",
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        layout=resolved_layout("conv_transpose2d", layout, input),
        transposed=True,
        groups=groups,
    )
    output: ArrayT = dispatch(CONV_TRANSPOSE2D, (input, weight, bias), parameters)[0]
    return output


@overload
def conv_transpose2d_backward(
    grad_output: Array,
    input: NDArray[ScalarT],
    weight: NDArray[ScalarT],
    bias: NDArray[ScalarT] | None = None,
    *,
    groups: int = 1,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> Conv2dGradients[NDArray[ScalarT]]: ...
@overload
def conv_transpose2d_backward(
    grad_output: Array,
    input: ArrayT,
    weight: ArrayT,
    bias: ArrayT | None = None,
    *,
    groups: int = 1,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> Conv2dGradients[ArrayT]: ...
def conv_transpose2d_backward(
    grad_output: Array,
    input: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    groups: int = 1,
    stride: Size = 1,
    padding: Padding = 0,
    output_padding: Size = 0,
    dilation: Size = 1,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> Conv2dGradients[Any]:
    """Gradients of `conv_transpose2d`.

    Parameters
    ----------
    grad_output : array
        Gradient of the output, with the shape and dtype of the output.
    input, weight, bias, groups, stride, padding, output_padding, dilation, layout
        As passed to `conv_transpose2d`.
    needs : iterable of str, optional
        Names of the gradients to compute (fields of the result). By default, all.

    Returns
    -------
    Conv2dGradients
        Named tuple (input, weight, bias), each with the shape and dtype of its array, or None.

    Raises
    ------
    TypeError, ValueError
        Same as `conv_transpose2d`; also ValueError for unknown names in ``needs``.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> image, weight = np.array([[[[1.0, 5.0]]]]), np.array([[[[0.5, 1.0, 0.5]]]])
    >>> ao.conv_transpose2d_backward(np.ones((1, 1, 1, 5)), image, weight, stride=(1, 2)).input
    array([[[[2., 2.]]]])
    """
    parameters = cached_parameters(
        "conv_transpose2d_backward",
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        layout=resolved_layout("conv_transpose2d_backward", layout, input),
        transposed=True,
        groups=groups,
    )
    return Conv2dGradients(
        *dispatch_backward(CONV_TRANSPOSE2D, (grad_output,), (input, weight, bias), parameters, needs)
    )
