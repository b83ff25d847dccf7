"""Plans of pixel-adaptive operators: what their kernels have in common."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from ctypes import addressof
from functools import cached_property
from typing import Any, ClassVar

from arrayops._backends.cpu.conv.correlation import LARGE_OPERATIONS, MAX_COLUMNS, MAX_ROWS, MIN_BLOCKS
from arrayops._backends.cpu.conv.geometry import RANGE_NANOSECONDS
from arrayops._backends.cpu.engine.scheduler import vector_bytes
from arrayops._backends.cpu.pac.geometry import Operands, PacGeometry, SixInts
from arrayops._backends.cpu.pac.structures import NO_MASK, KernelStructure, PacStructure
from arrayops._backends.cpu.pac.window import PacWindow
from arrayops._backends.cpu.window.arrays import Array, most_that_fits, pointer, rounded_up
from arrayops._backends.cpu.window.phases import BlockSize, phase_table
from arrayops._backends.cpu.window.structures import Strides, images_structure, integers
from arrayops._backends.cpu.window.units import UnitFunctions, kernels
from arrayops._backends.numpy.memory import widened
from arrayops._backends.numpy.stacks import balanced_share

PACKED_BYTES, MAX_PACKED_BYTES = 640 << 10, 1 << 20
"""What is packed for a block: what the second cache holds beside weights and results, and the most."""

OPERATIONS_A_NANOSECOND, PACKING_NANOSECONDS = 200, 0.35
"""What kernels reach on one thread, and the time that a packed value takes."""

ROW_VALUES = 32
"""Values whose packing takes as long as the beginning of a row."""

MAX_CHOICES = 16
"""Sizes of blocks that are compared."""

LEAST_COLUMNS = 16
"""Columns of a block of very many channels."""

LEAST_POSITIONS = 200
"""Positions of a block, if it has several rows: some tiles, of which the last is filled up."""


class Plan(ABC):
    """In which blocks a kernel computes a call.

    Attributes
    ----------
    geometry : PacGeometry
        What it was made for.
    size : BlockSize
        Outputs of a block.
    nanoseconds : float
        Rough estimate of the time of a forward on one thread.
    workspace : int
        Bytes that a thread needs.
    """

    file: ClassVar[str]
    """The kernel's, without its ending."""

    least_blocks = MIN_BLOCKS // 4
    """Blocks of a large call: fewer pack less halo, and fill up fewer rows to whole vectors."""
    partial = 0
    """Bytes of the sums of blocks."""
    width = 1
    """Channels that the kernel computes at a time."""
    chunk = 0
    """Inputs of a group that are scaled at a time."""
    weights_of_tap = 1
    """Packed weights of a tap."""

    def __init__(self, geometry: PacGeometry) -> None:
        g = self.geometry = geometry
        self.nanoseconds = g.nanoseconds
        self.window = PacWindow(g.axes, g.smooth or (1, 1), every_tap=g.every_tap)
        self.kernels: UnitFunctions = kernels(f"{self.file}.cpp", g.dtype)
        self._kept: list[Any] = []
        self._prepare()
        self.size = self._block_size()
        self._call = self._build()
        self.workspace = self._workspace() + 64

    @abstractmethod
    def _prepare(self) -> None:
        """Choose what the size of blocks depends on."""

    @abstractmethod
    def _planes(self) -> tuple[int, int, int]:
        """Planes of samples, of the guide and of results that a block holds."""

    @abstractmethod
    def _workspace(self) -> int:
        """Bytes that a thread needs, by the kernel's own count."""

    def _packed(self, rows: int, columns: int) -> int:
        """Values that are packed for a block."""
        samples, guides, results = self._planes()
        sizes = self.window.sizes(rows, columns)
        return samples * sizes.distance + guides * sizes.guide_distance + results * sizes.positions

    def _block_size(self) -> BlockSize:
        """The size that takes the least time: rows are filled up to whole vectors, and the halo is packed again."""
        g, (height, width) = self.geometry, self.window.lengths
        most = height * width
        if g.operations >= LARGE_OPERATIONS:
            most = max(LEAST_POSITIONS, most * g.images * self.window.count // self.least_blocks)
        nanoseconds = g.operations / max(1, g.images * g.axes[0].output * g.axes[1].output) / OPERATIONS_A_NANOSECOND

        halo = self.window.spans()[0]

        def cost(size: BlockSize) -> float:
            positions = rounded_up(self.window.sizes(size.rows, size.columns).positions, vector_bytes() // g.item)
            packed = self._packed(size.rows, size.columns) + sum(self._planes()) * (size.rows + halo) * ROW_VALUES
            return (positions * nanoseconds + packed * PACKING_NANOSECONDS) / (size.rows * size.columns)

        def tallest(columns: int) -> BlockSize:
            def fits(rows: int) -> bool:
                return self._packed(rows, columns) * g.item <= PACKED_BYTES

            rows = most_that_fits(max(1, min(height, MAX_ROWS, most // columns)), fits)
            return BlockSize(balanced_share(height, rows), columns)

        parts = range(math.ceil(width / MAX_COLUMNS), max(1, width // LEAST_COLUMNS) + 1)
        columns = sorted({math.ceil(width / number) for number in parts}, reverse=True)[:MAX_CHOICES]
        fitting = [number for number in columns if self._packed(1, number) * g.item <= MAX_PACKED_BYTES]
        return min(map(tallest, fitting or columns[-1:]), key=cost)

    def _build(self) -> PacStructure:
        g, size = self.geometry, self.size
        self.phases, guides = self.window.phases(size.rows, size.columns)
        table = self.table = phase_table(self.phases, size, g.images, 1, self.weights_of_tap)
        guide_table = phase_table(guides, size, g.images, 1, 1)
        sizes = self.sizes = self.window.sizes(size.rows, size.columns)
        self.blocks = table.blocks
        rows, columns = g.axes
        call = PacStructure()
        if g.source is not None:
            shape = g.images, g.channels, rows.size, columns.size
            call.input = images_structure(shape, g.source, self.window.strides)
        if g.guide is not None:
            shape = g.images, g.guides, *g.guide_size
            call.guide = images_structure(shape, g.guide, self.window.guide_strides)
        call.given, call.guides, call.guide_wide = g.guide is None, g.guides, g.guide_wide
        shape = g.images, 1, rows.size, columns.size
        call.mask = images_structure(shape, g.mask or (0, 0, 0, 0), self.window.strides)
        call.mask_type, call.counted = g.mask_type if g.guide is not None else NO_MASK, g.counted
        call.inverse, call.asymmetric, call.normalize = g.inverse, g.asymmetric, g.normalize
        call.alpha_step, call.lambda_step = g.alphas > 1, g.lambdas > 1
        call.kernel_channels, call.smooth_taps = g.kernel_channels, math.prod(g.smooth or (0,))
        self._numbers = [number for phase in guides for number in phase.numbers]
        if g.kernel is not None:
            call.kernel = self._kernel_structure(g.kernel, g.kernel_wide)
        if g.target is not None:
            call.output_strides = Strides(*g.target)
        call.output_size[:] = rows.output, columns.output
        call.images, call.groups, call.inputs, call.outputs = g.images, g.groups, g.inputs, g.outputs
        call.width, call.chunk = self.width, self.chunk
        call.distance, call.guide_distance = sizes.distance, sizes.guide_distance
        tile = self.kernels.number("tile_positions")
        call.taps, call.positions = sizes.taps, rounded_up(sizes.positions, tile)
        call.phase_count, call.phases, call.guide_phases = len(self.phases), table.address, guide_table.address
        call.tap_columns = self._integers([phase.tap_columns for phase in guides])
        call.centre_taps = self._integers([phase.centre_tap for phase in self.phases])
        self._kept += table, guide_table
        return call

    def _integers(self, values: Sequence[int]) -> int:
        """Address of integers that live as long as the plan."""
        found = integers(values)
        self._kept.append(found)
        return addressof(found)

    def _kernel_structure(self, strides: SixInts, wide: bool) -> KernelStructure:
        """An adaptive kernel without its address."""
        image, channel, tap_row, tap_column, row, column = strides
        structure = KernelStructure()
        structure.strides, structure.wide = Strides(image, channel, row, column), wide
        structure.taps = self._integers([y * tap_row + x * tap_column for y, x in self._numbers])
        return structure

    @property
    def filter_taps(self) -> list[int]:
        """Number in the filter of each tap of each phase."""
        return [y * self.geometry.axes[1].kernel + x for y, x in self._numbers]

    @cached_property
    def most(self) -> int:
        """Blocks that a thread takes at once."""
        return max(1, int(RANGE_NANOSECONDS * self.blocks / max(self.nanoseconds, 1)))

    def _arguments(self, operands: Operands) -> PacStructure:
        """The arguments of a call; arrays must live until it is finished."""
        call = PacStructure.from_buffer_copy(self._call)
        for images, array in ((call.input, operands.samples), (call.guide, operands.guide), (call.mask, operands.mask)):
            if array is not None:
                images.data = pointer(array)
        if operands.kernel is not None:
            call.kernel.data = pointer(operands.kernel)
        if operands.alpha is not None and operands.lambda_ is not None:
            call.alpha, call.lambda_ = pointer(operands.alpha), pointer(operands.lambda_)
        if operands.smooth is not None:
            call.smooth = pointer(operands.smooth)
        return call

    def _shared_filter(self, weight: Array | None) -> Array | None:
        """The weights of a shared filter at each tap of each phase, in the dtype of sums."""
        if weight is None:
            return None
        # Not a view: taps may be in another order, and the same ones several times.
        flat: Array = widened(weight, self.geometry.accumulator).reshape(-1)[self.filter_taps]
        return flat
