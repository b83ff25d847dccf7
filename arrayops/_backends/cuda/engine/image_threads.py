"""How batches of images are shared out among threads: the host's side of ``thread_map.cuh``."""

from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.cuda.engine.launch import MAX_BLOCKS_YZ
from arrayops._backends.cuda.engine.structures import ArrayView
from arrayops._ops.images import image

THREADS = 256
CHANNELS_PER_THREAD = 4
"""Channels of a thread, where there are enough: their loads are under way at once, and share the weights."""

VECTOR_BYTES = 16
"""The most that a thread reads at once."""


class ThreadMapping(NamedTuple):
    """How images are shared out among threads."""

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    channels_per_thread: int
    threads: tuple[int, ...]
    """``image_threads`` of ``thread_map.cuh``."""


def as_items(images: ArrayView, count: int) -> ArrayView:
    """Images whose items are ``count`` vectorized each."""
    *shape, inner = images.shape
    *strides, step = images.byte_strides
    item = np.dtype((np.void, images.dtype.itemsize * count))
    return ArrayView((*shape, inner // count), (*strides, step * count), item)


def all_aligned(count: int, *arrays: Any) -> bool:
    """Whether all arrays begin where a thread may read ``count`` elements at once."""
    step = min(count * arrays[0].itemsize, VECTOR_BYTES)
    return all(array.data.ptr % step == 0 for array in arrays)


def is_vectorizable(images: ArrayView, count: int) -> bool:
    """Whether the innermost axis of images lies in steps of ``count`` vectorized."""
    *outer, inner = images.strides
    return inner == 1 and images.shape[-1] % count == 0 and all(stride % count == 0 for stride in outer)


def map_threads(target: ArrayView, layout: str, vectorized: bool = False) -> ThreadMapping:
    """How the elements of ``target`` are shared out; with ``vectorized``, four channels that lie side by side a thread.

    Few channels leave no threads idle.
    """
    batch, channels, (height, width) = image(target.shape, layout)
    pixels = height * width
    channels_last = layout == "NHWC"
    # Threads along the channels: a power of two, and no more than there is work for.
    work = -(-channels // CHANNELS_PER_THREAD) if vectorized else channels
    deep = min(32 if channels_last else 4, 1 << max(work - 1, 0).bit_length())
    across = THREADS // deep
    channels_per_thread = CHANNELS_PER_THREAD if vectorized or channels >= (CHANNELS_PER_THREAD - 1) * deep else 1
    pixel_blocks, channel_blocks = -(-pixels // across), -(-channels // (deep * channels_per_thread))
    along = min(channel_blocks, MAX_BLOCKS_YZ)
    return ThreadMapping(
        grid=(batch * pixel_blocks, along, -(-channel_blocks // along)),
        block=(deep, across, 1) if channels_last else (across, deep, 1),
        channels_per_thread=channels_per_thread,
        threads=(channels, width, pixels, pixel_blocks, channels_last),
    )
