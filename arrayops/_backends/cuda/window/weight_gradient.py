"""Gradients of weights: sums over all outputs in fixed shares, which are then added up in their order."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.cuda.engine import memory, structures
from arrayops._backends.cuda.engine.launch import launch, struct
from arrayops._backends.cuda.engine.module import Kernel, Pairs
from arrayops._backends.cuda.engine.structures import View, view
from arrayops._backends.cuda.engine.sums import fixed_shares, sum_parts
from arrayops._backends.cuda.window.contraction import span
from arrayops._backends.cuda.window.plan import Call, Plan, correlation_strides
from arrayops._ops import images

SHARE = 2048
"""Pairs of an output and a sample that one block adds up: few enough for float32 sums."""

MOST_SHARES = 64
"""Parts of a gradient; beyond, shares grow."""

PAIRS = 32
THREADS = 128
TILE = 16
"""Fewest channels of a block: narrow groups are taken together up to so many."""
CHANNEL_THREADS = 256


class _Launch(NamedTuple):
    """How the shares are summed, and where their sums go: sizes of a part, and steps of the result for each."""

    function: Kernel
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    geometry: np.void
    shares: int
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    first: int


def grad_weight(call: Call, grad: Any) -> Any:
    """Gradient of the weight of a call."""
    made = call.plan
    assert made.weight is not None
    result = memory.empty(made.weight.shape, made.dtype)
    how = _launch(made, view(call.samples), view(grad), view(result))
    parts = memory.empty((how.shares, math.prod(how.sizes)), made.accumulator)
    launch(how.function, how.grid, how.block, (*call.arguments, how.geometry, call.samples, grad, parts))
    sum_parts(parts, how.shares, how.sizes, how.steps, result, how.first)
    return result


@lru_cache(maxsize=256)
def _launch(made: Plan, samples: View, grad: View, result: View) -> _Launch:
    p = made.parameters
    stuffed = p.transposed and p.stride != (1, 1)
    pair_rows, pair_columns = made.input_size if stuffed else made.output_size
    pairs = made.batch * pair_rows * pair_columns
    shares, share = fixed_shares(pairs, SHARE, MOST_SHARES)
    first, group, result_step, source_step, row, column = correlation_strides(made, result)
    input_strides, grad_strides = (structures.image_strides(each.strides, p.layout) for each in (samples, grad))
    sizes: tuple[int, ...] = made.kernel_size
    steps: tuple[int, ...] = row, column
    groups = tiles = together = 1
    if made.filters == "shared":
        name, threads = "weight_grad_shared", CHANNEL_THREADS
        inputs = outputs = images.image(samples.shape, p.layout).channels
        defines: Pairs = (("THREADS", CHANNEL_THREADS),)
    else:
        name = "weight_grad"
        inputs, outputs = made.group_channels
        sizes = p.groups, *made.kernel_size, inputs, outputs
        steps = group, row, column, source_step, result_step
        together = span(p.groups, max(inputs, outputs), TILE)
        groups, inputs, outputs = p.groups // together, inputs * together, outputs * together
        channel_tile, output_tile = (2 * TILE if extent > TILE else TILE for extent in (inputs, outputs))
        tiles = -(-inputs // channel_tile) * -(-outputs // output_tile)
        threads = THREADS
        split = threads // (channel_tile // 4 * (output_tile // 4))
        tile = ("CHANNELS", channel_tile), ("OUTPUTS", output_tile)
        last: Pairs = (("CHANNELS_LAST", ""),) if input_strides[1] == grad_strides[1] == 1 else ()
        defines = ("GROUPED", ""), *tile, ("PAIRS", PAIRS), ("SPLIT", split), *last
    return _Launch(
        function=made.kernel("weight_grad.cu", name, *defines),
        grid=(shares * made.taps, groups * tiles, 1),
        block=(threads, 1, 1),
        geometry=struct(
            structures.WEIGHT_GRADIENT,
            input=input_strides,
            grad=grad_strides,
            groups=groups,
            inputs=inputs,
            outputs=outputs,
            span=together,
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
