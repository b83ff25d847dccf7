"""Segment reductions on NVIDIA GPUs: launch geometry, and one pass over the features."""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import cupy
import numpy as np

from arrayops._backends.cuda.engine import device, memory, module, structures
from arrayops._backends.cuda.engine.device import THREADS
from arrayops._backends.cuda.engine.launch import launch, struct
from arrayops._backends.cuda.engine.module import Kernel
from arrayops._backends.cuda.engine.structures import ArrayView, view
from arrayops._backends.cuda.segment.labels import SegmentIds
from arrayops._backends.cuda.segment.order import SegmentOrder, sort_pixels
from arrayops._backends.cuda.window import plan
from arrayops._core.kernel_source import Pairs
from arrayops._ops.segment import (
    POSITIONS,
    SegmentParameters,
    count_shape,
    pixels,
    pooled_shape,
    result_dtype,
    saved_by,
)

FILE = "segment_reduce.cu"
MAX_ROWS = 64
"""``max_rows`` of ``segment_reduce.cu``."""

JOIN_CHANNELS, JOIN_ROWS = 8, THREADS // 8
"""``join_channels`` and ``join_rows`` of ``segment_reduce.cu``: a block of ``segment_join``."""

MAX_STAGED_CHANNELS = 8
SECTOR_BYTES = 32
"""Size of a memory transaction: pixels with fewer bytes are staged, with consecutive threads along pixels."""

MAX_ROW_PIXELS, MIN_ROW_PIXELS = 64, 16
"""Pixels of a row of threads, if features are not staged."""

TARGET_THREADS = 1 << 19
"""Rows are shortened until there are this many threads: several times what a GPU runs at once, to balance the load."""

OUTPUTS = ("mean", "sum", "var", "centre", "best_0", "best_1", "position_0", "position_1")
"""Results of ``segment_reduce``, in the order of its arguments."""


class ReductionLaunches(NamedTuple):
    """Launches of a reduction except for their arrays."""

    reduce: Kernel
    join: Kernel
    geometry: np.void
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    join_grid: tuple[int, int, int]
    part_bytes: int
    """Size of the partial results of all blocks."""


def reduce_segments(op: str, arrays: tuple[Any, ...], parameters: SegmentParameters) -> dict[str, Any]:
    """The results of all reductions of a call on features and labels, by name, and arrays to save for gradients."""
    features, labels = arrays
    segment_ids = SegmentIds(op, labels, parameters.num_segments, parameters.ignore_label, parameters.check)
    extents = pixels(features.shape, parameters.layout)
    shape = pooled_shape(extents, parameters.num_segments, parameters.layout)
    saved = saved_by(parameters.reductions) if parameters.save else ()
    order = sort_pixels(segment_ids, "count" in parameters.reductions or "counts" in saved)
    results = {}
    for name in parameters.reductions:
        if name == "count":
            results[name] = order.counts.reshape(count_shape(extents, parameters.num_segments))
        else:
            results[name] = memory.empty(shape, _result_dtype(name, features.dtype))
    outputs: dict[str, Any] = {name: results[name] for name in ("mean", "sum", "var") if name in results}
    best = [name for name in POSITIONS if name in results]
    outputs |= {f"best_{number}": results[name] for number, name in enumerate(best)}
    for name in saved:
        if name == "counts":
            counts = order.counts.copy() if "count" in results else order.counts
            results[name] = counts.reshape(count_shape(extents, parameters.num_segments))
        elif name == "means":
            outputs["centre"] = memory.empty(shape, np.dtype(np.float64))
            results[name] = outputs["centre"].view(np.int32).reshape(*shape, 2)
        else:
            results[name] = memory.empty(shape, np.dtype(np.int64))
    if parameters.save:
        outputs |= {f"position_{number}": results[POSITIONS[name]] for number, name in enumerate(best)}
    if outputs:
        reduce_sorted(features, order, outputs, parameters, smallest=best == ["min"])
    return results


def _result_dtype(reduction: str, dtype: Any) -> Any:
    return np.dtype(result_dtype(reduction, dtype.name)) if dtype.kind in "iu" else dtype


