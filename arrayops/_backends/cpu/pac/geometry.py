"""Sizes, strides and options of a call of a pixel-adaptive operator, without its arrays."""

from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.cpu.pac.structures import BYTES, NO_MASK, STORED, WIDE
from arrayops._backends.cpu.window import arrays
from arrayops._backends.cpu.window.arrays import Array, dtype_name
from arrayops._backends.numpy.layouts import kernel_channels_first
from arrayops._core.shapes import Axis, Pair

FourInts = tuple[int, int, int, int]
FiveInts = tuple[int, int, int, int, int]
SixInts = tuple[int, int, int, int, int, int]


class PacGeometry(NamedTuple):
    """Everything that the plans of a call depend on; strides count elements, and are None without the array.

    ``inputs`` and ``outputs`` are channels of a group; 0 where the adaptive kernel is the result. ``kernel`` has the
    strides of images, channels, rows and columns of taps, rows and columns of outputs, of a kernel that is given or is
    the result; ``weight`` those of groups, rows and columns of taps, inputs and outputs, None if all channels share the
    filter, or if there is none, ``filtered`` being False. ``alphas`` and ``lambdas`` are how many there are of each.
    """

    dtype: str
    layout: str
    images: int
    axes: tuple[Axis, Axis]
    groups: int
    inputs: int
    outputs: int
    source: FourInts | None
    target: FourInts | None
    weight: FiveInts | None
    filtered: bool
    guides: int
    guide: FourInts | None
    guide_size: Pair
    guide_wide: bool
    mask: FourInts | None
    mask_type: int
    kernel: SixInts | None
    kernel_wide: bool
    kernel_channels: int
    inverse: bool
    alphas: int
    lambdas: int
    asymmetric: bool
    normalize: bool
    smooth: Pair | None
    every_tap: bool

    @property
    def accumulator(self) -> "np.dtype[Any]":
        """Dtype of sums."""
        return arrays.accumulator(self.dtype)

    @property
    def item(self) -> int:
        """Bytes of an accumulator."""
        return self.accumulator.itemsize

    @property
    def counted(self) -> bool:
        """Whether taps that do not count are left out."""
        return self.guide is not None and (self.normalize or self.mask_type != NO_MASK)

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return self.groups * self.inputs

    @property
    def taps(self) -> int:
        """Taps of the filter."""
        return self.axes[0].kernel * self.axes[1].kernel

    @property
    def outputs_of_taps(self) -> float:
        """Outputs times the taps that each reads."""
        rows, columns = self.axes
        if self.every_tap:
            return float(self.images * rows.output * columns.output * self.taps)
        return float(self.images * min(rows.output, rows.size) * min(columns.output, columns.size) * self.taps)

    @property
    def operations(self) -> float:
        """Rough number of floating-point operations of a forward."""
        products = 2 * self.channels * max(1, self.outputs)
        kernel = self.kernel_channels * 30 + 3 * self.guides if self.guide is not None else 1
        return self.outputs_of_taps * (products + kernel)

    @property
    def nanoseconds(self) -> float:
        """Rough estimate of the time of a forward on one thread."""
        rows, columns = self.axes
        values = (self.channels + self.guides) * rows.size * columns.size
        values += self.groups * self.outputs * rows.output * columns.output
        return self.operations / 60 + values * self.images / 2


class Operands(NamedTuple):
    """Arrays of a call as kernels take them; None for those that it lacks.

    ``weight`` is in the order of the correlation, (groups, kh, kw, inputs, outputs), or (kh, kw) for all channels.
    ``alpha``, ``lambda_`` and the bias have the dtype of sums, ``smooth`` is float64; its last element is what the sum
    of its weights exceeds 1 by.
    """

    samples: Array | None
    guide: Array | None
    mask: Array | None
    kernel: Array | None
    weight: Array | None
    bias: Array | None
    alpha: Array | None
    lambda_: Array | None
    smooth: Array | None


def kernel_strides(kernel: Array, layout: str) -> SixInts:
    """Elements to the next image, channel, row and column of taps, row and column of outputs."""
    found = tuple(stride // kernel.itemsize for stride in kernel_channels_first(kernel, layout).strides)
    return found  # type: ignore[return-value]


def mask_type(mask: Array | None, dtype: str) -> int:
    """How kernels read a mask: of bytes, of the dtype of the samples, or of sums."""
    if mask is None:
        return NO_MASK
    if mask.dtype.kind in "biu":
        return BYTES
    return STORED if dtype_name(mask) == dtype else WIDE
