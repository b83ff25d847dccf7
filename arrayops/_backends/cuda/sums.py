"""Sums in a fixed order: parts that blocks leave, and sums over pixels."""

from functools import lru_cache
from typing import Any

import numpy as np

from arrayops._backends.cuda import device, memory, module, structures
from arrayops._backends.cuda.launch import launch, struct
from arrayops._backends.cuda.plan import BLOCKS_EACH, THREADS
from arrayops._backends.cuda.structures import view

PIXEL_BLOCKS = 64
"""Blocks that share the pixels of one channel: a fixed number, so that sums do not depend on the GPU."""


def sum_parts(
    parts: Any, count: int, sizes: tuple[int, ...], strides: tuple[int, ...], result: Any, first: int = 0
) -> None:
    """Add up ``count`` parts of ``sizes`` each, and round into ``result`` by its strides.

    ``count`` 0 makes zeros; ``count`` 1 rounds accumulators into a result.
    """
    entries = int(np.prod(sizes, dtype=np.int64))
    function = module.kernel("sums.cu", "sum_parts", (*memory.dtype_defines(result.dtype), ("THREADS", THREADS)))
    where = _result(sizes, strides, first)
    arguments = (parts, np.int32(count), np.int64(entries), where, result)
    blocks = device.current().blocks(entries, THREADS, BLOCKS_EACH)
    launch(function, (blocks, 1, 1), (THREADS, 1, 1), arguments)


@lru_cache(maxsize=256)
def _result(sizes: tuple[int, ...], strides: tuple[int, ...], first: int) -> np.void:
    return structures.sums_result(sizes, strides, first)


def channel_sums(array: Any, layout: str, accumulator: Any) -> Any:
    """Sum a batch of images over all pixels and images: (channels,)."""
    strides = structures.image_strides(view(array).strides, layout)
    batch, channels, *size = array.shape if layout == "NCHW" else (array.shape[0], array.shape[3], *array.shape[1:3])
    result = memory.empty((channels,), array.dtype)
    parts = memory.empty((PIXEL_BLOCKS, channels), accumulator)
    function = module.kernel("sums.cu", "sum_pixels", (*memory.dtype_defines(array.dtype), ("THREADS", THREADS)))
    of = _images(strides, (batch, channels, size[0], size[1]))
    launch(function, (PIXEL_BLOCKS, channels, 1), (THREADS, 1, 1), (array, of, parts))
    sum_parts(parts, PIXEL_BLOCKS, (channels,), (1,), result)
    return result


@lru_cache(maxsize=256)
def _images(strides: tuple[int, ...], sizes: tuple[int, ...]) -> np.void:
    names = "batch", "channel", "row", "column", "images", "channels", "rows", "columns"
    return struct(structures.IMAGE_BATCH, **dict(zip(names, (*strides, *sizes), strict=True)))
