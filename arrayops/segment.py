"""Segment reductions (superpixel pooling) and unpooling.

Labels give the segment index of each pixel, for all channels. A reduction returns one feature vector per segment: mean,
sum, maximum, minimum or variance. The number of segments is the same for all images of a batch; images with fewer
segments have empty ones.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Generic, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from arrayops._call.dispatch import dispatch, dispatch_backward, read_integer
from arrayops._call.layout import resolved_layout
from arrayops._core.checks import flag, number
from arrayops._core.op import Op
from arrayops._ops.segment import (
    DIFFERENTIABLE,
    NUM_SEGMENTS,
    REDUCTIONS,
    SAVED,
    SEGMENT_COUNT,
    SEGMENT_MAX,
    SEGMENT_MEAN,
    SEGMENT_MIN,
    SEGMENT_REDUCE,
    SEGMENT_SUM,
    SEGMENT_UNPOOL,
    SEGMENT_VAR,
    LabelParameters,
    SegmentParameters,
    UnpoolParameters,
    checking,
    ignored,
    ordered,
    saved_by,
    segments,
)
from arrayops._typing import Array, ArrayT, Layout, SavedOutput, ScalarT

Reduction = Literal["mean", "sum", "max", "min", "var", "count"]


class SegmentGradients(NamedTuple, Generic[ArrayT]):
    """Gradient of a segment reduction; None if not in ``needs``."""

    features: ArrayT | None


class SegmentUnpoolGradients(NamedTuple, Generic[ArrayT]):
    """Gradient of `segment_unpool`; None if not in ``needs``."""

    pooled: ArrayT | None


@overload
def segment_mean(
    features: NDArray[ScalarT],
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
) -> NDArray[ScalarT]: ...
@overload
def segment_mean(
    features: ArrayT,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
) -> ArrayT: ...
def segment_mean(
    features: Array,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
) -> Any:
    """Mean of the features of each segment.

    With n the number of pixels p of segment s::

        y[s, c] = sum over p of x[p, c] / n

    Sums are accumulated in float64 for every dtype, so that means over millions of pixels stay accurate, and in a fixed
    order, so that results are bitwise reproducible.

    Parameters
    ----------
    features : array, (N, C, H, W), or (N, H, W, C) in NHWC, or (P, C) without image axes
        float16, bfloat16, float32 or float64.
    labels : array of integers, (N, H, W), or (P,)
        Segment index of each pixel, for all channels; any integer dtype.
    num_segments : int, optional
        Number of segments S. By default, the largest label other than ``ignore_label``, plus 1; on a GPU this
        synchronises with the device once.
    ignore_label : int, optional
        Pixels with this label are excluded.
    empty : float, default 0
        Value of empty segments.
    check : bool, optional
        Handling of labels out of range (negative, or at least S) other than ``ignore_label``: an error if True; their
        pixels are excluded if False. The default, None, is True on the CPU and False on a GPU, where the check
        synchronises with the device.
    layout : {"NCHW", "NHWC", "channels_first", "channels_last"}, optional
        Order of the axes: NCHW (channels_first) as in PyTorch, or NHWC (channels_last) as in TensorFlow. By default
        NHWC for TensorFlow arrays, ``keras.config.image_data_format()`` for KerasTensors, and NCHW for all others.
        Has no effect without image axes.

    Returns
    -------
    array, (N, C, S), or (N, S, C) in NHWC, or (S, C) without image axes
        Same dtype, framework and device as the features.

    Raises
    ------
    TypeError
        If dtypes or frameworks do not match.
    ValueError
        If shapes do not match, a keyword has an invalid value, or, depending on ``check``, a label is out of range; the
        message gives the position of the first such pixel.

    See Also
    --------
    segment_mean_backward : gradient.
    segment_reduce : several reductions at once.

    References
    ----------
    S. Kwak, S. Hong and B. Han, "Weakly Supervised Semantic Segmentation Using Superpixel Pooling Network", AAAI 2017;
    equivalent to ``tf.math.unsorted_segment_mean``, and ``torch.scatter_reduce`` with "mean" and labels expanded over
    channels.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> features = np.array([[[[0.1], [0.2]], [[0.3], [0.4]]]])
    >>> labels = np.array([[[0, 0], [1, 2]]])
    >>> ao.segment_mean(features, labels, layout="NHWC")
    array([[[0.15],
            [0.3 ],
            [0.4 ]]])
    """
    return _reduce(SEGMENT_MEAN, "mean", features, labels, num_segments, ignore_label, empty, check, layout)


def segment_mean_backward(
    grad_output: Array,
    features: ArrayT,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> SegmentGradients[ArrayT]:
    """Gradient of `segment_mean`.

    The gradient of each pixel is g / n, with g the gradient and n the number of pixels of its segment; it is 0 for
    excluded pixels.

    Parameters
    ----------
    grad_output : array
        Gradient of the output, with the shape and dtype of the output.
    features, labels, num_segments, ignore_label, empty, check, layout
        As passed to `segment_mean`; the features must have a floating-point dtype.
    needs : iterable of str, optional
        Names of the gradients to compute (fields of the result). By default, all.

    Returns
    -------
    SegmentGradients
        Named tuple (features,), with the shape and dtype of the features, or None.

    Raises
    ------
    TypeError, ValueError
        Same as `segment_mean`; also ValueError for unknown names in ``needs``.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> features = np.array([[[[0.1], [0.2]], [[0.3], [0.4]]]])
    >>> labels = np.array([[[0, 0], [1, 2]]])
    >>> ao.segment_mean_backward(np.ones((1, 3, 1)), features, labels, layout="NHWC").features[0, :, :, 0]
    array([[0.5, 0.5],
           [1. , 1. ]])
    """
    return _reduce_backward(
        SEGMENT_MEAN, "mean", grad_output, features, labels, num_segments, ignore_label, empty, check, layout, needs
    )


@overload
def segment_sum(
    features: NDArray[np.signedinteger],
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
) -> NDArray[np.int64]: ...
@overload
def segment_sum(
    features: NDArray[np.unsignedinteger],
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
) -> NDArray[np.uint64]: ...
@overload
def segment_sum(
    features: NDArray[ScalarT],
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
) -> NDArray[ScalarT]: ...
@overload
def segment_sum(
    features: ArrayT,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
) -> ArrayT: ...
def segment_sum(
    features: Array,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
) -> Any:
    """Sum of the features of each segment.

    With p the pixels of segment s::

        y[s, c] = sum over p of x[p, c]

    Sums are accumulated in float64 for every floating-point dtype, and in 64-bit integers for integer dtypes.

    Parameters
    ----------
    features : array, (N, C, H, W), or (N, H, W, C) in NHWC, or (P, C) without image axes
        float16, bfloat16, float32, float64, or any integer dtype.
    labels : array of integers, (N, H, W), or (P,)
        Segment index of each pixel, for all channels; any integer dtype.
    num_segments : int, optional
        Number of segments S. By default, the largest label other than ``ignore_label``, plus 1; on a GPU this
        synchronises with the device once.
    ignore_label : int, optional
        Pixels with this label are excluded.
    empty : float, default 0
        Value of empty segments.
    check : bool, optional
        Handling of labels out of range (negative, or at least S) other than ``ignore_label``: an error if True; their
        pixels are excluded if False. The default, None, is True on the CPU and False on a GPU, where the check
        synchronises with the device.
    layout : {"NCHW", "NHWC", "channels_first", "channels_last"}, optional
        Order of the axes: NCHW (channels_first) as in PyTorch, or NHWC (channels_last) as in TensorFlow. By default
        NHWC for TensorFlow arrays, ``keras.config.image_data_format()`` for KerasTensors, and NCHW for all others.
        Has no effect without image axes.

    Returns
    -------
    array, (N, C, S), or (N, S, C) in NHWC, or (S, C) without image axes
        Same dtype, framework and device as the features; sums of signed integers are int64, of unsigned
        integers uint64. (In JAX without ``jax_enable_x64`` they are 32-bit, and overflow is an error.)

    Raises
    ------
    TypeError
        If dtypes or frameworks do not match.
    ValueError
        If shapes do not match, a keyword has an invalid value, or, depending on ``check``, a label is out of range; the
        message gives the position of the first such pixel.

    See Also
    --------
    segment_sum_backward : gradient.
    segment_reduce : several reductions at once.

    References
    ----------
    Equivalent to ``tf.math.unsorted_segment_sum``, and ``torch.scatter_add`` with labels expanded over channels.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> features = np.array([[[[0.1], [0.2]], [[0.3], [0.4]]]])
    >>> labels = np.array([[[0, 0], [1, 2]]])
    >>> ao.segment_sum(features, labels, layout="NHWC").round(15)
    array([[[0.3],
            [0.3],
            [0.4]]])
    """
    return _reduce(SEGMENT_SUM, "sum", features, labels, num_segments, ignore_label, empty, check, layout)


def segment_sum_backward(
    grad_output: Array,
    features: ArrayT,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> SegmentGradients[ArrayT]:
    """Gradient of `segment_sum`.

    The gradient of each pixel is the gradient of its segment; it is 0 for excluded pixels.

    Parameters
    ----------
    grad_output : array
        Gradient of the output, with the shape and dtype of the output.
    features, labels, num_segments, ignore_label, empty, check, layout
        As passed to `segment_sum`; the features must have a floating-point dtype.
    needs : iterable of str, optional
        Names of the gradients to compute (fields of the result). By default, all.

    Returns
    -------
    SegmentGradients
        Named tuple (features,), with the shape and dtype of the features, or None.

    Raises
    ------
    TypeError, ValueError
        Same as `segment_sum`; also ValueError for unknown names in ``needs``.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> features = np.array([[[[0.1], [0.2]], [[0.3], [0.4]]]])
    >>> labels = np.array([[[0, 0], [1, 2]]])
    >>> ao.segment_sum_backward(np.ones((1, 3, 1)), features, labels, layout="NHWC").features[0, :, :, 0]
    array([[1., 1.],
           [1., 1.]])
    """
    return _reduce_backward(
        SEGMENT_SUM, "sum", grad_output, features, labels, num_segments, ignore_label, empty, check, layout, needs
    )


@overload
def segment_max(
    features: NDArray[ScalarT],
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    return_saved: Literal[False] = False,
) -> NDArray[ScalarT]: ...
@overload
def segment_max(
    features: NDArray[ScalarT],
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    return_saved: Literal[True],
) -> SavedOutput[NDArray[ScalarT], NDArray[np.int64]]: ...
@overload
def segment_max(
    features: ArrayT,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    return_saved: Literal[False] = False,
) -> ArrayT: ...
@overload
def segment_max(
    features: ArrayT,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    return_saved: Literal[True],
) -> SavedOutput[ArrayT, ArrayT]: ...
@overload
def segment_max(
    features: ArrayT,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    return_saved: bool,
) -> ArrayT | SavedOutput[ArrayT, Any]: ...
def segment_max(
    features: Array,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    return_saved: bool = False,
) -> Any:
    """Maximum of the features of each segment.

    With p the pixels of segment s; the result is NaN if any of them is NaN::

        y[s, c] = max over p of x[p, c]

    Parameters
    ----------
    features : array, (N, C, H, W), or (N, H, W, C) in NHWC, or (P, C) without image axes
        float16, bfloat16, float32, float64, or any integer dtype.
    labels : array of integers, (N, H, W), or (P,)
        Segment index of each pixel, for all channels; any integer dtype.
    num_segments : int, optional
        Number of segments S. By default, the largest label other than ``ignore_label``, plus 1; on a GPU this
        synchronises with the device once.
    ignore_label : int, optional
        Pixels with this label are excluded.
    empty : float, default 0
        Value of empty segments.
    check : bool, optional
        Handling of labels out of range (negative, or at least S) other than ``ignore_label``: an error if True; their
        pixels are excluded if False. The default, None, is True on the CPU and False on a GPU, where the check
        synchronises with the device.
    layout : {"NCHW", "NHWC", "channels_first", "channels_last"}, optional
        Order of the axes: NCHW (channels_first) as in PyTorch, or NHWC (channels_last) as in TensorFlow. By default
        NHWC for TensorFlow arrays, ``keras.config.image_data_format()`` for KerasTensors, and NCHW for all others.
        Has no effect without image axes.
    return_saved : bool, default False
        Whether to return the positions of the maxima too. With them, `segment_max_backward` neither sorts pixels nor
        reads features.

    Returns
    -------
    array, (N, C, S), or (N, S, C) in NHWC, or (S, C) without image axes
        Same dtype, framework and device as the features. With ``return_saved``, a named tuple (output, saved): this
        array, and an int64 array of the same shape with the position of the first pixel that attains each value, or of
        the first NaN: the index of the pixel in its image, in memory order; -1 for empty segments. (In JAX without
        ``jax_enable_x64`` it is int32.)

    Raises
    ------
    TypeError
        If dtypes or frameworks do not match.
    ValueError
        If shapes do not match, a keyword has an invalid value, or, depending on ``check``, a label is out of range; the
        message gives the position of the first such pixel.

    See Also
    --------
    segment_max_backward : gradient.
    segment_reduce : several reductions at once.

    References
    ----------
    Equivalent to ``tf.math.unsorted_segment_max``, and ``torch.scatter_reduce`` with "amax", except that
    ``scatter_reduce`` distributes the gradient evenly among equal pixels.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> features = np.array([[[[0.1], [0.2]], [[0.3], [0.4]]]])
    >>> labels = np.array([[[0, 0], [1, 2]]])
    >>> ao.segment_max(features, labels, layout="NHWC")
    array([[[0.2],
            [0.3],
            [0.4]]])

    With ``return_saved``, the gradient does not search the maxima again:

    >>> output, saved = ao.segment_max(features, labels, layout="NHWC", return_saved=True)
    >>> saved[0, :, 0]
    array([1, 2, 3])
    >>> gradients = ao.segment_max_backward(output, features, labels, layout="NHWC", saved=saved)
    >>> gradients.features[0, :, :, 0]
    array([[0. , 0.2],
           [0.3, 0.4]])
    """
    return _reduce(SEGMENT_MAX, "max", features, labels, num_segments, ignore_label, empty, check, layout, return_saved)


def segment_max_backward(
    grad_output: Array,
    features: ArrayT,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    saved: Array | None = None,
    needs: Iterable[str] | None = None,
) -> SegmentGradients[ArrayT]:
    """Gradient of `segment_max`.

    The gradient is passed to the first pixel in memory order that attains the value, or to the first NaN if there is
    one. It is 0 for all other pixels.

    Parameters
    ----------
    grad_output : array
        Gradient of the output, with the shape and dtype of the output.
    features, labels, num_segments, ignore_label, empty, check, layout
        As passed to `segment_max`; the features must have a floating-point dtype.
    saved : array, optional
        As returned by `segment_max` for the same arguments with ``return_saved``: of the features, only shape and dtype
        are then used. Without it, the positions are searched again; the gradient has the same bits.
    needs : iterable of str, optional
        Names of the gradients to compute (fields of the result). By default, all.

    Returns
    -------
    SegmentGradients
        Named tuple (features,), with the shape and dtype of the features, or None.

    Raises
    ------
    TypeError, ValueError
        Same as `segment_max`; also if ``saved`` has another shape or dtype, or for unknown names in ``needs``.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> features = np.array([[[[0.1], [0.2]], [[0.3], [0.4]]]])
    >>> labels = np.array([[[0, 0], [1, 2]]])
    >>> ao.segment_max_backward(np.ones((1, 3, 1)), features, labels, layout="NHWC").features[0, :, :, 0]
    array([[0., 1.],
           [1., 1.]])
    """
    return _reduce_backward(
        SEGMENT_MAX,
        "max",
        grad_output,
        features,
        labels,
        num_segments,
        ignore_label,
        empty,
        check,
        layout,
        needs,
        saved,
    )


@overload
def segment_min(
    features: NDArray[ScalarT],
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    return_saved: Literal[False] = False,
) -> NDArray[ScalarT]: ...
@overload
def segment_min(
    features: NDArray[ScalarT],
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    return_saved: Literal[True],
) -> SavedOutput[NDArray[ScalarT], NDArray[np.int64]]: ...
@overload
def segment_min(
    features: ArrayT,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    return_saved: Literal[False] = False,
) -> ArrayT: ...
@overload
def segment_min(
    features: ArrayT,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    return_saved: Literal[True],
) -> SavedOutput[ArrayT, ArrayT]: ...
@overload
def segment_min(
    features: ArrayT,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    return_saved: bool,
) -> ArrayT | SavedOutput[ArrayT, Any]: ...
def segment_min(
    features: Array,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    return_saved: bool = False,
) -> Any:
    """Minimum of the features of each segment.

    With p the pixels of segment s; the result is NaN if any of them is NaN::

        y[s, c] = min over p of x[p, c]

    Parameters
    ----------
    features : array, (N, C, H, W), or (N, H, W, C) in NHWC, or (P, C) without image axes
        float16, bfloat16, float32, float64, or any integer dtype.
    labels : array of integers, (N, H, W), or (P,)
        Segment index of each pixel, for all channels; any integer dtype.
    num_segments : int, optional
        Number of segments S. By default, the largest label other than ``ignore_label``, plus 1; on a GPU this
        synchronises with the device once.
    ignore_label : int, optional
        Pixels with this label are excluded.
    empty : float, default 0
        Value of empty segments.
    check : bool, optional
        Handling of labels out of range (negative, or at least S) other than ``ignore_label``: an error if True; their
        pixels are excluded if False. The default, None, is True on the CPU and False on a GPU, where the check
        synchronises with the device.
    layout : {"NCHW", "NHWC", "channels_first", "channels_last"}, optional
        Order of the axes: NCHW (channels_first) as in PyTorch, or NHWC (channels_last) as in TensorFlow. By default
        NHWC for TensorFlow arrays, ``keras.config.image_data_format()`` for KerasTensors, and NCHW for all others.
        Has no effect without image axes.
    return_saved : bool, default False
        Whether to return the positions of the minima too. With them, `segment_min_backward` neither sorts pixels nor
        reads features.

    Returns
    -------
    array, (N, C, S), or (N, S, C) in NHWC, or (S, C) without image axes
        Same dtype, framework and device as the features. With ``return_saved``, a named tuple (output, saved): this
        array, and an int64 array of the same shape with the position of the first pixel that attains each value, or of
        the first NaN: the index of the pixel in its image, in memory order; -1 for empty segments. (In JAX without
        ``jax_enable_x64`` it is int32.)

    Raises
    ------
    TypeError
        If dtypes or frameworks do not match.
    ValueError
        If shapes do not match, a keyword has an invalid value, or, depending on ``check``, a label is out of range; the
        message gives the position of the first such pixel.

    See Also
    --------
    segment_min_backward : gradient.
    segment_reduce : several reductions at once.

    References
    ----------
    Equivalent to ``tf.math.unsorted_segment_min``, and ``torch.scatter_reduce`` with "amin", except that
    ``scatter_reduce`` distributes the gradient evenly among equal pixels.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> features = np.array([[[[0.1], [0.2]], [[0.3], [0.4]]]])
    >>> labels = np.array([[[0, 0], [1, 2]]])
    >>> ao.segment_min(features, labels, layout="NHWC")
    array([[[0.1],
            [0.3],
            [0.4]]])
    """
    return _reduce(SEGMENT_MIN, "min", features, labels, num_segments, ignore_label, empty, check, layout, return_saved)


def segment_min_backward(
    grad_output: Array,
    features: ArrayT,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    saved: Array | None = None,
    needs: Iterable[str] | None = None,
) -> SegmentGradients[ArrayT]:
    """Gradient of `segment_min`.

    The gradient is passed to the first pixel in memory order that attains the value, or to the first NaN if there is
    one. It is 0 for all other pixels.

    Parameters
    ----------
    grad_output : array
        Gradient of the output, with the shape and dtype of the output.
    features, labels, num_segments, ignore_label, empty, check, layout
        As passed to `segment_min`; the features must have a floating-point dtype.
    saved : array, optional
        As returned by `segment_min` for the same arguments with ``return_saved``: of the features, only shape and dtype
        are then used. Without it, the positions are searched again; the gradient has the same bits.
    needs : iterable of str, optional
        Names of the gradients to compute (fields of the result). By default, all.

    Returns
    -------
    SegmentGradients
        Named tuple (features,), with the shape and dtype of the features, or None.

    Raises
    ------
    TypeError, ValueError
        Same as `segment_min`; also if ``saved`` has another shape or dtype, or for unknown names in ``needs``.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> features = np.array([[[[0.1], [0.2]], [[0.3], [0.4]]]])
    >>> labels = np.array([[[0, 0], [1, 2]]])
    >>> ao.segment_min_backward(np.ones((1, 3, 1)), features, labels, layout="NHWC").features[0, :, :, 0]
    array([[1., 0.],
           [1., 1.]])
    """
    return _reduce_backward(
        SEGMENT_MIN,
        "min",
        grad_output,
        features,
        labels,
        num_segments,
        ignore_label,
        empty,
        check,
        layout,
        needs,
        saved,
    )


@overload
def segment_var(
    features: NDArray[ScalarT],
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
) -> NDArray[ScalarT]: ...
@overload
def segment_var(
    features: ArrayT,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
) -> ArrayT: ...
def segment_var(
    features: Array,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
) -> Any:
    """Population variance of the features of each segment.

    With n the number of pixels p of segment s (divisor n, not n - 1), and m the mean::

        y[s, c] = sum over p of (x[p, c] - m[s, c])^2 / n

    Differences from the mean are squared and summed in float64, so that a large mean does not reduce the accuracy.

    Parameters
    ----------
    features : array, (N, C, H, W), or (N, H, W, C) in NHWC, or (P, C) without image axes
        float16, bfloat16, float32 or float64.
    labels : array of integers, (N, H, W), or (P,)
        Segment index of each pixel, for all channels; any integer dtype.
    num_segments : int, optional
        Number of segments S. By default, the largest label other than ``ignore_label``, plus 1; on a GPU this
        synchronises with the device once.
    ignore_label : int, optional
        Pixels with this label are excluded.
    empty : float, default 0
        Value of empty segments.
    check : bool, optional
        Handling of labels out of range (negative, or at least S) other than ``ignore_label``: an error if True; their
        pixels are excluded if False. The default, None, is True on the CPU and False on a GPU, where the check
        synchronises with the device.
    layout : {"NCHW", "NHWC", "channels_first", "channels_last"}, optional
        Order of the axes: NCHW (channels_first) as in PyTorch, or NHWC (channels_last) as in TensorFlow. By default
        NHWC for TensorFlow arrays, ``keras.config.image_data_format()`` for KerasTensors, and NCHW for all others.
        Has no effect without image axes.

    Returns
    -------
    array, (N, C, S), or (N, S, C) in NHWC, or (S, C) without image axes
        Same dtype, framework and device as the features.

    Raises
    ------
    TypeError
        If dtypes or frameworks do not match.
    ValueError
        If shapes do not match, a keyword has an invalid value, or, depending on ``check``, a label is out of range; the
        message gives the position of the first such pixel.

    See Also
    --------
    segment_var_backward : gradient.
    segment_reduce : several reductions at once.

    References
    ----------
    Equivalent to ``scipy.ndimage.variance``. Partial variances are combined as in T. F. Chan, G. H. Golub and R. J.
    LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> features = np.array([[[[0.1], [0.2]], [[0.3], [0.4]]]])
    >>> labels = np.array([[[0, 0], [1, 2]]])
    >>> ao.segment_var(features, labels, layout="NHWC").round(15)
    array([[[0.0025],
            [0.    ],
            [0.    ]]])
    """
    return _reduce(SEGMENT_VAR, "var", features, labels, num_segments, ignore_label, empty, check, layout)


def segment_var_backward(
    grad_output: Array,
    features: ArrayT,
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> SegmentGradients[ArrayT]:
    """Gradient of `segment_var`.

    The gradient of a pixel with value x is 2 g (x - m) / n, with g the gradient, m the mean and n the number of pixels
    of its segment; it is 0 for excluded pixels.

    Parameters
    ----------
    grad_output : array
        Gradient of the output, with the shape and dtype of the output.
    features, labels, num_segments, ignore_label, empty, check, layout
        As passed to `segment_var`; the features must have a floating-point dtype.
    needs : iterable of str, optional
        Names of the gradients to compute (fields of the result). By default, all.

    Returns
    -------
    SegmentGradients
        Named tuple (features,), with the shape and dtype of the features, or None.

    Raises
    ------
    TypeError, ValueError
        Same as `segment_var`; also ValueError for unknown names in ``needs``.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> features = np.array([[[[0.1], [0.2]], [[0.3], [0.4]]]])
    >>> labels = np.array([[[0, 0], [1, 2]]])
    >>> ao.segment_var_backward(np.ones((1, 3, 1)), features, labels, layout="NHWC").features[0, :, :, 0].round(15)
    array([[-0.05,  0.05],
           [ 0.  ,  0.  ]])
    """
    return _reduce_backward(
        SEGMENT_VAR, "var", grad_output, features, labels, num_segments, ignore_label, empty, check, layout, needs
    )


@overload
def segment_count(
    labels: NDArray[Any],
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    check: bool | None = None,
) -> NDArray[np.int64]: ...
@overload
def segment_count(
    labels: ArrayT,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    check: bool | None = None,
) -> ArrayT: ...
def segment_count(
    labels: Array,
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    check: bool | None = None,
) -> Any:
    """Number of pixels of each segment.

    Parameters
    ----------
    labels : array of integers, (N, H, W), or (P,)
        Segment index of each pixel, for all channels; any integer dtype.
    num_segments : int, optional
        Number of segments S. By default, the largest label other than ``ignore_label``, plus 1; on a GPU this
        synchronises with the device once.
    ignore_label : int, optional
        Pixels with this label are excluded.
    check : bool, optional
        Handling of labels out of range (negative, or at least S) other than ``ignore_label``: an error if True; their
        pixels are excluded if False. The default, None, is True on the CPU and False on a GPU, where the check
        synchronises with the device.

    Returns
    -------
    array of int64, (N, S), or (S,) without image axes
        Same framework and device as the labels. (32-bit in JAX without ``jax_enable_x64``.)

    Raises
    ------
    TypeError
        If dtypes or frameworks do not match.
    ValueError
        If shapes do not match, a keyword has an invalid value, or, depending on ``check``, a label is out of range; the
        message gives the position of the first such pixel.

    References
    ----------
    Equivalent to ``numpy.bincount`` for each image of a batch.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> ao.segment_count(np.array([[[0, 0], [1, 3]]]))
    array([[2, 1, 0, 1]])
    """
    op = "segment_count"
    parameters = _parameters(op, ("count",), labels, num_segments, ignore_label, 0, check, "NCHW")
    return dispatch(SEGMENT_COUNT, (labels,), parameters)[0]


@overload
def segment_reduce(
    features: NDArray[Any],
    labels: Array,
    reductions: Sequence[Reduction],
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    return_saved: Literal[False] = False,
) -> tuple[NDArray[Any], ...]: ...
@overload
def segment_reduce(
    features: NDArray[Any],
    labels: Array,
    reductions: Sequence[Reduction],
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    return_saved: Literal[True],
) -> SavedOutput[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...]]: ...
@overload
def segment_reduce(
    features: ArrayT,
    labels: Array,
    reductions: Sequence[Reduction],
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    return_saved: Literal[False] = False,
) -> tuple[ArrayT, ...]: ...
@overload
def segment_reduce(
    features: ArrayT,
    labels: Array,
    reductions: Sequence[Reduction],
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    return_saved: Literal[True],
) -> SavedOutput[tuple[ArrayT, ...], tuple[ArrayT, ...]]: ...
@overload
def segment_reduce(
    features: ArrayT,
    labels: Array,
    reductions: Sequence[Reduction],
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    return_saved: bool,
) -> tuple[ArrayT, ...] | SavedOutput[tuple[ArrayT, ...], tuple[Any, ...]]: ...
def segment_reduce(
    features: Array,
    labels: Array,
    reductions: Sequence[Reduction],
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    return_saved: bool = False,
) -> Any:
    """Several segment reductions in one pass over the features.

    Parameters
    ----------
    features : array, (N, C, H, W), or (N, H, W, C) in NHWC, or (P, C) without image axes
        float16, bfloat16, float32, float64, or any integer dtype; mean and variance require a floating-point one.
    labels : array of integers, (N, H, W), or (P,)
        Segment index of each pixel, for all channels; any integer dtype.
    reductions : sequence of {"mean", "sum", "max", "min", "var", "count"}
        Names of the reductions, without repetitions, in the order of the results.
    num_segments : int, optional
        Number of segments S. By default, the largest label other than ``ignore_label``, plus 1; on a GPU this
        synchronises with the device once.
    ignore_label : int, optional
        Pixels with this label are excluded.
    empty : float, default 0
        Value of empty segments in all results except the count.
    check : bool, optional
        Handling of labels out of range (negative, or at least S) other than ``ignore_label``: an error if True; their
        pixels are excluded if False. The default, None, is True on the CPU and False on a GPU, where the check
        synchronises with the device.
    layout : {"NCHW", "NHWC", "channels_first", "channels_last"}, optional
        Order of the axes: NCHW (channels_first) as in PyTorch, or NHWC (channels_last) as in TensorFlow. By default
        NHWC for TensorFlow arrays, ``keras.config.image_data_format()`` for KerasTensors, and NCHW for all others.
        Has no effect without image axes.
    return_saved : bool, default False
        Whether to return intermediate results too. With them, `segment_reduce_backward` does not compute these again.

    Returns
    -------
    tuple of array
        For each of ``reductions``, the result of `segment_mean`, `segment_sum`, `segment_max`, `segment_min`,
        `segment_var` or `segment_count`. With ``return_saved``, a named tuple (output, saved): these results, and a
        tuple of arrays for the gradient: positions of maxima and of minima as of `segment_max`, numbers of pixels (for
        a mean or variance), and bits of float64 means (for a variance).

    Raises
    ------
    TypeError
        If dtypes or frameworks do not match.
    ValueError
        If shapes do not match, a keyword has an invalid value, or, depending on ``check``, a label is out of range; the
        message gives the position of the first such pixel.

    See Also
    --------
    segment_reduce_backward : gradient.

    References
    ----------
    See the individual reductions; compare ``scipy.ndimage.labeled_comprehension``.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> features = np.array([[[[0.1], [0.2]], [[0.3], [0.4]]]])
    >>> labels = np.array([[[0, 0], [1, 2]]])
    >>> largest, count = ao.segment_reduce(features, labels, ("max", "count"), layout="NHWC")
    >>> largest[0, :, 0], count
    (array([0.2, 0.3, 0.4]), array([[2, 1, 1]]))
    """
    op = "segment_reduce"
    names = ordered(op, reductions)
    save = flag(op, "return_saved", return_saved)
    layout = resolved_layout(op, layout, features)
    parameters = _parameters(op, names, labels, num_segments, ignore_label, empty, check, layout, save)
    found = dispatch(SEGMENT_REDUCE, (features, labels), parameters)
    by_name = dict(zip(REDUCTIONS, found[: len(REDUCTIONS)], strict=True))
    results = tuple(by_name[name] for name in names)
    if not save:
        return results
    saved_by_name = dict(zip(SAVED, found[len(REDUCTIONS) :], strict=True))
    return SavedOutput(results, tuple(saved_by_name[name] for name in saved_by(names)))


def segment_reduce_backward(
    grad_output: Sequence[Array | None],
    features: ArrayT,
    labels: Array,
    reductions: Sequence[Reduction],
    num_segments: int | None = None,
    *,
    ignore_label: int | None = None,
    empty: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    saved: Sequence[Array | None] | None = None,
    needs: Iterable[str] | None = None,
) -> SegmentGradients[ArrayT]:
    """Gradient of `segment_reduce`: the sum of the gradients of the reductions.

    Parameters
    ----------
    grad_output : sequence of array or None
        Gradients of the results, in the order of ``reductions``. None means zeros; it is required for a count.
    features, labels, reductions, num_segments, ignore_label, empty, check, layout
        As passed to `segment_reduce`; the features must have a floating-point dtype.
    saved : sequence of array, optional
        As returned by `segment_reduce` for the same arguments with ``return_saved``. Without it, or where it is None,
        intermediate results are computed again; the gradient has the same bits.
    needs : iterable of str, optional
        Names of the gradients to compute (fields of the result). By default, all.

    Returns
    -------
    SegmentGradients
        Named tuple (features,), with the shape and dtype of the features, or None.

    Raises
    ------
    TypeError, ValueError
        Same as `segment_reduce`; also ValueError for unknown names in ``needs``, or if the number of gradients is
        not the number of reductions.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> features = np.array([[[[0.1], [0.2]], [[0.3], [0.4]]]])
    >>> labels = np.array([[[0, 0], [1, 2]]])
    >>> ones = np.ones((1, 3, 1))
    >>> gradients = ao.segment_reduce_backward((ones, ones), features, labels, ("sum", "max"), layout="NHWC")
    >>> gradients.features[0, :, :, 0]
    array([[1., 2.],
           [2., 2.]])
    """
    op = "segment_reduce_backward"
    names = ordered(op, reductions)
    by_name = _gradients_by_name(op, grad_output, names)
    layout = resolved_layout(op, layout, features)
    parameters = _parameters(op, names, labels, num_segments, ignore_label, empty, check, layout)
    gradients = tuple(by_name.get(name) for name in DIFFERENTIABLE)
    known = () if saved is None else _saved_arrays(op, saved, names)
    return SegmentGradients(*dispatch_backward(SEGMENT_REDUCE, gradients, (features, labels), parameters, needs, known))


@overload
def segment_unpool(
    pooled: NDArray[ScalarT],
    labels: Array,
    *,
    ignore_label: int | None = None,
    fill: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
) -> NDArray[ScalarT]: ...
@overload
def segment_unpool(
    pooled: ArrayT,
    labels: Array,
    *,
    ignore_label: int | None = None,
    fill: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
) -> ArrayT: ...
def segment_unpool(
    pooled: Array,
    labels: Array,
    *,
    ignore_label: int | None = None,
    fill: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
) -> Any:
    """Copy the features of each segment to all of its pixels (superpixel unpooling).

    With s(p) the label of pixel p::

        y[p, c] = x[s(p), c]

    Parameters
    ----------
    pooled : array, (N, C, S), or (N, S, C) in NHWC, or (S, C) without image axes
        One feature vector per segment; float16, bfloat16, float32, float64, any integer dtype, or bool.
    labels : array of integers, (N, H, W), or (P,)
        Segment index of each pixel, for all channels; any integer dtype.
    ignore_label : int, optional
        Pixels with this label are excluded.
    fill : float, default 0
        Value of excluded pixels.
    check : bool, optional
        Handling of labels out of range (negative, or at least S) other than ``ignore_label``: an error if True; their
        pixels are excluded if False. The default, None, is True on the CPU and False on a GPU, where the check
        synchronises with the device.
    layout : {"NCHW", "NHWC", "channels_first", "channels_last"}, optional
        Order of the axes: NCHW (channels_first) as in PyTorch, or NHWC (channels_last) as in TensorFlow. By default
        NHWC for TensorFlow arrays, ``keras.config.image_data_format()`` for KerasTensors, and NCHW for all others.
        Has no effect without image axes.

    Returns
    -------
    array, (N, C, H, W), or (N, H, W, C) in NHWC, or (P, C) without image axes
        Same dtype, framework and device as ``pooled``.

    Raises
    ------
    TypeError
        If dtypes or frameworks do not match.
    ValueError
        If shapes do not match, a keyword has an invalid value, or, depending on ``check``, a label is out of range; the
        message gives the position of the first such pixel.

    See Also
    --------
    segment_unpool_backward : gradient.

    References
    ----------
    Equivalent to ``numpy.take`` and ``torch.gather`` with labels expanded over channels.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> pooled = np.array([[5.0, 10.0], [6.0, 20.0]])
    >>> ao.segment_unpool(pooled, np.array([1, 0, 255, 1]), ignore_label=255)
    array([[ 6., 20.],
           [ 5., 10.],
           [ 0.,  0.],
           [ 6., 20.]])
    """
    layout = resolved_layout("segment_unpool", layout, pooled)
    parameters = _unpool_parameters("segment_unpool", ignore_label, fill, check, layout)
    return dispatch(SEGMENT_UNPOOL, (pooled, labels), parameters)[0]


def segment_unpool_backward(
    grad_output: Array,
    pooled: ArrayT,
    labels: Array,
    *,
    ignore_label: int | None = None,
    fill: float = 0,
    check: bool | None = None,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> SegmentUnpoolGradients[ArrayT]:
    """Gradient of `segment_unpool`: the sum of the gradients over the pixels of each segment.

    Parameters
    ----------
    grad_output : array
        Gradient of the output, with the shape and dtype of the output.
    pooled, labels, ignore_label, fill, check, layout
        As passed to `segment_unpool`; ``pooled`` must have a floating-point dtype.
    needs : iterable of str, optional
        Names of the gradients to compute (fields of the result). By default, all.

    Returns
    -------
    SegmentUnpoolGradients
        Named tuple (pooled,), with the shape and dtype of ``pooled``, or None.

    Raises
    ------
    TypeError, ValueError
        Same as `segment_unpool`; also ValueError for unknown names in ``needs``.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> labels = np.array([1, 0, 1])
    >>> ao.segment_unpool_backward(np.ones((3, 2)), np.zeros((2, 2)), labels).pooled
    array([[1., 1.],
           [2., 2.]])
    """
    layout = resolved_layout("segment_unpool_backward", layout, pooled)
    parameters = _unpool_parameters("segment_unpool_backward", ignore_label, fill, check, layout)
    return SegmentUnpoolGradients(
        *dispatch_backward(SEGMENT_UNPOOL, (grad_output,), (pooled, labels), parameters, needs)
    )


def _reduce(
    op: Op,
    reduction: str,
    features: Any,
    labels: Any,
    num_segments: int | None,
    ignore_label: int | None,
    empty: float,
    check: bool | None,
    layout: Layout | None,
    return_saved: bool = False,
) -> Any:
    save = flag(op.name, "return_saved", return_saved)
    layout = resolved_layout(op.name, layout, features)
    parameters = _parameters(op.name, (reduction,), labels, num_segments, ignore_label, empty, check, layout, save)
    results = dispatch(op, (features, labels), parameters)
    return SavedOutput(results[0], results[1]) if save else results[0]


def _reduce_backward(
    op: Op,
    reduction: str,
    grad_output: Any,
    features: Any,
    labels: Any,
    num_segments: int | None,
    ignore_label: int | None,
    empty: float,
    check: bool | None,
    layout: Layout | None,
    needs: Iterable[str] | None,
    saved: Array | None = None,
) -> SegmentGradients[Any]:
    layout = resolved_layout(op.backward.name, layout, features)
    parameters = _parameters(op.backward.name, (reduction,), labels, num_segments, ignore_label, empty, check, layout)
    return SegmentGradients(
        *dispatch_backward(op, (grad_output,), (features, labels), parameters, needs, () if saved is None else (saved,))
    )


def _parameters(
    op: str,
    reductions: tuple[str, ...],
    labels: Any,
    num_segments: Any,
    ignore_label: Any,
    empty: Any,
    check: Any,
    layout: str,
    save: bool = False,
) -> SegmentParameters:
    """Check and normalise the keywords of the public function ``op``; compute ``num_segments`` if it is None."""
    ignore = ignored(op, ignore_label)
    options = number(op, "empty", empty), checking(op, check)
    if num_segments is None:
        num_segments = read_integer(NUM_SEGMENTS, labels, LabelParameters(ignore), op, "num_segments")
    return SegmentParameters(reductions, segments(op, num_segments), ignore, *options, layout, save)


def _gradients_by_name(op: str, gradients: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Map the name of each reduction to the gradient of its result."""
    if not isinstance(gradients, (tuple, list)) or len(gradients) != len(names):
        got = f"a sequence of {len(gradients)}" if isinstance(gradients, (tuple, list)) else type(gradients).__name__
        raise ValueError(f"{op}: grad_output is {got}, expected a tuple with one gradient for each of {names}")
    by_name = dict(zip(names, gradients, strict=True))
    if by_name.pop("count", None) is not None:
        raise ValueError(f"{op}: grad_output has a gradient of the count, expected None: counts are not differentiable")
    return by_name


def _saved_arrays(op: str, saved: Any, names: tuple[str, ...]) -> tuple[Any, ...]:
    """The saved array of each of `SAVED`, from those of a call with the reductions ``names``."""
    expected = saved_by(names)
    if not isinstance(saved, (tuple, list)) or len(saved) != len(expected):
        got = f"a sequence of {len(saved)}" if isinstance(saved, (tuple, list)) else type(saved).__name__
        raise ValueError(f"{op}: saved is {got}, expected a tuple of {len(expected)} arrays: {', '.join(expected)}")
    by_name = dict(zip(expected, saved, strict=True))
    return tuple(by_name.get(name) for name in SAVED)


def _unpool_parameters(op: str, ignore_label: Any, fill: Any, check: Any, layout: str) -> UnpoolParameters:
    return UnpoolParameters(ignored(op, ignore_label), number(op, "fill", fill), checking(op, check), layout)
