"""Sums in a fixed order: of partial sums written by blocks, and over pixels."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import cupy
import numpy as np

from arrayops._backends.cuda.engine import device, memory, module, structures
from arrayops._backends.cuda.engine.device import BLOCKS_PER_MULTIPROCESSOR, THREADS
from arrayops._backends.cuda.engine.launch import launch, struct
from arrayops._backends.cuda.engine.module import Kernel
from arrayops._backends.cuda.engine.structures import view

PIXEL_BLOCKS = 64
"""Blocks that share the pixels of one channel. A constant, so that sums do not depend on the GPU."""

MAX_CHANNELS_PER_BLOCK = 32
"""Channels of a block if channels are contiguous."""

PIXELS_PER_THREAD = 1024
"""Pixels of a thread, above which a block of several channels is split into more blocks."""


def fixed_shares(count: int, share: int, max_shares: int) -> tuple[int, int]:
    """Number of shares of ``count`` entries, at most ``max_shares``, and the size of a share.

    Depends on sizes only, not on the GPU, so that sums are the same on all GPUs.
    """
    shares = max(1, min(max_shares, -(-count // share)))
    return shares, -(-count // shares)


def sum_parts(
    parts: Any, count: int, sizes: tuple[int, ...], strides: tuple[int, ...], result: Any, first: int = 0
) -> None:
    """Add up ``count`` partial sums of ``sizes`` each, and write the rounded sums to ``result`` with its strides.

    ``count`` 0 writes zeros; ``count`` 1 only rounds accumulators to the dtype of the result.
    """
    config = _sums(cupy.cuda.runtime.getDevice(), result.dtype, count, sizes, strides, first)
    launch(
        config.function, config.grid, (THREADS, 1, 1), (parts, config.parts, config.entries, config.destination, result)
    )


class SumLaunch(NamedTuple):
    """A launch of ``sum_parts`` except for its arrays."""

    function: Kernel
    grid: tuple[int, int, int]
    parts: np.int32
    entries: np.int64
    destination: np.void


@lru_cache(maxsize=256)
def _sums(
    number: int, dtype: "np.dtype[Any]", count: int, sizes: tuple[int, ...], strides: tuple[int, ...], first: int
) -> SumLaunch:
    entries = math.prod(sizes)
    return SumLaunch(
        function=module.kernel("sums.cu", "sum_parts", (*memory.dtype_defines(dtype), ("THREADS", THREADS))),
        grid=(device.properties(number).blocks(entries, THREADS, BLOCKS_PER_MULTIPROCESSOR), 1, 1),
        parts=np.int32(count),
        entries=np.int64(entries),
        destination=structures.sums_result(sizes, strides, first),
    )


def channel_sums(array: Any, layout: str, accumulator: Any) -> Any:
    """Sum a batch of images over all pixels and images: (channels,)."""
    strides = structures.image_strides(view(array).strides, layout)
    batch, channels, *size = array.shape if layout == "NCHW" else (array.shape[0], array.shape[3], *array.shape[1:3])
    result = memory.empty((channels,), array.dtype)
    # Consecutive threads read contiguous channels, so that loads are coalesced.
    block_channels = min(MAX_CHANNELS_PER_BLOCK, 1 << max(channels - 1, 0).bit_length()) if strides[1] == 1 else 1
    needed_blocks = batch * size[0] * size[1] // (THREADS // block_channels * PIXELS_PER_THREAD)
    blocks = min(PIXEL_BLOCKS * block_channels, max(PIXEL_BLOCKS, needed_blocks))
    parts = memory.empty((blocks, channels), accumulator)
    defines = *memory.dtype_defines(array.dtype), ("THREADS", THREADS), ("CHANNELS_PER_BLOCK", block_channels)
    function = module.kernel("sums.cu", "sum_pixels", defines)
    geometry = _images(strides, (batch, channels, size[0], size[1]))
    launch(function, (blocks, -(-channels // block_channels), 1), (THREADS, 1, 1), (array, geometry, parts))
    sum_parts(parts, blocks, (channels,), (1,), result)
    return result


@lru_cache(maxsize=256)
def _images(strides: tuple[int, ...], sizes: tuple[int, ...]) -> np.void:
    names = "batch", "channel", "row", "column", "images", "channels", "rows", "columns"
    return struct(structures.IMAGE_BATCH, **dict(zip(names, (*strides, *sizes), strict=True)))
