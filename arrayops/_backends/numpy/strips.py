"""What the outputs of one axis read of an image, as strips of outputs that have the same taps. No arrays but a copy.

The outputs of a strip are a constant number apart, and so are the samples of each of its taps. Outputs over stuffed
zeros are several strips, one for each phase.
"""

from itertools import pairwise
from typing import NamedTuple

from arrayops._backends.numpy.memory import Array, load
from arrayops._core.shapes import Axis, Pair
from arrayops._core.taps import Phase, PhasePlanes, axis_taps

EDGES = 3
"""Ranges of outputs along an axis, by the taps that they have; where there are more images are padded instead."""


class Strip(NamedTuple):
    """A tile along one axis: output m reads samples ``first + m stride + t step`` for the t-th of its taps."""

    outputs: slice
    length: int
    taps: slice
    tap_count: int
    first: int
    stride: int
    step: int

    @property
    def extent(self) -> int:
        """Samples from the first to the last that are read."""
        return (self.length - 1) * self.stride + max(self.tap_count - 1, 0) * self.step + 1

    def inside(self, size: int) -> bool:
        """Whether all of them are samples of an axis of ``size``."""
        return self.first >= 0 and self.first + self.extent <= size


def surrounded(copy: Array, images: Array, first: Pair, zeros: bool = True) -> None:
    """Copy images (..., H, W) to ``copy``, from a sample on that may lie outside of them.

    What lies outside is zero; it is left as it is without ``zeros``, if they are there already.
    """
    inside, outside = [], []
    for start, extent, size in zip(first, copy.shape[-2:], images.shape[-2:], strict=True):
        low, high = max(start, 0), min(start + extent, size)
        inside.append(slice(low, max(low, high)))
        outside.append(slice(low - start, max(low, high) - start))
    down, across = outside
    if zeros:
        copy[..., : down.start, :] = 0
        copy[..., down.stop :, :] = 0
        copy[..., down, : across.start] = 0
        copy[..., down, across.stop :] = 0
    load(copy[..., down, across], images[..., inside[0], inside[1]])


def shares(length: int, most: int) -> list[slice]:
    """Cut ``length`` into parts of at most ``most``, about equally long."""
    count = -(-length // most)
    edges = [length * number // count for number in range(count + 1)] if length else []
    return [slice(start, stop) for start, stop in pairwise(edges)]


def parts(strip: Strip, most: int) -> list[Strip]:
    """Cut a strip into strips of at most ``most`` outputs."""
    first, step = strip.outputs.start, strip.outputs.step
    return [
        strip._replace(
            outputs=slice(first + share.start * step, first + (share.stop - 1) * step + 1, step),
            length=share.stop - share.start,
            first=strip.first + share.start * strip.stride,
        )
        for share in shares(strip.length, most)
    ]


def ranges(axis: Axis, cut: bool) -> list[Strip]:
    """Outputs along an axis that have the same taps; all of a phase if they are not ``cut``, or were in many ranges."""
    found = axis_taps(axis)
    source = found.input
    strips = []
    for phase in found.phases:
        real = [tap for tap in phase.taps if tap.plane >= 0]
        # The sample of each tap for the first output, and the outputs for which it is one of the image.
        at = [tap.shift * source.stride + source.planes[tap.plane] - source.before for tap in real]
        inside = [(-(first // source.stride), -((first - axis.size) // source.stride)) for first in at]
        edges = {min(max(edge, 0), phase.length) for edges in inside for edge in edges} | {0, phase.length}
        if not cut or len(edges) - 1 > EDGES:
            edges, inside = {0, phase.length}, [(0, phase.length)] * len(real)
        for start, stop in pairwise(sorted(edges)):
            taps = [number for number, (low, high) in enumerate(inside) if low <= start and stop <= high]
            strips.append(_strip(phase, source, [(real[number].number, at[number]) for number in taps], start, stop))
    return strips


def _strip(phase: Phase, source: PhasePlanes, taps: list[tuple[int, int]], start: int, stop: int) -> Strip:
    """Outputs ``start`` to ``stop`` of a phase, of taps given by number and first sample, a constant number apart."""
    numbers, step = slice(0, 0), 1
    if taps:
        (first, at), (last, _) = taps[0], taps[-1]
        apart, step = (taps[1][0] - first, taps[1][1] - at) if len(taps) > 1 else (1, 1)
        numbers = slice(first, last + 1, apart)
    return Strip(
        outputs=slice(phase.first + start * phase.step, phase.first + (stop - 1) * phase.step + 1, phase.step),
        length=stop - start,
        taps=numbers,
        tap_count=len(taps),
        first=(taps[0][1] if taps else 0) + start * source.stride,
        stride=source.stride,
        step=step,
    )
