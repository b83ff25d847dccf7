"""The structures of ``raw_kernels/cpu`` that convolutions fill."""

from collections.abc import Sequence
from ctypes import Array, Structure, c_int64, c_void_p

from arrayops._backends.cpu.conv.geometry import Geometry


class Strides(Structure):
    """``Strides`` of window.h: elements to the next image, channel, row and column."""

    _fields_ = (("image", c_int64), ("channel", c_int64), ("row", c_int64), ("column", c_int64))


class SegmentStructure(Structure):
    """``Segment`` of window.h."""

    _fields_ = (("start", c_int64), ("extra", c_int64), ("base", c_int64))


class PhaseStructure(Structure):
    """``Phase`` of window.h."""

    _fields_ = (
        ("first_block", c_int64),
        ("first", c_int64 * 2),
        ("step", c_int64 * 2),
        ("length", c_int64 * 2),
        ("size", c_int64 * 2),
        ("blocks", c_int64 * 2),
        ("taps", c_int64),
        ("weight", c_int64),
        ("offsets", c_void_p),
        ("segments", c_int64 * 2),
        ("segment", c_void_p * 2),
        ("pitch", c_int64),
        ("plane", c_int64),
    )


class ImagesStructure(Structure):
    """``Images`` of window.h."""

    _fields_ = (
        ("data", c_void_p),
        ("begin", c_int64),
        ("end", c_int64),
        ("strides", Strides),
        ("size", c_int64 * 2),
        ("stride", c_int64 * 2),
    )


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


class PackWeightsStructure(Structure):
    """``PackWeights`` of pack_weights.h."""

    _fields_ = (
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("packed", c_void_p),
        ("packed_bias", c_void_p),
        ("bias_stride", c_int64),
        ("strides", c_int64 * 5),
        ("groups", c_int64),
        ("inputs", c_int64),
        ("outputs", c_int64),
        ("width", c_int64),
        ("blocks", c_int64),
        ("taps_first", c_int64),
        ("phase_count", c_int64),
        ("phases", c_void_p),
        ("taps", c_void_p),
    )


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


def images_structure(geometry: Geometry, strides: Sequence[int]) -> ImagesStructure:
    """The images of a correlation, without their address; windows read them with ``strides``."""
    rows, columns = geometry.axes
    sizes = geometry.images, geometry.groups * geometry.inputs, rows.size, columns.size
    ends = [(size - 1) * stride for size, stride in zip(sizes, geometry.source, strict=True)]
    structure = ImagesStructure()
    structure.begin, structure.end = sum(min(end, 0) for end in ends), sum(max(end, 0) for end in ends) + 1
    structure.strides = Strides(*geometry.source)
    structure.size[:] = rows.size, columns.size
    structure.stride[:] = strides
    return structure


def integers(values: Sequence[int]) -> Array[c_int64]:
    """An array of 64-bit integers."""
    return (c_int64 * max(1, len(values)))(*values)
