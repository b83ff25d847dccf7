"""Plans of the gradients of weights of correlations: which kernel computes them, in which blocks."""

import math
from ctypes import addressof
from functools import lru_cache
from typing import Any

import numpy as np

from arrayops._backends.cpu.conv.correlation import (
    LARGE_OPERATIONS,
    MIN_BLOCKS,
    Array,
    pointer,
    rounded_up,
)
from arrayops._backends.cpu.conv.geometry import Geometry
from arrayops._backends.cpu.conv.phases import BlockSize, phase_table, phases_of
from arrayops._backends.cpu.conv.structures import Strides, WeightGradientStructure, integers
from arrayops._backends.cpu.conv.units import kernels
from arrayops._backends.cpu.engine.scheduler import Task
from arrayops._backends.numpy.stacks import balanced_share
from arrayops._core.taps import axis_taps

PACKED_BYTES = 128 << 10
"""Packed samples, and gradients, of a part."""

DEPTHWISE_BYTES = 512 << 10
"""The same of a depthwise part."""

MAX_CHANNEL_BYTES = 256
"""Channels of a depthwise part: short ranges are read slowly, long pixels share few sets of the cache."""

MAX_SUM_BYTES = 192 << 10
"""Bytes of the sums of a block."""

MAX_PARTIAL_BYTES = 8 << 20
"""Bytes of the sums of all blocks, unless those of one split are more."""

MAX_POSITIONS = 1 << 15
"""Positions that are added in the dtype of the accumulator, as far as `MAX_PARTIAL_BYTES` allows."""

MAX_CHAIN = 256
"""Positions that are added one after the other before their sum is added to others."""

MAX_WIDE_OUTPUTS = 128
"""Outputs of a block of the algorithm for wide groups."""


