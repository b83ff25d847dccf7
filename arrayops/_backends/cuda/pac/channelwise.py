"""Launches of sums that do not mix channels (pooling, shared filters), forward or as the gradient of the input."""

from typing import Any

import numpy as np

from arrayops._backends.cuda.engine import structures
from arrayops._backends.cuda.engine.launch import MAX_BLOCKS_YZ, launch, struct
from arrayops._backends.cuda.engine.module import Kernel
from arrayops._backends.cuda.engine.structures import ArrayView, view
from arrayops._backends.cuda.pac.call import PacCall
from arrayops._backends.cuda.pac.plan import PacPlan
from arrayops._backends.cuda.window.contraction import orientation
from arrayops._backends.cuda.window.plan import correlation_strides
from arrayops._core.kernel_source import Pairs
from arrayops._ops import images

PIXELS, CHANNEL_THREADS, CHANNELS_PER_THREAD = 64, 4, 4
MAX_TAPS_PER_CHUNK = 32
"""Maximum number of taps whose kernel values are in shared memory at once."""


def channelwise(call: PacCall, source: Any, bias: Any, result: Any, backward: bool = False) -> None:
    """Write the sums over taps of ``source``, channel by channel, to ``result``."""
    plan = call.plan
    key = view(source) if backward else "forward"
    config = plan.launches.get(key)
    if config is None:
        config = plan.launches[key] = _launch(plan, view(source), result.shape, backward)
    function, grid, geometry = config
    arguments = (*call.arguments, geometry, source, call.weight, bias, result)
    launch(function, grid, (PIXELS, CHANNEL_THREADS, 1), arguments)


def _launch(
    plan: PacPlan, source: ArrayView, result_shape: tuple[int, ...], backward: bool
) -> tuple[Kernel, tuple[int, int, int], np.void]:
    parameters = plan.parameters
    result_strides = structures.contiguous_strides(result_shape)
    channels = images.image(source.shape, parameters.layout).channels
    _, phases, sizes = zip(*(orientation(axis, backward) for axis in plan.axes), strict=True)
    height, width = (-(-sizes[i] // phases[i]) for i in (0, 1))
    pixel_blocks = -(-height * width // PIXELS)
    defines: Pairs = (
        ("PIXELS", PIXELS),
        ("CHANNEL_THREADS", CHANNEL_THREADS),
        ("CHANNELS_PER_THREAD", CHANNELS_PER_THREAD),
        ("TAP_CHUNK", min(plan.taps, MAX_TAPS_PER_CHUNK)),
    )
    if backward:
        defines += (("BACKWARD", ""),)
    channel_blocks = min(-(-channels // (CHANNEL_THREADS * CHANNELS_PER_THREAD)), MAX_BLOCKS_YZ)
    return (
        plan.kernel("pac_channelwise.cu", "pac_channelwise", *defines),
        (plan.batch * phases[0] * phases[1] * pixel_blocks, channel_blocks, 1),
        struct(
            structures.CHANNELWISE,
            source=structures.image_strides(source.strides, parameters.layout),
            result=structures.image_strides(result_strides, parameters.layout),
            filter=(0,) * 6 if plan.weight is None else correlation_strides(plan, plan.weight),
            channels=channels,
            phase_height=height,
            phase_width=width,
            pixel_blocks=pixel_blocks,
        ),
    )
