"""The plan of the gradient of the filters of a pixel-adaptive convolution with groups of channels."""

import math
from ctypes import addressof
from functools import lru_cache

import numpy as np

from arrayops._backends.cpu.conv.correlation import LARGE_OPERATIONS
from arrayops._backends.cpu.conv.structures import WeightGradientStructure
from arrayops._backends.cpu.conv.weight_gradient import MAX_PARTIAL_BYTES, MAX_POSITIONS
from arrayops._backends.cpu.engine.scheduler import Task, vector_bytes
from arrayops._backends.cpu.pac.geometry import Operands, PacGeometry
from arrayops._backends.cpu.pac.plan import Plan
from arrayops._backends.cpu.pac.structures import PacStructure, PacWeightGradientStructure
from arrayops._backends.cpu.window.arrays import Array, dtype_name, pointer
from arrayops._backends.cpu.window.structures import Strides
from arrayops._backends.cpu.window.units import kernels
from arrayops._backends.numpy.stacks import balanced_share

MAX_SUM_BYTES = 256 << 10
"""Bytes of the sums of a block."""

COLUMN_BYTES = 24 << 10
"""Bytes of the scaled samples of a tile at some taps: what the first cache holds beside gradients."""

MAX_OUTPUTS = 128
"""Outputs of a block."""


class PacWeightGradient(Plan):
    """``pac_weight_gradient.cpp``; the geometry has the gradient of the output as its target."""

    file = "pac_weight_gradient"

    def _prepare(self) -> None:
        g = self.geometry
        lanes = vector_bytes() // g.item
        few = g.outputs <= self.kernels.number("few_outputs")
        self.output_blocks = 1 if few else math.ceil(g.outputs / MAX_OUTPUTS)
        filled = self.kernels.number("filled_outputs", math.ceil(g.outputs / self.output_blocks))
        row_bytes = filled * g.item * (lanes if few else 1) * g.taps
        self.input_blocks = math.ceil(g.inputs / max(1, MAX_SUM_BYTES // row_bytes))
        self.grouped = 1
        if self.input_blocks == 1:
            self.grouped = max(1, min(g.groups, MAX_SUM_BYTES // (row_bytes * max(1, g.inputs))))
        self.units = math.ceil(g.groups / self.grouped) * self.input_blocks * self.output_blocks
        self._filled = filled
        input_bytes = math.ceil(g.inputs / self.input_blocks) * self.kernels.number("tile_positions") * g.item
        self.taps_together = balanced_share(g.taps, max(1, COLUMN_BYTES // max(1, input_bytes)))

    def _planes(self) -> tuple[int, int, int]:
        inputs = math.ceil(self.geometry.inputs / self.input_blocks)
        return self.grouped * inputs + 1, self.geometry.guides, self.grouped * self._filled

    def _workspace(self) -> int:
        return self.kernels.number(f"{self.file}_workspace", addressof(self._gradient))

    def _build(self) -> PacStructure:
        call = super()._build()
        g = self.geometry
        assert g.target is not None
        self.weights = g.groups * g.taps * g.inputs * g.outputs
        # Splits by shapes alone: their sums are added in order.
        splits = math.ceil(g.outputs_of_taps / g.taps / MAX_POSITIONS)
        if g.operations >= LARGE_OPERATIONS:
            splits = max(splits, math.ceil(self.least_blocks / self.units))
        self.splits = max(1, min(splits, MAX_PARTIAL_BYTES // (self.weights * g.item), self.blocks))
        self.partial = self.splits * self.weights * g.item
        gradient = self._gradient = PacWeightGradientStructure()
        gradient.call, gradient.grad_strides = call, Strides(*g.target)
        filter_taps = self.filter_taps
        gradient.filter_taps, gradient.listed_taps = self._integers(filter_taps), len(filter_taps)
        gradient.filter_size, gradient.parts, gradient.splits = g.taps, self.blocks, self.splits
        gradient.grouped, gradient.chunk = self.grouped, self.taps_together
        gradient.input_blocks, gradient.output_blocks = self.input_blocks, self.output_blocks
        # Taps that no output reads have no sums.
        self._allocate = np.empty if len(filter_taps) == g.taps else np.zeros
        columns = g.axes[1].kernel
        self._tap_numbers = self._integers([value for tap in range(g.taps) for value in divmod(tap, columns)])
        return call

    def tasks(self, operands: Operands, grad: Array, target: Array) -> list[Task]:
        """The tasks of a call: ``target`` has the axes of the weight in the order of the correlation."""
        g = self.geometry
        partial = self._allocate(self.splits * self.weights, g.accumulator)
        gradient = PacWeightGradientStructure.from_buffer_copy(self._gradient)
        gradient.call = self._arguments(operands)
        gradient.grad, gradient.partial, gradient.kept = pointer(grad), pointer(partial), partial
        add = WeightGradientStructure()
        add.partial, add.result = pointer(partial), pointer(target)
        add.groups, add.inputs, add.outputs, add.splits, add.taps = g.groups, g.inputs, g.outputs, self.splits, g.taps
        add.strides[:] = [stride // target.itemsize for stride in target.strides]
        add.tap_numbers = self._tap_numbers
        blocks = self.units * self.splits
        most = max(1, self.most * blocks // max(1, self.blocks))
        adding = kernels("weight_gradient_sums.cpp", dtype_name(target)).address("add_partial")
        return [
            Task(self.kernels.address(self.file), gradient, blocks, most),
            Task(adding, add, g.groups * g.inputs, max(1, 4096 // (g.outputs * g.taps)), True),
        ]


@lru_cache(maxsize=512)
def weight_gradient(geometry: PacGeometry) -> PacWeightGradient:
    """The plan of the gradient of the filters."""
    return PacWeightGradient(geometry)
