"""Plans of gradients of pixel-adaptive operators, but those of filters of groups of channels."""

import math
from collections.abc import Iterator
from ctypes import addressof
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np

from arrayops._backends.cpu.conv.correlation import MIN_BLOCKS
from arrayops._backends.cpu.engine.scheduler import Task
from arrayops._backends.cpu.pac.geometry import Operands, PacGeometry, SixInts
from arrayops._backends.cpu.pac.plan import Plan
from arrayops._backends.cpu.pac.structures import (
    AddSumsStructure,
    PacGradientStructure,
    PacStructure,
    RoundingStructure,
)
from arrayops._backends.cpu.window.arrays import Array, dtype_name, pointer
from arrayops._backends.cpu.window.structures import Strides
from arrayops._backends.cpu.window.units import kernels
from arrayops._backends.cpu.window.weights import PackedWeights

FourInts = tuple[int, int, int, int]

MAX_SUMS = 1 << 19
"""Sums of all blocks of a task; a task of more blocks is several."""


class WantedGradients(NamedTuple):
    """Gradients that are asked for: strides of their arrays, None for others. ``sums`` are those of small arrays."""

    input: FourInts | None
    guide: FourInts | None
    kernel: SixInts | None
    kernel_wide: bool
    sums: bool


class FoundGradients(NamedTuple):
    """Arrays to which gradients are added, or stored (of the kernel), and float64 sums in the order of `Gradient`."""

    input: Array | None
    guide: Array | None
    kernel: Array | None
    sums: Array | None


