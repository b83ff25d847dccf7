"""The structures of ``raw_kernels/cpu`` that convolutions fill."""

from ctypes import Structure, c_int64, c_void_p

from arrayops._backends.cpu.window.structures import ImagesStructure, Strides

# Of a correlation and of the gradient of its weight.
_CALL_FIELDS = (
    ("images", c_int64),
    ("groups", c_int64),
    ("inputs", c_int64),
    ("outputs", c_int64),
)


class CorrelationStructure(Structure):
    """``Correlation`` of correlation.h."""

    _fields_ = (
        ("input", ImagesStructure),
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("output", c_void_p),
        ("output_strides", Strides),
        *_CALL_FIELDS,
        ("width", c_int64),
        ("output_blocks", c_int64),
        ("channels", c_int64),
        ("grouped", c_int64),
        ("together", c_int64),
        ("phase_count", c_int64),
        ("phases", c_void_p),
    )


class PixelCorrelationStructure(Structure):
    """``PixelCorrelation`` of conv_pixels.cpp."""

    _fields_ = (
        ("call", CorrelationStructure),
        ("packed", c_int64),
        ("pixel", c_int64),
        ("row", c_int64),
        ("direct", c_int64),
    )


class DepthwiseCorrelationStructure(Structure):
    """``DepthwiseCorrelation`` of depthwise_pixels.cpp."""

    _fields_ = (("call", CorrelationStructure), ("depth", c_int64), ("direct", c_int64))


class WeightGradientStructure(Structure):
    """``WeightGradient`` of weight_gradient.h."""

    _fields_ = (
        ("input", ImagesStructure),
        ("grad", c_void_p),
        ("partial", c_void_p),
        ("result", c_void_p),
        ("grad_strides", Strides),
        ("strides", c_int64 * 5),
        *_CALL_FIELDS,
        ("grouped", c_int64),
        ("splits", c_int64),
        ("input_blocks", c_int64),
        ("output_blocks", c_int64),
        ("taps", c_int64),
        ("tap_numbers", c_void_p),
        ("panel", c_int64),
        ("runs", c_int64),
        ("run_list", c_void_p),
        ("phase", c_void_p),
    )


class ChannelSumsStructure(Structure):
    """``ChannelSums`` of channel_sums.cpp."""

    _fields_ = (
        ("images", c_void_p),
        ("partial", c_void_p),
        ("result", c_void_p),
        ("strides", Strides),
        ("count", c_int64),
        ("channels", c_int64),
        ("rows", c_int64),
        ("columns", c_int64),
        ("parts", c_int64),
        ("result_stride", c_int64),
    )
