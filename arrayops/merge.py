"""Resizing, and merging feature maps of different sizes by concatenation, reduction or flattening."""

from collections.abc import Iterable, Sequence
from typing import Any, Generic, Literal, NamedTuple

from arrayops._call.dispatch import dispatch, dispatch_backward
from arrayops._call.layout import resolved_layout
from arrayops._ops.merge import MERGE_FEATURE_MAPS, RESIZE2D, merge_parameters, resize_parameters
from arrayops._typing import Array, ArrayT, Layout, Size

Mode = Literal["nearest", "bilinear", "bicubic", "area"]
Coordinates = Literal["half_pixel", "align_corners", "asymmetric"]
How = Literal["concat", "add", "mean", "max", "flat"]
MergedSize = Literal["largest", "smallest"] | Size


class Resize2dGradients(NamedTuple, Generic[ArrayT]):
    """Gradient of `resize2d`; None if not in ``needs``."""

    input: ArrayT | None


class MergeFeatureMapsGradients(NamedTuple, Generic[ArrayT]):
    """Gradients of `merge_feature_maps`, one per map in the same order; None if not in ``needs``."""

    maps: list[ArrayT] | None


def resize2d(
    input: ArrayT,
    size: Size | None = None,
    *,
    scale: float | Sequence[float] | None = None,
    mode: Mode = "bilinear",
    coordinates: Coordinates = "half_pixel",
    antialias: bool = False,
    layout: Layout | None = None,
) -> ArrayT:
    """Resize the height and width of images, each axis up or down, by interpolation or averaging.

    With x the input, and A and B the interpolation matrices for height and width, which depend on ``mode``,
    ``coordinates`` and ``antialias``::

        y[h, w] = sum over i, j of A[h, i] B[w, j] x[i, j]

    Along an axis of ``in`` input and ``out`` output pixels, output pixel i has the input coordinate ::

        half_pixel       (i + 1/2) in / out - 1/2
        align_corners    i (in - 1) / (out - 1), or 0 if out is 1
        asymmetric       i in / out

    Parameters
    ----------
    input : array, (N, C, H, W), or (N, H, W, C) in NHWC
        float16, bfloat16, float32 or float64; half precision is accumulated in float32. H and W are at least 1.
    size : int or pair of int, optional
        Height and width of the output. Exactly one of ``size`` and ``scale`` is required.
    scale : float or pair of float, optional
        Output size as floor(H * scale), floor(W * scale). Coordinates are computed from the sizes, not from ``scale``.
    mode : {"nearest", "bilinear", "bicubic", "area"}, default "bilinear"
        "nearest" rounds the input coordinate: down with asymmetric coordinates (PyTorch's "nearest"); to the nearest
        integer, ties upwards, with half_pixel and align_corners (PyTorch's "nearest-exact"). "bilinear" and "bicubic"
        (cubic convolution with a = -0.75) interpolate; edge pixels are replicated. "area" is adaptive average pooling,
        for upsampling too: the mean of all input pixels that overlap the output pixel.
    coordinates : {"half_pixel", "align_corners", "asymmetric"}, default "half_pixel"
        Coordinate convention, see above; "half_pixel" is PyTorch's ``align_corners=False`` and the only one for "area".
    antialias : bool, default False
        For "bilinear" and "bicubic": when downsampling an axis, widen the kernel by the downsampling factor. As in
        PyTorch, the cubic kernel then has a = -0.5, and weights outside the image are dropped and the others
        renormalised; with "align_corners" the factor is (in - 1) / (out - 1), but kernels are centred as in half_pixel.
    layout : {"NCHW", "NHWC", "channels_first", "channels_last"}, optional
        Order of the axes: NCHW (channels_first) as in PyTorch, or NHWC (channels_last) as in TensorFlow. By default
        NHWC for TensorFlow arrays, ``keras.config.image_data_format()`` for KerasTensors, and NCHW for all others.

    Returns
    -------
    array, (N, C, Ho, Wo), or (N, Ho, Wo, C) in NHWC
        Same dtype, framework and device as the input. NaN and infinity affect only outputs in which they have a nonzero
        weight.

    Raises
    ------
    TypeError
        If the dtype is not supported, or ``antialias`` is not a bool.
    ValueError
        If shapes do not match or a keyword has an invalid value.

    See Also
    --------
    resize2d_backward : gradient.
    merge_feature_maps : resize several maps and merge them.

    References
    ----------
    R. Keys, "Cubic convolution interpolation for digital image processing", IEEE Transactions on Acoustics, Speech, and
    Signal Processing 29(6), 1981. Conventions are those of torch.nn.functional.interpolate and of ONNX Resize.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> image = np.array([[[[0.0, 8.0]]]])
    >>> ao.resize2d(image, (1, 4))
    array([[[[0., 2., 6., 8.]]]])
    >>> ao.resize2d(image, scale=(1, 2.5), coordinates="align_corners")
    array([[[[0., 2., 4., 6., 8.]]]])
    >>> ao.resize2d(np.array([[[[1.0, 2.0, 3.0, 4.0, 5.0]]]]), (1, 2), mode="area")
    array([[[[2., 4.]]]])
    """
    parameters = resize_parameters(
        "resize2d",
        size=size,
        scale=scale,
        mode=mode,
        coordinates=coordinates,
        antialias=antialias,
        layout=resolved_layout("resize2d", layout, input),
    )
    output: ArrayT = dispatch(RESIZE2D, (input,), parameters)[0]
    return output


