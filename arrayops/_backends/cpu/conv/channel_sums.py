"""Sums of images for each channel: the gradient of a bias."""

import numpy as np

from arrayops._backends.cpu.conv.structures import ChannelSumsStructure
from arrayops._backends.cpu.engine.scheduler import Task
from arrayops._backends.cpu.window.arrays import Array, dtype_name, pointer
from arrayops._backends.cpu.window.structures import Strides
from arrayops._backends.cpu.window.units import kernels

MAX_PARTS, MAX_PARTIAL_BYTES = 192, 4 << 20
"""Parts of the rows that are added on their own, and bytes of their sums."""


def channel_sums(images: Array, target: Array) -> list[Task]:
    """Tasks that store the sums of ``images`` (N, C, H, W) for each channel in ``target``."""
    count, channels, rows, _ = images.shape
    # A float32 result of half-precision images is stored as those of float32 images are.
    library, storing = (kernels("channel_sums.cpp", dtype_name(array)) for array in (images, target))
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
        Task(storing.address("add_channel_parts"), call, -(-channels // at_once), 1, True),
    ]
