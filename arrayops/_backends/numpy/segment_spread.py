"""From segments to pixels: every pixel gets its segment's row of a table."""

import numpy as np

from arrayops._backends.numpy.blocks import Compute, run_blocks
from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.scratch import Scratch
from arrayops._backends.numpy.segment_labels import Labels
from arrayops._backends.numpy.segment_rows import block_rows, store_rows

GROUP = 16
"""Blocks of pixels that a thread takes at a time."""


def spread(tables: Array, labels: Labels, target: Array) -> None:
    """``target[image, pixel] = tables[image, slot of the pixel]``, all of one dtype.

    ``tables`` are (images, segments + 1, channels), the last row for the pixels that are left out, and C-contiguous.
    """
    images, pixels, channels = target.shape
    rows = block_rows(channels)
    group = rows * GROUP
    groups = -(-pixels // group)
    tables, target = _bits(tables), _bits(target)

    def begin(scratch: Scratch) -> Compute:
        def compute(index: int) -> None:
            image, start = index // groups, index % groups * group
            slots = labels.slots(image, start, min(start + group, pixels)).astype(np.intp)
            for place in range(0, len(slots), rows):
                these = slots[place : place + rows]
                goal = target[image, start + place : start + place + len(these)]
                if goal.flags.c_contiguous:
                    np.take(tables[image], these, axis=0, out=goal, mode="clip")
                else:
                    block = scratch("rows", goal.shape, goal.dtype)
                    np.take(tables[image], these, axis=0, out=block, mode="clip")
                    store_rows(scratch, goal, block)

        return compute

    if channels:
        run_blocks(images * groups, begin)


def _bits(array: Array) -> Array:
    """Values that are only moved, as plain numbers of their size."""
    return array.view(np.uint16) if array.dtype.kind == "V" else array
