"""Weights in the order in which a kernel reads them."""

from collections.abc import Sequence
from ctypes import addressof
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.cpu.engine.scheduler import Task
from arrayops._backends.cpu.window.arrays import Array, pointer
from arrayops._backends.cpu.window.phases import PhaseTable, PhaseTaps
from arrayops._backends.cpu.window.structures import PackWeightsStructure, integers


class Packed(NamedTuple):
    """Addresses of packed weights and bias, and the array that holds both."""

    weight: int
    bias: int
    array: Array


class PackedWeights:
    """Packing of the weights of some phases by ``pack_weights.h``.

    Parameters
    ----------
    phases : sequence of PhaseTaps
        The phases whose taps are packed.
    table : PhaseTable
        Their structures, which tell where the weights of each begin.
    channels : tuple of int
        Groups, and inputs and outputs of each.
    width : int
        Outputs side by side.
    taps_first : bool
        Whether the taps are the outer axis, else the inputs.
    strides : sequence of int
        Elements to the next group, row and column of taps, input and output.
    dtype : dtype
        Of packed weights.
    """

    def __init__(
        self,
        phases: Sequence[PhaseTaps],
        table: PhaseTable,
        *,
        channels: tuple[int, int, int],
        width: int,
        taps_first: bool,
        strides: Sequence[int],
        dtype: "np.dtype[Any]",
    ) -> None:
        self.dtype = dtype
        pack = self._pack = PackWeightsStructure()
        pack.groups, pack.inputs, pack.outputs = channels
        pack.width, pack.blocks, pack.taps_first = width, -(-pack.outputs // width), taps_first
        pack.strides[:] = strides
        numbers = integers([place for phase in phases for tap in phase.numbers for place in tap])
        sizes = integers([value for structure in table.kept[0] for value in (structure.taps, structure.weight)])
        pack.phase_count, pack.phases, pack.taps = len(phases), addressof(sizes), addressof(numbers)
        self._kept = numbers, sizes
        self._blocks = pack.groups * pack.blocks
        self._bias = self._blocks * width
        self._weights = self._bias * pack.inputs * sum(phase.taps for phase in phases)

    def task(self, function: int, weight: Array, bias: Array | None) -> tuple[Task, Packed]:
        """The task that packs a weight and a bias, zeros for None, by the function ``pack_weights`` of a unit."""
        array = np.empty(self._weights + self._bias, self.dtype)
        pack = PackWeightsStructure.from_buffer_copy(self._pack)
        pack.weight, pack.packed = pointer(weight), pointer(array)
        pack.packed_bias = pack.packed + self._weights * array.itemsize
        if bias is not None:
            pack.bias, pack.bias_stride = pointer(bias), bias.strides[0] // bias.itemsize
        return Task(function, pack, self._blocks, self._blocks), Packed(pack.packed, pack.packed_bias, array)