def resize2d_backward(
    grad_output: Array,
    input: ArrayT,
    size: Size | None = None,
    *,
    scale: float | Sequence[float] | None = None,
    mode: Mode = "bilinear",
    coordinates: Coordinates = "half_pixel",
    antialias: bool = False,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> Resize2dGradients[ArrayT]:
    """Gradient of `resize2d` (transposed interpolation matrices); bitwise reproducible.

    Parameters
    ----------
    grad_output : array
        Gradient of the output, with the shape and dtype of the output.
    input, size, scale, mode, coordinates, antialias, layout
        As passed to `resize2d`. Only the shape and dtype of the input are used.
    needs : iterable of str, optional
        Names of the gradients to compute (fields of the result). By default, all.

    Returns
    -------
    Resize2dGradients
        Named tuple (input,), with the shape and dtype of the input, or None.

    Raises
    ------
    TypeError, ValueError
        Same as `resize2d`; also ValueError for unknown names in ``needs``.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> image = np.array([[[[0.0, 8.0]]]])
    >>> ao.resize2d_backward(np.array([[[[1.0, 0.0, 0.0, 4.0]]]]), image, (1, 4)).input
    array([[[[1., 4.]]]])
    """
    parameters = resize_parameters(
        "resize2d_backward",
        size=size,
        scale=scale,
        mode=mode,
        coordinates=coordinates,
        antialias=antialias,
        layout=resolved_layout("resize2d_backward", layout, input),
    )
    return Resize2dGradients(*dispatch_backward(RESIZE2D, (grad_output,), (input,), parameters, needs))


def merge_feature_maps(
    maps: Sequence[ArrayT],
    *,
    how: How = "concat",
    size: MergedSize = "largest",
    mode: Mode = "bilinear",
    coordinates: Coordinates = "half_pixel",
    antialias: bool = False,
    layout: Layout | None = None,
) -> ArrayT:
    """Resize feature maps to a common size and concatenate or reduce them, without storing the resized maps.

    With R(x) the map x resized to the common size by `resize2d`::

        concat    y = [R(x_0), R(x_1), ...] along the channels
        add       y = R(x_0) + R(x_1) + ...
        mean      y = (R(x_0) + R(x_1) + ...) / (number of maps)
        max       y = max(R(x_0), R(x_1), ...)
        flat      y = the pixels of x_0, then those of x_1, ..., then zeros, reshaped to the common size

    Parameters
    ----------
    maps : sequence of array, each (N, C, H, W), or (N, H, W, C) in NHWC
        At least one. float16, bfloat16, float32 or float64, all of one dtype; half precision is accumulated in float32.
        All must have the same batch size and, except with "concat", the same number of channels. A map that already
        has the common size is not resampled.
    how : {"concat", "add", "mean", "max", "flat"}, default "concat"
        "flat" does not resize and ignores ``mode``, ``coordinates`` and ``antialias``: it flattens the height and width
        of each map (row-major), concatenates them, pads with zeros and reshapes to ``size``. "max" is NaN where any of
        the maps is NaN, and passes the gradient to the first map that attains the maximum.
    size : {"largest", "smallest"}, or pair of int, or int, default "largest"
        The common height and width. "largest" and "smallest" apply to each axis separately: for maps of 4 x 9 and
        6 x 5 the largest is 6 x 9, the smallest 4 x 5. With "flat", height * width must be at least the total number
        of pixels of all maps.
    mode, coordinates, antialias
        As in `resize2d`.
    layout : {"NCHW", "NHWC", "channels_first", "channels_last"}, optional
        Order of the axes: NCHW (channels_first) as in PyTorch, or NHWC (channels_last) as in TensorFlow. By default
        NHWC for TensorFlow arrays, ``keras.config.image_data_format()`` for KerasTensors, and NCHW for all others.

    Returns
    -------
    array, (N, C, Ho, Wo), or (N, Ho, Wo, C) in NHWC
        With "concat", C is the total number of channels. Same dtype, framework and device as the maps.

    Raises
    ------
    TypeError
        If dtypes or frameworks do not match, or ``maps`` is neither a list nor a tuple.
    ValueError
        If shapes do not match, a keyword has an invalid value, or ``maps`` is empty.

    See Also
    --------
    merge_feature_maps_backward : gradients.
    conv_transpose2d : learned upsampling, to be applied before merging.

    References
    ----------
    Concatenation of maps from two depths: O. Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image
    Segmentation", MICCAI 2015; their sum: T.-Y. Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> large, small = np.array([[[[1.0, 2.0, 3.0, 4.0]]]]), np.array([[[[0.0, 8.0]]]])
    >>> ao.merge_feature_maps([large, small])
    array([[[[1., 2., 3., 4.]],
    <BLANKLINE>
            [[0., 2., 6., 8.]]]])
    >>> ao.merge_feature_maps([large, small], how="max", size="smallest")
    array([[[[1.5, 8. ]]]])
    >>> ao.merge_feature_maps([large, small], how="flat", size=(2, 4))
    array([[[[1., 2., 3., 4.],
             [0., 8., 0., 0.]]]])
    """
    op = "merge_feature_maps"
    arrays = checked_maps(op, maps)
    layout = resolved_layout(op, layout, arrays[0])
    parameters = merge_parameters(
        op, how=how, size=size, mode=mode, coordinates=coordinates, antialias=antialias, layout=layout
    )
    output: ArrayT = dispatch(MERGE_FEATURE_MAPS, arrays, parameters)[0]
    return output


def merge_feature_maps_backward(
    grad_output: Array,
    maps: Sequence[ArrayT],
    *,
    how: How = "concat",
    size: MergedSize = "largest",
    mode: Mode = "bilinear",
    coordinates: Coordinates = "half_pixel",
    antialias: bool = False,
    layout: Layout | None = None,
    needs: Iterable[str] | None = None,
) -> MergeFeatureMapsGradients[ArrayT]:
    """Gradients of `merge_feature_maps`, one per map; bitwise reproducible.

    Parameters
    ----------
    grad_output : array
        Gradient of the output, with the shape and dtype of the output.
    maps, how, size, mode, coordinates, antialias, layout
        As passed to `merge_feature_maps`. Except with "max", only the shapes and dtypes of the maps are used.
    needs : iterable of str, optional
        Names of the gradients to compute (fields of the result). By default, all.

    Returns
    -------
    MergeFeatureMapsGradients
        Named tuple (maps,): a list with one gradient per map, with its shape and dtype, or None.

    Raises
    ------
    TypeError, ValueError
        Same as `merge_feature_maps`; also ValueError for unknown names in ``needs``.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayops as ao
    >>> large, small = np.array([[[[1.0, 2.0, 3.0, 4.0]]]]), np.array([[[[0.0, 8.0]]]])
    >>> gradients = ao.merge_feature_maps_backward(np.ones((1, 1, 1, 4)), [large, small], how="mean")
    >>> gradients.maps[1]
    array([[[[1., 1.]]]])
    """
    op = "merge_feature_maps_backward"
    arrays = checked_maps(op, maps)
    layout = resolved_layout(op, layout, arrays[0])
    parameters = merge_parameters(
        op, how=how, size=size, mode=mode, coordinates=coordinates, antialias=antialias, layout=layout
    )
    gradients = dispatch_backward(MERGE_FEATURE_MAPS, (grad_output,), arrays, parameters, needs)
    return MergeFeatureMapsGradients(None if gradients[0] is None else list(gradients))


def checked_maps(op: str, maps: Any) -> tuple[Any, ...]:
    """Check that ``maps`` is a non-empty list or tuple: an array would be split along its batch axis."""
    if not isinstance(maps, (list, tuple)):
        raise TypeError(f"{op}: maps is {type(maps).__name__}, expected a list or tuple of arrays")
    if not maps:
        raise ValueError(f"{op}: maps is empty, expected at least one array")
    return tuple(maps)
