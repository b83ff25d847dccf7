"""How the samples that a block of outputs reads are packed along one axis; see ``raw_kernels/cpu/window.h``."""

from collections.abc import Sequence
from typing import NamedTuple

from arrayops._core.taps import AxisTaps


class Segment(NamedTuple):
    """Samples ``start, start + stride, ...``, of which there are ``extra`` more than outputs."""

    start: int
    extra: int


class PackedTap(NamedTuple):
    """Where a tap reads for the first output of a block: index ``shift`` of segment number ``segment``."""

    number: int
    segment: int
    shift: int
    sample: int


class PackedPhase(NamedTuple):
    """The outputs ``first, first + step, ...`` of one axis, and the samples that ``outputs`` of them read."""

    first: int
    step: int
    length: int
    taps: tuple[PackedTap, ...]
    segments: tuple[Segment, ...]


def packed_phase(axis: AxisTaps, number: int, outputs: int) -> PackedPhase:
    """Phase ``number`` of an axis, packed for blocks of ``outputs`` outputs.

    Taps whose samples overlap share a segment; dilated far beyond the block, each has its own.
    """
    phase, planes = axis.phases[number], axis.input
    samples = [
        (tap.number, tap.shift * planes.stride + planes.planes[tap.plane] - planes.before)
        for tap in phase.taps
        if tap.plane >= 0
    ]
    segments: list[Segment] = []
    positions: dict[int, tuple[int, int]] = {}
    for sample in sorted({sample for _, sample in samples}, key=lambda sample: (sample % planes.stride, sample)):
        if segments:
            shift, remainder = divmod(sample - segments[-1].start, planes.stride)
            if remainder == 0 and shift - segments[-1].extra <= outputs:
                segments[-1] = segments[-1]._replace(extra=shift)
                positions[sample] = len(segments) - 1, shift
                continue
        segments.append(Segment(sample, 0))
        positions[sample] = len(segments) - 1, 0
    taps = tuple(PackedTap(tap, *positions[sample], sample) for tap, sample in samples)
    return PackedPhase(phase.first, phase.step, phase.length, taps, tuple(segments))


def bases(segments: Sequence[Segment], outputs: int) -> list[int]:
    """Index of the first sample of each segment where segments follow each other, and the number of samples."""
    found = [0]
    for segment in segments:
        found.append(found[-1] + outputs + segment.extra)
    return found
