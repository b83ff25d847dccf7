"""What the windows of pixel-adaptive operators read: samples and guide, packed with rows of the same pitch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from arrayops._backends.cpu.window.packing import NO_TAP, PackedPhase, packed_guide, packed_phase
from arrayops._backends.cpu.window.phases import PhaseTaps
from arrayops._core.shapes import Axis, Pair
from arrayops._core.taps import AxisTaps, axis_taps

NOT_VALID = -1
"""Offset of a tap that reads an inserted zero."""

MAX_EMPTY_PHASES = 64
"""Phases without taps that kernels fill with the bias; with more, the whole output is filled first."""


@dataclass(frozen=True)
class GuideTaps(PhaseTaps):
    """What a phase reads of the guide: at its taps, at the centre, and under the smoothing kernel, in this order."""

    @cached_property
    def _counts(self) -> tuple[int, int]:
        rows, columns = (sum(tap.number != NO_TAP for tap in axis.taps) for axis in (self.rows, self.columns))
        return rows, columns

    @property
    def taps(self) -> int:
        return self._counts[0] * self._counts[1]

    @property
    def tap_columns(self) -> int:
        """Taps of a row."""
        return self._counts[1]

    @property
    def numbers(self) -> list[tuple[int, int]]:
        return [(row, column) for row, column in super().numbers if NO_TAP not in (row, column)]

    def offsets(self, rows: int, columns: int) -> list[int]:
        (height, width), row_taps, column_taps = self._counts, self.rows.taps, self.columns.taps
        parts = (
            (row_taps[:height], column_taps[:width]),
            (row_taps[height : height + 1], column_taps[width : width + 1]),
            (row_taps[height + 1 :], column_taps[width + 1 :]),
        )
        return [offset for part in parts for offset in self.offsets_at(rows, columns, *part)]


@dataclass(frozen=True)
class SampleTaps(PhaseTaps):
    """What a phase reads of the samples at ``listed`` taps, rows and columns; the centre is one of them."""

    listed: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    centre: Pair = (0, 0)

    @property
    def numbers(self) -> list[tuple[int, int]]:
        return [(row, column) for row in self.listed[0] for column in self.listed[1]]

    @property
    def taps(self) -> int:
        return len(self.listed[0]) * len(self.listed[1])

    @property
    def centre_tap(self) -> int:
        """The tap at the centre; -1 if it is not listed, or reads an inserted zero."""
        if self.centre not in self.numbers or self.centre not in super().numbers:
            return -1
        return self.numbers.index(self.centre)

    def offsets(self, rows: int, columns: int) -> list[int]:
        found = dict(zip(super().numbers, super().offsets(rows, columns), strict=True))
        return [found.get(number, NOT_VALID) for number in self.numbers]


@dataclass(frozen=True)
class Sizes:
    """Elements of the packed planes of a channel of a block, positions of its outputs, and most taps of a phase."""

    distance: int
    guide_distance: int
    positions: int
    taps: int


class PacWindow:
    """The phases of a window, packed for blocks of any size.

    Parameters
    ----------
    axes : pair of Axis
        Rows and columns.
    smooth : pair of int
        Size of the smoothing kernel.
    every_tap : bool
        Whether taps that read inserted zeros are listed: those of an adaptive kernel that is a result or has a
        gradient of its own.

    Attributes
    ----------
    strides : list of int
        At which windows read rows and columns of the samples; ``guide_strides`` are those of the guide.
    fill : bool
        Whether the output must be filled before, as not all outputs have a phase.
    lengths : list of int
        Outputs of a phase along each axis, at most.
    """

    def __init__(self, axes: tuple[Axis, Axis], smooth: Pair, *, every_tap: bool) -> None:
        self._every_tap = every_tap
        self._centre = axes[0].kernel // 2, axes[1].kernel // 2
        self._axes = [axis_taps(axis, size) for axis, size in zip(axes, smooth, strict=True)]
        self.strides = [axis.input.stride for axis in self._axes]
        self.guide_strides = [axis.guide.stride for axis in self._axes]
        with_outputs = [[phase for phase in axis.phases if phase.length] for axis in self._axes]
        tapped = [[phase for phase in phases if any(tap.plane >= 0 for tap in phase.taps)] for phases in with_outputs]
        empty = len(with_outputs[0]) * len(with_outputs[1]) - len(tapped[0]) * len(tapped[1])
        self.fill = empty > MAX_EMPTY_PHASES and not every_tap
        listed = tapped if self.fill else with_outputs
        self.count = len(listed[0]) * len(listed[1])
        self.lengths = [max((phase.length for phase in phases), default=1) for phases in listed]
        self._listed = [
            [axis.phases.index(phase) for phase in phases] for axis, phases in zip(self._axes, listed, strict=True)
        ]
        self._packed: dict[tuple[int, int], list[tuple[PackedPhase, PackedPhase, tuple[int, ...]]]] = {}

    def phases(self, rows: int, columns: int) -> tuple[list[SampleTaps], list[GuideTaps]]:
        """The phases of the samples and of the guide, packed for blocks of so many outputs."""
        samples: list[SampleTaps] = []
        guides: list[GuideTaps] = []
        for row, row_guide, row_taps in self._along(0, rows):
            for column, column_guide, column_taps in self._along(1, columns):
                extra = max((segment.extra for axis in (column, column_guide) for segment in axis.segments), default=0)
                samples.append(SampleTaps(row, column, extra, (row_taps, column_taps), self._centre))
                guides.append(GuideTaps(row_guide, column_guide, extra))
        return samples, guides

    def _along(self, number: int, outputs: int) -> list[tuple[PackedPhase, PackedPhase, tuple[int, ...]]]:
        key = number, outputs
        if key not in self._packed:
            axis = self._axes[number]
            self._packed[key] = [self._phase(axis, index, outputs) for index in self._listed[number]]
        return self._packed[key]

    def _phase(self, axis: AxisTaps, index: int, outputs: int) -> tuple[PackedPhase, PackedPhase, tuple[int, ...]]:
        guide = packed_guide(axis, index, outputs, every_tap=self._every_tap)
        taps = tuple(tap.number for tap in guide.taps if tap.number != NO_TAP)
        return packed_phase(axis, index, outputs), guide, taps

    def sizes(self, rows: int, columns: int) -> Sizes:
        """Sizes of a block of so many outputs."""
        samples, guides = self.phases(rows, columns)
        return Sizes(
            max((phase.packed(rows, columns) for phase in samples), default=0),
            max((phase.packed(rows, columns) for phase in guides), default=0),
            max(((rows - 1) * phase.pitch(columns) + columns for phase in samples), default=0),
            max((phase.taps for phase in guides), default=0),
        )

    def spans(self) -> list[int]:
        """Along each axis, how many outputs lie between two that read no samples, and no guide, in common."""
        found = []
        for axis, (steps, guide_steps) in enumerate(zip(self.strides, self.guide_strides, strict=True)):
            spans = [0]
            for samples, guide, _ in self._along(axis, 1):
                spans += [_span(samples, steps), _span(guide, guide_steps)]
            found.append(max(spans))
        return found


def _span(phase: PackedPhase, stride: int) -> int:
    samples: Sequence[int] = [tap.sample for tap in phase.taps]
    return (max(samples) - min(samples)) // stride if samples else 0
