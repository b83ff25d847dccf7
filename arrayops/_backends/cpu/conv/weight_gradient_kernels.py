"""Plans of the gradients of weights by kernel, and the choice of one."""

import math
from functools import lru_cache

from arrayops._backends.cpu.conv.correlation import LARGE_OPERATIONS, MAX_COLUMNS, MIN_BLOCKS
from arrayops._backends.cpu.conv.geometry import Geometry
from arrayops._backends.cpu.conv.weight_gradient import MAX_PARTIAL_BYTES, WeightGradient
from arrayops._backends.cpu.window.arrays import most_that_fits, rounded_up
from arrayops._backends.numpy.stacks import balanced_share

PACKED_BYTES, MAX_PACKED_BYTES = 128 << 10, 1 << 20
"""Packed samples, and gradients, of a part, and the most."""

DEPTHWISE_BYTES = 512 << 10
"""The same of a depthwise part."""

LINE_BYTES = 64
"""A cache line."""

MAX_CHANNEL_BYTES = 256
"""Channels of a depthwise part: short ranges are read slowly, long pixels share few sets of the cache."""

MAX_SUM_BYTES = 192 << 10
"""Bytes of the sums of a block."""

MAX_CHAIN = 256
"""Positions that are added one after the other before their sum is added to others."""

WIDE_POSITIONS, WIDE_OUTPUTS, PANEL_INPUTS = 128, 128, 16
"""For wide groups: positions of a part, outputs of a block, inputs that are packed side by side."""


