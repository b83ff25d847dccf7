"""Where the taps of a sliding window fall, as shifts within *phase planes*. Pure Python, no arrays.

With stride s, tap i of output o reads padded sample ``o * s + i * d``. Split the padded samples by their remainder:

    padded   0 1 2 3 4 5 6 7 ...          s = 2
    plane 0  0   2   4   6                plane p holds sample r * s + p at place r
    plane 1    1   3   5   7

Tap i then reads plane ``(i * d) % s`` at place ``o + (i * d) // s``: in its plane every tap is a plain shift, whatever
the stride. A transposed window is the mirror image: its outputs split into s phases, and the outputs ``m * s + a`` of
phase a read the samples of one input plane, again by plain shifts, each phase by a few of the taps; the other taps fall
on stuffed zeros. So every window becomes lists of (tap, plane, shift), and the work on them knows no stride.
"""

from typing import NamedTuple

from arrayops._core.shapes import Axis


class Source(NamedTuple):
    """How a plane of one axis is cut from an image: place r of plane p is image sample ``r * stride + p - before``.

    ``planes`` lists the remainders that are read at all, ``reach`` is the largest shift in any of them.
    """

    stride: int
    before: int
    planes: tuple[int, ...]
    reach: int


class Tap(NamedTuple):
    """One tap of one output phase along one axis.

    ``number`` counts in the order of the correlation. ``plane`` numbers an entry of the input source's ``planes``; it
    is -1 for a tap that falls on stuffed zeros, which exists for the guide alone.
    """

    number: int
    plane: int
    shift: int
    guide_plane: int
    guide_shift: int


class Place(NamedTuple):
    """A guide sample that is no tap: the centre, or a tap of the smoothing kernel around it."""

    plane: int
    shift: int


class Phase(NamedTuple):
    """The outputs ``first, first + step, ...`` of one axis, ``length`` of them, and what they read."""

    first: int
    step: int
    length: int
    taps: tuple[Tap, ...]
    centre: Place
    smooth: tuple[Place, ...]


class AxisTaps(NamedTuple):
    """All phases of one axis, and the planes that their taps refer to."""

    input: Source
    guide: Source
    phases: tuple[Phase, ...]


def axis_taps(axis: Axis, smooth: int = 1) -> AxisTaps:
    """Tap lists along one axis, with the places of a smoothing kernel of ``smooth`` samples around the centre.

    The guide of a transposed window lies at the output's resolution and is read with stride 1; the kernel is centred
    on it by ``(kernel - 1) * dilation`` zeros, the smaller half in front.
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
            at = first + index * axis.dilation
            if axis.transposed:
                stuffed = at - axis.before
                if stuffed % step == 0:
                    positions[first, index] = stuffed // step
            else:
                positions[first, index] = at
    # Shifts count from the first sample that any tap reads.
    lowest = min(positions.values(), default=0) if axis.transposed else 0
    centre_tap = (axis.kernel // 2) * axis.dilation
    around = [centre_tap + offset - smooth // 2 for offset in range(smooth)]
    guide_lowest = min(0, *around)

    input_planes = sorted({position % input_stride for position in positions.values()}) or [0]
    guide_positions = [
        first + offset for first in firsts for offset in [i * axis.dilation for i in range(axis.kernel)] + around
    ]
    guide_planes = sorted({(position - guide_lowest) % step for position in guide_positions})

    def guide_place(position: int) -> Place:
        shift, plane = divmod(position - guide_lowest, step)
        return Place(guide_planes.index(plane), shift)

    phases = []
    for first in firsts:
        taps = []
        for index in range(axis.kernel):
            place = guide_place(first + index * axis.dilation)
            if (first, index) in positions:
                shift, plane = divmod(positions[first, index] - lowest, input_stride)
                taps.append(Tap(index, input_planes.index(plane), shift, *place))
            else:
                taps.append(Tap(index, -1, 0, *place))
        outputs = -(-(axis.output - first) // step) if axis.transposed else axis.output
        phases.append(
            Phase(
                first=first,
                step=step if axis.transposed else 1,
                length=max(outputs, 0),
                taps=tuple(taps),
                centre=guide_place(first + centre_tap),
                smooth=tuple(guide_place(first + position) for position in around),
            )
        )
    reach = max((tap.shift for phase in phases for tap in phase.taps), default=0)
    guide_reach = max(max(place.shift for place in (*phase.smooth, phase.centre)) for phase in phases)
    guide_reach = max(guide_reach, max(tap.guide_shift for phase in phases for tap in phase.taps))
    return AxisTaps(
        input=Source(input_stride, -lowest if axis.transposed else axis.before, tuple(input_planes), reach),
        guide=Source(step, guide_before - guide_lowest, tuple(guide_planes), guide_reach),
        phases=tuple(phases),
    )
