"""The compiled units of the convolutions."""

from arrayops._backends.cpu.window.units import STORAGE, unit

FILES = (
    "conv_planes.cpp",
    "conv_pixels.cpp",
    "depthwise_pixels.cpp",
    "weight_gradient.cpp",
    "weight_gradient_runs.cpp",
    "depthwise_weight_gradient_pixels.cpp",
    "weight_gradient_sums.cpp",
    "channel_sums.cpp",
)

UNITS = tuple(unit(file, dtype) for file in FILES for dtype in STORAGE)
