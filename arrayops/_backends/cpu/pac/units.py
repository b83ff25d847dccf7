"""The compiled units of the pixel-adaptive operators."""

from arrayops._backends.cpu.window.units import STORAGE, unit

FILES = (
    "pac_kernel.cpp",
    "pac_convolution.cpp",
    "pac_channelwise.cpp",
    "pac_kernel_gradient.cpp",
    "pac_convolution_gradient.cpp",
    "pac_channelwise_gradient.cpp",
    "pac_weight_gradient.cpp",
    "round_values.cpp",
)

UNITS = tuple(unit(file, dtype) for file in FILES for dtype in STORAGE)