def reduce_sorted(
    features: Any,
    order: SegmentOrder,
    outputs: Mapping[str, Any],
    parameters: SegmentParameters,
    *,
    smallest: bool = False,
) -> None:
    """Write ``outputs``, by names of `OUTPUTS`: arrays laid out as the pooled features of ``parameters``.

    If there is only one extreme, ``smallest`` selects the minimum instead of the maximum.
    """
    first_output = next(iter(outputs.values()))
    if not first_output.size:
        return
    features = with_uniform_pixel_stride(features, parameters.layout)
    values = view(features)
    statistics = "".join(("s" * bool({"mean", "sum"} & set(outputs)), "v" * bool({"var", "centre"} & set(outputs))))
    extremes = sum(
        name in outputs or f"position_{number}" in outputs for number, name in enumerate(("best_0", "best_1"))
    )
    positions = "position_0" in outputs
    thread_channels = vector(features.dtype, pixels(features.shape, parameters.layout).channels)
    aligned = features.data.ptr % (thread_channels * features.itemsize) == 0
    gpu = cupy.cuda.runtime.getDevice()
    launches = _launches(
        gpu, values, order.starts.shape, parameters, statistics, extremes, positions, smallest, aligned
    )
    parts = memory.empty((launches.part_bytes,), np.dtype(np.uint8))
    targets = tuple(outputs.get(name) for name in OUTPUTS)
    reduce_arguments = launches.geometry, features, order.segment_ids, order.positions, order.starts, parts
    launch(launches.reduce, launches.grid, launches.block, (*reduce_arguments, *targets))
    join_arguments = launches.geometry, order.segment_ids, order.starts, parts
    launch(launches.join, launches.join_grid, (THREADS, 1, 1), (*join_arguments, *targets))


