"""Pixel-adaptive convolution and pooling composed of functions of keras.ops, for graphs that cannot call arrayops.

The functions have the arguments of those of `arrayops` of the same names. They go through the filter tap by tap: a tap
is a strided slice of the padded image, which is scaled by the adaptive kernel of that tap, multiplied by the weights of
that tap, and added to the result. Half precision is computed in float32. Inside, images are NHWC.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from arrayops._core.shapes import Pair
from arrayops._frameworks.keras.operator_call import xla_calls_python
from arrayops._typing import MaskedOutput


def is_needed() -> bool:
    """Whether XLA is compiling a function of TensorFlow, which cannot call arrayops."""
    if xla_calls_python():
        return False
    from arrayops._frameworks.tensorflow.private import in_xla

    return in_xla()


class Window(NamedTuple):
    """The window of a filter over an image: (rows, columns) each; ``padding`` is "valid" or "same"."""

    size: Pair
    stride: Pair
    dilation: Pair
    padding: str

    @property
    def taps(self) -> list[Pair]:
        """All taps, row by row."""
        return [(i, j) for i in range(self.size[0]) for j in range(self.size[1])]

    @property
    def centre(self) -> Pair:
        """The tap that differences of guide features are taken from."""
        return self.size[0] // 2, self.size[1] // 2

    def padded(self, image: Any) -> Any:
        """The image with zeros around it."""
        if self.padding == "valid":
            return image
        # Sizes may be tensors while a function is traced.
        margins = [self._margins(axis, ops.shape(image)[1 + axis]) for axis in (0, 1)]
        return ops.pad(image, [(0, 0), *margins, (0, 0)])

    def _margins(self, axis: int, size: Any) -> tuple[Any, Any]:
        """Zeros before and behind an axis, as TensorFlow's SAME."""
        extent = (self.size[axis] - 1) * self.dilation[axis] + 1
        step = self.stride[axis]
        if step == 1:
            total: Any = extent - 1
        else:
            total = (-(-size // step) - 1) * step + extent - size
            total = max(total, 0) if isinstance(total, int) else ops.maximum(total, 0)
        return total // 2, total - total // 2

    def at(self, tap: Pair, padded: Any, offset: Pair = (0, 0), added: Pair = (0, 0)) -> Any:
        """What a tap reads, for every position of the window.

        It reads at an ``offset``, in pixels, from there in an image to which so many pixels have been ``added``.
        """
        slices = [slice(None)]
        for axis in (0, 1):
            start = tap[axis] * self.dilation[axis] + offset[axis]
            behind = (self.size[axis] - 1) * self.dilation[axis] + added[axis] - start
            slices.append(slice(start, -behind or None, self.stride[axis]))
        return padded[tuple(slices)]


def pac_conv2d(
    input: Any,
    guide: Any,
    weight: Any,
    bias: Any = None,
    *,
    groups: int,
    shared_filters: bool,
    stride: Pair,
    padding: str,
    dilation: Pair,
    layout: str,
    kernel: Any = None,
    mask: Any = None,
    **options: Any,
) -> Any:
    """`arrayops.pac_conv2d`."""
    if layout == "NCHW":
        weight = ops.transpose(weight, (2, 3, 1, 0))
    window = Window(tuple(weight.shape[:2]), stride, dilation, padding)
    weight = _computed(ops.convert_to_tensor(weight))
    inner, outputs = weight.shape[2:]

    def filtered(sample: Any, tap: Pair) -> Any:
        matrix = weight[tap]
        if shared_filters:
            return sample * matrix[0, 0]
        if groups == 1:
            return ops.matmul(sample, matrix)
        per_group = ops.reshape(matrix, (inner, groups, outputs // groups))
        parts = [ops.matmul(sample[..., g * inner : (g + 1) * inner], per_group[:, g]) for g in range(groups)]
        return ops.concatenate(parts, axis=-1)

    return _adapted(input, guide, kernel, mask, bias, window, layout, filtered, **options)


def pac_pool2d(
    input: Any,
    guide: Any,
    kernel_size: Pair,
    *,
    stride: Pair,
    padding: str,
    dilation: Pair,
    layout: str,
    kernel: Any = None,
    mask: Any = None,
    channel_wise: bool = False,
    **options: Any,
) -> Any:
    """`arrayops.pac_pool2d`."""
    window = Window(kernel_size, stride, dilation, padding)
    options["channel_wise"] = channel_wise
    return _adapted(input, guide, kernel, mask, None, window, layout, lambda sample, tap: sample, **options)


def _adapted(
    input: Any,
    guide: Any,
    kernel: Any,
    mask: Any,
    bias: Any,
    window: Window,
    layout: str,
    filtered: Callable[[Any, Pair], Any],
    **options: Any,
) -> Any:
    """The sum over the taps of the filtered samples, scaled by the adaptive kernel."""
    first = layout == "NCHW"
    dtype = input.dtype
    image = _computed(ops.transpose(input, (0, 2, 3, 1)) if first else input)
    valid = None
    if mask is not None:
        valid = ops.transpose(mask, (0, 2, 3, 1)) if first else mask
        # Not a product: what is masked out may be NaN.
        image = ops.where(valid, image, ops.zeros_like(image))
    if kernel is not None:
        kernel = _computed(ops.transpose(kernel, (0, 4, 5, 2, 3, 1)) if first else kernel)
        scales = [kernel[:, :, :, i, j] for i, j in window.taps]
    else:
        guide = _computed(ops.transpose(guide, (0, 2, 3, 1)) if first else guide)
        scales = _adaptive_kernel(guide, image, valid, window, **options)
    padded = window.padded(image)
    terms = [filtered(scale * window.at(tap, padded), tap) for tap, scale in zip(window.taps, scales, strict=True)]
    output = _total(terms)
    if bias is not None:
        output = output + _computed(ops.convert_to_tensor(bias))
    output = ops.cast(ops.transpose(output, (0, 3, 1, 2)) if first else output, dtype)
    if valid is None:
        return output
    reached = _total(_tap_masks(valid, window, image.dtype)) > 0
    return MaskedOutput(output, ops.transpose(reached, (0, 3, 1, 2)) if first else reached)


def _adaptive_kernel(
    guide: Any,
    image: Any,
    valid: Any,
    window: Window,
    *,
    kernel_type: str,
    asymmetric: bool,
    normalize_kernel: bool,
    inv_alpha: Any = None,
    inv_lambda: Any = None,
    smooth_kernel: Any = None,
    channel_wise: bool = False,
) -> list[Any]:
    """The adaptive kernel of each tap, (N, Ho, Wo, 1), or with a channel for each of the guide."""
    padded = window.padded(guide)
    centre = window.at(window.centre, padded)
    if smooth_kernel is not None:
        centre = _smoothed_centre(padded, _computed(smooth_kernel), window)
    kernels = []
    for tap in window.taps:
        difference = window.at(tap, padded) - centre
        distance = ops.square(ops.relu(difference) if asymmetric else difference)
        if not channel_wise:
            distance = ops.sum(distance, axis=-1, keepdims=True)
        if kernel_type == "gaussian":
            kernels.append(ops.exp(-0.5 * distance))
        else:
            exponent = _computed(ops.convert_to_tensor(inv_lambda)) / 2
            kernels.append(_computed(ops.convert_to_tensor(inv_alpha)) + ops.power(distance + 1e-4, exponent))
    if valid is None and not normalize_kernel:
        return kernels
    inside = _tap_masks(ops.ones_like(image[..., :1], dtype="bool"), window, image.dtype)
    masks = inside if valid is None else _tap_masks(valid, window, image.dtype)
    # Not a product: NaN of a guide that is masked out ends here, and another one does not.
    zero = ops.zeros_like(kernels[0])
    kernels = [ops.where(mask > 0, kernel, zero) for kernel, mask in zip(kernels, masks, strict=True)]
    if normalize_kernel:
        total = _total(kernels)
        divisor = ops.where(total == 0, ops.ones_like(total), total)
        return [kernel / divisor for kernel in kernels]
    ratio = _total(inside) / ops.maximum(_total(masks), 1)
    return [kernel * ratio for kernel in kernels]


def _smoothed_centre(padded: Any, smooth_kernel: Any, window: Window) -> Any:
    """The guide at the centre tap, filtered with a kernel of odd size."""
    rows, columns = smooth_kernel.shape
    image = ops.pad(padded, [(0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0)])
    offsets = [(i, j) for i in range(rows) for j in range(columns)]
    added = rows - 1, columns - 1
    return _total([smooth_kernel[offset] * window.at(window.centre, image, offset, added) for offset in offsets])


def _tap_masks(valid: Any, window: Window, dtype: Any) -> list[Any]:
    """For each tap, 1 where it reads a valid pixel, and 0 elsewhere, outside of the image too."""
    padded = window.padded(ops.cast(valid, dtype))
    return [window.at(tap, padded) for tap in window.taps]


def _total(terms: Sequence[Any]) -> Any:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _computed(tensor: Any) -> Any:
    """The tensor in the dtype that is computed in: float32 for half precision."""
    half = keras.backend.standardize_dtype(tensor.dtype) in ("float16", "bfloat16")
    return ops.cast(tensor, "float32") if half else tensor
