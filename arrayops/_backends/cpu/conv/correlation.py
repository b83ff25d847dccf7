"""Plans of correlations: which kernel computes them, in which blocks."""

import math
from ctypes import addressof
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from arrayops._backends.cpu.conv.geometry import Geometry
from arrayops._backends.cpu.conv.phases import BlockSize, PhaseTaps, phase_table, phases_of
from arrayops._backends.cpu.conv.structures import (
    CorrelationStructure,
    DepthwiseCorrelationStructure,
    PackWeightsStructure,
    PixelCorrelationStructure,
    Strides,
    integers,
)
from arrayops._backends.cpu.conv.units import UnitFunctions, kernels
from arrayops._backends.cpu.engine.scheduler import Task
from arrayops._backends.numpy.stacks import balanced_share
from arrayops._core.taps import axis_taps

Array = np.ndarray[Any, Any]

MAX_TERMS = 4096
"""Products that are added in the dtype of the accumulator; more are added in float64."""

PACKED_BYTES, MAX_PACKED_BYTES = 256 << 10, 512 << 10
"""Packed samples of a block: what the second cache holds beside weights and results, and the most."""

MAX_TOTAL_BYTES = 128 << 10
"""Bytes of the float64 sums of a block."""

MAX_COLUMNS = 512
"""Columns of outputs of a block."""

MIN_BLOCKS = 128
"""Blocks of a call that takes some milliseconds: enough for many threads."""

LARGE_OPERATIONS = 5e7
"""Operations of such a call."""

MAX_BLOCK_OPERATIONS = 2e8
"""Operations of a block: some milliseconds, after which a thread can be interrupted."""

MAX_EMPTY_PHASES = 64
"""Phases without taps that kernels fill with the bias; with more, the whole output is filled first."""


