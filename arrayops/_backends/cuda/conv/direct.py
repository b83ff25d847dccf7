"""Launches the convolution of narrow groups, forward or as the gradient of its input, and that of its weight."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.cuda.engine import memory, structures
from arrayops._backends.cuda.engine.launch import MOST_BLOCKS_YZ, launch, struct
from arrayops._backends.cuda.engine.module import Kernel, Pairs
from arrayops._backends.cuda.engine.structures import View, view
from arrayops._backends.cuda.engine.sums import fixed_shares, sum_parts
from arrayops._backends.cuda.window.contraction import orientation
from arrayops._backends.cuda.window.plan import Call, Plan, correlation_strides, weight_strides
from arrayops._ops import images

NARROW = 4
"""Weights of a group and tap up to which a convolution is direct."""

# Threads along pixels and channels: those that follow each other take neighbours in memory.
BLOCKS = {"NCHW": (64, 4), "NHWC": (8, 32)}
EACH = 4
"""Results of a thread."""

NEAR = 2**30
"""Elements of an image within which 32-bit offsets reach, those of taps outside of it included."""

SHARE = 512
"""Outputs whose products one block adds up for the gradient of the weight."""
MOST_SHARES = {"NCHW": 64, "NHWC": 512}
"""Parts of that gradient: the fewer threads a block has along pixels, the more, or float32 sums would be too long."""
TAPS = 9
"""Taps whose sums a thread keeps at once."""


def is_direct(made: Plan) -> bool:
    """Whether the groups of a convolution are so narrow that its sums are bound by memory."""
    inputs, outputs = made.group_channels
    return 0 < inputs * outputs <= NARROW


def direct(call: Call, source: Any, bias: Any, result: Any, backward: bool = False) -> None:
    """Write the sums over taps and the channels of each group of ``source`` to ``result``."""
    made = call.plan
    key = view(source) if backward else "forward"
    how = made.launches.get(key)
    if how is None:
        how = made.launches[key] = _launch(made, view(source), result.shape, backward)
    function, grid, threads, geometry = how
    launch(function, grid, (threads, 1, 1), (*call.arguments, geometry, source, call.weight, bias, result))


def direct_weight(call: Call, grad: Any) -> Any:
    """Gradient of the weight."""
    made = call.plan
    assert made.weight is not None
    result = memory.empty(made.weight.shape, made.dtype)
    samples = call.samples
    if made.parameters.transposed:
        # The weight connects the same pairs in the convolution back, where no zeros are stuffed.
        samples, grad = grad, samples
    how = _weight_launch(made, view(samples), view(grad), view(result))
    parts = memory.empty((how.shares, math.prod(how.sizes)), made.accumulator)
    launch(how.function, how.grid, (how.threads, 1, 1), (how.window, how.geometry, samples, grad, parts))
    sum_parts(parts, how.shares, how.sizes, how.steps, result)
    return result


def _block(layout: str) -> tuple[int, int, Pairs]:
    pixels, channels = BLOCKS[layout]
    last: Pairs = (("CHANNELS_LAST", ""),) if layout == "NHWC" else ()
    return pixels, channels, (("PIXELS", pixels), ("CHANNELS", channels), *last)


def _launch(
    made: Plan, source: View, result_shape: tuple[int, ...], backward: bool
) -> tuple[Kernel, tuple[int, int, int], int, np.void]:
    assert made.weight is not None
    layout = made.parameters.layout
    inputs, outputs = made.group_channels
    sources, results = (outputs, inputs) if backward else (inputs, outputs)
    pixels, channels, defines = _block(layout)
    _, stuffs, sizes = zip(*(orientation(axis, backward) for axis in made.axes), strict=True)
    height, width = (-(-sizes[i] // stuffs[i]) for i in (0, 1))
    pixel_blocks = -(-height * width // (pixels * EACH))
    every = images.image(result_shape, layout).channels
    source_strides = structures.image_strides(source.strides, layout)
    size = images.image(source.shape, layout).size
    settings = {
        "BACKWARD": backward,
        "WIDE": size[0] * abs(source_strides[2]) + size[1] * abs(source_strides[3]) >= NEAR,
    }
    chosen: Pairs = tuple((name, "") for name, wanted in settings.items() if wanted)
    function = made.kernel("conv_direct.cu", "conv_direct", *defines, ("EACH", EACH), *chosen)
    grid = made.batch * stuffs[0] * stuffs[1] * pixel_blocks, min(-(-every // channels), MOST_BLOCKS_YZ), 1
    geometry = struct(
        structures.DIRECT,
        source=source_strides,
        result=structures.image_strides(structures.contiguous_strides(result_shape), layout),
        weight=correlation_strides(made, made.weight, backward),
        channels=every,
        sources=sources,
        results=results,
        phase_height=height,
        phase_width=width,
        pixel_blocks=pixel_blocks,
    )
    return function, grid, pixels * channels, geometry


class _WeightLaunch(NamedTuple):
    """How the shares of a gradient are summed, and where their sums go: sizes of a part, and steps of the result."""

    function: Kernel
    grid: tuple[int, int, int]
    threads: int
    window: np.void
    geometry: np.void
    shares: int
    sizes: tuple[int, ...]
    steps: tuple[int, ...]


@lru_cache(maxsize=256)
def _weight_launch(made: Plan, samples: View, grad: View, result: View) -> _WeightLaunch:
    p = made.parameters
    axes, (inputs, outputs) = made.axes, made.group_channels
    if p.transposed:
        axes, (inputs, outputs) = (axes[0].reversed(), axes[1].reversed()), (outputs, inputs)
    pixels, channels, defines = _block(p.layout)
    every = made.batch * axes[0].output * axes[1].output
    shares, share = fixed_shares(every, SHARE, MOST_SHARES[p.layout])
    first, group, result_step, source_step, row, column = weight_strides(result, p, exchanged=p.transposed)
    assert first == 0
    return _WeightLaunch(
        function=made.kernel(
            "conv_direct.cu", "conv_direct_weight_grad", *defines, ("SHARES", ""), ("TAP_CHUNK", min(made.taps, TAPS))
        ),
        grid=(shares, -(-p.groups * outputs // channels), 1),
        threads=pixels * channels,
        window=structures.window(axes, made.batch),
        geometry=struct(
            structures.DIRECT_WEIGHT,
            input=structures.image_strides(samples.strides, p.layout),
            grad=structures.image_strides(grad.strides, p.layout),
            groups=p.groups,
            inputs=inputs,
            outputs=outputs,
            share=share,
        ),
        shares=shares,
        sizes=(p.groups, *made.kernel_size, inputs, outputs),
        steps=(group, row, column, source_step, result_step),
    )
