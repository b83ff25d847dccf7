"""Launches the sums that keep channels apart (pooling, shared filters), forward or as the gradient of the input."""

from typing import Any

import numpy as np

from arrayops._backends.cuda.engine import structures
from arrayops._backends.cuda.engine.launch import launch, struct
from arrayops._backends.cuda.engine.module import Kernel, Pairs
from arrayops._backends.cuda.engine.structures import View, view
from arrayops._backends.cuda.pac.call import PacCall
from arrayops._backends.cuda.pac.plan import PacPlan
from arrayops._backends.cuda.window.contraction import orientation
from arrayops._backends.cuda.window.plan import correlation_strides
from arrayops._ops import images

PIXELS, CHANNEL_THREADS, CHANNELS_EACH = 64, 4, 4
TAPS = 32
"""Taps whose kernel values are kept at once."""
MOST_BLOCKS = 65535


def channelwise(call: PacCall, source: Any, bias: Any, result: Any, backward: bool = False) -> None:
    """Write the sums over taps of ``source``, channel by channel, to ``result``."""
    made = call.plan
    key = view(source) if backward else "forward"
    how = made.launches.get(key)
    if how is None:
        how = made.launches[key] = _launch(made, view(source), result.shape, backward)
    function, grid, geometry = how
    arguments = (*call.arguments, geometry, source, call.weight, bias, result)
    launch(function, grid, (PIXELS, CHANNEL_THREADS, 1), arguments)


def _launch(
    made: PacPlan, source: View, result_shape: tuple[int, ...], backward: bool
) -> tuple[Kernel, tuple[int, int, int], np.void]:
    p = made.parameters
    result_strides = structures.contiguous_strides(result_shape)
    channels = images.image(source.shape, p.layout).channels
    _, stuffs, sizes = zip(*(orientation(axis, backward) for axis in made.axes), strict=True)
    height, width = (-(-sizes[i] // stuffs[i]) for i in (0, 1))
    pixel_blocks = -(-height * width // PIXELS)
    defines: Pairs = (
        ("PIXELS", PIXELS),
        ("CHANNEL_THREADS", CHANNEL_THREADS),
        ("CHANNELS_EACH", CHANNELS_EACH),
        ("TAP_CHUNK", min(made.taps, TAPS)),
    )
    if backward:
        defines += (("BACKWARD", ""),)
    channel_blocks = min(-(-channels // (CHANNEL_THREADS * CHANNELS_EACH)), MOST_BLOCKS)
    return (
        made.kernel("pac_channelwise.cu", "pac_channelwise", *defines),
        (made.batch * stuffs[0] * stuffs[1] * pixel_blocks, channel_blocks, 1),
        struct(
            structures.CHANNELWISE,
            source=structures.image_strides(source.strides, p.layout),
            result=structures.image_strides(result_strides, p.layout),
            filter=(0,) * 6 if made.weight is None else correlation_strides(made, made.weight),
            channels=channels,
            phase_height=height,
            phase_width=width,
            pixel_blocks=pixel_blocks,
        ),
    )
