"""Plans of calls with a sliding window: all that depends on shapes, strides, dtypes and parameters alone.

A plan is made once; a repeated call finds it by one look-up and has structures, macros and sizes at hand.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from arrayops._backends.cuda.engine import memory, module
from arrayops._backends.cuda.engine.device import GpuProperties
from arrayops._backends.cuda.engine.module import Pairs
from arrayops._backends.cuda.engine.structures import ArrayView
from arrayops._core.shapes import Axis, Pair
from arrayops._ops import images
from arrayops._ops.images import WindowParameters

THREADS = 256
BLOCKS_PER_MULTIPROCESSOR = 32
"""Blocks for each multiprocessor where threads step over the work: enough to hide the latency of memory."""


class WindowCall(Protocol):
    """What a call brings to its kernels: `PacCall`, or `ConvCall`."""

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
        """``CALL_PARAMETERS`` of ``pac.cuh``, which every kernel of the call takes first."""


@dataclass(frozen=True, eq=False, kw_only=True)
class WindowPlan:
    """A call's geometry.

    Attributes
    ----------
    axes : pair of Axis
        Windows along rows and columns.
    samples, weight : ArrayView or None
        The input and the weight, where the call has them.
    accumulator : numpy.dtype
        What sums are kept in.
    defines : tuple of pairs
        Macros that every kernel of the call gets.
    window : numpy.void
        ``window`` of ``window.cuh``.
    precise : bool
        Whether float32 keeps all of its bits.
    filters : str
        "grouped" (a weight connects the channels of each group), "shared" (one filter for all channels) or "none".
    adaptive : bool
        Whether there is an adaptive kernel.
    at_most_one : bool
        Whether the adaptive kernel cannot be above 1.
    launches : dict
        Sums over taps that were launched for the plan: "forward", or the view of the gradient that came in.
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
        """A kernel with the macros of the call and more."""
        return module.kernel(file, name, self.defines + defines, shared_bytes)

    def blocks(self, count: int) -> int:
        """Blocks of a launch whose threads step over ``count`` entries."""
        return self.gpu.blocks(count, THREADS, BLOCKS_PER_MULTIPROCESSOR)

    @cached_property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output of a convolution or pooling."""
        p = self.parameters
        assert self.samples is not None
        channels = images.image(self.samples.shape, p.layout).channels
        if self.filters == "grouped":
            channels = self.group_channels[1] * p.groups
        return images.image_shape(self.batch, channels, self.output_size, p.layout)

    @cached_property
    def group_channels(self) -> Pair:
        """Input and output channels of one group of a weight that connects channels."""
        assert self.weight is not None
        p = self.parameters
        extents = images.weight_extents(self.weight.shape, p)
        # One of the two is given for a group, the other for all groups.
        if p.transposed:
            return extents.inputs // p.groups, extents.outputs
        return extents.inputs, extents.outputs // p.groups

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
    """What sums of ``dtype`` are kept in."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def filter_defines(dtype: "np.dtype[Any]", kernel_size: Pair) -> Pairs:
    """Macros that every kernel with a window gets."""
    height, width = kernel_size
    return (*memory.dtype_defines(dtype), ("FILTER_HEIGHT", height), ("FILTER_WIDTH", width))


def weight_strides(
    view: ArrayView, p: WindowParameters, exchanged: bool = False, flipped: bool = False
) -> tuple[int, ...]:
    """``weight_strides`` of ``window.cuh``, for a weight that connects the channels of each group.

    ``exchanged`` exchanges the roles of its two channels, ``flipped`` turns its taps around.
    """
    letters = images.weight_layout(p).split()
    steps = dict(zip(letters, view.strides, strict=True))
    outer = letters[0] if letters[0] in "IO" else letters[3]
    group = view.shape[letters.index(outer)] // p.groups * steps[outer]
    result, source = (steps["I"], steps["O"]) if exchanged else (steps["O"], steps["I"])
    first, row, column = filter_strides(view, p, flipped)
    return first, group, result, source, row, column


def filter_strides(view: ArrayView, p: WindowParameters, flipped: bool) -> tuple[int, int, int]:
    """First tap of a weight, and the steps to the next row and column."""
    letters = images.weight_layout(p).split()
    (height, row), (width, column) = (
        (view.shape[letters.index(name)], view.strides[letters.index(name)]) for name in ("kh", "kw")
    )
    return ((height - 1) * row + (width - 1) * column, -row, -column) if flipped else (0, row, column)


def correlation_strides(plan: WindowPlan, view: ArrayView, backward: bool = False) -> tuple[int, ...]:
    """``weight_strides`` of a call's weight, or of its gradient, in the order in which the call correlates.

    A transposed convolution correlates with the flipped filter.
    """
    p = plan.parameters
    if plan.filters == "grouped":
        return weight_strides(view, p, exchanged=backward, flipped=p.transposed)
    first, row, column = filter_strides(view, p, flipped=p.transposed)
    return first, 0, 0, 0, row, column
