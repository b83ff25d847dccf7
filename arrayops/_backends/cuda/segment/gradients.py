"""Gradients of reductions over segments on NVIDIA GPUs: every pixel looks up what its segment gives it."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import cupy
import numpy as np

from arrayops._backends.cuda.engine import device, memory, module, structures
from arrayops._backends.cuda.engine.image_threads import Way
from arrayops._backends.cuda.engine.launch import launch, struct
from arrayops._backends.cuda.engine.module import Kernel
from arrayops._backends.cuda.engine.structures import View, view
from arrayops._backends.cuda.segment.gather import as_lines, unpool, way_of
from arrayops._backends.cuda.segment.labels import SegmentIds
from arrayops._backends.cuda.segment.order import ordered
from arrayops._backends.cuda.segment.reduction import collect, read_where_it_lies, strides, table_strides
from arrayops._backends.cuda.window import plan
from arrayops._ops.segment import POSITIONS, SegmentParameters, pixels

FILE = "segment_grad.cu"
THREADS = 256


def gradient(
    op: str, grads: Mapping[str, Any], features: Any, labels: Any, p: SegmentParameters, saved: Mapping[str, Any]
) -> Any:
    """Gradient of the features from those of some reductions, by name; positions of extremes that are ``saved``."""
    segment_ids = SegmentIds(
        op, labels, p.num_segments, p.ignore_label, p.check, counted=bool({"mean", "var"} & set(grads))
    )
    result = memory.empty(features.shape, features.dtype)
    if not result.size:
        return result
    pooled = {name: memory.contiguous(grad) for name, grad in grads.items()}
    extremes = [name for name in POSITIONS if name in pooled]
    accumulator = plan.accumulator(features.dtype)
    if "var" not in pooled and not extremes:
        level = _shares(pooled, segment_ids, features, p, plain=features.dtype)["plain"] if pooled else None
        unpool(level, segment_ids, result, p.layout, bytes(features.itemsize))
        return result

    features = read_where_it_lies(features, p.layout)
    shape = next(iter(pooled.values())).shape
    places = {name: memory.contiguous(saved[name]) for name in extremes if name in saved}
    sought = [name for name in extremes if name not in saved]
    places |= {name: memory.empty(shape, np.dtype(np.int32)) for name in sought}
    wanted = {f"place_{number}": places[name] for number, name in enumerate(sought)}
    tables: dict[str, Any] = {}
    if "var" in pooled:
        wanted["centre"] = memory.empty(shape, np.dtype(np.float64))
        tables["slope"] = np.dtype(np.float64)
    if {"mean", "sum"} & set(pooled):
        tables["level"] = accumulator
    if wanted:
        collect(features, ordered(segment_ids), wanted, p, smallest=sought == ["min"])
    tables = _shares(pooled, segment_ids, features, p, **tables) if tables else {}
    function, way, geometry = _gradient(cupy.cuda.runtime.getDevice(), view(features), view(result), p)
    absent = [None] * (2 - len(extremes))
    attained = *(pooled[name] for name in extremes), *absent, *(places[name] for name in extremes), *absent
    looked_up = tables.get("level"), tables.get("slope"), wanted.get("centre"), *attained
    launch(function, way.grid, way.block, (geometry, segment_ids.segment_ids, features, *looked_up, result))
    return result


def _shares(
    grads: Mapping[str, Any], segment_ids: SegmentIds, features: Any, p: SegmentParameters, **dtypes: Any
) -> dict[str, Any]:
    """Tables that `segment_shares` makes, by name: those that have a dtype."""
    some = next(iter(grads.values()))
    made = {name: memory.empty(some.shape, dtype) for name, dtype in dtypes.items()}
    found = pixels(features.shape, p.layout)
    channels_last = found.flat or p.layout == "NHWC"
    inner, places = (found.channels, 1) if channels_last else (1, found.channels)
    blocks = device.current().blocks(some.size, THREADS, plan.BLOCKS_EACH)
    sizes = np.int64(some.size), np.int32(inner), np.int32(p.num_segments), np.int32(places)
    upstream = (grads.get(name) for name in ("mean", "sum", "var"))
    targets = (made.get(name) for name in ("plain", "level", "slope"))
    launch(
        module.kernel(FILE, "segment_shares", (*memory.dtype_defines(features.dtype), ("EACH", 1))),
        (blocks, 1, 1),
        (THREADS, 1, 1),
        (*sizes, segment_ids.counts, *upstream, *targets),
    )
    return made


@lru_cache(maxsize=256)
def _gradient(device_number: int, features: View, result: View, p: SegmentParameters) -> tuple[Kernel, Way, np.void]:
    del device_number
    images, channels, lines = as_lines(result, p.layout)
    way = way_of(images, lines, channels)
    geometry = struct(
        structures.SEGMENT_GRADIENTS,
        features=strides(features, p.layout),
        result=strides(result, p.layout),
        table=table_strides(channels, p.num_segments, len(result.shape) == 2, p.layout),
        threads=way.threads,
        segments=p.num_segments,
    )
    defines = (*memory.dtype_defines(features.dtype), ("EACH", way.each))
    return module.kernel(FILE, "segment_grad", defines), way, geometry
