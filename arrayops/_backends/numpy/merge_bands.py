"""The matrix that resizes an axis, cut into bands of rows, each a small dense block of the columns that it needs."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.numpy.memory import Array
from arrayops._core import resampling
from arrayops._core.resampling import Sampling, Weights

WHOLE = 64 * 64
"""Elements of a matrix that is not cut."""

LONGEST = 48
"""Outputs of a band; a longer one would multiply by more zeros."""

SHORTEST = 4
"""Outputs of a band at least, unless runs of channels are long."""

INPUTS = 64
"""Inputs of a band, about; one of fewer would make products too small to be fast."""


class Axis(NamedTuple):
    """An axis and the way it is resized; ``back`` is the way of the gradient."""

    sampling: Sampling
    back: bool = False

    @property
    def inputs(self) -> int:
        """Samples that are read."""
        return self.sampling.outputs if self.back else self.sampling.inputs

    @property
    def outputs(self) -> int:
        """Samples that are made."""
        return self.sampling.inputs if self.back else self.sampling.outputs


class Band(NamedTuple):
    """Outputs ``start`` to ``stop`` of an axis, made of inputs ``first`` to ``last`` by a dense block of the matrix."""

    start: int
    stop: int
    first: int
    last: int
    block: Array
    """(outputs, inputs)"""
    turned: Array
    """The same as (inputs, outputs), for products from the other side."""

    def taps(self, output: int) -> Iterator[tuple[int, Any]]:
        """Inputs that have a weight in an output, counted from the band's first, and those weights."""
        row = self.block[output]
        for tap in np.flatnonzero(row):
            yield int(tap), row[tap]


def matrix(axis: Axis) -> Weights:
    """The matrix of an axis."""
    return (resampling.transposed if axis.back else resampling.weights)(axis.sampling)


@lru_cache(maxsize=256)
def identity(axis: Axis) -> bool:
    """Whether the axis stays as it is."""
    return axis.inputs == axis.outputs and matrix(axis).identity


def band_length(axes: tuple[Axis, ...]) -> int:
    """Outputs of a band that suits each of ``axes``, which have as many outputs."""
    outputs, inputs = axes[0].outputs, max(axis.inputs for axis in axes)
    if outputs * inputs <= WHOLE:
        return outputs
    longest = min(max(INPUTS * outputs // inputs, SHORTEST), LONGEST)
    # As many bands, of one length but for the last.
    return -(-outputs // -(-outputs // longest))


@lru_cache(maxsize=256)
def bands(axis: Axis, length: int, dtype: "np.dtype[Any]") -> tuple[Band, ...]:
    """The matrix of ``axis`` in bands of ``length`` outputs."""
    weights = matrix(axis)
    found = []
    for start in range(0, axis.outputs, length):
        stop = min(start + length, axis.outputs)
        lengths, first = weights.length[start:stop], weights.first[start:stop]
        some = lengths > 0
        # Outputs without an input are 0: the block has then no columns at all.
        low = int(first[some].min()) if some.any() else 0
        high = int((first + lengths)[some].max()) if some.any() else 0
        block = np.zeros((stop - start, high - low), dtype)
        for row, (at, number) in enumerate(zip(first, lengths, strict=True)):
            block[row, at - low : at - low + number] = weights.values[start + row, :number]
        found.append(Band(start, stop, low, high, block, np.ascontiguousarray(block.T)))
    return tuple(found)
