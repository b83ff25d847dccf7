"""Taps of a sliding window as shifts within *phase planes* (polyphase decomposition). Pure Python, no arrays.

With stride s and dilation d, tap i of output o reads padded sample ``o * s + i * d``. Split the padded samples by
their index modulo s:

    padded   0 1 2 3 4 5 6 7 ...          s = 2
    plane 0  0   2   4   6                plane p holds sample r * s + p at index r
    plane 1    1   3   5   7

Tap i then reads plane ``(i * d) % s`` at index ``o + (i * d) // s``: within its plane, each tap is a plain shift for
any stride. A transposed window is the mirror image: its outputs split into s phases, and the outputs ``m * s + a`` of
phase a read the samples of one input plane, again by plain shifts. Each phase uses a subset of the taps; the other taps
read inserted zeros. Every window thus becomes lists of (tap, plane, shift), and the code that uses them is independent
of the stride.
"""

from typing import NamedTuple

from arrayops._core.shapes import Axis


class PhasePlanes(NamedTuple):
    """The phase planes of an image along one axis: index r of plane p is image sample ``r * stride + p - before``.

    ``planes`` lists the remainders p that some tap reads, ``reach`` is the largest shift in any of these planes.
    """

    stride: int
    before: int
    planes: tuple[int, ...]
    reach: int


class Tap(NamedTuple):
    """One tap of one output phase along one axis.

    ``number`` is the tap's index in correlation order. ``plane`` indexes the ``planes`` of the input; it is -1 for a
    tap that reads inserted zeros, which is listed for the guide only.
    """

    number: int
    plane: int
    shift: int
    guide_plane: int
    guide_shift: int


class GuidePosition(NamedTuple):
    """A guide sample read apart from the taps: the centre, or a sample under the smoothing kernel around it."""

    plane: int
    shift: int


class Phase(NamedTuple):
    """The ``length`` outputs ``first, first + step, ...`` of one axis, and the samples they read."""

    first: int
    step: int
    length: int
    taps: tuple[Tap, ...]
    centre: GuidePosition
    smooth: tuple[GuidePosition, ...]


class AxisTaps(NamedTuple):
    """All phases of one axis, and the planes that their taps index."""

    input: PhasePlanes
    guide: PhasePlanes
    phases: tuple[Phase, ...]


def axis_taps(axis: Axis, smooth: int = 1) -> AxisTaps:
    """Tap lists along one axis, with the guide positions of a smoothing kernel of ``smooth`` samples around the centre.

    The guide of a transposed window has the output's resolution and is read with stride 1; ``(kernel - 1) * dilation``
    zeros of padding, the smaller half at the start, centre the kernel on it.
    """
    step = axis.stride
    if axis.transposed:
        guide_before = (axis.extent - 1) // 2
        input_stride, firsts = 1, range(min(step, axis.output) or 1)
    else:
        guide_before = axis.before
        input_stride, firsts = step, range(1)

    positions: dict[tuple[int, int], int] = {}
    for first in firsts:
        for index in range(axis.kernel):
            padded_index = first + index * axis.dilation
            if axis.transposed:
                dilated_index = padded_index - axis.before
                if dilated_index % step == 0:
                    positions[first, index] = dilated_index // step
            else:
                positions[first, index] = padded_index
    # Shifts are relative to the first sample that any tap reads.
    lowest = min(positions.values(), default=0) if axis.transposed else 0
    centre_tap = (axis.kernel // 2) * axis.dilation
    around = [centre_tap + offset - smooth // 2 for offset in range(smooth)]
    guide_lowest = min(0, *around)

    input_planes = sorted({position % input_stride for position in positions.values()}) or [0]
    guide_positions = [
        first + offset for first in firsts for offset in [i * axis.dilation for i in range(axis.kernel)] + around
    ]
    guide_planes = sorted({(position - guide_lowest) % step for position in guide_positions})

    def guide_position_of(position: int) -> GuidePosition:
        shift, plane = divmod(position - guide_lowest, step)
        return GuidePosition(guide_planes.index(plane), shift)

    phases = []
    for first in firsts:
        taps = []
        for index in range(axis.kernel):
            guide_position = guide_position_of(first + index * axis.dilation)
            if (first, index) in positions:
                shift, plane = divmod(positions[first, index] - lowest, input_stride)
                taps.append(Tap(index, input_planes.index(plane), shift, *guide_position))
            else:
                taps.append(Tap(index, -1, 0, *guide_position))
        outputs = -(-(axis.output - first) // step) if axis.transposed else axis.output
        phases.append(
            Phase(
                first=first,
                step=step if axis.transposed else 1,
                length=max(outputs, 0),
                taps=tuple(taps),
                centre=guide_position_of(first + centre_tap),
                smooth=tuple(guide_position_of(first + position) for position in around),
            )
        )
    reach = max((tap.shift for phase in phases for tap in phase.taps), default=0)
    guide_reach = max(max(position.shift for position in (*phase.smooth, phase.centre)) for phase in phases)
    guide_reach = max(guide_reach, max(tap.guide_shift for phase in phases for tap in phase.taps))
    return AxisTaps(
        input=PhasePlanes(input_stride, -lowest if axis.transposed else axis.before, tuple(input_planes), reach),
        guide=PhasePlanes(step, guide_before - guide_lowest, tuple(guide_planes), guide_reach),
        phases=tuple(phases),
    )
