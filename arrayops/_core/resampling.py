"""Interpolation weights of resizing along one axis, computed in float64 with NumPy.

Each row of a weight matrix holds the input samples and weights of one output. An image is resized by one matrix along
its rows and one along its columns; the gradient uses the two transposed matrices.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Indices = np.ndarray[Any, np.dtype[np.int64]]

CUBIC_COEFFICIENT = -0.75
"""Parameter a of the cubic kernel, as in torch and ONNX."""

ANTIALIAS_CUBIC_COEFFICIENT = -0.5
"""Parameter a with antialiasing: Keys' third-order kernel, as in torch and Pillow."""


class Sampling(NamedTuple):
    """How one axis is resized."""

    inputs: int
    outputs: int
    mode: str
    coordinates: str
    antialias: bool


class Weights(NamedTuple):
    """A banded matrix with ``inputs`` columns: each row is 0 outside one short range of columns.

    Row i holds the first ``length[i]`` entries of ``values[i]``, starting at column ``first[i]``; the remaining entries
    of ``values[i]`` are 0. The first and the last weight of a range are nonzero.
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
        """Rows, columns and values of the nonzero entries."""
        rows, taps = np.nonzero(self.values)
        return rows, self.first[rows] + taps, self.values[rows, taps]


def from_entries(rows: Any, columns: Any, values: Any, outputs: int, inputs: int) -> Weights:
    """The matrix with these entries; entries with the same row and column are summed."""
    flat_index, inverse = np.unique(np.ravel(rows) * inputs + np.ravel(columns), return_inverse=True)
    sums = np.bincount(inverse.ravel(), np.ravel(values), len(flat_index))
    flat_index, sums = flat_index[sums != 0], sums[sums != 0]
    row, column = np.divmod(flat_index, inputs)
    bounds = np.searchsorted(row, np.arange(outputs + 1))
    nonempty = bounds[1:] > bounds[:-1]
    first, length = np.zeros((2, outputs), np.int64)
    first[nonempty] = column[bounds[:-1][nonempty]]
    length[nonempty] = column[bounds[1:][nonempty] - 1] - first[nonempty] + 1
    dense = np.zeros((outputs, max(int(length.max(initial=0)), 1)))
    dense[row, column - first[row]] = sums
    return Weights(inputs, first, length, dense)


@lru_cache(maxsize=256)
def weights(sampling: Sampling) -> Weights:
    """The weight matrix of a resizing."""
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
    """The transposed weight matrix of a resizing, which computes its gradient."""
    rows, columns, values = weights(sampling).entries()
    return from_entries(columns, rows, values, sampling.inputs, sampling.outputs)


def nearest(sampling: Sampling) -> Indices:
    """The input sample of each output in mode "nearest".

    In half_pixel and asymmetric coordinates, positions are computed in float32, as in torch: for a position half-way
    between two samples, the rounding decides. (Torch's own code paths round at different steps and disagree for some
    of these positions; the samples here are those of its channels_last path, for all dtypes.)
    """
    inputs, outputs, _, coordinates, _ = sampling
    output: Indices = np.arange(outputs)
    if coordinates == "align_corners":
        steps = max(outputs - 1, 1)
        rounded: Indices = (2 * output * (inputs - 1) + steps) // (2 * steps)
        return rounded
    step = np.float32(inputs) / np.float32(outputs)
    offset = np.float32(0.5 if coordinates == "half_pixel" else 0)
    position = np.floor((output.astype(np.float32) + offset) * step)
    columns: Indices = np.minimum(position.astype(np.int64), inputs - 1)
    return columns


def positions(sampling: Sampling) -> tuple[Indices, Floats]:
    """Position of each output in input coordinates: the sample at or before it, and the fractional part.

    Positions are computed as ratios of integers, so that a position on a sample is exact.
    """
    inputs, outputs, _, coordinates, _ = sampling
    output = np.arange(outputs)
    if coordinates == "half_pixel":
        numerator, denominator = (2 * output + 1) * inputs - outputs, 2 * outputs
    elif coordinates == "align_corners":
        numerator, denominator = output * (inputs - 1), max(outputs - 1, 1)
    else:
        numerator, denominator = output * inputs, outputs
    before, remainder = np.divmod(numerator, denominator)
    return before, remainder / denominator


def interpolated(sampling: Sampling) -> tuple[Indices, Floats]:
    """Columns and values of linear and cubic interpolation; edge samples are replicated beyond the border."""
    before, fraction = positions(sampling)
    taps = np.arange(2) if sampling.mode == "bilinear" else np.arange(-1, 3)
    distance = np.abs(taps - fraction[:, None])
    values = tent(distance) if sampling.mode == "bilinear" else cubic(distance, CUBIC_COEFFICIENT)
    return np.clip(before[:, None] + taps, 0, sampling.inputs - 1), values


def filtered(sampling: Sampling) -> tuple[Indices, Floats]:
    """Columns and values of antialiased linear and cubic filters, widened by the step between outputs if above 1.

    Samples beyond the border have weight 0; the remaining weights are normalised to sum to 1. In align_corners
    coordinates the step is the one between corners, but filters are centred as in half_pixel: torch's convention.
    """
    inputs, outputs, mode, coordinates, _ = sampling
    # The step between outputs, in input samples, is numerator / denominator.
    numerator, denominator = inputs, outputs
    if coordinates == "align_corners":
        numerator, denominator = (inputs - 1, outputs - 1) if outputs > 1 else (0, 1)
    output = np.arange(outputs)
    # Filter centres in units of half a sample, times the denominator.
    centre = 2 * output * numerator + denominator if coordinates == "asymmetric" else (2 * output + 1) * numerator
    # The filter is widened by the step if that is above 1, here times the denominator.
    widened = max(numerator, denominator)
    radius = -(-widened * (1 if mode == "bilinear" else 2) // denominator)
    columns = (centre // (2 * denominator))[:, None] + np.arange(-radius - 1, radius + 2)
    distance = np.abs((2 * columns + 1) * denominator - centre[:, None]) / (2 * widened)
    values = tent(distance) if mode == "bilinear" else cubic(distance, ANTIALIAS_CUBIC_COEFFICIENT)
    values[(columns < 0) | (columns >= inputs)] = 0
    return np.clip(columns, 0, inputs - 1), values / values.sum(axis=1, keepdims=True)


def area(inputs: int, outputs: int) -> tuple[Indices, Floats]:
    """Columns and values of adaptive average pooling: the mean of all samples that an output's extent overlaps."""
    output = np.arange(outputs)
    start, stop = output * inputs // outputs, -(-(output + 1) * inputs // outputs)
    columns = start[:, None] + np.arange(int((stop - start).max()))
    values = np.where(columns < stop[:, None], 1 / (stop - start)[:, None], 0)
    return np.minimum(columns, inputs - 1), values


def tent(distance: Floats) -> Floats:
    """The triangle kernel of linear interpolation."""
    return np.maximum(1 - distance, 0)


def cubic(distance: Floats, a: float) -> Floats:
    """The kernel of cubic convolution (Keys, 1981) with parameter ``a``."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))
