"""Sizes and strides of the arrays of a correlation, without the arrays."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.cpu.engine.scheduler import vector_bytes
from arrayops._backends.cpu.window import arrays
from arrayops._backends.cpu.window.structures import ImagesStructure, images_structure
from arrayops._core.shapes import Axis

RANGE_NANOSECONDS = 30_000
"""Work of the blocks that a thread takes at once, if blocks are less."""

FourInts = tuple[int, int, int, int]
FiveInts = tuple[int, int, int, int, int]


class Geometry(NamedTuple):
    """Everything that the plan of a correlation depends on.

    Strides count elements: of images those to the next image, channel, row and column; of the weight, in the order of
    the correlation, those to the next group, row and column of taps, input and output.
    """

    dtype: str
    itemsize: int
    layout: str
    images: int
    groups: int
    inputs: int
    outputs: int
    axes: tuple[Axis, Axis]
    source: FourInts
    target: FourInts
    weight: FiveInts

    @property
    def taps(self) -> int:
        """Taps of the filter."""
        return self.axes[0].kernel * self.axes[1].kernel

    @property
    def accumulator(self) -> "np.dtype[Any]":
        """Dtype of sums."""
        return arrays.accumulator(self.dtype)

    @property
    def lanes(self) -> int:
        """Elements of a vector of sums."""
        return vector_bytes() // self.accumulator.itemsize

    @property
    def depthwise(self) -> bool:
        """Whether every channel has a filter of its own."""
        return self.inputs == self.outputs == 1

    @property
    def depthwise_pixels(self) -> bool:
        """Whether there are vectors of channels, each with a filter of its own."""
        return self.depthwise and self.layout == "NHWC" and self.groups >= self.lanes

    def images_structure(self, steps: Sequence[int]) -> ImagesStructure:
        """The images, of which windows read rows and columns with ``steps``."""
        rows, columns = self.axes
        return images_structure((self.images, self.groups * self.inputs, rows.size, columns.size), self.source, steps)

    @property
    def operations(self) -> float:
        """Floating-point operations."""
        rows, columns = self.axes
        windows = min(rows.output, rows.size) * min(columns.output, columns.size) * self.images
        return 2.0 * windows * self.groups * self.inputs * self.outputs * self.taps

    @property
    def nanoseconds(self) -> float:
        """Rough estimate of the time on one thread."""
        rows, columns = self.axes
        values = self.inputs * rows.size * columns.size + self.outputs * rows.output * columns.output
        weights = self.groups * self.inputs * self.outputs * self.taps
        return self.operations / 60 + (values * self.images * self.groups + weights) / 2

    def blocks_at_once(self, blocks: int) -> int:
        """How many of all blocks a thread takes at once: enough to look at the counter and the clock rarely."""
        return max(1, int(RANGE_NANOSECONDS * blocks / max(self.nanoseconds, 1)))

    def collapsed(self) -> "Geometry":
        """The same correlation over images of one row, if its filter has one tap that reads every pixel in turn."""
        rows, columns = self.axes
        pointwise = all(
            axis.kernel == axis.stride == 1 and axis.before == axis.after == 0 and axis.size == axis.output
            for axis in self.axes
        )
        adjacent = all(strides[2] == columns.size * strides[3] for strides in (self.source, self.target))
        if not pointwise or not adjacent or rows.size == 1:
            return self
        pixels = rows.size * columns.size
        one = rows._replace(size=1, output=1, transposed=False)
        return self._replace(axes=(one, columns._replace(size=pixels, output=pixels, transposed=False)))
