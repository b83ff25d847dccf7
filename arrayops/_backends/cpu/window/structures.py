"""The structures of ``raw_kernels/cpu/window.h`` and ``pack_weights.h``."""

from collections.abc import Sequence
from ctypes import Array, Structure, c_int64, c_void_p


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


def images_structure(shape: Sequence[int], strides: Sequence[int], steps: Sequence[int]) -> ImagesStructure:
    """Images (N, C, H, W) without their address; windows read their rows and columns with ``steps``."""
    ends = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
    structure = ImagesStructure()
    structure.begin, structure.end = sum(min(end, 0) for end in ends), sum(max(end, 0) for end in ends) + 1
    structure.strides = Strides(*strides)
    structure.size[:] = shape[2:]
    structure.stride[:] = steps
    return structure


def integers(values: Sequence[int]) -> Array[c_int64]:
    """An array of 64-bit integers."""
    return (c_int64 * max(1, len(values)))(*values)
