"""Gradients of segment reductions on NVIDIA GPUs: every pixel gathers from tables of its segment."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import cupy
import numpy as np

from arrayops._backends.cuda.engine import device, memory, module, structures
from arrayops._backends.cuda.engine.device import THREADS
from arrayops._backends.cuda.engine.image_threads import ThreadMapping
from arrayops._backends.cuda.engine.launch import launch, struct
from arrayops._backends.cuda.engine.module import Kernel
from arrayops._backends.cuda.engine.structures import ArrayView, view
from arrayops._backends.cuda.segment.gather import as_rows_of_pixels, map_rows, unpool
from arrayops._backends.cuda.segment.labels import SegmentIds
from arrayops._backends.cuda.segment.order import sort_pixels
from arrayops._backends.cuda.segment.reduction import reduce_sorted, strides, table_strides, with_uniform_pixel_stride
from arrayops._backends.cuda.window import plan
from arrayops._ops.segment import POSITIONS, SegmentParameters, pixels

FILE = "segment_grad.cu"


def gradient(
    op: str,
    grads: Mapping[str, Any],
    features: Any,
    labels: Any,
    parameters: SegmentParameters,
    saved: Mapping[str, Any],
) -> Any:
    """Gradient of the features from those of some reductions, by name; ``saved`` holds results of the forward."""
    segment_ids = SegmentIds(
        op,
        labels,
        parameters.num_segments,
        parameters.ignore_label,
        parameters.check,
        counted="counts" not in saved and bool({"mean", "var"} & set(grads)),
    )
    counts = _as_int64(saved["counts"]) if "counts" in saved else segment_ids.counts
    result = memory.empty(features.shape, features.dtype)
    if not result.size:
        return result
    pooled = {name: memory.contiguous(grad) for name, grad in grads.items()}
    extremes = [name for name in POSITIONS if name in pooled]
    accumulator = plan.accumulator(features.dtype)
    if "var" not in pooled and not extremes:
        constant = (
            _grad_tables(pooled, counts, features, parameters, rounded=features.dtype)["rounded"] if pooled else None
        )
        unpool(constant, segment_ids, result, parameters.layout, bytes(features.itemsize))
        return result

    features = with_uniform_pixel_stride(features, parameters.layout)
    shape = next(iter(pooled.values())).shape
    positions = {name: _as_int64(saved[POSITIONS[name]]) for name in extremes if POSITIONS[name] in saved}
    missing = [name for name in extremes if name not in positions]
    positions |= {name: memory.empty(shape, np.dtype(np.int64)) for name in missing}
    outputs = {f"position_{number}": positions[name] for number, name in enumerate(missing)}
    table_dtypes: dict[str, Any] = {}
    centre = None
    if "var" in pooled:
        table_dtypes["slope"] = np.dtype(np.float64)
        if "means" in saved:
            centre = memory.contiguous(saved["means"]).view(np.float64)
        else:
            centre = outputs["centre"] = memory.empty(shape, np.dtype(np.float64))
    if {"mean", "sum"} & set(pooled):
        table_dtypes["constant"] = accumulator
    if outputs:
        reduce_sorted(features, sort_pixels(segment_ids), outputs, parameters, smallest=missing == ["min"])
    tables = _grad_tables(pooled, counts, features, parameters, **table_dtypes) if table_dtypes else {}
    function, mapping, geometry = _gradient(cupy.cuda.runtime.getDevice(), view(features), view(result), parameters)
    absent = [None] * (2 - len(extremes))
    attained = *(pooled[name] for name in extremes), *absent, *(positions[name] for name in extremes), *absent
    table_arguments = tables.get("constant"), tables.get("slope"), centre, *attained
    launch(
        function, mapping.grid, mapping.block, (geometry, segment_ids.segment_ids, features, *table_arguments, result)
    )
    return result


def _as_int64(integers: Any) -> Any:
    """Saved integers as kernels read them; those of JAX without 64-bit integers are int32."""
    if integers.dtype == np.int64:
        return memory.contiguous(integers)
    return cupy.ascontiguousarray(integers, np.int64)


def _grad_tables(
    grads: Mapping[str, Any], counts: Any, features: Any, parameters: SegmentParameters, **dtypes: Any
) -> dict[str, Any]:
    """Compute the tables of ``segment_grad_tables`` named in ``dtypes``, with these dtypes."""
    example = next(iter(grads.values()))
    tables = {name: memory.empty(example.shape, dtype) for name, dtype in dtypes.items()}
    extents = pixels(features.shape, parameters.layout)
    channels_last = extents.flat or parameters.layout == "NHWC"
    inner, outer_channels = (extents.channels, 1) if channels_last else (1, extents.channels)
    blocks = device.current().blocks(example.size, THREADS, device.BLOCKS_PER_MULTIPROCESSOR)
    sizes = np.int64(example.size), np.int32(inner), np.int32(parameters.num_segments), np.int32(outer_channels)
    upstream = (grads.get(name) for name in ("mean", "sum", "var"))
    targets = (tables.get(name) for name in ("rounded", "constant", "slope"))
    defines = *memory.dtype_defines(features.dtype), ("CHANNELS_PER_THREAD", 1), ("THREADS", THREADS)
    launch(
        module.kernel(FILE, "segment_grad_tables", defines),
        (blocks, 1, 1),
        (THREADS, 1, 1),
        (*sizes, counts, *upstream, *targets),
    )
    return tables


@lru_cache(maxsize=256)
def _gradient(
    device_number: int, features: ArrayView, result: ArrayView, parameters: SegmentParameters
) -> tuple[Kernel, ThreadMapping, np.void]:
    del device_number
    images, channels, row_layout = as_rows_of_pixels(result, parameters.layout)
    mapping = map_rows(images, row_layout, channels)
    geometry = struct(
        structures.SEGMENT_GRADIENTS,
        features=strides(features, parameters.layout),
        result=strides(result, parameters.layout),
        table=table_strides(channels, parameters.num_segments, len(result.shape) == 2, parameters.layout),
        thread_map=mapping.thread_map,
        segments=parameters.num_segments,
    )
    defines = (*memory.dtype_defines(features.dtype), *mapping.defines)
    return module.kernel(FILE, "segment_grad", defines), mapping, geometry
