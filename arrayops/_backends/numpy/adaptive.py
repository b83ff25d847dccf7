"""The adaptive kernel of a tile, computed from the guide's planes, and its gradient.

Arrays of a tile are flat runs of its places (see ``tiles``): the kernel is (taps, G, run), with G = 1, or one for each
guide channel with ``channel_wise``. Squared distances are sums of squared differences: expanding the square is a matrix
product and fast, but loses the digits of guides with an offset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.program import Program, add_sum
from arrayops._backends.numpy.tiles import FlatPhase, FlatTap, Mirrored, Outputs, Tile
from arrayops._backends.numpy.views import add_shifted, shifted, slanted

SHIFT = 1e-4
"""Added to squared distances under the power of the "inv" kernel, so that its gradient is finite at distance 0."""


@dataclass(frozen=True)
class AdaptiveKernel:
    """What the adaptive kernel of one call depends on, beside the guide.

    ``inv_alpha`` and ``inv_lambda`` are (1, 1) or (G, 1), None for a gaussian; ``smooth`` is (sh, sw) or None. All are
    of the compute dtype.
    """

    dtype: "np.dtype[Any]"
    channels: int
    asymmetric: bool
    channel_wise: bool
    normalize: bool
    inv_alpha: Array | None
    inv_lambda: Array | None
    smooth: Array | None

    @property
    def even(self) -> bool:
        """Whether the kernel is the same from p to q as from q to p."""
        return not self.asymmetric and self.smooth is None

    @property
    def width(self) -> int:
        """Channels of the kernel."""
        return self.channels if self.channel_wise else 1


@dataclass
class TileGuide:
    """Planes of a tile that the kernel reads: (planes, channels, places), and where its taps are not valid.

    ``blocked`` is True off the image and where masked out, None where every tap counts; ``outside`` is True off the
    image, None where it makes no difference.
    """

    planes: Array
    blocked: Array | None
    outside: Array | None


@dataclass
class TileKernel:
    """The kernel of one phase of a tile, and what its gradient needs again.

    ``divisor`` is what normalisation or mask divided the raw kernel by, infinite where no tap is left; ``squared`` are
    the shifted squared distances of an "inv" kernel; ``left`` is how many taps were valid at each place.
    """

    values: Array
    centre: Array
    squared: Array | None
    divisor: Array | None
    left: Array | None


@dataclass
class OptionGradients:
    """Float64 sums for the arrays that shape the kernel, in the shapes of `AdaptiveKernel`; None where not wanted."""

    inv_alpha: Array | None
    inv_lambda: Array | None
    smooth_kernel: Array | None


def tile_kernel(
    spec: AdaptiveKernel, guide: TileGuide, phase: FlatPhase, outputs: Outputs, tile: Tile, program: Program
) -> TileKernel:
    """Compute the adaptive kernel of a phase at every place of a tile."""
    taps, run = phase.taps, tile.run
    values = program.buffer("kernel", (len(taps), spec.width, run), spec.dtype)
    centre = _centre(spec, guide.planes, phase, run, program)
    gaussian = spec.inv_alpha is None or spec.inv_lambda is None
    if spec.even and phase.mirrored:
        _mirrored_distances(guide.planes, phase, values, gaussian, program)
    else:
        for index, tap in enumerate(taps):
            difference = _difference(spec, guide.planes, tap, centre, program)
            _sum_of_squares(difference[None], values[index : index + 1], program)
        if gaussian:
            _gaussian(values, program)
    squared = None
    if spec.inv_alpha is not None and spec.inv_lambda is not None:
        squared = program.buffer("squared", values.shape, spec.dtype)
        program(np.add, values, SHIFT, out=squared)
        clear_outside(squared, tile, outputs, program, 1)
        program(np.power, squared, spec.inv_lambda / 2, out=values)
        program(np.add, values, spec.inv_alpha, out=values)
    clear_outside(values, tile, outputs, program)
    divisor, left = _restrict(spec, guide, values, taps, tile, program)
    return TileKernel(values, centre, squared, divisor, left)


def tile_kernel_backward(
    spec: AdaptiveKernel,
    guide: TileGuide,
    phase: FlatPhase,
    tile: Tile,
    kernel: TileKernel,
    grad: Array,
    grad_guide: Array,
    into: OptionGradients,
    program: Program,
) -> None:
    """Turn the gradient of a phase's kernel into that of the guide's planes, which it adds to ``grad_guide``.

    Parameters
    ----------
    grad : ndarray
        Gradient of ``kernel.values``, zero at junk; overwritten.
    grad_guide : ndarray
        As ``guide.planes``.
    into : OptionGradients
        Gradients of the arrays that shape the kernel, which it adds to.
    """
    run = tile.run
    if spec.normalize:
        # d(E_t / S) = dE_t / S - E_t dS / S^2, and the second term is the same sum for every tap.
        projection = program.buffer("projection", grad.shape[1:], spec.dtype)
        program(np.einsum, "tgn,tgn->gn", grad, kernel.values, out=projection)
        program(np.subtract, grad, projection, out=grad)
    if spec.inv_lambda is None:
        # The raw gaussian falls with its squared distance at the rate of half itself, scaled or not.
        program(np.multiply, grad, kernel.values, out=grad)
        falls = True
    else:
        _inv_backward(spec, guide, phase.taps, kernel, grad, into, program)
        falls = False
    # ``grad`` is now twice the gradient of the squared distances, or its negative where the kernel falls with them.
    if spec.even and phase.mirrored:
        _mirrored_backward(guide.planes, phase, grad, falls, grad_guide, program)
        return
    if falls:
        program(np.negative, grad, out=grad)
    grad_centre = program.buffer("grad_centre", kernel.centre.shape, spec.dtype)
    program(grad_centre.fill, 0)
    for index, tap in enumerate(phase.taps):
        difference = _difference(spec, guide.planes, tap, kernel.centre, program)
        program(np.multiply, difference, grad[index], out=difference)
        program(np.subtract, grad_centre, difference, out=grad_centre)
        target = grad_guide[tap.guide_plane, :, tap.guide_offset : tap.guide_offset + run]
        program(np.add, target, difference, out=target)
    _centre_backward(spec, guide, phase, grad_centre, grad_guide, into.smooth_kernel, program)


def clear_outside(values: Array, tile: Tile, outputs: Outputs, program: Program, fill: float = 0) -> None:
    """Overwrite what lies beyond a phase's outputs in flat runs: junk columns, and places that the phase lacks.

    NaN there would survive a product with zero and leak into sums.
    """
    places = values.reshape(*values.shape[:-1], tile.rows, tile.pitch)
    height, width = outputs.extent
    for outside in (places[..., height:, :], places[..., :height, width:]):
        if outside.size:
            program(outside.fill, fill)


def _sum_of_squares(difference: Array, into: Array, program: Program) -> None:
    """Write squared distances to ``into`` (taps, 1, run), or squared differences to (taps, G, run)."""
    if into.shape[1] == 1:
        program(np.einsum, "tgn,tgn->tn", difference, difference, out=into[:, 0])
    else:
        program(np.multiply, difference, difference, out=into)


def _gaussian(squared: Array, program: Program) -> None:
    program(np.multiply, squared, -0.5, out=squared)
    program(np.exp, squared, out=squared)


def _mirrored_distances(planes: Array, phase: FlatPhase, values: Array, gaussian: bool, program: Program) -> None:
    """Squared distances, or their gaussian, by pairs of opposite taps.

    The distance from p to the tap at p + s is that from p + s to its opposite tap, at p. So one run of distances,
    ``s`` places longer, serves both: its end is the one tap's, its beginning the other's.

          e = p - s                p                      for the places p of a tile
        ... |----------------------|-------------------|
            f[e] against f[e + s]
    """
    run = values.shape[-1]
    plane, offset = phase.centre
    samples = planes[plane : plane + 1]
    for pairs in phase.mirrored:
        furthest = pairs.shift + (pairs.pairs - 1) * pairs.step
        length = run + furthest
        difference = program.buffer("difference", (pairs.pairs, planes.shape[1], length), planes.dtype)
        _mirrored_differences(samples, offset - furthest, pairs, difference, program)
        both = program.buffer("both", (pairs.pairs, values.shape[1], length), planes.dtype)
        _sum_of_squares(difference, both, program)
        if gaussian:
            _gaussian(both, program)
        program(np.copyto, values[pairs.behind : pairs.behind + pairs.pairs], both[:, :, furthest:])
        opposite = slanted(both[None, None], furthest - pairs.shift, pairs.grid, run)[0, 0]
        program(np.copyto, _before(values, pairs), opposite)
    if phase.middle >= 0:
        centre = planes[plane, :, offset : offset + run]
        difference = program.buffer("difference", centre.shape, planes.dtype)
        # Not simply 0: where the guide is NaN or infinite, the kernel is NaN.
        program(np.subtract, centre, centre, out=difference)
        _sum_of_squares(difference[None], values[phase.middle : phase.middle + 1], program)
        if gaussian:
            _gaussian(values[phase.middle], program)


def _mirrored_backward(
    planes: Array, phase: FlatPhase, grad: Array, negated: bool, grad_guide: Array, program: Program
) -> None:
    """Gradient of the guide from that of the squared distances, by the pairs of `_mirrored_distances`."""
    run = grad.shape[-1]
    plane, offset = phase.centre
    samples = planes[plane : plane + 1]
    for pairs in phase.mirrored:
        reach = (pairs.pairs - 1) * pairs.step
        furthest = pairs.shift + reach
        length = run + furthest
        both = program.buffer("both", (pairs.pairs, grad.shape[1], length), planes.dtype)
        program(both[:, :, :furthest].fill, 0)
        program(np.copyto, both[:, :, furthest:], grad[pairs.behind : pairs.behind + pairs.pairs])
        opposite = slanted(both[None, None], furthest - pairs.shift, pairs.grid, run)[0, 0]
        program(np.add, opposite, _before(grad, pairs), out=opposite)
        padded = program.buffer(
            "difference", (1, 1, pairs.pairs, planes.shape[1], reach + length + reach), planes.dtype
        )
        if reach:
            program(padded[..., :reach].fill, 0)
            program(padded[..., reach + length :].fill, 0)
        difference = padded[0, 0, :, :, reach : reach + length]
        start = offset - furthest
        _mirrored_differences(samples, start, pairs, difference, program, negated)
        program(np.multiply, difference, both, out=difference)
        target = grad_guide[plane : plane + 1]
        moved = target[:, :, start + pairs.shift : start + furthest + length]
        add_shifted(moved, padded, reach, pairs.grid, program)
        total = program.buffer("total", difference.shape[1:], planes.dtype)
        program(np.add.reduce, difference, axis=0, out=total)
        still = target[0, :, start : start + length]
        program(np.subtract, still, total, out=still)


def _mirrored_differences(
    samples: Array, start: int, pairs: Mirrored, into: Array, program: Program, negated: bool = False
) -> None:
    """Write f[e + s] - f[e], or its negative, for each of the pairs' shifts s, and places e from ``start``."""
    length = into.shape[2]
    moved = shifted(samples, start + pairs.shift, pairs.grid, length)[0, 0]
    still = samples[:, :, start : start + length]
    program(np.subtract, *((still, moved) if negated else (moved, still)), out=into)


