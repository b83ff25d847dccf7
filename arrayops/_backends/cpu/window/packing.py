"""How the samples that a block of outputs reads are packed along one axis; see ``raw_kernels/cpu/window.h``."""

from collections.abc import Sequence
from typing import NamedTuple

from arrayops._core.taps import AxisTaps, Phase

NO_TAP = -1
"""Number of a position of the guide that is not that of a tap."""


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
    """What the taps of phase ``number`` of an axis read, packed for blocks of ``outputs`` outputs."""
    planes = axis.input
    samples = [
        (tap.number, tap.shift * planes.stride + planes.planes[tap.plane] - planes.before)
        for tap in axis.phases[number].taps
        if tap.plane >= 0
    ]
    return _packed(axis.phases[number], samples, planes.stride, outputs)


def packed_guide(axis: AxisTaps, number: int, outputs: int, *, every_tap: bool) -> PackedPhase:
    """The same for the guide, whose last "taps" are the centre and the positions under the smoothing kernel.

    Taps that read inserted zeros are left out, unless ``every_tap`` is asked for.
    """
    phase, planes = axis.phases[number], axis.guide
    read = [
        *((tap.number, tap.guide_plane, tap.guide_shift) for tap in phase.taps if every_tap or tap.plane >= 0),
        *((NO_TAP, position.plane, position.shift) for position in (phase.centre, *phase.smooth)),
    ]
    samples = [(tap, shift * planes.stride + planes.planes[plane] - planes.before) for tap, plane, shift in read]
    return _packed(phase, samples, planes.stride, outputs)


def _packed(phase: Phase, samples: Sequence[tuple[int, int]], stride: int, outputs: int) -> PackedPhase:
    """Taps, as number and sample for the first output, whose samples share a segment if they overlap.

    Dilated far beyond the block, each has its own.
    """
    segments: list[Segment] = []
    positions: dict[int, tuple[int, int]] = {}
    for sample in sorted({sample for _, sample in samples}, key=lambda sample: (sample % stride, sample)):
        if segments:
            shift, remainder = divmod(sample - segments[-1].start, stride)
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
