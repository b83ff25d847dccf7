"""Resizing, and merging feature maps of different sizes into one: concatenated, reduced or laid end to end."""

from collections.abc import Iterable, Sequence
from typing import Any, Generic, Literal, NamedTuple

from arrayops._core.dispatch import dispatch, dispatch_backward
from arrayops._ops.merge import MERGE_FEATURE_MAPS, RESIZE2D, merge_parameters, resize_parameters
from arrayops._typing import Array, ArrayT, Layout, Size

Mode = Literal["nearest", "bilinear", "bicubic", "area"]
Coordinates = Literal["half_pixel", "align_corners", "asymmetric"]
How = Literal["concat", "add", "mean", "max", "flat"]
MergedSize = Literal["largest", "smallest"] | Size


class Resize2dGradients(NamedTuple, Generic[ArrayT]):
    """Gradient of `resize2d`, None if not needed."""

    input: ArrayT | None


class MergeFeatureMapsGradients(NamedTuple, Generic[ArrayT]):
    """Gradients of `merge_feature_maps`, one a map in their order, or None if not needed."""

    maps: list[ArrayT] | None


def resize2d(
    input: ArrayT,
    size: Size | None = None,
    *,
    scale: float | Sequence[float] | None = None,
    mode: Mode = "bilinear",
    coordinates: Coordinates = "half_pixel",
    antialias: bool = False,
    layout: Layout = "NCHW",
) -> ArrayT:
    """Resize the height and width of images, each axis up or down, by interpolation or averaging.

    With x the input, and the matrices A and B that ``mode``, ``coordinates`` and ``antialias`` make of the old and new
    height and width::

        y[h, w] = sum over i, j of A[h, i] B[w, j] x[i, j]

    An output at place i of ``out`` lies among the ``in`` samples of an axis at ::

        half_pixel       (i + 1/2) in / out - 1/2
        align_corners    i (in - 1) / (out - 1), or 0 if out is 1
        asymmetric       i in / out

    Parameters
    ----------
    input : array, (N, C, H, W), or (N, H, W, C) in NHWC
        float16, bfloat16, float32 or float64; half precision is summed in float32. H and W are at least 1.
    size : int or pair of int, optional
        Height and width of the output. Either ``size`` or ``scale`` is given.
    scale : float or pair of float, optional
        Sets the size, floor(H * scale) and floor(W * scale), and nothing else: coordinates follow from the sizes.
    mode : {"nearest", "bilinear", "bicubic", "area"}, default "bilinear"
        "nearest" takes one sample: in asymmetric coordinates the one at or before the place (torch's "nearest"), in
        half_pixel and align_corners the nearest, the later of two equally near ones (torch's "nearest-exact").
        "bilinear" and "bicubic" (cubic convolution with a = -0.75) interpolate; beyond the border the last sample goes
        on. "area" is adaptive average pooling, up and down: the mean of all samples that an output's extent touches.
    coordinates : {"half_pixel", "align_corners", "asymmetric"}, default "half_pixel"
        Where outputs lie, as above; "half_pixel" is torch's ``align_corners=False``. "area" knows "half_pixel" alone.
    antialias : bool, default False
        For "bilinear" and "bicubic": where an axis shrinks, stretch the kernel to the step between outputs, so that
        every sample counts. As in torch, the cubic kernel then has a = -0.5, and samples beyond the border do not
        count; with "align_corners" only the step is that between corners, and kernels lie as in half_pixel.
    layout : {"NCHW", "NHWC"}, default "NCHW"
        Order of the axes: torch's, or TensorFlow's.

    Returns
    -------
    array, (N, C, Ho, Wo), or (N, Ho, Wo, C) in NHWC
        In the dtype, framework and device of the input. NaN and infinity reach those outputs alone in which they have a
        weight.

    Raises
    ------
    TypeError
        For arrays of wrong dtypes, or such as want gradients; for an ``antialias`` that is no bool.
    ValueError
        For shapes and keywords that do not fit.

    See Also
    --------
    resize2d_backward : its gradient.
    merge_feature_maps : several maps to one size, and into one array.

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
        "resize2d", size=size, scale=scale, mode=mode, coordinates=coordinates, antialias=antialias, layout=layout
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
    layout: Layout = "NCHW",
    needs: Iterable[str] | None = None,
) -> Resize2dGradients[ArrayT]:
    """Gradient of `resize2d`: the transposed matrices, gathered sample by sample, with the same bits every time.

    Parameters
    ----------
    grad_output : array
        Gradient of the output, of its shape and dtype.
    input, size, scale, mode, coordinates, antialias, layout
        As given to `resize2d`. Of the input only shape and dtype are looked at.
    needs : iterable of str, optional
        Names of the gradients to compute, among the fields of the result; None means all.

    Returns
    -------
    Resize2dGradients
        Named tuple (input,), of the shape and dtype of the input, or None.

    Raises
    ------
    TypeError, ValueError
        As `resize2d`; ValueError also for unknown names in ``needs``.

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
        layout=layout,
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
    layout: Layout = "NCHW",
) -> ArrayT:
    """Bring maps of different sizes to one size, and concatenate or reduce them, without storing the resized maps.

    With R(x) the map x resized to the common size by `resize2d`::

        concat    y = [R(x_0), R(x_1), ...] along the channels
        add       y = R(x_0) + R(x_1) + ...
        mean      y = (R(x_0) + R(x_1) + ...) / (number of maps)
        max       y = max(R(x_0), R(x_1), ...)
        flat      y = the positions of x_0, then those of x_1, ..., then zeros, as a map of the common size

    Parameters
    ----------
    maps : sequence of array, each (N, C, H, W), or (N, H, W, C) in NHWC
        At least one. float16, bfloat16, float32 or float64, all of one dtype; half precision is summed in float32. All
        have one batch size, and with every ``how`` but "concat" as many channels. A map that has the common size
        already is read as it is.
    how : {"concat", "add", "mean", "max", "flat"}, default "concat"
        "flat" resizes nothing, so that ``mode``, ``coordinates`` and ``antialias`` play no part: it flattens height and
        width of each map, row by row, puts them end to end, fills up with zeros, and folds the result to ``size``.
        "max" gives the gradient to the first map that attains the maximum, and NaN where one of the maps holds NaN.
    size : {"largest", "smallest"}, or pair of int, or int, default "largest"
        The common height and width. "largest" and "smallest" are taken axis by axis: of maps of 4 x 9 and 6 x 5 the
        largest is 6 x 9, the smallest 4 x 5. With "flat", height times width are at least as many as the positions of
        all maps.
    mode, coordinates, antialias
        As in `resize2d`.
    layout : {"NCHW", "NHWC"}, default "NCHW"
        Order of the axes: torch's, or TensorFlow's.

    Returns
    -------
    array, (N, C, Ho, Wo), or (N, Ho, Wo, C) in NHWC
        C is the sum of the maps' channels with "concat". In the dtype, framework and device of the maps.

    Raises
    ------
    TypeError
        For arrays of wrong or different dtypes, mixed frameworks, or such as want gradients; for maps that are no list
        or tuple.
    ValueError
        For shapes and keywords that do not fit, and for no maps.

    See Also
    --------
    merge_feature_maps_backward : its gradients.
    conv_transpose2d : learned upsampling, to be done before the merge.

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
    parameters = merge_parameters(
        op, how=how, size=size, mode=mode, coordinates=coordinates, antialias=antialias, layout=layout
    )
    output: ArrayT = dispatch(MERGE_FEATURE_MAPS, checked_maps(op, maps), parameters)[0]
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
    layout: Layout = "NCHW",
    needs: Iterable[str] | None = None,
) -> MergeFeatureMapsGradients[ArrayT]:
    """Gradients of `merge_feature_maps`: one a map, gathered sample by sample, with the same bits every time.

    Parameters
    ----------
    grad_output : array
        Gradient of the output, of its shape and dtype.
    maps, how, size, mode, coordinates, antialias, layout
        As given to `merge_feature_maps`. But with "max", only shapes and dtypes of the maps are looked at.
    needs : iterable of str, optional
        Names of the gradients to compute, among the fields of the result; None means all.

    Returns
    -------
    MergeFeatureMapsGradients
        Named tuple (maps,): a list with a gradient for each map, of its shape and dtype, or None.

    Raises
    ------
    TypeError, ValueError
        As `merge_feature_maps`; ValueError also for unknown names in ``needs``.

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
    parameters = merge_parameters(
        op, how=how, size=size, mode=mode, coordinates=coordinates, antialias=antialias, layout=layout
    )
    gradients = dispatch_backward(MERGE_FEATURE_MAPS, (grad_output,), checked_maps(op, maps), parameters, needs)
    return MergeFeatureMapsGradients(None if gradients[0] is None else list(gradients))


def checked_maps(op: str, maps: Any) -> tuple[Any, ...]:
    """``maps``, a list or tuple that is not empty: a single array would be taken apart along its batch."""
    if not isinstance(maps, (list, tuple)):
        raise TypeError(f"{op}: maps is {type(maps).__name__}, expected a list or tuple of arrays")
    if not maps:
        raise ValueError(f"{op}: maps is empty, expected at least one array")
    return tuple(maps)
