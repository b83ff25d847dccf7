"""Overlapping views: what several taps read, or add to, as one array.

One NumPy call on the taps of a run takes the place of a call for each. That matters beyond the cost of a call: with
several threads each call is also a turn at the interpreter, which takes longer than short calls do.

Views are made by the constructor of ndarray: it checks that they stay inside the buffer, which
`numpy.lib.stride_tricks.as_strided` does not, and takes a sixth of its time.
"""

import numpy as np

from arrayops._backends.numpy.blocks import Scratch
from arrayops._backends.numpy.memory import Array


def shifted(samples: Array, offset: int, step: int, count: int, length: int) -> Array:
    """What ``count`` taps read, ``step`` places apart: (groups, taps, channels, length), not to be written to.

    ``samples`` is (groups, channels, places), contiguous; tap t reads ``length`` places from ``offset + t step``.
    """
    groups, channels, _ = samples.shape
    by_group, by_channel, by_place = samples.strides
    shape = groups, count, channels, length
    strides = by_group, step * by_place, by_channel, by_place
    if 0 in shape:
        return np.empty(shape, samples.dtype)
    return np.ndarray(shape, samples.dtype, samples, offset * by_place, strides)


def slanted(columns: Array, first: int, count: int, begin: int, step: int, length: int) -> Array:
    """Place ``begin + q - t step`` of column ``first + t``, for q below ``length``: (groups, count, channels, length).

    ``columns`` is (groups, taps, channels, places), contiguous. No two places of the view are the same, so that it may
    be written to.
    """
    groups, _, channels, _ = columns.shape
    by_group, by_tap, by_channel, by_place = columns.strides
    shape = groups, count, channels, length
    if 0 in shape:
        return np.empty(shape, columns.dtype)
    strides = by_group, by_tap - step * by_place, by_channel, by_place
    return np.ndarray(shape, columns.dtype, columns, first * by_tap + begin * by_place, strides)


def add_shifted(target: Array, padded: Array, first: int, count: int, margin: int, step: int, scratch: Scratch) -> None:
    """Add place n of column ``first + t`` to place ``n + t step`` of ``target``: the transpose of `shifted`.

    ``padded`` is (groups, taps, channels, margin + length + margin), contiguous, with zeros in its margins, as wide as
    the shifts reach; ``target`` is (groups, channels, length + (count - 1) step).
    """
    if count == 1:
        np.add(target, padded[:, first, :, margin : margin + target.shape[2]], out=target)
        return
    total = scratch("total", target.shape, padded.dtype)
    np.add.reduce(slanted(padded, first, count, margin, step, target.shape[2]), axis=1, out=total)
    np.add(target, total, out=target)
