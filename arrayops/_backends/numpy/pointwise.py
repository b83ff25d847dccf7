"""The gradient of a 1 x 1 filter over channels-last images: one product of all pixels, where they lie.

    (inputs of a group, pixels) @ (pixels, outputs of a group)

Blocks take some of the pixels, whose products are added up; or, where that would leave them few pixels for a large
weight, some of the inputs.
"""

import numpy as np

from arrayops._backends.numpy.blocks import Compute, Work
from arrayops._backends.numpy.memory import Array, add_widened, compute_dtype, store
from arrayops._backends.numpy.scratch import Scratch
from arrayops._backends.numpy.stacks import LEAST_BLOCKS, balanced_share
from arrayops._core.shapes import Axis

NARROWEST = 32
"""Inputs and outputs of a group from which BLAS is quick at pixels where they lie."""

AT_ONCE = 1 << 10
"""Pixels of a product."""

FEWEST, MOST = 1 << 11, 1 << 13
"""Pixels of a block: from which its sums are worth adding up, and whose sums are made in float32."""


def serves(samples: Array, grad: Array, weight: Array, axes: tuple[Axis, Axis]) -> bool:
    """Whether images (N, H, W, C) can be multiplied where they lie, and are wide enough."""
    if any((axis.kernel, axis.stride, axis.before, axis.after) != (1, 1, 0, 0) for axis in axes):
        return False
    as_they_are = all(array.dtype == compute_dtype(array) and array.flags.c_contiguous for array in (samples, grad))
    return as_they_are and samples.size > 0 and min(weight.shape[3:]) >= NARROWEST


def weight_gradient(samples: Array, grad: Array, target: Array) -> Work:
    """Work that stores the gradient in ``target`` (groups, 1, 1, inputs, outputs), given that of the output."""
    groups, _, _, inputs, outputs = target.shape
    pixels = samples.size // (groups * inputs)
    left = samples.reshape(pixels, groups, inputs).transpose(1, 2, 0)
    right = grad.reshape(pixels, groups, outputs).transpose(1, 0, 2)
    length = balanced_share(pixels, min(MOST, max(FEWEST, pixels // LEAST_BLOCKS)))
    shares = -(-pixels // length)
    width = balanced_share(inputs, max(NARROWEST, inputs * shares // LEAST_BLOCKS))
    parts = -(-inputs // width)
    total = None if shares == 1 else np.zeros((groups, inputs, outputs))
    blocks = parts * shares

    def begin(scratch: Scratch) -> Compute:
        def compute(index: int) -> tuple[slice, Array]:
            part, share = divmod(index, shares)
            some = slice(part * width, min((part + 1) * width, inputs))
            found = scratch("found", (groups, some.stop - some.start, outputs), samples.dtype)
            summand = scratch("summand", found.shape, found.dtype)
            stop = min((share + 1) * length, pixels)
            for start in range(share * length, stop, AT_ONCE):
                taken = slice(start, min(start + AT_ONCE, stop))
                first = start == share * length
                np.matmul(left[:, some, taken], right[:, taken], out=found if first else summand)
                if not first:
                    np.add(found, summand, out=found)
            if total is None:
                store(target[:, 0, 0, some], found)
            return some, found

        return compute

    def commit(index: int, found: tuple[slice, Array]) -> None:
        assert total is not None
        some, sums = found
        if parts == 1:
            add_widened(total, sums)
        else:
            np.add(total[:, some], sums, out=total[:, some])
        if index == blocks - 1:
            store(target[:, 0, 0], total)

    workspace = 2 * groups * width * outputs * samples.itemsize
    return Work(blocks, begin, None if total is None else commit, workspace)