def vector(dtype: "np.dtype[Any]", channels: int) -> int:
    """Contiguous channels of a thread: up to 16 bytes, at most 4, and a divisor of the number of channels.

    Results do not depend on whether they are aligned: if not, they are read one by one.
    """
    return math.gcd(min(16 // dtype.itemsize, 4), channels) if channels else 1


def value_defines(dtype: "np.dtype[Any]") -> Pairs:
    """The macro that selects the feature type of ``segment_values.cuh``."""
    if dtype.kind not in "iu":
        return memory.dtype_defines(dtype)
    word = {1: "char", 2: "short", 4: "int", 8: "long long"}[dtype.itemsize]
    return (("INTEGER", f"{'signed' if dtype.kind == 'i' else 'unsigned'} {word}"),)


def with_uniform_pixel_stride(features: Any, layout: str) -> Any:
    """Features with a constant stride between the pixels of an image: the array itself, or a contiguous copy."""
    is_uniform = features.flags.c_contiguous or strides(view(features), layout) is not None
    return features if is_uniform else memory.contiguous(features)


def strides(features: ArrayView, layout: str) -> tuple[int, int, int] | None:
    """Strides of images, pixels and channels; None if pixels of an image do not have a constant stride."""
    if len(features.shape) == 2:
        return 0, features.strides[0], features.strides[1]
    batch, channel, row, column = structures.image_strides(features.strides, layout)
    height, width = (features.shape[layout.index(axis)] for axis in "HW")
    if height > 1 and width > 1 and row != width * column:
        return None
    return batch, column if width > 1 else row, channel


def table_strides(channels: int, segments: int, flat: bool, layout: str) -> tuple[int, int, int]:
    """Strides of images, segments and channels of contiguous pooled features."""
    if flat or layout == "NHWC":
        return segments * channels, channels, 1
    return channels * segments, 1, segments


@lru_cache(maxsize=256)
def _launches(
    gpu: int,
    features: ArrayView,
    starts: tuple[int, int],
    parameters: SegmentParameters,
    statistics: str,
    extremes: int,
    positions: bool,
    smallest: bool,
    aligned: bool,
) -> ReductionLaunches:
    del gpu
    feature_strides = strides(features, parameters.layout)
    assert feature_strides is not None
    extents = pixels(features.shape, parameters.layout)
    count, itemsize = math.prod(extents.size), features.dtype.itemsize
    if feature_strides[2] != 1 or extents.channels * itemsize < SECTOR_BYTES:
        thread_channels, channel_threads, row_pixels = (
            1,
            _next_power_of_2(min(extents.channels, MAX_STAGED_CHANNELS)),
            8 if itemsize == 8 else 32,
        )
        load_defines: Pairs = (("STAGED", ""),)
    else:
        thread_channels = vector(features.dtype, extents.channels)
        channel_threads, row_pixels, load_defines = (
            _next_power_of_2(min(extents.channels // thread_channels, 32)),
            MAX_ROW_PIXELS,
            (),
        )
        steps_aligned = all(stride % thread_channels == 0 for stride in feature_strides[:2])
        if thread_channels > 1 and not (aligned and steps_aligned):
            load_defines = (("UNALIGNED", ""),)
        while row_pixels > MIN_ROW_PIXELS and extents.batch * count * channel_threads < TARGET_THREADS * row_pixels:
            row_pixels //= 2
    rows = min(MAX_ROWS, THREADS // channel_threads)
    block_pixels = rows * row_pixels
    # At least one block, for the results of segments without pixels.
    blocks, tiles = max(-(-count // block_pixels), 1), -(-extents.channels // (channel_threads * thread_channels))
    defines = (
        value_defines(features.dtype) + load_defines + (("CHANNELS_PER_THREAD", thread_channels), ("THREADS", THREADS))
    )
    defines += tuple((name, "") for name, is_set in (("SUM", "s" in statistics), ("VAR", "v" in statistics)) if is_set)
    defines += (("EXTREMES", extremes),) * bool(extremes) + (("POSITIONS", ""),) * positions
    integers = features.dtype.kind in "iu"
    geometry = struct(
        structures.SEGMENT_REDUCTION,
        features=feature_strides,
        result=table_strides(extents.channels, parameters.num_segments, extents.flat, parameters.layout),
        empty=0.0 if integers else float(parameters.empty),
        empty_bits=int(parameters.empty) % 2**64 if integers else 0,
        images=extents.batch,
        pixels=count,
        channels=extents.channels,
        segments=parameters.num_segments,
        blocks=blocks,
        tiles=tiles,
        row_pixels=row_pixels,
        block_pixels=block_pixels,
        smallest=smallest,
    )
    join_blocks = -(-blocks // JOIN_ROWS) * -(-extents.channels // JOIN_CHANNELS) * extents.batch
    fill_blocks = device.current().blocks(
        extents.batch * extents.channels * parameters.num_segments, THREADS, device.BLOCKS_PER_MULTIPROCESSOR
    )
    return ReductionLaunches(
        reduce=module.kernel(FILE, "segment_reduce", defines),
        join=module.kernel(FILE, "segment_join", defines),
        geometry=geometry,
        grid=(blocks * tiles * extents.batch, 1, 1),
        block=(channel_threads, rows, 1),
        join_grid=(max(join_blocks, fill_blocks), 1, 1),
        part_bytes=extents.batch
        * blocks
        * 2
        * extents.channels
        * _part_dtype(features.dtype, statistics, extremes, positions).itemsize,
    )


def _next_power_of_2(count: int) -> int:
    """The smallest power of 2 that is at least ``count``."""
    return 1 << max(count - 1, 0).bit_length()


def _part_dtype(dtype: "np.dtype[Any]", statistics: str, extremes: int, positions: bool) -> "np.dtype[Any]":
    """``part`` of ``segment_values.cuh``."""
    fields: list[tuple[Any, ...]] = []
    if "s" in statistics:
        fields.append(("sum", np.float64))
    if "v" in statistics:
        fields += [("mean", np.float64), ("squares", np.float64)]
    if extremes:
        compared = dtype if dtype.kind in "iu" else plan.accumulator(dtype)
        fields.append(("best", compared, extremes))
    if positions:
        fields.append(("position", np.int32, extremes))
    return np.dtype(fields, align=True)
