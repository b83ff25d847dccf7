"""What a part's rows are added to: totals, and moments for variances."""

import numpy as np

from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.scratch import Scratch
from arrayops._backends.numpy.segment_sparse import Adder


class Sums:
    """Totals of a part: (segments + 1, channels)."""

    def __init__(self, totals: Array) -> None:
        self.totals = totals
        self.totals[...] = np.zeros((), self.totals.dtype)

    def merge(self, other: "Sums") -> None:
        """Add a later part."""
        np.add(self.totals, other.totals, out=self.totals)


class Moments:
    """Means and sums of squared deviations of a part, in float64.

    A part takes its rows relative to what a few of its pixels say of each segment: at first one row of it, then, by
    `centre`, the mean of those that were added until then. Sums of squares about that cannot drown the deviations,
    however far the values are from 0. Parts are merged by their means and sums of squared deviations (T. F. Chan,
    G. H. Golub and R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).
    """

    def __init__(self, mean: Array, squares: Array, counts: Array, first_rows: Array) -> None:
        self.mean, self.squares, self.counts, self.shift = mean, squares, counts, first_rows
        self.mean[...] = 0.0
        self.squares[...] = 0.0

    def centre(self, counts: Array) -> None:
        """Begin again, relative to the means of the ``counts`` rows that were added."""
        self.mean /= np.maximum(counts, 1)[:, None]
        self.shift += self.mean
        self.mean[...] = 0.0
        self.squares[...] = 0.0

    def add(self, adder: Adder, scratch: Scratch, slots: Array, wide: Array) -> None:
        """Add the rows of a block."""
        relative = scratch("relative", wide.shape, np.float64)
        np.take(self.shift, slots, axis=0, out=relative, mode="clip")
        np.subtract(wide, relative, out=relative)
        adder(self.mean, slots, relative)
        np.multiply(relative, relative, out=relative)
        adder(self.squares, slots, relative)

    def end(self) -> None:
        """Turn the sums of deviations from the first rows into means, and those of squares into squares about them."""
        counts = np.maximum(self.counts, 1)[:, None]
        self.squares -= self.mean * self.mean / counts
        np.maximum(self.squares, 0, out=self.squares)
        self.mean /= counts
        self.mean += self.shift

    def merge(self, other: "Moments") -> None:
        """Add a later part, both after `end`."""
        together = self.counts + other.counts
        weight = other.counts / np.maximum(together, 1)
        apart = other.mean - self.mean
        # A segment that one of the two does not have leaves nothing: 0 times whatever its mean stands for.
        joint = self.counts * weight
        self.squares += other.squares
        self.squares += np.where(joint[:, None] > 0, apart * apart * joint[:, None], 0)
        self.mean = np.where(weight[:, None] > 0, self.mean + apart * weight[:, None], self.mean)
        self.counts = together