class WeightGradient:
    """The plan of the gradient of a weight; ``geometry`` has the gradient of the output as its target.

    Attributes
    ----------
    geometry : Geometry
        What it was made for.
    workspace : int
        Bytes that a thread needs.
    """

    def __init__(self, geometry: Geometry) -> None:
        g = self.geometry = geometry
        self.accumulator, lanes = g.accumulator, g.lanes
        item = self.accumulator.itemsize
        depthwise = g.depthwise_pixels
        wide = not depthwise and g.outputs > max(4, lanes // 2)
        runs = not depthwise and not wide and self._runs_fill_vectors(lanes)
        file = (
            "depthwise_weight_gradient_pixels" if depthwise else "weight_gradient_runs" if runs else "weight_gradient"
        )
        library = kernels(f"{file}.cpp", g.dtype)
        axes = tuple(axis_taps(axis) for axis in g.axes)
        lengths = [axis.output for axis in g.axes]
        rows, columns = 1, lengths[1]
        grouped = 1
        input_blocks = output_blocks = 1
        positions = g.images * lengths[0] * lengths[1]
        weights = g.groups * g.taps * g.inputs * g.outputs

        def packed(rows: int, columns: int) -> int:
            return phases_of(axes, rows, columns)[0].packed(rows, columns)

        if wide:
            most = library.number("column")
            columns = balanced_share(lengths[1], most)
            rows = balanced_share(lengths[0], most // columns)
            output_blocks = math.ceil(g.outputs / MAX_WIDE_OUTPUTS)
            width = rounded_up(math.ceil(g.outputs / output_blocks), 2 * lanes)
            input_bytes = max(1, packed(rows, columns)) * item
            inputs = min(MAX_SUM_BYTES // (g.taps * width * item), PACKED_BYTES // input_bytes)
            input_blocks = math.ceil(g.inputs / max(1, inputs))
            if g.operations >= LARGE_OPERATIONS:
                parts = g.images * math.ceil(lengths[0] / rows) * math.ceil(lengths[1] / columns)
                splits = min(parts, max(1, MAX_PARTIAL_BYTES // (weights * item)))
                input_blocks = max(input_blocks, math.ceil(MIN_BLOCKS / (splits * g.groups * output_blocks)))
            input_blocks = min(g.inputs, input_blocks)
            inputs = math.ceil(g.inputs / input_blocks)
            samples = rounded_up(packed(rows, columns) * inputs + lanes, lanes)
            column_rows, most = library.number("column_rows"), library.number("column")
            sums = rounded_up(g.taps * inputs, column_rows) * width
            workspace = samples + most * width + column_rows * (most + lanes) + sums
            units = g.groups * input_blocks * output_blocks
        else:
            # Channels side by side are turned into planes, a vector of them at a time.
            grouped = 1 if g.layout == "NCHW" or runs else min(g.groups, math.ceil(lanes / min(g.inputs, g.outputs)))
            sums_outputs = rounded_up(g.outputs, 4 if g.outputs >= 3 else g.outputs)
            inputs, outputs = g.inputs * grouped, g.outputs * grouped + sums_outputs - g.outputs
            if depthwise:
                # Ranges of channels: all that fit, side by side.
                inputs = outputs = rounded_up(g.groups, lanes)
            columns = balanced_share(lengths[1], 512)
            while columns > 4 * lanes and (inputs * packed(1, columns) + outputs * columns) * item > 2 * PACKED_BYTES:
                columns = balanced_share(lengths[1], columns // 2)
            if depthwise:
                per_channel = (packed(min(4, lengths[0]), columns) + 4 * columns) * item
                most = max(1, min(DEPTHWISE_BYTES // (per_channel * lanes), MAX_CHANNEL_BYTES // (lanes * item)))
                output_blocks = math.ceil(outputs // lanes / most)
                inputs = outputs = math.ceil(outputs // lanes / output_blocks) * lanes
            pitch = columns if depthwise or runs else rounded_up(columns, lanes)
            most_rows, most_bytes = lengths[0], DEPTHWISE_BYTES if depthwise else PACKED_BYTES
            if depthwise or runs:
                # Sums over the positions of a part are one chain of additions.
                most_rows = min(most_rows, max(1, MAX_CHAIN // columns))
            while (
                rows < most_rows
                and (inputs * packed(rows + 1, columns) + outputs * (rows + 1) * pitch) * item <= most_bytes
            ):
                rows += 1
            rows = balanced_share(lengths[0], rows)
            samples = packed(rows, columns) * inputs + (0 if depthwise else 2 * lanes)
            sums = g.taps * inputs * (1 if depthwise else sums_outputs * lanes)
            workspace = samples + outputs * rows * pitch + sums
            vectors = self._vectors(phases_of(axes, rows, columns)[0].offsets(rows, columns), lanes) if runs else []
            if runs:
                samples, sums = rounded_up(samples, lanes), sums_outputs * len(vectors) * lanes
                workspace = samples + rounded_up(outputs * rows * pitch, lanes) + sums
            units = output_blocks if depthwise else math.ceil(g.groups / grouped)
        size = BlockSize(rows, columns)
        phases = phases_of(axes, rows, columns)
        table = phase_table(phases, size, g.images, 1, 1)
        self.workspace = workspace * item + 64
        self.weights = weights
        # Splits by shapes alone: their sums are added in order.
        splits = math.ceil(positions / MAX_POSITIONS)
        if g.operations >= LARGE_OPERATIONS:
            splits = max(splits, math.ceil(MIN_BLOCKS / units))
        splits = min(splits, max(1, MAX_PARTIAL_BYTES // (self.weights * item)))
        self.splits = max(1, min(splits, table.blocks))
        self.blocks = units * self.splits
        self.most = g.blocks_at_once(self.blocks)
        self._kept: list[Any] = [table]
        numbers = integers([place for phase in phases for tap in phase.numbers for place in tap])
        self._kept.append(numbers)
        call = WeightGradientStructure()
        call.input_strides, call.grad_strides = Strides(*g.source), Strides(*g.target)
        call.strides[:] = g.weight
        call.size[:] = [axis.size for axis in g.axes]
        call.stride[:] = [axis.input.stride for axis in axes]
        call.images, call.groups, call.inputs, call.outputs = g.images, g.groups, g.inputs, g.outputs
        call.grouped = grouped
        call.splits, call.input_blocks, call.output_blocks = self.splits, input_blocks, output_blocks
        call.taps, call.tap_numbers, call.phase = g.taps, addressof(numbers), table.address
        if runs:
            listed = integers([value for vector in vectors for value in vector])
            call.vectors, call.vector_list = len(vectors), addressof(listed)
            self._kept.append(listed)
        self._call = call
        kind = "depthwise_pixels" if depthwise else "wide" if wide else "runs" if runs else "narrow"
        self._functions = library.address(f"weight_gradient_{kind}"), library.address("add_partial")

    def _vectors(self, offsets: list[int], lanes: int) -> list[tuple[int, int, int]]:
        """Vectors of samples that taps and inputs read: offset in the packed pixels, first tap and input, length."""
        inputs = self.geometry.inputs
        runs: list[tuple[int, int, int]] = []
        for tap, offset in enumerate(offsets):
            if runs and offset * inputs == runs[-1][0] + runs[-1][2]:
                start, first, length = runs.pop()
                runs.append((start, first, length + inputs))
            else:
                runs.append((offset * inputs, tap * inputs, inputs))
        return [
            (start + at, first + at, min(lanes, length - at))
            for start, first, length in runs
            for at in range(0, length, lanes)
        ]

    def _runs_fill_vectors(self, lanes: int) -> bool:
        """Whether adjacent taps and inputs fill half of the lanes."""
        g = self.geometry
        columns = g.axes[1]
        adjacent = columns.kernel if columns.stride == columns.dilation == 1 else 1
        run = adjacent * g.inputs
        return g.inputs > 1 and 2 * run >= rounded_up(run, lanes)

    def tasks(self, source: Array, grad: Array, target: Array) -> list[Task]:
        """The tasks of a call; the arrays must live until they are finished."""
        g = self.geometry
        partial = np.empty(self.splits * self.weights, self.accumulator)
        call = WeightGradientStructure.from_buffer_copy(self._call)
        call.input, call.grad, call.partial, call.result = map(pointer, (source, grad, partial, target))
        call.kept = partial
        count = g.groups * g.taps * g.inputs
        return [
            Task(self._functions[0], call, self.blocks, self.most),
            Task(self._functions[1], call, count, max(1, 4096 // g.outputs), True),
        ]


weight_gradient = lru_cache(maxsize=512)(WeightGradient)
