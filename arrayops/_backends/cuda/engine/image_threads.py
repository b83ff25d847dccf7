"""How batches of images are shared out among threads: the host's side of ``thread_map.cuh``."""

from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.cuda.engine.launch import MOST_BLOCKS_YZ
from arrayops._backends.cuda.engine.structures import View
from arrayops._ops.images import image

THREADS = 256
EACH = 4
"""Channels of a thread, where there are enough: their loads are under way at once, and share the weights."""

VECTOR_BYTES = 16
"""The most that a thread reads at once."""


class Way(NamedTuple):
    """How images are shared out among threads."""

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    each: int
    threads: tuple[int, ...]
    """``image_threads`` of ``thread_map.cuh``."""


def widened(images: View, count: int) -> View:
    """Images whose items are ``count`` neighbours each."""
    *shape, inner = images.shape
    *strides, step = images.byte_strides
    item = np.dtype((np.void, images.dtype.itemsize * count))
    return View((*shape, inner // count), (*strides, step * count), item)


def all_aligned(count: int, *arrays: Any) -> bool:
    """Whether all arrays begin where a thread may read ``count`` elements at once."""
    step = min(count * arrays[0].itemsize, VECTOR_BYTES)
    return all(array.data.ptr % step == 0 for array in arrays)


def in_steps(images: View, count: int) -> bool:
    """Whether the innermost axis of images lies in steps of ``count`` neighbours."""
    *outer, inner = images.strides
    return inner == 1 and images.shape[-1] % count == 0 and all(stride % count == 0 for stride in outer)


def shared_out(target: View, layout: str, neighbours: bool = False) -> Way:
    """How the elements of ``target`` are shared out; with ``neighbours``, four channels that lie side by side a thread.

    Few channels leave no threads idle.
    """
    batch, channels, (height, width) = image(target.shape, layout)
    pixels = height * width
    channels_last = layout == "NHWC"
    # Threads along the channels: a power of two, and no more than there is work for.
    work = -(-channels // EACH) if neighbours else channels
    deep = min(32 if channels_last else 4, 1 << max(work - 1, 0).bit_length())
    across = THREADS // deep
    each = EACH if neighbours or channels >= (EACH - 1) * deep else 1
    pixel_blocks, channel_blocks = -(-pixels // across), -(-channels // (deep * each))
    along = min(channel_blocks, MOST_BLOCKS_YZ)
    return Way(
        grid=(batch * pixel_blocks, along, -(-channel_blocks // along)),
        block=(deep, across, 1) if channels_last else (across, deep, 1),
        each=each,
        threads=(channels, width, pixels, pixel_blocks, channels_last),
    )
