"""Phases of a correlation, as its kernels take them: the structures, and the memory that they point to."""

from collections.abc import Sequence
from ctypes import addressof
from dataclasses import dataclass
from typing import Any

from arrayops._backends.cpu.window.packing import PackedPhase, PackedTap, bases, packed_phase
from arrayops._backends.cpu.window.structures import PhaseStructure, SegmentStructure, integers
from arrayops._core.taps import AxisTaps


@dataclass(frozen=True)
class PhaseTaps:
    """One phase of both axes: its packed axes, and (row, column) of its taps.

    Packed rows have at least ``extra`` samples more than outputs.
    """

    rows: PackedPhase
    columns: PackedPhase
    extra: int = 0

    @property
    def taps(self) -> int:
        """Number of taps."""
        return len(self.rows.taps) * len(self.columns.taps)

    @property
    def numbers(self) -> list[tuple[int, int]]:
        """Row and column of each tap in the filter."""
        return [(row.number, column.number) for row in self.rows.taps for column in self.columns.taps]

    @property
    def samples(self) -> list[tuple[int, int]]:
        """Row and column of the image that each tap reads for the first output."""
        return [(row.sample, column.sample) for row in self.rows.taps for column in self.columns.taps]

    def pitch(self, columns: int) -> int:
        """Packed samples of a row for so many columns of outputs."""
        return columns + max([self.extra, *(segment.extra for segment in self.columns.segments)])

    def plane(self, rows: int, columns: int) -> int:
        """Packed samples of one segment of the columns."""
        return bases(self.rows.segments, rows)[-1] * self.pitch(columns)

    def packed(self, rows: int, columns: int) -> int:
        """Packed samples of one channel for a block of outputs."""
        return self.plane(rows, columns) * len(self.columns.segments)

    def offsets(self, rows: int, columns: int) -> list[int]:
        """For each tap, packed samples from the first to the one that it reads for the first output."""
        return self.offsets_at(rows, columns, self.rows.taps, self.columns.taps)

    def offsets_at(
        self, rows: int, columns: int, row_taps: Sequence[PackedTap], column_taps: Sequence[PackedTap]
    ) -> list[int]:
        """`offsets` of some taps: of each row with each column."""
        first, plane, pitch = bases(self.rows.segments, rows), self.plane(rows, columns), self.pitch(columns)
        return [
            column.segment * plane + (first[row.segment] + row.shift) * pitch + column.shift
            for row in row_taps
            for column in column_taps
        ]


class Phases:
    """All phases with outputs, packed for blocks of any size.

    Parameters
    ----------
    axes : sequence of AxisTaps
        Rows and columns.
    empty : bool
        Whether phases without taps are listed.
    """

    def __init__(self, axes: Sequence[AxisTaps], *, empty: bool = True) -> None:
        self._axes = tuple(axes)
        self._empty = empty
        self._packed: dict[tuple[int, int], list[PackedPhase]] = {}

    def of(self, rows: int, columns: int) -> list[PhaseTaps]:
        """The phases, packed for blocks of so many outputs."""
        return [PhaseTaps(row, column) for row in self._along(0, rows) for column in self._along(1, columns)]

    def packed(self, rows: int, columns: int) -> int:
        """Packed samples of a channel of a block."""
        return max((phase.packed(rows, columns) for phase in self.of(rows, columns)), default=0)

    def _along(self, number: int, outputs: int) -> list[PackedPhase]:
        key = number, outputs
        if key not in self._packed:
            axis = self._axes[number]
            self._packed[key] = [
                packed_phase(axis, index, outputs)
                for index, phase in enumerate(axis.phases)
                if phase.length and (self._empty or any(tap.plane >= 0 for tap in phase.taps))
            ]
        return self._packed[key]


@dataclass(frozen=True)
class BlockSize:
    """Outputs of a block, and the blocks along the rows that are computed together at most."""

    rows: int
    columns: int
    together: int = 1

    @property
    def most_rows(self) -> int:
        """Rows that are packed together at most."""
        return self.rows * self.together


@dataclass(frozen=True)
class PhaseTable:
    """The structures of all phases."""

    address: int
    blocks: int
    kept: tuple[Any, ...]


def phase_table(phases: Sequence[PhaseTaps], size: BlockSize, copies: int, distance: int, weights: int) -> PhaseTable:
    """The structures of ``phases``.

    Parameters
    ----------
    phases : sequence of PhaseTaps
        The phases.
    size : BlockSize
        Size of the blocks.
    copies : int
        Blocks at the same rows and columns: of images, groups and channels.
    distance : int
        Elements from one packed sample to the next.
    weights : int
        Packed weights of one tap.
    """
    table = (PhaseStructure * len(phases))()
    kept: list[Any] = [table]
    block = weight = 0
    for structure, phase in zip(table, phases, strict=True):
        packed = phase.rows, phase.columns
        offsets = integers([offset * distance for offset in phase.offsets(size.most_rows, size.columns)])
        lists = []
        for axis, first in zip(packed, (bases(phase.rows.segments, size.most_rows), range(1 << 62)), strict=True):
            segments = (SegmentStructure * max(1, len(axis.segments)))()
            for number, segment in enumerate(axis.segments):
                segments[number] = SegmentStructure(segment.start, segment.extra, first[number])
            lists.append(segments)
        structure.first_block, structure.weight, structure.taps = block, weight, phase.taps
        structure.offsets = addressof(offsets)
        structure.pitch = phase.pitch(size.columns)
        structure.plane = phase.plane(size.most_rows, size.columns)
        for number, (axis, outputs) in enumerate(zip(packed, (size.rows, size.columns), strict=True)):
            structure.first[number], structure.step[number], structure.length[number] = axis[:3]
            structure.size[number], structure.blocks[number] = outputs, -(-axis.length // outputs)
            structure.segments[number], structure.segment[number] = len(axis.segments), addressof(lists[number])
        block += structure.blocks[0] * structure.blocks[1] * copies
        weight += phase.taps * weights
        kept += offsets, *lists
    return PhaseTable(addressof(table), block, tuple(kept))
