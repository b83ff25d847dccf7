"""The structures of ``raw_kernels/cpu/pac*`` that pixel-adaptive operators fill."""

from ctypes import Structure, c_int64, c_void_p

from arrayops._backends.cpu.window.structures import ImagesStructure, Strides

NO_MASK, BYTES, STORED, WIDE = range(4)
"""``MaskType`` of pac.h."""


class KernelStructure(Structure):
    """``KernelArray`` of pac.h."""

    _fields_ = (
        ("data", c_void_p),
        ("strides", Strides),
        ("taps", c_void_p),
        ("wide", c_int64),
    )


class PacStructure(Structure):
    """``Pac`` of pac.h."""

    _fields_ = (
        ("input", ImagesStructure),
        ("guide", ImagesStructure),
        ("mask", ImagesStructure),
        ("mask_type", c_int64),
        ("counted", c_int64),
        ("guide_wide", c_int64),
        ("given", c_int64),
        ("guides", c_int64),
        ("inverse", c_int64),
        ("asymmetric", c_int64),
        ("normalize", c_int64),
        ("kernel_channels", c_int64),
        ("alpha", c_void_p),
        ("lambda_", c_void_p),
        ("alpha_step", c_int64),
        ("lambda_step", c_int64),
        ("smooth", c_void_p),
        ("smooth_taps", c_int64),
        ("kernel", KernelStructure),
        ("output", c_void_p),
        ("output_strides", Strides),
        ("output_mask", c_void_p),
        ("output_size", c_int64 * 2),
        ("weight", c_void_p),
        ("bias", c_void_p),
        ("images", c_int64),
        ("groups", c_int64),
        ("inputs", c_int64),
        ("outputs", c_int64),
        ("width", c_int64),
        ("chunk", c_int64),
        ("distance", c_int64),
        ("guide_distance", c_int64),
        ("positions", c_int64),
        ("taps", c_int64),
        ("phase_count", c_int64),
        ("phases", c_void_p),
        ("guide_phases", c_void_p),
        ("tap_columns", c_void_p),
        ("centre_taps", c_void_p),
    )


class PacGradientStructure(Structure):
    """``PacGradient`` of pac_gradient.h."""

    _fields_ = (
        ("call", PacStructure),
        ("grad", c_void_p),
        ("grad_strides", Strides),
        ("grad_kernel", KernelStructure),
        ("grad_input", c_void_p),
        ("grad_input_strides", Strides),
        ("grad_guide", c_void_p),
        ("grad_guide_strides", Strides),
        ("filter_taps", c_void_p),
        ("sums", c_void_p),
        ("sum_count", c_int64),
        ("phase", c_int64),
        ("first", c_int64 * 2),
        ("step", c_int64 * 2),
        ("count", c_int64 * 2),
        ("start", c_int64),
    )


class AddSumsStructure(Structure):
    """``AddSums`` of pac_gradient.h."""

    _fields_ = (("sums", c_void_p), ("totals", c_void_p), ("blocks", c_int64), ("count", c_int64))


class RoundingStructure(Structure):
    """``Rounding`` of pac_gradient.h."""

    _fields_ = (("values", c_void_p), ("result", c_void_p), ("count", c_int64))


class PacWeightGradientStructure(Structure):
    """``PacWeightGradient`` of pac_weight_gradient.cpp."""

    _fields_ = (
        ("call", PacStructure),
        ("grad", c_void_p),
        ("grad_strides", Strides),
        ("partial", c_void_p),
        ("filter_taps", c_void_p),
        ("listed_taps", c_int64),
        ("filter_size", c_int64),
        ("parts", c_int64),
        ("splits", c_int64),
        ("grouped", c_int64),
        ("chunk", c_int64),
        ("input_blocks", c_int64),
        ("output_blocks", c_int64),
    )
