"""What operators on images share: shapes in either layout, weights in groups, windows, and parameters remembered."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, TypeVar

from arrayops._core import checks, shapes
from arrayops._core.op import Meta
from arrayops._core.shapes import Axis, Padding, Pair

P = TypeVar("P")


class WindowParameters(Protocol):
    """What the parameter tuple of every operator with a sliding window holds."""

    @property
    def stride(self) -> Pair:
        """Steps of the window."""

    @property
    def padding(self) -> Padding:
        """Zeros around the input."""

    @property
    def output_padding(self) -> Pair:
        """Outputs that a transposed window adds behind."""

    @property
    def dilation(self) -> Pair:
        """Steps of the taps."""

    @property
    def layout(self) -> str:
        """NCHW or NHWC."""

    @property
    def transposed(self) -> bool:
        """Whether the window slides over stuffed zeros."""

    @property
    def groups(self) -> int:
        """Groups of channels."""


def remembering(parameters: Callable[..., P]) -> Callable[..., P]:
    """``parameters(op, stride=, padding=, dilation=, ...)`` with a memory of recent calls.

    Only of calls that give numbers and words: within a tuple the memory could not tell 1 from 1.0 or True, which the
    checks refuse.
    """
    remembered = lru_cache(maxsize=512, typed=True)(parameters)

    def recall(op: str, stride: Any, padding: Any, dilation: Any, **others: Any) -> P:
        sizes = stride, dilation, others.get("kernel_size", 0), others.get("output_padding", 0)
        if type(padding) in (int, str) and set(map(type, sizes)) == {int}:
            try:
                return remembered(op, stride=stride, padding=padding, dilation=dilation, **others)
            except TypeError:
                # Something unhashable, or refused by the checks, which then say it again.
                pass
        return parameters(op, stride=stride, padding=padding, dilation=dilation, **others)

    return recall


class Image(NamedTuple):
    """Batch, channels and size of an array in either layout."""

    batch: int
    channels: int
    size: Pair


def image(shape: tuple[int, ...], layout: str) -> Image:
    """Read a shape of four axes in ``layout``."""
    if layout == "NCHW":
        batch, channels, height, width = shape
    else:
        batch, height, width, channels = shape
    return Image(batch, channels, (height, width))


def image_shape(batch: int, channels: int, size: Pair, layout: str) -> tuple[int, ...]:
    """Shape of four axes in ``layout``."""
    return (batch, channels, *size) if layout == "NCHW" else (batch, *size, channels)


def weight_layout(p: WindowParameters) -> str:
    """Axes of the weight: torch's names with NCHW, TensorFlow's with NHWC."""
    if p.layout == "NCHW":
        return "I O kh kw" if p.transposed else "O I kh kw"
    return "kh kw O I" if p.transposed else "kh kw I O"


class Weight(NamedTuple):
    """Channels that a weight connects (of one group where groups cut them) and its filter size."""

    inputs: int
    outputs: int
    kernel_size: Pair


def weight_extents(shape: tuple[int, ...], p: WindowParameters) -> Weight:
    """Read a weight's shape by `weight_layout`."""
    sizes = dict(zip(weight_layout(p).split(), shape, strict=True))
    return Weight(sizes["I"], sizes["O"], (sizes["kh"], sizes["kw"]))


@lru_cache(maxsize=512)
def windows(op: str, p: WindowParameters, kernel_size: Pair, size: Pair) -> tuple[Axis, Axis]:
    """Row and column windows over an input of ``size``."""
    if p.transposed:
        rows, columns = (
            shapes.transposed_window(
                op, i, size[i], kernel_size[i], p.stride[i], p.dilation[i], p.padding, p.output_padding[i]
            )
            for i in (0, 1)
        )
    else:
        rows, columns = (
            shapes.window(op, i, size[i], kernel_size[i], p.stride[i], p.dilation[i], p.padding) for i in (0, 1)
        )
    return rows, columns


def check_weight(op: str, p: WindowParameters, weight: Meta, channels: int) -> int:
    """A weight fits an input of ``channels`` channels in groups; return the number of output channels."""
    inputs, outputs, _ = weight_extents(weight.shape, p)
    if channels % p.groups:
        raise ValueError(f"{op}: groups is {p.groups}, expected a divisor of the input's {channels} channels")
    expected = channels if p.transposed else channels // p.groups
    if inputs != expected:
        raise ValueError(
            f"{op}: weight is {weight.shape}, expected {expected} input channels for an input of {channels} channels "
            f"in {p.groups} group{'s' * (p.groups > 1)}"
        )
    if p.transposed:
        return outputs * p.groups
    if outputs % p.groups:
        raise ValueError(f"{op}: groups is {p.groups}, expected a divisor of the weight's {outputs} output channels")
    return outputs


def check_input_and_weight(op: str, p: WindowParameters, input: Meta | None, weight: Meta | None) -> tuple[Meta, Meta]:
    """Axes and dtypes of a convolution's two arrays, which are returned."""
    if input is None or weight is None:
        raise TypeError(f"{op}: input and weight are {input} and {weight}, expected arrays")
    checks.axes(op, "input", input, " ".join(p.layout))
    checks.floating(op, "input", input)
    checks.axes(op, "weight", weight, weight_layout(p))
    checks.dtype(op, "weight", weight, input.dtype, "as the input")
    return input, weight


def check_filter_and_bias(op: str, p: WindowParameters, weight: Meta, bias: Meta | None, outputs: int) -> Pair:
    """A filter has a tap at least, and a bias a value for each of the output channels; return the filter's size."""
    kernel_size = weight_extents(weight.shape, p).kernel_size
    if min(kernel_size) < 1:
        raise ValueError(f"{op}: weight is {weight.shape}, expected a filter of at least 1 x 1")
    if bias is not None:
        checks.dtype(op, "bias", bias, weight.dtype, "as the input")
        checks.shape(op, "bias", bias, (outputs,), "for the output channels")
    return kernel_size