class Gradient(Plan):
    """The plan of the gradients of samples, guide, adaptive kernel, and the arrays that shape it.

    Attributes
    ----------
    alphas, lambdas, smooth, filter : slice
        Where their sums are.
    """

    least_blocks = MIN_BLOCKS // 2
    """A task has a part of them, as neighbours are in others."""

    def __init__(self, geometry: PacGeometry, wanted: WantedGradients) -> None:
        self.wanted = wanted
        super().__init__(geometry)

    def _prepare(self) -> None:
        g = self.geometry
        ends = np.cumsum([0, g.kernel_channels, g.kernel_channels, math.prod(g.smooth or (0,)), self._filter_size])
        self.alphas, self.lambdas, self.smooth, self.filter = map(slice, ends[:-1].tolist(), ends[1:].tolist())
        self.sum_count = int(ends[-1]) if self.wanted.sums else 0

    @property
    def _filter_size(self) -> int:
        return 0

    def _planes(self) -> tuple[int, int, int]:
        g = self.geometry
        return 2 * g.channels + 1, 2 * g.guides, g.groups * g.outputs

    def _workspace(self) -> int:
        return self.kernels.number(f"{self.file}_workspace", addressof(self._gradient))

    def _build(self) -> PacStructure:
        call = super()._build()
        self._gradient = gradient = PacGradientStructure()
        gradient.call = call
        wanted = self.wanted
        if self.geometry.target is not None:
            gradient.grad_strides = Strides(*self.geometry.target)
        if wanted.input is not None:
            gradient.grad_input_strides = Strides(*wanted.input)
        if wanted.guide is not None:
            gradient.grad_guide_strides = Strides(*wanted.guide)
        if wanted.kernel is not None:
            gradient.grad_kernel = self._kernel_structure(wanted.kernel, wanted.kernel_wide)
        gradient.filter_taps = self._integers(self.filter_taps)
        gradient.sum_count = self.sum_count
        self._tasks = list(self._parts())
        blocks = max((counts[0] * counts[1] for *_, counts in self._tasks), default=0) * self.geometry.images
        self.sum_rows = min(blocks, max(1, MAX_SUMS // self.sum_count)) if self.sum_count else 0
        self.partial = self.sum_rows * self.sum_count * 8
        return call

    def _parts(self) -> Iterator[tuple[int, tuple[int, int], tuple[int, int], tuple[int, int]]]:
        """Blocks that can be computed at the same time: phase; first, step and number of their rows and columns."""
        sizes = self.size.rows, self.size.columns
        steps = [-(-span // size) + 1 for span, size in zip(self.window.spans(), sizes, strict=True)]
        for number, structure in enumerate(self.table.kept[0]):
            if self.phases[number].taps == 0:
                continue
            for first in product(
                *(range(min(step, blocks)) for step, blocks in zip(steps, structure.blocks, strict=True))
            ):
                counts = [
                    -(-(blocks - start) // step)
                    for blocks, start, step in zip(structure.blocks, first, steps, strict=True)
                ]
                yield number, (first[0], first[1]), (steps[0], steps[1]), (counts[0], counts[1])

    def tasks(self, operands: Operands, grad: Array, found: FoundGradients) -> list[Task]:
        """The tasks of a call; the arrays must live until they are finished."""
        base = PacGradientStructure.from_buffer_copy(self._gradient)
        base.call = self._arguments(operands)
        kept, tasks = self._pack(base, operands)
        if self.geometry.every_tap:
            base.grad_kernel.data = pointer(grad)
        else:
            base.grad = pointer(grad)
        for name in ("input", "guide"):
            array = getattr(found, name)
            if array is not None:
                setattr(base, f"grad_{name}", pointer(array))
        if found.kernel is not None:
            base.grad_kernel.data = pointer(found.kernel)
        partial = None
        if found.sums is not None and self.sum_count:
            partial = np.empty((self.sum_rows, self.sum_count))
            base.sums = pointer(partial)
        function, add = self.kernels.address(self.file), self.kernels.address("add_sums")
        for phase, first, step, count in self._tasks:
            gradient = PacGradientStructure.from_buffer_copy(base)
            gradient.phase = phase
            gradient.first[:], gradient.step[:], gradient.count[:] = first, step, count
            gradient.kept = kept, partial
            blocks = count[0] * count[1] * self.geometry.images
            if partial is None or found.sums is None:
                tasks.append(Task(function, gradient, blocks, self.most, True))
                continue
            for start in range(0, blocks, self.sum_rows):
                some = PacGradientStructure.from_buffer_copy(gradient)
                some.start, some.kept = start, gradient.kept
                rows = min(self.sum_rows, blocks - start)
                sums = AddSumsStructure(pointer(partial), pointer(found.sums), rows, self.sum_count)
                tasks.append(Task(function, some, rows, self.most, True))
                tasks.append(Task(add, sums, self.sum_count, self.sum_count, True))
        return tasks

    def _pack(self, gradient: PacGradientStructure, operands: Operands) -> tuple[object, list[Task]]:
        """Tasks that pack weights, which are put in the arguments, and what must be kept."""
        return None, []


class KernelGradient(Gradient):
    """Of a kernel that is the result: ``pac_kernel_gradient.cpp``."""

    file = "pac_kernel_gradient"


class ChannelwiseGradient(Gradient):
    """With one filter for all channels, or none: ``pac_channelwise_gradient.cpp``."""

    file = "pac_channelwise_gradient"

    @property
    def _filter_size(self) -> int:
        return self.geometry.taps if self.geometry.filtered else 0

    def _pack(self, gradient: PacGradientStructure, operands: Operands) -> tuple[object, list[Task]]:
        weight = self._shared_filter(operands.weight)
        if weight is not None:
            gradient.call.weight = pointer(weight)
        return weight, []


class ConvolutionGradient(Gradient):
    """With filters of groups of channels: ``pac_convolution_gradient.cpp``."""

    file = "pac_convolution_gradient"

    def _prepare(self) -> None:
        super()._prepare()
        g = self.geometry
        self.width = self.kernels.number("input_width", g.inputs)
        self.weights_of_tap = g.groups * -(-g.inputs // self.width) * self.width * g.outputs

    def _build(self) -> PacStructure:
        call = super()._build()
        g = self.geometry
        assert g.weight is not None
        group, row, column, input, output = g.weight
        self._weights = PackedWeights(
            self.phases,
            self.table,
            channels=(g.groups, g.outputs, g.inputs),
            width=self.width,
            taps_first=True,
            strides=(group, row, column, output, input),
            dtype=g.accumulator,
        )
        return call

    def _pack(self, gradient: PacGradientStructure, operands: Operands) -> tuple[object, list[Task]]:
        assert operands.weight is not None
        pack = kernels(f"{self.file}.cpp", dtype_name(operands.weight)).address("pack_weights")
        task, packed = self._weights.task(pack, operands.weight, None)
        gradient.call.weight = packed.weight
        return packed.array, [task]


def rounding(values: Array, result: Array) -> Task:
    """The task that rounds contiguous sums to a result of half precision."""
    unit = kernels("round_values.cpp", dtype_name(result))
    call = RoundingStructure(pointer(values), pointer(result), values.size)
    return Task(unit.address("round_values"), call, -(-values.size // unit.number("rounded_at_once")), 1, True)


@lru_cache(maxsize=512)
def gradient(geometry: PacGeometry, wanted: WantedGradients) -> Gradient:
    """The plan of gradients."""
    if geometry.every_tap:
        return KernelGradient(geometry, wanted)
    return (ChannelwiseGradient if geometry.weight is None else ConvolutionGradient)(geometry, wanted)
