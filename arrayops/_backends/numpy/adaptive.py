"""The adaptive kernel of a tile, computed from the guide's planes, and its gradient.

Arrays of a tile are flat runs of its places (see ``tiles``): the kernel is (taps, G, run), with G = 1, or one for each
guide channel with ``channel_wise``. Squared distances are sums of squared differences: expanding the square is a matrix
product and fast, but loses the digits of guides with an offset.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arrayops._backends.numpy.blocks import Scratch
from arrayops._backends.numpy.memory import Array
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


def tile_kernel(
    spec: AdaptiveKernel, guide: TileGuide, phase: FlatPhase, outputs: Outputs, tile: Tile, scratch: Scratch
) -> TileKernel:
    """Compute the adaptive kernel of a phase at every place of a tile."""
    taps, run = phase.taps, tile.run
    values = scratch("kernel", (len(taps), spec.width, run), spec.dtype)
    centre = _centre(spec, guide.planes, phase, run, scratch)
    gaussian = spec.inv_alpha is None or spec.inv_lambda is None
    if spec.even and phase.mirrored:
        _mirrored_distances(guide.planes, phase, values, gaussian, scratch)
    else:
        for index, tap in enumerate(taps):
            difference = _difference(spec, guide.planes, tap, centre, scratch)
            _sum_of_squares(difference[None], values[index : index + 1])
        if gaussian:
            _gaussian(values)
    squared = None
    if spec.inv_alpha is not None and spec.inv_lambda is not None:
        squared = scratch("squared", values.shape, spec.dtype)
        np.add(values, SHIFT, out=squared)
        clear_outside(squared, tile, outputs, 1)
        np.power(squared, spec.inv_lambda / 2, out=values)
        np.add(values, spec.inv_alpha, out=values)
    clear_outside(values, tile, outputs)
    divisor, left = _restrict(spec, guide, values, taps, tile, scratch)
    return TileKernel(values, centre, squared, divisor, left)


def tile_kernel_backward(
    spec: AdaptiveKernel,
    guide: TileGuide,
    phase: FlatPhase,
    tile: Tile,
    kernel: TileKernel,
    grad: Array,
    grad_guide: Array,
    scratch: Scratch,
) -> tuple[Array | None, Array | None, Array | None]:
    """Turn the gradient of a phase's kernel into that of the guide's planes, which it adds to ``grad_guide``.

    Parameters
    ----------
    grad : ndarray
        Gradient of ``kernel.values``, zero at junk; overwritten.
    grad_guide : ndarray
        As ``guide.planes``.

    Returns
    -------
    tuple of ndarray or None
        Gradients of inv_alpha, inv_lambda and the smoothing kernel, float64.
    """
    run = tile.run
    grad_alpha = grad_lambda = None
    if spec.normalize:
        # d(E_t / S) = dE_t / S - E_t dS / S^2, and the second term is the same sum for every tap.
        projection = scratch("projection", grad.shape[1:], spec.dtype)
        np.einsum("tgn,tgn->gn", grad, kernel.values, out=projection)
        np.subtract(grad, projection, out=grad)
    if spec.inv_lambda is None:
        # The raw gaussian falls with its squared distance at the rate of half itself, scaled or not.
        np.multiply(grad, kernel.values, out=grad)
        np.multiply(grad, -1, out=grad)
    else:
        grad_alpha, grad_lambda = _inv_backward(spec, guide, phase.taps, kernel, grad, run, scratch)
    # ``grad`` is now twice the gradient of the squared distances.
    if spec.even and phase.mirrored:
        _mirrored_backward(guide.planes, phase, grad, grad_guide, scratch)
        return grad_alpha, grad_lambda, None
    grad_centre = scratch("grad_centre", kernel.centre.shape, spec.dtype)
    grad_centre[...] = 0
    for index, tap in enumerate(phase.taps):
        difference = _difference(spec, guide.planes, tap, kernel.centre, scratch)
        np.multiply(difference, grad[index], out=difference)
        np.subtract(grad_centre, difference, out=grad_centre)
        target = grad_guide[tap.guide_plane, :, tap.guide_offset : tap.guide_offset + run]
        np.add(target, difference, out=target)
    return grad_alpha, grad_lambda, _centre_backward(spec, guide, phase, grad_centre, grad_guide, run, scratch)


def clear_outside(values: Array, tile: Tile, outputs: Outputs, fill: float = 0) -> None:
    """Overwrite what lies beyond a phase's outputs in flat runs: junk columns, and places that the phase lacks.

    NaN there would survive a product with zero and leak into sums.
    """
    places = values.reshape(*values.shape[:-1], tile.rows, tile.pitch)
    height, width = outputs.extent
    places[..., height:, :] = fill
    places[..., width:] = fill


def _sum_of_squares(difference: Array, into: Array) -> None:
    """Write squared distances to ``into`` (taps, 1, run), or squared differences to (taps, G, run)."""
    if into.shape[1] == 1:
        np.einsum("tgn,tgn->tn", difference, difference, out=into[:, 0])
    else:
        np.multiply(difference, difference, out=into)


def _gaussian(squared: Array) -> None:
    np.multiply(squared, -0.5, out=squared)
    np.exp(squared, out=squared)


def _mirrored_distances(planes: Array, phase: FlatPhase, values: Array, gaussian: bool, scratch: Scratch) -> None:
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
        difference = scratch("difference", (pairs.pairs, planes.shape[1], length), planes.dtype)
        _mirrored_differences(samples, offset - furthest, pairs, difference)
        both = scratch("both", (pairs.pairs, values.shape[1], length), planes.dtype)
        _sum_of_squares(difference, both)
        if gaussian:
            _gaussian(both)
        np.copyto(values[pairs.behind : pairs.behind + pairs.pairs], both[:, :, furthest:])
        opposite = slanted(both[None, None], furthest - pairs.shift, pairs.grid, run)[0, 0]
        np.copyto(_before(values, pairs), opposite)
    if phase.middle >= 0:
        centre = planes[plane, :, offset : offset + run]
        difference = scratch("difference", centre.shape, planes.dtype)
        # Not simply 0: where the guide is NaN or infinite, the kernel is NaN.
        np.subtract(centre, centre, out=difference)
        _sum_of_squares(difference[None], values[phase.middle : phase.middle + 1])
        if gaussian:
            _gaussian(values[phase.middle])


def _mirrored_backward(planes: Array, phase: FlatPhase, grad: Array, grad_guide: Array, scratch: Scratch) -> None:
    """Gradient of the guide from that of the squared distances, by the pairs of `_mirrored_distances`."""
    run = grad.shape[-1]
    plane, offset = phase.centre
    samples = planes[plane : plane + 1]
    for pairs in phase.mirrored:
        reach = (pairs.pairs - 1) * pairs.step
        furthest = pairs.shift + reach
        length = run + furthest
        both = scratch("both", (pairs.pairs, grad.shape[1], length), planes.dtype)
        both[:, :, :furthest] = 0
        np.copyto(both[:, :, furthest:], grad[pairs.behind : pairs.behind + pairs.pairs])
        opposite = slanted(both[None, None], furthest - pairs.shift, pairs.grid, run)[0, 0]
        np.add(opposite, _before(grad, pairs), out=opposite)
        padded = scratch("difference", (1, 1, pairs.pairs, planes.shape[1], reach + length + reach), planes.dtype)
        padded[..., :reach] = 0
        padded[..., reach + length :] = 0
        difference = padded[0, 0, :, :, reach : reach + length]
        start = offset - furthest
        _mirrored_differences(samples, start, pairs, difference)
        np.multiply(difference, both, out=difference)
        target = grad_guide[plane : plane + 1]
        moved = target[:, :, start + pairs.shift : start + furthest + length]
        add_shifted(moved, padded, reach, pairs.grid, scratch)
        total = scratch("total", difference.shape[1:], planes.dtype)
        np.add.reduce(difference, axis=0, out=total)
        still = target[0, :, start : start + length]
        np.subtract(still, total, out=still)


def _mirrored_differences(samples: Array, start: int, pairs: Mirrored, into: Array) -> None:
    """Write f[e + s] - f[e] for each of the pairs' shifts s, and places e from ``start``."""
    length = into.shape[2]
    moved = shifted(samples, start + pairs.shift, pairs.grid, length)[0, 0]
    np.subtract(moved, samples[:, :, start : start + length], out=into)


