"""Gradients of weights: partial sums over fixed shares of the outputs, which are then added up in order."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.cuda.engine import memory, structures
from arrayops._backends.cuda.engine.launch import launch, struct
from arrayops._backends.cuda.engine.module import Kernel
from arrayops._backends.cuda.engine.structures import ArrayView, view
from arrayops._backends.cuda.engine.sums import fixed_shares, sum_parts
from arrayops._backends.cuda.window.contraction import merged_groups
from arrayops._backends.cuda.window.plan import WindowCall, WindowPlan, correlation_strides
from arrayops._core.kernel_source import Pairs
from arrayops._ops import images

SHARE_PAIRS = 2048
"""Pairs of an output and a sample in one share, which one block sums: few enough for float32 accumulation."""

MAX_SHARES = 64
"""Maximum number of shares; above, shares are larger."""

STAGED_PAIRS = 32
GROUPED_FILTER_THREADS = 128
"""Threads of a block of ``weight_grad``."""

TILE_CHANNELS = 16
"""Minimum tile size along channels: narrow groups are merged up to this width."""

SHARED_FILTER_THREADS = 256
"""Threads of a block of ``weight_grad_shared``."""


class WeightGradLaunch(NamedTuple):
    """A launch of the partial sums except for arrays; sizes of a partial sum, and strides of the result."""

    function: Kernel
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    geometry: np.void
    shares: int
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    first: int


def grad_weight(call: WindowCall, grad: Any) -> Any:
    """Gradient of the weight of a call."""
    plan = call.plan
    assert plan.weight is not None
    result = memory.empty(plan.weight.shape, plan.dtype)
    config = _launch(plan, view(call.samples), view(grad), view(result))
    parts = memory.empty((config.shares, math.prod(config.sizes)), plan.accumulator)
    launch(config.function, config.grid, config.block, (*call.arguments, config.geometry, call.samples, grad, parts))
    sum_parts(parts, config.shares, config.sizes, config.steps, result, config.first)
    return result


@lru_cache(maxsize=256)
def _launch(plan: WindowPlan, samples: ArrayView, grad: ArrayView, result: ArrayView) -> WeightGradLaunch:
    parameters = plan.parameters
    upsampled = parameters.transposed and parameters.stride != (1, 1)
    pair_rows, pair_columns = plan.input_size if upsampled else plan.output_size
    pairs = plan.batch * pair_rows * pair_columns
    shares, share = fixed_shares(pairs, SHARE_PAIRS, MAX_SHARES)
    first, group, result_step, source_step, row, column = correlation_strides(plan, result)
    input_strides, grad_strides = (
        structures.image_strides(array.strides, parameters.layout) for array in (samples, grad)
    )
    sizes: tuple[int, ...] = plan.kernel_size
    steps: tuple[int, ...] = row, column
    groups = tiles = merged = 1
    if plan.filters == "shared":
        name, threads = "weight_grad_shared", SHARED_FILTER_THREADS
        inputs = outputs = images.image(samples.shape, parameters.layout).channels
        defines: Pairs = (("THREADS", SHARED_FILTER_THREADS),)
    else:
        name = "weight_grad"
        inputs, outputs = plan.group_channels
        sizes = parameters.groups, *plan.kernel_size, inputs, outputs
        steps = group, row, column, source_step, result_step
        merged = merged_groups(parameters.groups, max(inputs, outputs), TILE_CHANNELS)
        groups, inputs, outputs = parameters.groups // merged, inputs * merged, outputs * merged
        channel_tile, output_tile = (
            2 * TILE_CHANNELS if extent > TILE_CHANNELS else TILE_CHANNELS for extent in (inputs, outputs)
        )
        tiles = -(-inputs // channel_tile) * -(-outputs // output_tile)
        threads = GROUPED_FILTER_THREADS
        slices = threads // (channel_tile // 4 * (output_tile // 4))
        tile = ("CHANNELS", channel_tile), ("OUTPUTS", output_tile)
        last: Pairs = (("CHANNELS_LAST", ""),) if input_strides[1] == grad_strides[1] == 1 else ()
        defines = ("GROUPED", ""), *tile, ("STAGED_PAIRS", STAGED_PAIRS), ("SLICES", slices), *last
    return WeightGradLaunch(
        function=plan.kernel("weight_grad.cu", name, *defines),
        grid=(shares * plan.taps, groups * tiles, 1),
        block=(threads, 1, 1),
        geometry=struct(
            structures.WEIGHT_GRADIENT,
            input=input_strides,
            grad=grad_strides,
            groups=groups,
            inputs=inputs,
            outputs=outputs,
            merged_groups=merged,
            pair_rows=pair_rows,
            pair_columns=pair_columns,
            shares=shares,
            share=share,
        ),
        shares=shares,
        sizes=sizes,
        steps=steps,
        first=first,
    )