class WideWeightGradient(WeightGradient):
    """Vectors of outputs."""

    file = "weight_gradient"
    function = "wide"

    def _choose_blocks(self) -> None:
        g = self.geometry
        self.output_blocks = math.ceil(g.outputs / WIDE_OUTPUTS)
        outputs = math.ceil(g.outputs / self.output_blocks)
        width = rounded_up(outputs, self.lanes if outputs <= self.lanes else 2 * self.lanes)
        input_bytes = g.taps * width * self.item
        most_inputs, most_positions, ranges = PANEL_INPUTS, WIDE_POSITIONS, 1
        if g.operations >= LARGE_OPERATIONS:
            # Enough blocks by splits, as far as these may be, else by ranges of inputs.
            splits = math.ceil(MIN_BLOCKS / (g.groups * self.output_blocks))
            most_splits = max(1, MAX_PARTIAL_BYTES // (self.weights * self.item))
            most_positions = min(most_positions, max(1, g.images * math.prod(self.lengths) // min(splits, most_splits)))
            if g.images * math.prod(self.lengths) < 2 * g.taps * g.inputs:
                # Of few positions, gradients are packed again faster than the sums of splits are added.
                most_splits = min(most_splits, math.ceil(splits * PANEL_INPUTS / g.inputs))
            ranges = math.ceil(splits / most_splits)
            most_inputs = min(most_inputs, max(1, g.inputs // ranges))
        self.columns = balanced_share(self.lengths[1], most_positions)
        self.rows = balanced_share(self.lengths[0], max(1, most_positions // self.columns))
        self.panel = balanced_share(g.inputs, max(1, min(most_inputs, MAX_SUM_BYTES // input_bytes)))
        panels = math.ceil(g.inputs / self.panel)
        self.input_blocks = max(ranges, math.ceil(panels / max(1, MAX_SUM_BYTES // (input_bytes * self.panel))))
        self.input_blocks = min(panels, self.input_blocks)
        self.runs = self._runs(self.panel, 1 << 62)
        samples = rounded_up(self.phases.packed(self.rows, self.columns) * self.panel, self.lanes)
        sums = math.ceil(panels / self.input_blocks) * self.panel * g.taps * width
        self.elements = samples + self.rows * self.columns * width + sums
        self.units = g.groups * self.input_blocks * self.output_blocks


class NarrowWeightGradient(WeightGradient):
    """Vectors of positions."""

    file = "weight_gradient"
    function = "narrow"

    def _choose_blocks(self) -> None:
        g = self.geometry
        if g.layout == "NHWC":
            # Channels side by side are turned into planes, a vector of them at a time.
            self.grouped = min(g.groups, math.ceil(self.lanes / min(g.inputs, g.outputs)))
        outputs = _filled_outputs(g)
        planes = g.inputs * self.grouped, g.outputs * self.grouped + outputs - g.outputs
        self.columns = _columns(self, *planes)
        pitch = rounded_up(self.columns, self.lanes)
        self.rows = _rows(self, *planes, pitch, self.lengths[0], PACKED_BYTES)
        samples = self.phases.packed(self.rows, self.columns) * planes[0] + 2 * self.lanes
        self.elements = samples + planes[1] * self.rows * pitch + g.taps * planes[0] * outputs * self.lanes
        self.units = math.ceil(g.groups / self.grouped)


class RunsWeightGradient(WeightGradient):
    """Vectors of taps and inputs."""

    file = "weight_gradient_runs"
    function = "runs"

    def _choose_blocks(self) -> None:
        g = self.geometry
        outputs = _filled_outputs(g)
        if g.layout == "NHWC":
            # Groups whose channels share cache lines, as long as there are enough blocks by splits.
            self.grouped = min(g.groups, max(1, LINE_BYTES // (g.itemsize * min(g.inputs, g.outputs))))
        self.columns = _columns(self, g.inputs, outputs)
        # Sums over the positions of a part are one chain of additions.
        most_rows = min(self.lengths[0], max(1, MAX_CHAIN // self.columns))
        self.rows = _rows(self, g.inputs, outputs, self.columns, most_rows, PACKED_BYTES)
        self.runs = self._runs(g.inputs, self.lanes)
        samples = rounded_up(self.phases.packed(self.rows, self.columns) * g.inputs + 2 * self.lanes, self.lanes)
        grads = rounded_up(min(outputs, 4) * self.rows * self.columns, self.lanes)
        self.elements = samples + grads + self.grouped * outputs * len(self.runs) * self.lanes
        self.units = math.ceil(g.groups / self.grouped)


class DepthwiseWeightGradient(WeightGradient):
    """Vectors of channels, each with its own filter."""

    file = "depthwise_weight_gradient_pixels"
    function = "depthwise_pixels"

    def _choose_blocks(self) -> None:
        g, lanes = self.geometry, self.lanes
        width = rounded_up(g.groups, lanes)
        self.columns = columns = _columns(self, width, width)
        # Ranges of channels: all that fit, side by side.
        per_channel = (self.phases.packed(min(4, self.lengths[0]), columns) + 4 * columns) * self.item
        most = max(1, min(DEPTHWISE_BYTES // (per_channel * lanes), MAX_CHANNEL_BYTES // (lanes * self.item)))
        self.output_blocks = math.ceil(width // lanes / most)
        width = math.ceil(width // lanes / self.output_blocks) * lanes
        most_rows = min(self.lengths[0], max(1, MAX_CHAIN // columns))
        self.rows = _rows(self, width, width, columns, most_rows, DEPTHWISE_BYTES)
        samples = self.phases.packed(self.rows, columns)
        self.elements = (samples + self.rows * columns + g.taps) * width
        self.units = self.output_blocks


def _filled_outputs(g: Geometry) -> int:
    """Outputs of a group, with those that fill up the last four."""
    return rounded_up(g.outputs, 4 if g.outputs >= 3 else g.outputs)


def _columns(plan: WeightGradient, inputs: int, outputs: int) -> int:
    """Columns of a part: not all of long rows of many channels."""

    def fits(columns: int) -> bool:
        most = 2 * PACKED_BYTES if columns > 4 * plan.lanes else MAX_PACKED_BYTES
        return (inputs * plan.phases.packed(1, columns) + outputs * columns) * plan.item <= most

    columns = balanced_share(plan.lengths[1], MAX_COLUMNS)
    while columns > 1 and not fits(columns):
        columns = balanced_share(plan.lengths[1], columns // 2)
    return columns


def _rows(plan: WeightGradient, inputs: int, outputs: int, pitch: int, most: int, most_bytes: int) -> int:
    """Rows of a part, at most so many, whose samples and gradients fit."""

    def fits(rows: int) -> bool:
        return (inputs * plan.phases.packed(rows, plan.columns) + outputs * rows * pitch) * plan.item <= most_bytes

    return balanced_share(plan.lengths[0], most_that_fits(most, fits))


def _runs_fill_vectors(g: Geometry) -> bool:
    """Whether adjacent taps and inputs fill half of the lanes."""
    columns = g.axes[1]
    adjacent = columns.kernel if columns.stride == columns.dilation == 1 else 1
    run = adjacent * g.inputs
    return g.inputs > 1 and 2 * run >= rounded_up(run, g.lanes)


@lru_cache(maxsize=512)
def weight_gradient(geometry: Geometry) -> WeightGradient:
    """The plan of the gradient of a weight by the fastest kernel."""
    if geometry.depthwise_pixels:
        return DepthwiseWeightGradient(geometry)
    sums = geometry.outputs * geometry.inputs * geometry.taps * geometry.accumulator.itemsize
    if geometry.outputs > max(4, geometry.lanes // 2) or sums > MAX_PACKED_BYTES:
        return WideWeightGradient(geometry)
    return (RunsWeightGradient if _runs_fill_vectors(geometry) else NarrowWeightGradient)(geometry)
