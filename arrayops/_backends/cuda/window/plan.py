"""Plans of sliding-window calls: everything that depends only on shapes, strides, dtypes and parameters.

Plans are cached; a repeated call needs one look-up to get all structures, macros and sizes.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from arrayops._backends.cuda.engine import memory, module
from arrayops._backends.cuda.engine.device import BLOCKS_PER_MULTIPROCESSOR, THREADS, GpuProperties
from arrayops._backends.cuda.engine.structures import ArrayView
from arrayops._core.kernel_source import Pairs
from arrayops._core.shapes import Axis, Pair
from arrayops._ops import images
from arrayops._ops.images import WindowParameters


class WindowCall(Protocol):
    """Plan and arrays of a call, as kernels need them: `PacCall` or `ConvCall`."""

    @property
    def plan(self) -> "WindowPlan":
        """The call's plan."""

    @property
    def samples(self) -> Any:
        """The input, a CuPy array."""

    @property
    def weight(self) -> Any:
        """The weight."""

    @property
    def arguments(self) -> tuple[Any, ...]:
        """``CALL_PARAMETERS`` of ``pac.cuh``, the leading arguments of every kernel of the call."""


@dataclass(frozen=True, eq=False, kw_only=True)
class WindowPlan:
    """A call's geometry.

    Attributes
    ----------
    axes : pair of Axis
        Windows along rows and columns.
    samples, weight : ArrayView or None
        The input and the weight; None if the call has none.
    accumulator : numpy.dtype
        Dtype of sums.
    defines : tuple of pairs
        Macros of every kernel of the call.
    window : numpy.void
        ``window`` of ``window.cuh``.
    precise : bool
        Whether float32 products must not be rounded to TF32.
    filters : str
        "grouped" (a weight connects the channels of each group), "shared" (one filter for all channels) or "none".
    adaptive : bool
        Whether there is an adaptive kernel.
    at_most_one : bool
        Whether all values of the adaptive kernel are at most 1.
    launches : dict
        Cached launches of sums over taps, by key: "forward", or the view of the upstream gradient.
    """

    op: str
    parameters: WindowParameters
    axes: tuple[Axis, Axis]
    kernel_size: Pair
    batch: int
    samples: ArrayView | None
    weight: ArrayView | None
    dtype: Any
    accumulator: Any
    defines: Pairs
    window: np.void
    gpu: GpuProperties
    precise: bool
    filters: str
    adaptive: bool
    at_most_one: bool
    launches: dict[Any, Any] = field(default_factory=dict)

    def kernel(self, file: str, name: str, *defines: tuple[str, int | str], shared_bytes: int = 0) -> module.Kernel:
        """A kernel compiled with the macros of the call and additional ones."""
        return module.kernel(file, name, self.defines + defines, shared_bytes)

    def blocks(self, count: int) -> int:
        """Number of blocks of a grid-stride loop over ``count`` entries."""
        return self.gpu.blocks(count, THREADS, BLOCKS_PER_MULTIPROCESSOR)

    @cached_property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output of a convolution or pooling."""
        parameters = self.parameters
        assert self.samples is not None
        channels = images.image(self.samples.shape, parameters.layout).channels
        if self.filters == "grouped":
            channels = self.group_channels[1] * parameters.groups
        return images.image_shape(self.batch, channels, self.output_size, parameters.layout)

    @cached_property
    def group_channels(self) -> Pair:
        """Input and output channels of one group of a weight that connects channels."""
        assert self.weight is not None
        parameters = self.parameters
        extents = images.weight_extents(self.weight.shape, parameters)
        # Of the two extents of a weight, one counts channels of a group, the other channels of all groups.
        if parameters.transposed:
            return extents.inputs // parameters.groups, extents.outputs
        return extents.inputs, extents.outputs // parameters.groups

    @property
    def output_size(self) -> Pair:
        """Height and width of the output."""
        return self.axes[0].output, self.axes[1].output

    @property
    def input_size(self) -> Pair:
        """Height and width of the input."""
        return self.axes[0].size, self.axes[1].size

    @property
    def taps(self) -> int:
        """Taps of the filter."""
        return self.kernel_size[0] * self.kernel_size[1]


def accumulator(dtype: "np.dtype[Any]") -> "np.dtype[Any]":
    """Dtype in which sums of ``dtype`` are accumulated."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def filter_defines(dtype: "np.dtype[Any]", kernel_size: Pair) -> Pairs:
    """Macros of every kernel with a window."""
    height, width = kernel_size
    return (*memory.dtype_defines(dtype), ("FILTER_HEIGHT", height), ("FILTER_WIDTH", width))


def weight_strides(
    view: ArrayView, parameters: WindowParameters, exchanged: bool = False, flipped: bool = False
) -> tuple[int, ...]:
    """``weight_strides`` of ``window.cuh``, for a weight that connects the channels of each group.

    ``exchanged`` swaps source and result channels; ``flipped`` reverses the order of taps along both axes.
    """
    letters = images.weight_layout(parameters).split()
    steps = dict(zip(letters, view.strides, strict=True))
    outer = letters[0] if letters[0] in "IO" else letters[3]
    group = view.shape[letters.index(outer)] // parameters.groups * steps[outer]
    result, source = (steps["I"], steps["O"]) if exchanged else (steps["O"], steps["I"])
    first, row, column = filter_strides(view, parameters, flipped)
    return first, group, result, source, row, column


def filter_strides(view: ArrayView, parameters: WindowParameters, flipped: bool) -> tuple[int, int, int]:
    """Offset of the first tap of a weight, and strides to the next row and column of taps."""
    letters = images.weight_layout(parameters).split()
    (height, row), (width, column) = (
        (view.shape[letters.index(name)], view.strides[letters.index(name)]) for name in ("kh", "kw")
    )
    return ((height - 1) * row + (width - 1) * column, -row, -column) if flipped else (0, row, column)


def correlation_strides(plan: WindowPlan, view: ArrayView, backward: bool = False) -> tuple[int, ...]:
    """``weight_strides`` of a call's weight, or of its gradient, in the order of the correlation.

    A transposed convolution correlates with the flipped filter.
    """
    parameters = plan.parameters
    if plan.filters == "grouped":
        return weight_strides(view, parameters, exchanged=backward, flipped=parameters.transposed)
    first, row, column = filter_strides(view, parameters, flipped=parameters.transposed)
    return first, 0, 0, 0, row, column