def _before(values: Array, pairs: Mirrored) -> Array:
    """The taps before the centre, in the order of those behind it: by growing distance."""
    return values[pairs.before - pairs.pairs + 1 : pairs.before + 1][::-1]


def _difference(spec: AdaptiveKernel, planes: Array, tap: FlatTap, centre: Array, program: Program) -> Array:
    run = centre.shape[-1]
    difference = program.buffer("difference", centre.shape, spec.dtype)
    program(np.subtract, planes[tap.guide_plane, :, tap.guide_offset : tap.guide_offset + run], centre, out=difference)
    if spec.asymmetric:
        program(np.maximum, difference, 0, out=difference)
    return difference


def _centre(spec: AdaptiveKernel, planes: Array, phase: FlatPhase, run: int, program: Program) -> Array:
    if spec.smooth is None:
        plane, offset = phase.centre
        centre: Array = planes[plane, :, offset : offset + run]
        return centre
    centre = program.buffer("centre", (spec.channels, run), spec.dtype)
    term = program.buffer("difference", centre.shape, spec.dtype)
    program(centre.fill, 0)
    for weights, places in zip(spec.smooth, phase.smooth, strict=True):
        for weight, (plane, offset) in zip(weights, places, strict=True):
            program(np.multiply, planes[plane, :, offset : offset + run], weight, out=term)
            program(np.add, centre, term, out=centre)
    return centre


