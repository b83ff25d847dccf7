"""Plans of correlations: what their kernels have in common."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from arrayops._backends.cpu.conv.geometry import Geometry
from arrayops._backends.cpu.conv.structures import CorrelationStructure
from arrayops._backends.cpu.engine.scheduler import Task
from arrayops._backends.cpu.window.arrays import Array, most_that_fits, pointer
from arrayops._backends.cpu.window.phases import BlockSize, Phases, phase_table
from arrayops._backends.cpu.window.structures import Strides
from arrayops._backends.cpu.window.units import UnitFunctions, kernels
from arrayops._backends.cpu.window.weights import PackedWeights
from arrayops._backends.numpy.stacks import balanced_share
from arrayops._core.taps import axis_taps

MAX_TERMS = 4096
"""Products that are added in the dtype of the accumulator; more are added in float64."""

PACKED_BYTES, MAX_PACKED_BYTES = 256 << 10, 512 << 10
"""Packed samples of a block: what the second cache holds beside weights and results, and the most."""

MAX_TOTAL_BYTES = 128 << 10
"""Bytes of the float64 sums of a block."""

MAX_COLUMNS = 512
"""Columns of outputs of a block."""

MAX_ROWS = 64
"""Rows of outputs of a block."""

MIN_BLOCKS = 128
"""Blocks of a call that takes some milliseconds: enough for many threads."""

LARGE_OPERATIONS = 5e7
"""Operations of such a call."""

MAX_BLOCK_OPERATIONS = 2e8
"""Operations of a block: some milliseconds, after which a thread can be interrupted."""

MAX_EMPTY_PHASES = 64
"""Phases without taps that kernels fill with the bias; with more, the whole output is filled first."""


class Correlation(ABC):
    """The plan of a correlation: in which blocks a kernel computes it.

    Attributes
    ----------
    geometry : Geometry
        What it was made for.
    size : BlockSize
        Size of a block.
    workspace : int
        Bytes that a thread needs.
    fill : bool
        Whether the output must be filled with the bias before, as not all outputs have a block.
    """

    partial = 0
    """Bytes of the sums of blocks."""

    name: ClassVar[str]
    """The kernel's: of its file and function."""

    taps_first: ClassVar[bool]
    """Whether packed weights have the taps as the outer axis, else the inputs."""

    def __init__(self, geometry: Geometry) -> None:
        g = self.geometry = geometry
        self.lanes, self.accumulator = g.lanes, g.accumulator
        self.item = self.accumulator.itemsize
        self.same_dtype = g.dtype in ("float32", "float64")
        self.groups, self.inputs, self.outputs = self._channels()
        self.width = self._width()
        self.output_widths = -(-self.outputs // self.width)
        axes = tuple(axis_taps(axis) for axis in g.axes)
        self.strides = [axis.input.stride for axis in axes]
        tapped = math.prod(sum(any(tap.plane >= 0 for tap in phase.taps) for phase in axis.phases) for axis in axes)
        self.fill = math.prod(max(len(axis.phases), 1) for axis in axes) - tapped > MAX_EMPTY_PHASES
        self.phases = Phases(axes, empty=not self.fill)
        self.lengths = [max((phase.length for phase in axis.phases), default=1) or 1 for axis in axes]
        phase_count = math.prod(sum(phase.length > 0 for phase in axis.phases) for axis in axes)
        self.output_blocks = 1
        self._choose_blocks(max(1, phase_count))
        self.workspace = self._workspace() + self._total_bytes() + 64
        self._build()

    @property
    def kernels(self) -> UnitFunctions:
        """The functions of the unit."""
        return kernels(f"{self.name}.cpp", self.geometry.dtype)

    def _channels(self) -> tuple[int, int, int]:
        """Groups, and inputs and outputs of each, as the kernel counts them."""
        g = self.geometry
        return g.groups, g.inputs, g.outputs

    def _width(self) -> int:
        """Outputs that are computed at a time."""
        return self.kernels.number("output_width", self.outputs)

    def _together(self, row_bytes: int) -> int:
        """Groups that are packed together, of a channel whose packed rows have so many bytes."""
        return 1

    @property
    def _splittable(self) -> int:
        """Ranges of the outputs of a group that can be blocks of their own."""
        return self.output_widths

    @property
    def _direct(self) -> bool:
        """Whether tiles of pixels are stored in the output."""
        whole = self.outputs % self.width == 0 and self.channels == self.inputs
        return self.same_dtype and self.geometry.target[1] == 1 and whole

    @property
    def _least_output_blocks(self) -> int:
        """Ranges of outputs that must be blocks of their own."""
        return 1

    @abstractmethod
    def _workspace(self) -> int:
        """Bytes of packed samples and results."""

    @abstractmethod
    def _structure(self, call: CorrelationStructure) -> Any:
        """The arguments of the kernel."""

    def _packed_bytes(self, rows: int, columns: int) -> int:
        """Bytes of the packed samples of a channel of a block."""
        return self.phases.packed(rows, columns) * self.item

    def _sample_depth(self) -> int:
        """Packed values of a sample."""
        return self.channels * self.grouped

    def _fits(self, rows: int, columns: int) -> bool:
        """Whether a block of so many rows is not too large."""
        return self._sample_depth() * self._packed_bytes(rows, columns) <= PACKED_BYTES

    def _distance(self) -> int:
        """Elements from one packed sample to the next."""
        return self._sample_depth()

    def _results(self) -> int:
        """Results of a block for one width of outputs."""
        return self.size.most_rows * self.size.columns * self.width

    def _total_bytes(self) -> int:
        """Bytes of float64 sums, of some channels at a time."""
        return -(-self.output_widths // self.output_blocks) * self._results() * 8 if self.channels < self.inputs else 0

    def _choose_columns(self) -> int:
        g, length = self.geometry, self.lengths[1]
        if self.lengths[0] == 1 and g.operations >= LARGE_OPERATIONS:
            # Images of one row: blocks of whole tiles along the row.
            tile = self.kernels.number("tile_columns")
            wanted = length * g.images * self.groups // MIN_BLOCKS
            columns = min(length, MAX_COLUMNS, max(1, wanted // tile) * tile)
        else:
            columns = balanced_share(length, MAX_COLUMNS)
        depth = self._most_channels()
        while columns > 4 * self.lanes and depth * self._packed_bytes(1, columns) > MAX_PACKED_BYTES:
            columns = balanced_share(length, max(4 * self.lanes, columns // 2))
        return columns

    def _most_channels(self) -> int:
        """Channels that are packed together if they fit."""
        return self.inputs

    def _choose_blocks(self, phase_count: int) -> None:
        g, lengths = self.geometry, self.lengths
        large = g.operations >= LARGE_OPERATIONS
        columns = self._choose_columns()
        row_bytes = max(1, self._packed_bytes(1, columns))
        most_taps = max((phase.taps for phase in self.phases.of(1, columns)), default=1) or 1
        depth = self._most_channels()
        parts = max(-(-self.inputs * most_taps // MAX_TERMS), -(-depth * row_bytes // MAX_PACKED_BYTES), 1)
        self.channels = max(1, -(-self.inputs // parts))
        self.grouped = max(1, self._together(row_bytes)) if self.channels == self.inputs else 1
        most_rows = most_that_fits(min(lengths[0], MAX_ROWS), lambda rows: self._fits(rows, columns))
        copies = g.images * -(-self.groups // self.grouped) * -(-lengths[1] // columns) * phase_count
        rows = balanced_share(
            lengths[0], min(most_rows, max(1, lengths[0] * copies // MIN_BLOCKS) if large else most_rows)
        )
        blocks = -(-lengths[0] // rows) * copies
        operations = g.operations / blocks
        output_blocks = max(-(-MIN_BLOCKS // blocks) if large else 1, math.ceil(operations / MAX_BLOCK_OPERATIONS))
        together = most_rows // rows
        if operations > 0:
            together = min(together, int(MAX_BLOCK_OPERATIONS / 4 / operations))
        self.size = BlockSize(rows, columns, max(1, together))
        if self.channels < self.inputs:
            output_blocks = max(output_blocks, math.ceil(self.output_widths * self._results() * 8 / MAX_TOTAL_BYTES))
        self.output_blocks = min(max(self._least_output_blocks, output_blocks), max(1, self._splittable))

    def _build(self) -> None:
        g, size = self.geometry, self.size
        phases = self.phases.of(size.most_rows, size.columns)
        copies = g.images * -(-self.groups // self.grouped) * self.output_blocks
        weights = self.groups * self.output_widths * self.width * self.inputs
        table = phase_table(phases, size, copies, self._distance(), weights)
        self.blocks = table.blocks
        self.most = max(size.together, g.blocks_at_once(self.blocks))
        call = CorrelationStructure()
        call.input, call.output_strides = g.images_structure(self.strides), Strides(*g.target)
        call.images, call.groups, call.inputs, call.outputs = g.images, self.groups, self.inputs, self.outputs
        call.width, call.output_blocks = self.width, self.output_blocks
        call.channels, call.grouped, call.together = self.channels, self.grouped, size.together
        call.phase_count, call.phases = len(phases), table.address
        self._packed = PackedWeights(
            phases,
            table,
            channels=(self.groups, self.inputs, self.outputs),
            width=self.width,
            taps_first=self.taps_first,
            strides=self._weight_strides(),
            dtype=self.accumulator,
        )
        self._table = table
        self._kept: list[Any] = [table.kept]
        self._call = self._structure(call)
        self._functions = (
            self.kernels.address("pack_weights"),
            self.kernels.address(f"correlate_{self.name.removeprefix('conv_')}"),
        )

    def _weight_strides(self) -> tuple[int, ...]:
        return self.geometry.weight

    def tasks(self, source: Array, weight: Array, bias: Array | None, target: Array) -> list[Task]:
        """The tasks of a call; the arrays must live until they are finished."""
        if self.blocks == 0:
            return []
        pack, packed = self._packed.task(self._functions[0], weight, bias)
        arguments = type(self._call).from_buffer_copy(self._call)
        call = arguments if isinstance(arguments, CorrelationStructure) else arguments.call
        call.input.data, call.output = pointer(source), pointer(target)
        call.weight, call.bias = packed.weight, packed.bias
        arguments.kept = packed.array
        return [pack, Task(self._functions[1], arguments, self.blocks, self.most, True)]
