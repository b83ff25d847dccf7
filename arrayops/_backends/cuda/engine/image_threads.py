"""Mapping of the elements of a batch of images to threads: the host side of ``thread_map.cuh``."""

from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.cuda.engine.device import THREADS
from arrayops._backends.cuda.engine.launch import MAX_BLOCKS_YZ
from arrayops._backends.cuda.engine.structures import ArrayView
from arrayops._core.kernel_source import Pairs
from arrayops._ops.images import image

CHANNELS_PER_THREAD = 4
"""Channels of a thread if there are enough: their loads are in flight at once, and they share weights."""

VECTOR_BYTES = 16
"""Largest vector load or store of a thread."""


class ThreadMapping(NamedTuple):
    """Mapping of the elements of a batch of images to the threads of a grid."""

    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    channels_per_thread: int
    thread_map: tuple[int, ...]
    """``image_thread_map`` of ``thread_map.cuh``."""

    @property
    def defines(self) -> Pairs:
        """Macros of every kernel that uses the mapping."""
        return ("CHANNELS_PER_THREAD", self.channels_per_thread), ("THREADS", THREADS)


def as_items(images: ArrayView, count: int) -> ArrayView:
    """The same images with ``count`` contiguous elements as one item."""
    *shape, inner = images.shape
    *strides, step = images.byte_strides
    item = np.dtype((np.void, images.dtype.itemsize * count))
    return ArrayView((*shape, inner // count), (*strides, step * count), item)


def all_aligned(count: int, *arrays: Any) -> bool:
    """Whether all arrays are aligned to vectors of ``count`` elements."""
    step = min(count * arrays[0].itemsize, VECTOR_BYTES)
    return all(array.data.ptr % step == 0 for array in arrays)


def is_vectorizable(images: ArrayView, count: int) -> bool:
    """Whether the innermost axis is contiguous, and its size and all other strides are multiples of ``count``."""
    *outer, inner = images.strides
    return inner == 1 and images.shape[-1] % count == 0 and all(stride % count == 0 for stride in outer)


def map_threads(target: ArrayView, layout: str, vectorized: bool = False) -> ThreadMapping:
    """Map the elements of ``target`` to threads; with ``vectorized``, four contiguous channels to each thread.

    Blocks are narrower along channels if there are few, so that no threads are idle.
    """
    batch, channels, (height, width) = image(target.shape, layout)
    pixels = height * width
    channels_last = layout == "NHWC"
    # Threads along channels: a power of two, and no more than there are channels.
    channel_threads = -(-channels // CHANNELS_PER_THREAD) if vectorized else channels
    channel_width = min(32 if channels_last else 4, 1 << max(channel_threads - 1, 0).bit_length())
    pixel_width = THREADS // channel_width
    channels_per_thread = (
        CHANNELS_PER_THREAD if vectorized or channels >= (CHANNELS_PER_THREAD - 1) * channel_width else 1
    )
    pixel_blocks, channel_blocks = -(-pixels // pixel_width), -(-channels // (channel_width * channels_per_thread))
    blocks_y = min(channel_blocks, MAX_BLOCKS_YZ)
    return ThreadMapping(
        grid=(batch * pixel_blocks, blocks_y, -(-channel_blocks // blocks_y)),
        block=(channel_width, pixel_width, 1) if channels_last else (pixel_width, channel_width, 1),
        channels_per_thread=channels_per_thread,
        thread_map=(channels, width, pixels, pixel_blocks, channels_last),
    )