def _centre_backward(
    spec: AdaptiveKernel,
    guide: TileGuide,
    phase: FlatPhase,
    grad: Array,
    grad_guide: Array,
    grad_smooth: Array | None,
    program: Program,
) -> None:
    run = grad.shape[-1]
    if spec.smooth is None:
        plane, offset = phase.centre
        target = grad_guide[plane, :, offset : offset + run]
        program(np.add, target, grad, out=target)
        return
    term = program.buffer("difference", grad.shape, spec.dtype)
    for row, places in enumerate(phase.smooth):
        for column, (plane, offset) in enumerate(places):
            samples = guide.planes[plane, :, offset : offset + run]
            program(np.multiply, samples, grad, out=term)
            if grad_smooth is not None:
                program(add_sum, grad_smooth[row, column, None], term)
            program(np.multiply, grad, spec.smooth[row, column], out=term)
            target = grad_guide[plane, :, offset : offset + run]
            program(np.add, target, term, out=target)


def _restrict(
    spec: AdaptiveKernel, guide: TileGuide, values: Array, taps: Sequence[FlatTap], tile: Tile, program: Program
) -> tuple[Array | None, Array | None]:
    """Zero the kernel at taps that are not valid and divide the rest; return divisor and number of valid taps."""
    if guide.blocked is None:
        return None, None
    run = tile.run
    left = program.buffer("left", (run,), np.int32)
    program(left.fill, sum(tap.plane >= 0 for tap in taps))
    for index, tap in enumerate(taps):
        if tap.plane < 0:
            program(values[index].fill, 0)
            continue
        blocked = guide.blocked[tap.plane, 0, tap.offset : tap.offset + run]
        program(np.copyto, values[index], 0, where=blocked)
        program(np.subtract, left, blocked, out=left)
    divisor = program.buffer("divisor", values.shape[1:], spec.dtype)
    flag = program.buffer("flag", divisor.shape, np.bool_)
    if spec.normalize:
        program(np.add.reduce, values, axis=0, out=divisor)
    else:
        assert guide.outside is not None
        valid = program.buffer("valid", (run,), np.int32)
        program(valid.fill, sum(tap.plane >= 0 for tap in taps))
        for tap in taps:
            if tap.plane >= 0:
                outside = guide.outside[tap.plane, 0, tap.offset : tap.offset + run]
                program(np.subtract, valid, outside, out=valid)
        # Without a valid tap none is left either: 0 / 1 is as good as any.
        program(np.maximum, valid, 1, out=valid)
        program(np.divide, left, valid, out=divisor, casting="same_kind")
    # An empty window has kernel 0. Dividing, and not multiplying by the inverse, keeps sums right that are too small
    # to have an inverse.
    program(np.equal, divisor, 0, out=flag)
    program(np.copyto, divisor, np.inf, where=flag)
    program(np.divide, values, divisor, out=values)
    return divisor, left


