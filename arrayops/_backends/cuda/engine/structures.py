"""Structures passed to kernels by value, field by field as in ``raw_kernels``, and functions that fill them."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.cuda.engine.launch import struct
from arrayops._core.shapes import Axis, Pair


class ArrayView(NamedTuple):
    """Shape, strides and dtype of a device array: all that plans may depend on."""

    shape: tuple[int, ...]
    byte_strides: tuple[int, ...]
    dtype: Any

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides in elements."""
        return tuple(stride // self.dtype.itemsize for stride in self.byte_strides)


def view(array: Any) -> ArrayView:
    """The view of a device array."""
    return ArrayView(array.shape, array.strides, array.dtype)


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of a C-contiguous array."""
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))


def _aligned(**fields: Any) -> "np.dtype[Any]":
    return np.dtype(list(fields.items()), align=True)


WINDOW_AXIS = _aligned(
    **dict.fromkeys(
        ("input", "output", "guide", "step", "upsampling", "dilation", "before", "guide_step", "guide_before"), np.int32
    )
)
WINDOW = _aligned(rows=WINDOW_AXIS, columns=WINDOW_AXIS, batch=np.int32, guides=np.int32)
IMAGE_STRIDES = _aligned(**dict.fromkeys(("batch", "channel", "row", "column"), np.int64))
KERNEL_STRIDES = _aligned(**dict.fromkeys(("batch", "channel", "tap_row", "tap_column", "row", "column"), np.int64))
WEIGHT_STRIDES = _aligned(first=np.int64, **dict.fromkeys(("group", "result", "source", "row", "column"), np.int32))
ADAPTIVE_LAYOUT = _aligned(
    guide=IMAGE_STRIDES, mask=IMAGE_STRIDES, kernel=KERNEL_STRIDES, inv_channels=np.int32, kernel_channels=np.int32
)
CHANNEL_COUNTS = ("groups", "sources", "results", "padded_sources", "padded_results")
PACKING = _aligned(weight=WEIGHT_STRIDES, **dict.fromkeys((*CHANNEL_COUNTS, "merged_groups"), np.int32))
CONTRACTION = _aligned(
    source=IMAGE_STRIDES,
    result=IMAGE_STRIDES,
    **dict.fromkeys(CHANNEL_COUNTS, np.int32),
    **dict.fromkeys(("tiles_down", "tiles_across", "stage_rows", "stage_pitch"), np.int32),
)
CHANNELWISE = _aligned(
    source=IMAGE_STRIDES,
    result=IMAGE_STRIDES,
    filter=WEIGHT_STRIDES,
    **dict.fromkeys(("channels", "phase_height", "phase_width", "pixel_blocks"), np.int32),
)
BAND = _aligned(**dict.fromkeys(("first_image", "images", "first_row", "rows"), np.int32))
KERNEL_GRADIENT = _aligned(
    input=IMAGE_STRIDES,
    grad=IMAGE_STRIDES,
    weight=WEIGHT_STRIDES,
    output_band=BAND,
    **dict.fromkeys(("groups", "inputs", "outputs"), np.int32),
)
WEIGHT_GRADIENT = _aligned(
    input=IMAGE_STRIDES,
    grad=IMAGE_STRIDES,
    **dict.fromkeys(("groups", "inputs", "outputs", "merged_groups", "pair_rows", "pair_columns", "shares"), np.int32),
    share=np.int64,
)
DIRECT = _aligned(
    source=IMAGE_STRIDES,
    result=IMAGE_STRIDES,
    weight=WEIGHT_STRIDES,
    **dict.fromkeys(("channels", "sources", "results", "phase_height", "phase_width", "pixel_blocks"), np.int32),
)
DIRECT_WEIGHT = _aligned(
    input=IMAGE_STRIDES, grad=IMAGE_STRIDES, **dict.fromkeys(("groups", "inputs", "outputs", "share"), np.int32)
)
IMAGE_BATCH = _aligned(
    **dict.fromkeys(("batch", "channel", "row", "column"), np.int64),
    **dict.fromkeys(("images", "channels", "rows", "columns"), np.int32),
)
IMAGE_THREAD_MAP = _aligned(
    **dict.fromkeys(("channels", "columns", "pixels", "pixel_blocks", "channels_last"), np.int32)
)
COPY_GEOMETRY = _aligned(source=IMAGE_STRIDES, target=IMAGE_STRIDES, thread_map=IMAGE_THREAD_MAP)
MERGE_SOURCE = _aligned(strides=IMAGE_STRIDES, row_taps=np.int32, column_taps=np.int32)
SEGMENT_LABELS = _aligned(
    count=np.int64, ignored=np.uint64, **dict.fromkeys(("segments", "bytes", "is_signed", "ignores"), np.int32)
)
SEGMENT_PASS = _aligned(pixels=np.uint32, **dict.fromkeys(("tiles", "shift", "bits"), np.int32))
SEGMENT_STRIDES = _aligned(**dict.fromkeys(("image", "entry", "channel"), np.int64))
SEGMENT_REDUCTION = _aligned(
    features=SEGMENT_STRIDES,
    result=SEGMENT_STRIDES,
    empty=np.float64,
    empty_bits=np.uint64,
    **dict.fromkeys(
        ("images", "pixels", "channels", "segments", "blocks", "tiles", "row_pixels", "block_pixels", "smallest"),
        np.int32,
    ),
)
SEGMENT_UNPOOLING = _aligned(
    table=SEGMENT_STRIDES, result=SEGMENT_STRIDES, thread_map=IMAGE_THREAD_MAP, segments=np.int32, fill=(np.uint64, 2)
)
SEGMENT_GRADIENTS = _aligned(
    features=SEGMENT_STRIDES,
    result=SEGMENT_STRIDES,
    table=SEGMENT_STRIDES,
    thread_map=IMAGE_THREAD_MAP,
    segments=np.int32,
)
RESULT_AXES = 6
STRIDED_RESULT = _aligned(first=np.int64, size=(np.int32, RESULT_AXES), stride=(np.int64, RESULT_AXES))


@cache
def merge(maps: int) -> "np.dtype[Any]":
    """``merge`` of ``merge_resize.cu`` for up to ``maps`` maps."""
    return _aligned(
        result=IMAGE_STRIDES,
        argmax=IMAGE_STRIDES,
        thread_map=IMAGE_THREAD_MAP,
        **dict.fromkeys(("rows", "maps", "first", "last"), np.int32),
        factor=np.float64,
        source=(MERGE_SOURCE, maps),
    )


def window_axis(axis: Axis, guide: int) -> tuple[int, ...]:
    """The fields of ``window_axis`` of ``window.cuh``; ``guide`` is the size of the guide."""
    if axis.transposed:
        step, upsampling, guide_step, guide_before = 1, axis.stride, 1, (axis.extent - 1) // 2
    else:
        step, upsampling, guide_step, guide_before = axis.stride, 1, axis.stride, axis.before
    return (
        axis.size,
        axis.output,
        guide,
        step,
        upsampling,
        axis.dilation,
        axis.before,
        guide_step,
        guide_before,
    )


def window(axes: tuple[Axis, Axis], batch: int, guide: Pair = (0, 0), guides: int = 0) -> np.void:
    """``window`` of ``window.cuh``, including the guide if there is one."""
    rows, columns = (window_axis(axis, size) for axis, size in zip(axes, guide, strict=True))
    return struct(WINDOW, rows=rows, columns=columns, batch=batch, guides=guides)


def image_strides(strides: tuple[int, ...], layout: str) -> tuple[int, int, int, int]:
    """Strides of a batch of images in ``layout`` as (batch, channel, row, column)."""
    if layout == "NCHW":
        batch, channel, row, column = strides
    else:
        batch, row, column, channel = strides
    return batch, channel, row, column


def kernel_strides(strides: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """Strides of an adaptive kernel in ``layout`` as (batch, channel, tap row, tap column, row, column)."""
    if layout == "NCHW":
        return strides
    batch, row, column, tap_row, tap_column, channel = strides
    return batch, channel, tap_row, tap_column, row, column


def sums_result(sizes: tuple[int, ...], strides: tuple[int, ...], first: int = 0) -> np.void:
    """``strided_result`` of ``sums.cu``: sizes of the axes, outermost first, and the stride of the result for each."""
    padding = (1,) * (RESULT_AXES - len(sizes))
    return struct(STRIDED_RESULT, first=first, size=(*padding, *sizes), stride=(*(0 for _ in padding), *strides))