def _before(values: Array, pairs: Mirrored) -> Array:
    """The taps before the centre, in the order of those behind it: by growing distance."""
    return values[pairs.before - pairs.pairs + 1 : pairs.before + 1][::-1]


def _difference(spec: AdaptiveKernel, planes: Array, tap: FlatTap, centre: Array, scratch: Scratch) -> Array:
    run = centre.shape[-1]
    difference = scratch("difference", centre.shape, spec.dtype)
    np.subtract(planes[tap.guide_plane, :, tap.guide_offset : tap.guide_offset + run], centre, out=difference)
    if spec.asymmetric:
        np.maximum(difference, 0, out=difference)
    return difference


def _centre(spec: AdaptiveKernel, planes: Array, phase: FlatPhase, run: int, scratch: Scratch) -> Array:
    if spec.smooth is None:
        plane, offset = phase.centre
        centre: Array = planes[plane, :, offset : offset + run]
        return centre
    centre = scratch("centre", (spec.channels, run), spec.dtype)
    term = scratch("difference", centre.shape, spec.dtype)
    centre[...] = 0
    for weights, places in zip(spec.smooth, phase.smooth, strict=True):
        for weight, (plane, offset) in zip(weights, places, strict=True):
            np.multiply(planes[plane, :, offset : offset + run], weight, out=term)
            np.add(centre, term, out=centre)
    return centre