class Correlation:
    """The plan of a correlation.

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

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        g = geometry
        self.lanes, self.accumulator = g.lanes, g.accumulator
        self.depthwise = g.depthwise_pixels
        # Vectors of the outputs of a narrow group would be half empty.
        self.planes = g.layout == "NCHW" or (2 * g.outputs <= self.lanes and not self.depthwise)
        self.file = (
            "conv_planes.cpp" if self.planes else "depthwise_pixels.cpp" if self.depthwise else "conv_pixels.cpp"
        )
        # Of a depthwise correlation in pixels, the channels are the outputs of one group.
        self.groups, self.outputs = (1, g.groups) if self.depthwise else (g.groups, g.outputs)
        self.axes = tuple(axis_taps(axis) for axis in g.axes)
        self.same_dtype = g.dtype in ("float32", "float64")
        self.width = (
            -(-self.outputs // self.lanes) * self.lanes
            if self.depthwise
            else self.kernels.number("output_width", self.outputs)
        )
        self.output_widths = 1 if self.depthwise else -(-self.outputs // self.width)
        empty = math.prod(max(len(axis.phases), 1) for axis in self.axes) - self._count_with_taps()
        self.fill = empty > MAX_EMPTY_PHASES
        self._choose_blocks()
        self.phases = self._phases(self.size.most_rows, self.size.columns)
        self._build()

    @property
    def kernels(self) -> UnitFunctions:
        """The functions of the unit."""
        return kernels(self.file, self.geometry.dtype)

    def _count_with_taps(self) -> int:
        return math.prod(sum(any(tap.plane >= 0 for tap in phase.taps) for phase in axis.phases) for axis in self.axes)

    def _phases(self, rows: int, columns: int) -> list[PhaseTaps]:
        return phases_of(self.axes, rows, columns, empty=not self.fill)

    def _packed(self, rows: int, columns: int) -> int:
        """Packed samples of a channel of a block."""
        return max((phase.packed(rows, columns) for phase in self._phases(rows, columns)), default=0)

    @cached_property
    def _reads_in_place(self) -> bool:
        """Whether tiles of pixels read the input, not packed samples."""
        g = self.geometry
        if self.planes or self.depthwise or not self.same_dtype or g.source[1] != 1:
            return False
        inside = all(axis.before <= 0 and axis.after <= 0 for axis in g.axes)
        return inside and not any(axis.transposed for axis in g.axes)

    def _choose_blocks(self) -> None:
        g = self.geometry
        lengths = [max((phase.length for phase in axis.phases), default=1) or 1 for axis in self.axes]
        item = self.accumulator.itemsize
        channels = self.width if self.depthwise else g.inputs
        most_columns = MAX_COLUMNS
        if lengths[0] == 1 and g.operations >= LARGE_OPERATIONS:
            # Images of one row: blocks of whole tiles along the row.
            tile = self.kernels.number("tile_columns")
            wanted = lengths[1] * g.images * self.groups // MIN_BLOCKS
            most_columns = min(MAX_COLUMNS, max(1, wanted // tile) * tile)
            columns = min(most_columns, lengths[1])
        else:
            columns = balanced_share(lengths[1], most_columns)
        reads = self._reads_in_place
        while not reads and columns > 4 * self.lanes and channels * self._packed(1, columns) * item > MAX_PACKED_BYTES:
            columns = balanced_share(lengths[1], max(4 * self.lanes, columns // 2))
        row_bytes = 1 if reads else max(1, self._packed(1, columns) * item)
        if self.depthwise:
            self.channels = g.inputs
            parts = 1
        else:
            most_taps = max((phase.taps for phase in self._phases(1, columns)), default=1) or 1
            parts = max(-(-g.inputs * most_taps // MAX_TERMS), -(-g.inputs * row_bytes // MAX_PACKED_BYTES), 1)
            self.channels = max(1, -(-g.inputs // parts))
        packed_channels = self.width if self.depthwise else max(1, self.channels)
        self.grouped = 1
        if self.planes and g.layout == "NHWC" and self.channels == g.inputs:
            # Channels side by side are turned into planes, a vector of them at a time: many, long runs are read fast.
            narrow, wide = min(packed_channels, g.outputs), max(packed_channels, g.outputs)
            fitting = min(PACKED_BYTES // 2 // (wide * row_bytes), -(-8 * self.lanes // narrow))
            self.grouped = max(1, min(g.groups, max(fitting, -(-2 * self.lanes // narrow))))
        elif not self.planes and not self.depthwise and self.channels == g.inputs:
            # Groups side by side are packed together: long rows of channels.
            # As long as there are enough blocks.
            self.grouped = min(g.groups, PACKED_BYTES // 2 // (packed_channels * row_bytes))
            if g.operations >= LARGE_OPERATIONS:
                self.grouped = min(self.grouped, g.images * g.groups * lengths[0] // MIN_BLOCKS)
            self.grouped = max(1, self.grouped)
        packed_channels *= self.grouped
        most_rows = 1
        while (
            most_rows < lengths[0]
            and most_rows < 64
            and packed_channels * (1 if reads else self._packed(most_rows + 1, columns)) * item <= PACKED_BYTES
        ):
            most_rows += 1
        phase_count = sum(phase.length > 0 for phase in self.axes[0].phases) * sum(
            phase.length > 0 for phase in self.axes[1].phases
        )
        copies = g.images * -(-self.groups // self.grouped) * -(-lengths[1] // columns) * max(1, phase_count)
        wanted_rows = max(1, lengths[0] * copies // MIN_BLOCKS) if g.operations >= LARGE_OPERATIONS else lengths[0]
        rows = balanced_share(lengths[0], min(most_rows, wanted_rows))
        blocks = -(-lengths[0] // rows) * copies
        splittable = self.width // self.lanes if self.depthwise else self.output_widths
        if self.planes and self.grouped > 1:
            # Groups that are packed together are stored together.
            splittable = 1
        output_blocks = 1
        if g.operations >= LARGE_OPERATIONS:
            output_blocks = max(output_blocks, -(-MIN_BLOCKS // blocks))
        operations = g.operations / blocks
        output_blocks = max(output_blocks, math.ceil(operations / MAX_BLOCK_OPERATIONS))
        together = max(1, most_rows // rows)
        if operations > 0:
            together = max(1, min(together, int(MAX_BLOCK_OPERATIONS / 4 / operations)))
        self.size = BlockSize(rows, columns, together)
        if self.channels < g.inputs:
            results = self._results()
            output_blocks = max(output_blocks, math.ceil(self.output_widths * results * 8 / MAX_TOTAL_BYTES))
        self.output_blocks = min(max(1, output_blocks), max(1, splittable))

    def _results(self) -> int:
        """Results of a block for one width of outputs."""
        rows, columns = self.size.most_rows, self.size.columns
        if not self.planes:
            return rows * columns * self.width
        pitch = max((phase.pitch(columns) for phase in self._phases(rows, columns)), default=columns)
        outputs = self.width if self.grouped == 1 else self.grouped * self.outputs + self.width
        # Squares that are transposed may end a vector after the last row.
        return outputs * rounded_up((rows - 1) * pitch + columns, self.lanes) + self.lanes

    def _build(self) -> None:
        g, size = self.geometry, self.size
        rows, columns = size.most_rows, size.columns
        reads = self._reads_in_place
        packed = self._packed(rows, columns)
        depth = self.width if self.depthwise else max(1, self.channels) * self.grouped
        # Elements from one packed sample to the next.
        distance = 1 if self.planes else depth
        direct_output = (
            self.same_dtype and g.target[1] == 1 and self.outputs % self.width == 0 and self.channels == g.inputs
        )
        item = self.accumulator.itemsize
        workspace = (0 if reads else rounded_up(packed * depth, self.lanes)) * item
        if self.planes:
            slack = self.kernels.number("slack")
            workspace = (rounded_up(packed * depth + slack, self.lanes) + self._results()) * item
        elif not direct_output:
            workspace += rounded_up(columns * self.width, self.lanes) * item
        if self.channels < g.inputs:
            workspace += -(-self.output_widths // self.output_blocks) * self._results() * 8
        self.workspace = workspace + 64
        copies = g.images * -(-self.groups // self.grouped) * self.output_blocks
        inputs = 1 if self.depthwise else g.inputs
        weights = self.groups * self.output_widths * self.width * inputs
        table = phase_table(self.phases, size, copies, distance, weights)
        self.packed_weights = weights * sum(phase.taps for phase in self.phases)
        self.packed_bias = self.groups * self.output_widths * self.width
        self.blocks = table.blocks
        strides = [axis.input.stride for axis in self.axes]
        call = CorrelationStructure()
        call.input_strides, call.output_strides = Strides(*g.source), Strides(*g.target)
        call.size[:] = [axis.size for axis in g.axes]
        call.stride[:] = strides
        call.images, call.groups, call.inputs, call.outputs = g.images, self.groups, inputs, self.outputs
        call.width, call.output_blocks = self.width, self.output_blocks
        call.channels, call.grouped, call.together = max(1, self.channels), self.grouped, size.together
        call.phase_count, call.phases = len(self.phases), table.address
        self.most = max(size.together, g.blocks_at_once(self.blocks))
        kept: list[Any] = [table.kept]
        self._call: Any = call
        if self.depthwise:
            self._call = DepthwiseCorrelationStructure(call, direct_output)
        elif not self.planes:
            pixel, row = (strides[1] * g.source[3], strides[0] * g.source[2]) if reads else (distance, 0)
            self._call = PixelCorrelationStructure(call, not reads, pixel, row, direct_output)
        if reads:
            self._read_in_place(table.kept[0], kept)
        pack = PackWeightsStructure()
        pack.groups, pack.inputs, pack.outputs = self.groups, inputs, self.outputs
        pack.width, pack.blocks, pack.taps_first = self.width, self.output_widths, not self.planes
        group, row, column, _, _ = g.weight
        pack.strides[:] = (0, row, column, 0, group) if self.depthwise else g.weight
        numbers = integers([place for phase in self.phases for tap in phase.numbers for place in tap])
        phases = integers([value for s in table.kept[0] for value in (s.taps, s.weight)])
        pack.phase_count, pack.phases, pack.taps = len(self.phases), addressof(phases), addressof(numbers)
        kept += numbers, phases
        self._pack = pack
        self._kept = kept
        name = "planes" if self.planes else "depthwise_pixels" if self.depthwise else "pixels"
        self._functions = self.kernels.address("pack_weights"), self.kernels.address(f"correlate_{name}")

    def _read_in_place(self, table: Any, kept: list[Any]) -> None:
        """Let the offsets of taps be those in the input."""
        source = self.geometry.source
        for structure, phase in zip(table, self.phases, strict=True):
            offsets = integers([row * source[2] + column * source[3] for row, column in phase.samples])
            structure.offsets = addressof(offsets)
            kept.append(offsets)

    def tasks(self, source: Array, weight: Array, bias: Array | None, target: Array) -> list[Task]:
        """The tasks of a call; the arrays must live until they are finished."""
        if self.blocks == 0:
            return []
        packed = np.empty(self.packed_weights + self.packed_bias, self.accumulator)
        pack = PackWeightsStructure.from_buffer_copy(self._pack)
        pack.weight, pack.packed = pointer(weight), pointer(packed)
        pack.packed_bias = pack.packed + self.packed_weights * packed.itemsize
        if bias is not None:
            pack.bias, pack.bias_stride = pointer(bias), bias.strides[0] // bias.itemsize
        arguments = type(self._call).from_buffer_copy(self._call)
        call = arguments if self.planes else arguments.call
        call.input, call.output = pointer(source), pointer(target)
        call.weight, call.bias = pack.packed, pack.packed_bias
        arguments.kept = packed
        count = self.groups * self.output_widths
        return [
            Task(self._functions[0], pack, count, count),
            Task(self._functions[1], arguments, self.blocks, self.most, True),
        ]


def pointer(array: Array) -> int:
    """Address of the first element."""
    address: int = array.__array_interface__["data"][0]
    return address


def rounded_up(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple


correlation = lru_cache(maxsize=512)(Correlation)