def _inv_backward(
    spec: AdaptiveKernel,
    guide: TileGuide,
    taps: Sequence[FlatTap],
    kernel: TileKernel,
    grad: Array,
    into: OptionGradients,
    program: Program,
) -> None:
    """Gradients of inv_alpha and inv_lambda; ``grad`` becomes twice that of the squared distances."""
    run = grad.shape[-1]
    assert kernel.squared is not None
    assert spec.inv_lambda is not None
    if kernel.divisor is not None:
        program(np.divide, grad, kernel.divisor, out=grad)
    if guide.blocked is not None:
        for index, tap in enumerate(taps):
            if tap.plane < 0:
                program(grad[index].fill, 0)
            else:
                program(np.copyto, grad[index], 0, where=guide.blocked[tap.plane, 0, tap.offset : tap.offset + run])
    half = spec.inv_lambda / 2
    if into.inv_alpha is not None:
        program(add_sum, into.inv_alpha, grad)
    power = program.buffer("power", grad.shape, spec.dtype)
    program(np.power, kernel.squared, half, out=power)
    program(np.multiply, power, grad, out=power)
    # d(q^h) = q^h log(q) dh + h q^(h - 1) dq
    if into.inv_lambda is not None:
        term = program.buffer("logarithm", grad.shape, spec.dtype)
        program(np.log, kernel.squared, out=term)
        program(np.multiply, term, power, out=term)
        program(np.multiply, term, 0.5, out=term)
        program(add_sum, into.inv_lambda, term)
    program(np.divide, power, kernel.squared, out=grad)
    program(np.multiply, grad, 2 * half, out=grad)
