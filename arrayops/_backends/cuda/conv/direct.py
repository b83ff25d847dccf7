"""Launches of memory-bound convolutions with few channels in each group, their input gradients and weight gradients."""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.cuda.engine import memory, structures
from arrayops._backends.cuda.engine.launch import MAX_BLOCKS_YZ, launch, struct
from arrayops._backends.cuda.engine.module import Kernel
from arrayops._backends.cuda.engine.structures import ArrayView, view
from arrayops._backends.cuda.engine.sums import fixed_shares, sum_parts
from arrayops._backends.cuda.window.contraction import orientation
from arrayops._backends.cuda.window.plan import WindowCall, WindowPlan, correlation_strides, weight_strides
from arrayops._core.kernel_source import Pairs
from arrayops._ops import images

MAX_DIRECT_WEIGHTS_PER_GROUP = 4
"""Maximum number of weights of a group and tap for which `direct_sums` is used."""

# Threads along (pixels, channels) by layout: consecutive threads access contiguous memory.
BLOCK_SHAPES = {"NCHW": (64, 4), "NHWC": (8, 32)}
RESULTS_PER_THREAD = 4

MAX_32BIT_ELEMENTS = 2**30
"""Images with fewer elements, taps outside of them included, use 32-bit offsets."""

SHARE_OUTPUTS = 512
"""Outputs in one share, which one block sums for the gradient of the weight."""
MAX_SHARES = {"NCHW": 64, "NHWC": 512}
"""Maximum number of shares. With fewer threads along pixels, more shares keep float32 sums short."""
MAX_TAPS_PER_PASS = 9
"""Maximum number of taps whose sums are in registers at once."""


def is_direct(plan: WindowPlan) -> bool:
    """Whether groups are so narrow that the convolution is memory-bound."""
    inputs, outputs = plan.group_channels
    return 0 < inputs * outputs <= MAX_DIRECT_WEIGHTS_PER_GROUP


def direct_sums(call: WindowCall, source: Any, bias: Any, result: Any, backward: bool = False) -> None:
    """Write the sums over taps and the channels of each group of ``source`` to ``result``."""
    plan = call.plan
    key = view(source) if backward else "forward"
    config = plan.launches.get(key)
    if config is None:
        config = plan.launches[key] = _launch(plan, view(source), result.shape, backward)
    function, grid, threads, geometry = config
    launch(function, grid, (threads, 1, 1), (*call.arguments, geometry, source, call.weight, bias, result))


def direct_weight_grad(call: WindowCall, grad: Any) -> Any:
    """Gradient of the weight."""
    plan = call.plan
    assert plan.weight is not None
    result = memory.empty(plan.weight.shape, plan.dtype)
    samples = call.samples
    if plan.parameters.transposed:
        # This is the weight gradient of a convolution with input and output exchanged, which reads no inserted zeros.
        samples, grad = grad, samples
    config = _weight_launch(plan, view(samples), view(grad), view(result))
    parts = memory.empty((config.shares, math.prod(config.sizes)), plan.accumulator)
    launch(config.function, config.grid, (config.threads, 1, 1), (config.window, config.geometry, samples, grad, parts))
    sum_parts(parts, config.shares, config.sizes, config.steps, result)
    return result


def _block(layout: str) -> tuple[int, int, Pairs]:
    pixels, channels = BLOCK_SHAPES[layout]
    last: Pairs = (("CHANNELS_LAST", ""),) if layout == "NHWC" else ()
    return pixels, channels, (("PIXELS", pixels), ("CHANNELS", channels), *last)


def _launch(
    plan: WindowPlan, source: ArrayView, result_shape: tuple[int, ...], backward: bool
) -> tuple[Kernel, tuple[int, int, int], int, np.void]:
    assert plan.weight is not None
    layout = plan.parameters.layout
    inputs, outputs = plan.group_channels
    sources, results = (outputs, inputs) if backward else (inputs, outputs)
    pixels, channels, defines = _block(layout)
    _, phases, sizes = zip(*(orientation(axis, backward) for axis in plan.axes), strict=True)
    height, width = (-(-sizes[i] // phases[i]) for i in (0, 1))
    pixel_blocks = -(-height * width // (pixels * RESULTS_PER_THREAD))
    result_channels = images.image(result_shape, layout).channels
    source_strides = structures.image_strides(source.strides, layout)
    size = images.image(source.shape, layout).size
    settings = {
        "BACKWARD": backward,
        "INDEX_64BIT": size[0] * abs(source_strides[2]) + size[1] * abs(source_strides[3]) >= MAX_32BIT_ELEMENTS,
    }
    flags: Pairs = tuple((name, "") for name, is_set in settings.items() if is_set)
    function = plan.kernel(
        "conv_direct.cu", "conv_direct", *defines, ("RESULTS_PER_THREAD", RESULTS_PER_THREAD), *flags
    )
    channel_blocks = min(-(-result_channels // channels), MAX_BLOCKS_YZ)
    grid = plan.batch * phases[0] * phases[1] * pixel_blocks, channel_blocks, 1
    geometry = struct(
        structures.DIRECT,
        source=source_strides,
        result=structures.image_strides(structures.contiguous_strides(result_shape), layout),
        weight=correlation_strides(plan, plan.weight, backward),
        channels=result_channels,
        sources=sources,
        results=results,
        phase_height=height,
        phase_width=width,
        pixel_blocks=pixel_blocks,
    )
    return function, grid, pixels * channels, geometry


class DirectWeightGradLaunch(NamedTuple):
    """A launch of the partial sums except for arrays; sizes of a partial sum, and strides of the result."""

    function: Kernel
    grid: tuple[int, int, int]
    threads: int
    window: np.void
    geometry: np.void
    shares: int
    sizes: tuple[int, ...]
    steps: tuple[int, ...]


@lru_cache(maxsize=256)
def _weight_launch(plan: WindowPlan, samples: ArrayView, grad: ArrayView, result: ArrayView) -> DirectWeightGradLaunch:
    parameters = plan.parameters
    axes, (inputs, outputs) = plan.axes, plan.group_channels
    if parameters.transposed:
        axes, (inputs, outputs) = (axes[0].reversed(), axes[1].reversed()), (outputs, inputs)
    pixels, channels, defines = _block(parameters.layout)
    total_outputs = plan.batch * axes[0].output * axes[1].output
    shares, share = fixed_shares(total_outputs, SHARE_OUTPUTS, MAX_SHARES[parameters.layout])
    first, group, result_step, source_step, row, column = weight_strides(
        result, parameters, exchanged=parameters.transposed
    )
    assert first == 0
    return DirectWeightGradLaunch(
        function=plan.kernel(
            "conv_direct.cu",
            "conv_direct_weight_grad",
            *defines,
            ("WEIGHT_GRAD", ""),
            ("TAP_CHUNK", min(plan.taps, MAX_TAPS_PER_PASS)),
        ),
        grid=(shares, -(-parameters.groups * outputs // channels), 1),
        threads=pixels * channels,
        window=structures.window(axes, plan.batch),
        geometry=struct(
            structures.DIRECT_WEIGHT,
            input=structures.image_strides(samples.strides, parameters.layout),
            grad=structures.image_strides(grad.strides, parameters.layout),
            groups=parameters.groups,
            inputs=inputs,
            outputs=outputs,
            share=share,
        ),
        shares=shares,
        sizes=(parameters.groups, *plan.kernel_size, inputs, outputs),
        steps=(group, row, column, source_step, result_step),
    )
