"""Sums of images for each channel: the gradient of a bias."""

import numpy as np

from arrayops._backends.cpu.conv.correlation import Array, pointer
from arrayops._backends.cpu.conv.structures import ChannelSumsStructure, Strides
from arrayops._backends.cpu.conv.units import kernels
from arrayops._backends.cpu.engine.scheduler import Task

MAX_PARTS, MAX_PARTIAL_BYTES = 192, 4 << 20
"""Parts of the rows that are added on their own, and bytes of their sums."""


def channel_sums(images: Array, target: Array, dtype: str) -> list[Task]:
    """Tasks that store the sums of ``images`` (N, C, H, W) for each channel in ``target``."""
    count, channels, rows, _ = images.shape
    library = kernels("channel_sums.cpp", dtype)
    call = ChannelSumsStructure()
    call.strides = Strides(*(stride // images.itemsize for stride in images.strides))
    call.count, call.channels, call.rows, call.columns = images.shape
    call.parts = max(1, min(MAX_PARTS, count * rows, MAX_PARTIAL_BYTES // (8 * channels)))
    call.result_stride = target.strides[0] // target.itemsize
    partial = np.empty(call.parts * channels)
    call.images, call.partial, call.result = map(pointer, (images, partial, target))
    call.kept = partial
    at_once = library.number("channels_at_once")
    return [
        Task(library.address("add_channels"), call, call.parts),
        Task(library.address("add_channel_parts"), call, -(-channels // at_once), 1, True),
    ]
