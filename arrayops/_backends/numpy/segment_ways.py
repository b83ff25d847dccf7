"""Ways to add a part's rows to its totals: as wide ones, or a few at a time in float32.

Totals are float64 or 64-bit integers: a float32 sum would lose digits over millions of pixels. Widening every row costs
more than adding it. So where labels allow it, rows are added in float32 first, a few at a time: a sum of 32 is right to
31 roundings of the sum of absolute values, 1.85e-6 of it. Which way a part goes follows from its labels and from how
its features lie, and so do the bits of its result:

    labels                                           channels side by side    planes (NCHW)
    runs of neighbours, few in every 32 pixels       Runs                     Products
    runs of neighbours                               Runs                     Runs
    any, no segment too often in an interval         Intervals                Intervals
    any                                              WIDE                     WIDE
"""

import numpy as np

from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.segment_intervals import Intervals
from arrayops._backends.numpy.segment_products import Products
from arrayops._backends.numpy.segment_runs import Runs
from arrayops._backends.numpy.segment_way import FEW, WIDE, Way

COHERENT = 0.4
"""Runs over pixels, up to which it pays to add them up first."""

LEFT = 0.0625
"""Pixels that products leave over all pixels, up to which they pay."""


def way(slots: Array, segments: int, block: int, planes: bool) -> Way:
    """The way of a part's float32 sums, from its slots, if intervals have whole blocks of ``block`` rows.

    ``planes`` tells that channels lie too far apart to be read side by side.
    """
    first = np.empty(len(slots), np.bool_)
    np.not_equal(slots[1:], slots[:-1], out=first[1:])
    first[::FEW] = True
    if np.count_nonzero(first) <= COHERENT * len(slots):
        if planes:
            products = Products(slots, first)
            if products.left <= LEFT * len(slots):
                return products
        return Runs(slots, first)
    if len(slots) < block:
        return WIDE
    intervals = Intervals(slots, segments, block)
    return intervals if intervals.most <= FEW else WIDE
