"""Shared by operators on images: shapes in both layouts, grouped weights, windows and cached parameters."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, TypeVar

from arrayops._core import checks, shapes
from arrayops._core.op import Meta
from arrayops._core.opaque import cached_if_hashable, traced_by_torch_as
from arrayops._core.shapes import Axis, Padding, Pair

ParametersT = TypeVar("ParametersT")


class WindowParameters(Protocol):
    """Fields common to the parameter tuples of all operators with a sliding window."""

    @property
    def stride(self) -> Pair:
        """Stride of the window."""

    @property
    def padding(self) -> Padding:
        """Zero padding of the input."""

    @property
    def output_padding(self) -> Pair:
        """Output rows and columns that a transposed window adds at the end."""

    @property
    def dilation(self) -> Pair:
        """Dilation: distance between taps."""

    @property
    def layout(self) -> str:
        """Axis order, "NCHW" or "NHWC"."""

    @property
    def transposed(self) -> bool:
        """Whether the convolution is transposed."""

    @property
    def groups(self) -> int:
        """Number of channel groups."""


def cached(parameters: Callable[..., ParametersT]) -> Callable[..., ParametersT]:
    """``parameters(op, stride=, padding=, dilation=, ...)``, cached.

    Only calls with plain ints and strings use the cache: within a tuple the cache could not tell 1 from 1.0 or True,
    which the checks reject.
    """
    cached_function = lru_cache(maxsize=512, typed=True)(parameters)

    @traced_by_torch_as(parameters)
    def call(op: str, stride: Any, padding: Any, dilation: Any, **rest: Any) -> ParametersT:
        sizes = stride, dilation, rest.get("kernel_size", 0), rest.get("output_padding", 0)
        if type(padding) in (int, str) and set(map(type, sizes)) == {int}:
            try:
                return cached_function(op, stride=stride, padding=padding, dilation=dilation, **rest)
            except TypeError:
                # An unhashable value, or one that the checks reject: the uncached call raises the right error.
                pass
        return parameters(op, stride=stride, padding=padding, dilation=dilation, **rest)

    return call


class ImageShape(NamedTuple):
    """Batch, channels and spatial size of an image batch, independent of layout."""

    batch: int
    channels: int
    size: Pair


def image(shape: tuple[int, ...], layout: str) -> ImageShape:
    """Batch, channels and size of a 4-axis shape in ``layout``."""
    if layout == "NCHW":
        batch, channels, height, width = shape
    else:
        batch, height, width, channels = shape
    return ImageShape(batch, channels, (height, width))


def image_shape(batch: int, channels: int, size: Pair, layout: str) -> tuple[int, ...]:
    """The 4-axis shape in ``layout``."""
    return (batch, channels, *size) if layout == "NCHW" else (batch, *size, channels)


def weight_layout(parameters: WindowParameters) -> str:
    """Axes of the weight, in torch's order for NCHW and in TensorFlow's for NHWC."""
    if parameters.layout == "NCHW":
        return "I O kh kw" if parameters.transposed else "O I kh kw"
    return "kh kw O I" if parameters.transposed else "kh kw I O"


class WeightShape(NamedTuple):
    """Channels and filter size of a weight, as in its shape: with groups, one of the counts is that of one group."""

    inputs: int
    outputs: int
    kernel_size: Pair


def weight_extents(shape: tuple[int, ...], parameters: WindowParameters) -> WeightShape:
    """Channels and filter size of a weight's shape, read by `weight_layout`."""
    sizes = dict(zip(weight_layout(parameters).split(), shape, strict=True))
    return WeightShape(sizes["I"], sizes["O"], (sizes["kh"], sizes["kw"]))


@cached_if_hashable
def windows(op: str, parameters: WindowParameters, kernel_size: Pair, size: Pair) -> tuple[Axis, Axis]:
    """Row and column windows over an input of ``size``."""
    if parameters.transposed:
        rows, columns = (
            shapes.transposed_window(
                op,
                i,
                size[i],
                kernel_size[i],
                parameters.stride[i],
                parameters.dilation[i],
                parameters.padding,
                parameters.output_padding[i],
            )
            for i in (0, 1)
        )
    else:
        rows, columns = (
            shapes.window(
                op, i, size[i], kernel_size[i], parameters.stride[i], parameters.dilation[i], parameters.padding
            )
            for i in (0, 1)
        )
    return rows, columns


def check_weight(op: str, parameters: WindowParameters, weight: Meta, channels: int) -> int:
    """Check a weight against an input of ``channels`` channels; return the number of output channels."""
    inputs, outputs, _ = weight_extents(weight.shape, parameters)
    if channels % parameters.groups:
        raise ValueError(f"{op}: groups is {parameters.groups}, expected a divisor of the input's {channels} channels")
    expected = channels if parameters.transposed else channels // parameters.groups
    if inputs != expected:
        raise ValueError(
            f"{op}: weight is {weight.shape}, expected {expected} input channels for an input of {channels} channels "
            f"in {parameters.groups} group{'s' * (parameters.groups > 1)}"
        )
    if parameters.transposed:
        return outputs * parameters.groups
    if outputs % parameters.groups:
        raise ValueError(
            f"{op}: groups is {parameters.groups}, expected a divisor of the weight's {outputs} output channels"
        )
    return outputs


def check_input_and_weight(
    op: str, parameters: WindowParameters, input: Meta | None, weight: Meta | None
) -> tuple[Meta, Meta]:
    """Check axes and dtypes of a convolution's input and weight, and return both."""
    if input is None or weight is None:
        raise TypeError(f"{op}: input and weight are {input} and {weight}, expected arrays")
    checks.axes(op, "input", input, " ".join(parameters.layout))
    checks.floating(op, "input", input)
    checks.axes(op, "weight", weight, weight_layout(parameters))
    checks.dtype(op, "weight", weight, input.dtype, "as the input")
    return input, weight


def check_filter_and_bias(op: str, parameters: WindowParameters, weight: Meta, bias: Meta | None, outputs: int) -> Pair:
    """Check that the filter is not empty and that the bias has one value per output channel; return the filter size."""
    kernel_size = weight_extents(weight.shape, parameters).kernel_size
    if min(kernel_size) < 1:
        raise ValueError(f"{op}: weight is {weight.shape}, expected a filter of at least 1 x 1")
    if bias is not None:
        checks.dtype(op, "bias", bias, weight.dtype, "as the input")
        checks.shape(op, "bias", bias, (outputs,), "for the output channels")
    return kernel_size
