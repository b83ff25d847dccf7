"""Weights of resizing along one axis, computed in float64 with NumPy: which input samples make an output, and how much.

Resizing an image is one such matrix for its rows and one for its columns; the gradient is the two transposed matrices.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Indices = np.ndarray[Any, np.dtype[np.int64]]

CUBIC = -0.75
"""Parameter a of the cubic kernel: torch's and ONNX's."""

CUBIC_ANTIALIAS = -0.5
"""With antialiasing: Keys' third-order kernel, as in torch and Pillow."""


class Sampling(NamedTuple):
    """How one axis is resized."""

    inputs: int
    outputs: int
    mode: str
    coordinates: str
    antialias: bool


class Weights(NamedTuple):
    """A matrix of ``inputs`` columns, whose rows are 0 outside one short run of columns.

    Row i holds ``values[i]`` from column ``first[i]`` on, ``length[i]`` of them; what follows in ``values`` is 0. A run
    starts and ends with a weight that is not 0.
    """

    inputs: int
    first: Indices
    length: Indices
    values: Floats

    @property
    def outputs(self) -> int:
        """Number of rows."""
        return len(self.first)

    @property
    def identity(self) -> bool:
        """Whether the output is the input."""
        return (
            self.inputs == self.outputs
            and bool((self.length == 1).all())
            and bool((self.first == np.arange(self.inputs)).all())
            and bool((self.values[:, 0] == 1).all())
        )

    def entries(self) -> tuple[Indices, Indices, Floats]:
        """Rows, columns and values of what is not 0."""
        rows, taps = np.nonzero(self.values)
        return rows, self.first[rows] + taps, self.values[rows, taps]


def from_entries(rows: Any, columns: Any, values: Any, outputs: int, inputs: int) -> Weights:
    """The matrix with these entries; those of one place add up."""
    place, inverse = np.unique(np.ravel(rows) * inputs + np.ravel(columns), return_inverse=True)
    sums = np.bincount(inverse.ravel(), np.ravel(values), len(place))
    place, sums = place[sums != 0], sums[sums != 0]
    row, column = np.divmod(place, inputs)
    bounds = np.searchsorted(row, np.arange(outputs + 1))
    some = bounds[1:] > bounds[:-1]
    first, length = np.zeros((2, outputs), np.int64)
    first[some] = column[bounds[:-1][some]]
    length[some] = column[bounds[1:][some] - 1] - first[some] + 1
    dense = np.zeros((outputs, max(int(length.max(initial=0)), 1)))
    dense[row, column - first[row]] = sums
    return Weights(inputs, first, length, dense)


@lru_cache(maxsize=256)
def weights(sampling: Sampling) -> Weights:
    """The matrix of a resizing."""
    inputs, outputs, mode, _, antialias = sampling
    if mode == "nearest":
        columns = nearest(sampling)[:, None]
        values = np.ones((outputs, 1))
    elif mode == "area":
        columns, values = area(inputs, outputs)
    elif antialias:
        columns, values = filtered(sampling)
    else:
        columns, values = interpolated(sampling)
    rows = np.broadcast_to(np.arange(outputs)[:, None], columns.shape)
    return from_entries(rows, columns, values, outputs, inputs)


@lru_cache(maxsize=256)
def transposed(sampling: Sampling) -> Weights:
    """The transposed matrix of a resizing: that of its gradient."""
    rows, columns, values = weights(sampling).entries()
    return from_entries(columns, rows, values, sampling.inputs, sampling.outputs)


