"""Plans of the forward of pixel-adaptive operators, by kernel, and the choice of one."""

from ctypes import addressof
from functools import lru_cache

import numpy as np

from arrayops._backends.cpu.engine.scheduler import Task
from arrayops._backends.cpu.pac.geometry import Operands, PacGeometry
from arrayops._backends.cpu.pac.plan import Plan
from arrayops._backends.cpu.pac.structures import PacStructure
from arrayops._backends.cpu.window.arrays import Array, dtype_name, pointer
from arrayops._backends.cpu.window.units import kernels
from arrayops._backends.cpu.window.weights import PackedWeights
from arrayops._backends.numpy.stacks import balanced_share

COLUMN_BYTES = 28 << 10
"""Scaled samples of a tile at a time: what the first cache holds beside weights and results."""


class Forward(Plan):
    """The plan of a forward.

    Attributes
    ----------
    fill : bool
        Whether the output must be filled before, as not all outputs have a block.
    """

    @property
    def fill(self) -> bool:
        return self.window.fill

    def tasks(self, operands: Operands, output: Array | None, output_mask: Array | None) -> list[Task]:
        """The tasks of a call; the arrays must live until they are finished."""
        if self.blocks == 0:
            return []
        call = self._arguments(operands)
        if output is not None:
            call.output = pointer(output)
        if output_mask is not None:
            call.output_mask = pointer(output_mask)
        packing = self._pack(call, operands)
        return [*packing, Task(self.kernels.address(self.file), call, self.blocks, self.most, bool(packing))]

    def _prepare(self) -> None:
        pass

    def _workspace(self) -> int:
        return self.kernels.number(f"{self.file}_workspace", addressof(self._call))

    def _pack(self, call: PacStructure, operands: Operands) -> list[Task]:
        """Tasks that pack what a kernel reads beside samples and guide, which is put in its arguments."""
        return []


class KernelForward(Forward):
    """The adaptive kernel itself: ``pac_kernel.cpp``."""

    file = "pac_kernel"

    def _planes(self) -> tuple[int, int, int]:
        return 2, self.geometry.guides, 0


class ConvolutionForward(Forward):
    """Filters of groups of channels: ``pac_convolution.cpp``."""

    file = "pac_convolution"

    def _prepare(self) -> None:
        g = self.geometry
        self.width = self.kernels.number("output_width", g.outputs)
        self.output_widths = -(-g.outputs // self.width)
        taps = self.window.sizes(1, 1).taps or 1
        tile_bytes = self.kernels.number("tile_positions") * g.item
        self.chunk = max(1, balanced_share(g.inputs, max(1, COLUMN_BYTES // (tile_bytes * taps))))
        self.weights_of_tap = g.groups * self.output_widths * self.width * g.inputs

    def _planes(self) -> tuple[int, int, int]:
        return self.geometry.channels + 1, self.geometry.guides, 0

    def _build(self) -> PacStructure:
        call = super()._build()
        g = self.geometry
        assert g.weight is not None
        self._weights = PackedWeights(
            self.phases,
            self.table,
            channels=(g.groups, g.inputs, g.outputs),
            width=self.width,
            taps_first=True,
            strides=g.weight,
            dtype=g.accumulator,
        )
        return call

    def _pack(self, call: PacStructure, operands: Operands) -> list[Task]:
        assert operands.weight is not None
        # A float32 weight beside half-precision samples is packed as one beside float32 samples is.
        pack = kernels(f"{self.file}.cpp", dtype_name(operands.weight)).address("pack_weights")
        task, packed = self._weights.task(pack, operands.weight, None)
        bias = self._initial(operands.bias)
        call.weight, call.bias, call.kept = packed.weight, pointer(bias), (packed.array, bias)
        return [task]

    def _initial(self, bias: Array | None) -> Array:
        """The bias of each group, filled up to whole widths of outputs."""
        g = self.geometry
        initial = np.zeros((g.groups, self.output_widths * self.width), g.accumulator)
        if bias is not None:
            initial[:, : g.outputs] = bias.reshape(g.groups, g.outputs)
        return initial


class ChannelwiseForward(Forward):
    """One filter for all channels, or none: ``pac_channelwise.cpp``."""

    file = "pac_channelwise"

    def _planes(self) -> tuple[int, int, int]:
        return self.geometry.channels + 1, self.geometry.guides, 0

    def _pack(self, call: PacStructure, operands: Operands) -> list[Task]:
        call.kept = weight, bias = self._shared_filter(operands.weight), operands.bias
        call.weight = None if weight is None else pointer(weight)
        call.bias = None if bias is None else pointer(bias)
        return []


@lru_cache(maxsize=512)
def forward(geometry: PacGeometry) -> Forward:
    """The plan of a forward."""
    if geometry.every_tap:
        return KernelForward(geometry)
    return (ChannelwiseForward if geometry.weight is None else ConvolutionForward)(geometry)