def _centre_backward(
    spec: AdaptiveKernel,
    guide: TileGuide,
    phase: FlatPhase,
    grad: Array,
    grad_guide: Array,
    run: int,
    scratch: Scratch,
) -> Array | None:
    if spec.smooth is None:
        plane, offset = phase.centre
        target = grad_guide[plane, :, offset : offset + run]
        np.add(target, grad, out=target)
        return None
    term = scratch("difference", grad.shape, spec.dtype)
    grad_smooth = np.zeros(spec.smooth.shape)
    for row, places in enumerate(phase.smooth):
        for column, (plane, offset) in enumerate(places):
            samples = guide.planes[plane, :, offset : offset + run]
            grad_smooth[row, column] = np.multiply(samples, grad, out=term).sum(dtype=np.float64)
            np.multiply(grad, spec.smooth[row, column], out=term)
            target = grad_guide[plane, :, offset : offset + run]
            np.add(target, term, out=target)
    return grad_smooth


def _restrict(
    spec: AdaptiveKernel, guide: TileGuide, values: Array, taps: Sequence[FlatTap], tile: Tile, scratch: Scratch
) -> tuple[Array | None, Array | None]:
    """Zero the kernel at taps that are not valid and divide the rest; return divisor and number of valid taps."""
    if guide.blocked is None:
        return None, None
    run = tile.run
    left = scratch("left", (run,), np.int32)
    left[...] = 0
    for index, tap in enumerate(taps):
        if tap.plane < 0:
            values[index] = 0
            continue
        blocked = guide.blocked[tap.plane, 0, tap.offset : tap.offset + run]
        np.copyto(values[index], 0, where=blocked)
        np.add(left, ~blocked, out=left)
    divisor = scratch("divisor", values.shape[1:], spec.dtype)
    if spec.normalize:
        np.add.reduce(values, axis=0, out=divisor)
    else:
        valid = scratch("valid", (run,), np.int32)
        valid[...] = 0
        assert guide.outside is not None
        for tap in taps:
            if tap.plane >= 0:
                np.add(valid, ~guide.outside[tap.plane, 0, tap.offset : tap.offset + run], out=valid)
        divisor[...] = 0
        np.divide(left, valid, out=divisor, where=valid != 0, casting="same_kind")
    # An empty window has kernel 0. Dividing, and not multiplying by the inverse, keeps sums right that are too small
    # to have an inverse.
    np.copyto(divisor, np.inf, where=divisor == 0)
    np.divide(values, divisor, out=values)
    return divisor, left


def _inv_backward(
    spec: AdaptiveKernel,
    guide: TileGuide,
    taps: Sequence[FlatTap],
    kernel: TileKernel,
    grad: Array,
    run: int,
    scratch: Scratch,
) -> tuple[Array, Array]:
    """Gradients of inv_alpha and inv_lambda; ``grad`` becomes twice that of the squared distances."""
    assert kernel.squared is not None
    assert spec.inv_lambda is not None
    if kernel.divisor is not None:
        np.divide(grad, kernel.divisor, out=grad)
    if guide.blocked is not None:
        for index, tap in enumerate(taps):
            if tap.plane < 0:
                grad[index] = 0
            else:
                np.copyto(grad[index], 0, where=guide.blocked[tap.plane, 0, tap.offset : tap.offset + run])
    shape = spec.inv_lambda.shape
    half = spec.inv_lambda / 2
    grad_alpha = grad.sum(axis=(0, 2), dtype=np.float64).reshape(-1, 1)
    power = scratch("power", grad.shape, spec.dtype)
    np.power(kernel.squared, half, out=power)
    np.multiply(power, grad, out=power)
    # d(q^h) = q^h log(q) dh + h q^(h - 1) dq
    term = scratch("logarithm", grad.shape, spec.dtype)
    np.log(kernel.squared, out=term)
    np.multiply(term, power, out=term)
    grad_lambda = term.sum(axis=(0, 2), dtype=np.float64).reshape(-1, 1) / 2
    np.divide(power, kernel.squared, out=grad)
    np.multiply(grad, 2 * half, out=grad)
    if shape[0] == 1:
        grad_alpha, grad_lambda = grad_alpha.sum(keepdims=True), grad_lambda.sum(keepdims=True)
    return grad_alpha, grad_lambda