def nearest(sampling: Sampling) -> Indices:
    """The input sample of every output.

    In half_pixel and asymmetric coordinates positions are rounded to float32 on the way, as in torch: where one falls
    half-way between two samples, that rounding decides. (Torch's own code paths round at different steps, and so
    differ at some such places from each other; these are the samples of its channels_last path, for all dtypes.)
    """
    inputs, outputs, _, coordinates, _ = sampling
    place: Indices = np.arange(outputs)
    if coordinates == "align_corners":
        steps = max(outputs - 1, 1)
        last: Indices = (2 * place * (inputs - 1) + steps) // (2 * steps)
        return last
    step = np.float32(inputs) / np.float32(outputs)
    offset = np.float32(0.5 if coordinates == "half_pixel" else 0)
    found = np.floor((place.astype(np.float32) + offset) * step)
    below: Indices = np.minimum(found.astype(np.int64), inputs - 1)
    return below


def positions(sampling: Sampling) -> tuple[Indices, Floats]:
    """Where every output lies among the inputs: the sample at or before it, and the fraction of a step behind that.

    Positions are fractions of whole numbers, so that those which fall on a sample do so exactly.
    """
    inputs, outputs, _, coordinates, _ = sampling
    place = np.arange(outputs)
    if coordinates == "half_pixel":
        numerator, denominator = (2 * place + 1) * inputs - outputs, 2 * outputs
    elif coordinates == "align_corners":
        numerator, denominator = place * (inputs - 1), max(outputs - 1, 1)
    else:
        numerator, denominator = place * inputs, outputs
    before, rest = np.divmod(numerator, denominator)
    return before, rest / denominator


def interpolated(sampling: Sampling) -> tuple[Indices, Floats]:
    """Columns and values of linear and cubic interpolation; samples beyond the border repeat the last."""
    before, fraction = positions(sampling)
    taps = np.arange(2) if sampling.mode == "bilinear" else np.arange(-1, 3)
    distance = np.abs(taps - fraction[:, None])
    values = tent(distance) if sampling.mode == "bilinear" else cubic(distance, CUBIC)
    return np.clip(before[:, None] + taps, 0, sampling.inputs - 1), values


def filtered(sampling: Sampling) -> tuple[Indices, Floats]:
    """Columns and values of linear and cubic filters as wide as the step between outputs, where that is more than 1.

    Samples beyond the border have no weight, and the others sum to 1. In align_corners coordinates the step is that
    between corners, but filters stay centred as in half_pixel: torch's convention.
    """
    inputs, outputs, mode, coordinates, _ = sampling
    # A step from one output to the next is the fraction over / under of a sample.
    over, under = inputs, outputs
    if coordinates == "align_corners":
        over, under = (inputs - 1, outputs - 1) if outputs > 1 else (0, 1)
    place = np.arange(outputs)
    # Centres in halves of a sample, times under.
    centre = 2 * place * over + under if coordinates == "asymmetric" else (2 * place + 1) * over
    wide = max(over, under)
    reach = -(-wide * (1 if mode == "bilinear" else 2) // under)
    columns = (centre // (2 * under))[:, None] + np.arange(-reach - 1, reach + 2)
    distance = np.abs((2 * columns + 1) * under - centre[:, None]) / (2 * wide)
    values = tent(distance) if mode == "bilinear" else cubic(distance, CUBIC_ANTIALIAS)
    values[(columns < 0) | (columns >= inputs)] = 0
    return np.clip(columns, 0, inputs - 1), values / values.sum(axis=1, keepdims=True)


def area(inputs: int, outputs: int) -> tuple[Indices, Floats]:
    """Columns and values of adaptive average pooling: the mean over all samples that an output's extent touches."""
    place = np.arange(outputs)
    start, stop = place * inputs // outputs, -(-(place + 1) * inputs // outputs)
    columns = start[:, None] + np.arange(int((stop - start).max()))
    values = np.where(columns < stop[:, None], 1 / (stop - start)[:, None], 0)
    return np.minimum(columns, inputs - 1), values


def tent(distance: Floats) -> Floats:
    """The kernel of linear interpolation."""
    return np.maximum(1 - distance, 0)


def cubic(distance: Floats, a: float) -> Floats:
    """The kernel of cubic convolution (Keys, 1981) with parameter ``a``."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))
