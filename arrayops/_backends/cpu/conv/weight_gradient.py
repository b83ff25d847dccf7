"""Plans of the gradients of weights of correlations: what their kernels have in common."""

import math
from abc import ABC, abstractmethod
from ctypes import addressof
from typing import Any, ClassVar

import numpy as np

from arrayops._backends.cpu.conv.correlation import LARGE_OPERATIONS, MIN_BLOCKS
from arrayops._backends.cpu.conv.geometry import Geometry
from arrayops._backends.cpu.conv.structures import WeightGradientStructure
from arrayops._backends.cpu.engine.scheduler import Task
from arrayops._backends.cpu.window.arrays import Array, pointer
from arrayops._backends.cpu.window.phases import BlockSize, Phases, phase_table
from arrayops._backends.cpu.window.structures import Strides, integers
from arrayops._backends.cpu.window.units import kernels
from arrayops._core.taps import axis_taps

MAX_PARTIAL_BYTES = 8 << 20
"""Bytes of the sums of all blocks, unless those of one split are more."""

MAX_POSITIONS = 1 << 15
"""Positions that are added in the dtype of the accumulator, as far as `MAX_PARTIAL_BYTES` allows."""


class WeightGradient(ABC):
    """The plan of the gradient of a weight; ``geometry`` has the gradient of the output as its target.

    Attributes
    ----------
    geometry : Geometry
        What it was made for.
    workspace : int
        Bytes that a thread needs.
    partial : int
        Bytes of the sums of all splits.
    """

    file: ClassVar[str]
    """The kernel's, without its ending."""

    function: ClassVar[str]
    """The kernel's, after ``weight_gradient_``."""

    def __init__(self, geometry: Geometry) -> None:
        g = self.geometry = geometry
        self.lanes, self.accumulator = g.lanes, g.accumulator
        self.item = self.accumulator.itemsize
        axes = tuple(axis_taps(axis) for axis in g.axes)
        self.strides = [axis.input.stride for axis in axes]
        self.phases = Phases(axes)
        self.lengths = g.axes[0].output, g.axes[1].output
        self.weights = g.groups * g.taps * g.inputs * g.outputs
        self.grouped = self.input_blocks = self.output_blocks = self.panel = 1
        self.runs: list[tuple[int, int, int]] = []
        self._choose_blocks()
        self._build()

    rows: int
    """Rows of the positions of a part."""
    columns: int
    """Columns of the positions of a part."""
    units: int
    """Blocks of one split."""
    elements: int
    """Accumulators that a thread needs."""

    @abstractmethod
    def _choose_blocks(self) -> None:
        """Find the sizes of parts and blocks."""

    def _runs(self, inputs: int, most: int) -> list[tuple[int, int, int]]:
        """Runs of packed samples that taps and inputs read, at most so long: offset, first tap and input, length."""
        runs: list[tuple[int, int, int]] = []
        for tap, offset in enumerate(self.phases.of(self.rows, self.columns)[0].offsets(self.rows, self.columns)):
            if runs and offset * inputs == runs[-1][0] + runs[-1][2]:
                start, first, length = runs.pop()
                runs.append((start, first, length + inputs))
            else:
                runs.append((offset * inputs, tap * inputs, inputs))
        return [
            (start + at, first + at, min(most, length - at))
            for start, first, length in runs
            for at in range(0, length, most)
        ]

    def _build(self) -> None:
        g = self.geometry
        phases = self.phases.of(self.rows, self.columns)
        table = phase_table(phases, BlockSize(self.rows, self.columns), g.images, 1, 1)
        self.workspace = self.elements * self.item + 64
        # Splits by shapes alone: their sums are added in order.
        splits = math.ceil(g.images * math.prod(self.lengths) / MAX_POSITIONS)
        if g.operations >= LARGE_OPERATIONS:
            splits = max(splits, math.ceil(MIN_BLOCKS / self.units))
        self.splits = max(1, min(splits, MAX_PARTIAL_BYTES // (self.weights * self.item), table.blocks))
        self.blocks = self.units * self.splits
        self.partial = self.splits * self.weights * self.item
        self.most = g.blocks_at_once(self.blocks)
        numbers = integers([place for phase in phases for tap in phase.numbers for place in tap])
        runs = integers([value for run in self.runs for value in run])
        call = WeightGradientStructure()
        call.input, call.grad_strides = g.images_structure(self.strides), Strides(*g.target)
        call.strides[:] = g.weight
        call.images, call.groups, call.inputs, call.outputs = g.images, g.groups, g.inputs, g.outputs
        call.grouped, call.panel = self.grouped, self.panel
        call.splits, call.input_blocks, call.output_blocks = self.splits, self.input_blocks, self.output_blocks
        call.taps, call.tap_numbers, call.phase = g.taps, addressof(numbers), table.address
        call.runs, call.run_list = len(self.runs), addressof(runs)
        self._call = call
        self._kept: list[Any] = [table, numbers, runs]
        self._functions = (
            kernels(f"{self.file}.cpp", g.dtype).address(f"weight_gradient_{self.function}"),
            kernels("weight_gradient_sums.cpp", g.dtype).address("add_partial"),
        )

    def tasks(self, source: Array, grad: Array, target: Array) -> list[Task]:
        """The tasks of a call; the arrays must live until they are finished."""
        g = self.geometry
        partial = np.empty(self.splits * self.weights, self.accumulator)
        call = WeightGradientStructure.from_buffer_copy(self._call)
        call.input.data, call.grad, call.partial, call.result = map(pointer, (source, grad, partial, target))
        call.kept = partial
        return [
            Task(self._functions[0], call, self.blocks, self.most),
            Task(self._functions[1], call, g.groups * g.inputs, max(1, 4096 // (g.outputs * g.taps)), True),
        ]
