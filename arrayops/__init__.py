"""Array operators for deep learning and image processing that frameworks lack.

Every function accepts arrays of NumPy, CuPy, PyTorch, JAX, TensorFlow or another library with DLPack, and returns
arrays of the same framework on the same device; all arrays of a call must share both. Gradients are computed by the
functions named ``<operator>_backward``.
"""

from arrayops._core.precision import get_float32_precision, set_float32_precision
from arrayops._core.threads import get_num_threads, num_threads, set_num_threads
from arrayops._frameworks import saved_programs as _saved_programs
from arrayops._typing import MaskedOutput, SavedOutput
from arrayops.conv import conv2d, conv2d_backward, conv_transpose2d, conv_transpose2d_backward
from arrayops.merge import merge_feature_maps, merge_feature_maps_backward, resize2d, resize2d_backward
from arrayops.pac import (
    pac_conv2d,
    pac_conv2d_backward,
    pac_conv_transpose2d,
    pac_conv_transpose2d_backward,
    pac_kernel2d,
    pac_kernel2d_backward,
    pac_pool2d,
    pac_pool2d_backward,
)
from arrayops.segment import (
    segment_count,
    segment_max,
    segment_max_backward,
    segment_mean,
    segment_mean_backward,
    segment_min,
    segment_min_backward,
    segment_reduce,
    segment_reduce_backward,
    segment_sum,
    segment_sum_backward,
    segment_unpool,
    segment_unpool_backward,
    segment_var,
    segment_var_backward,
)

_saved_programs.serve()

__version__ = "0.1.0"

__all__ = [
    "MaskedOutput",
    "SavedOutput",
    "__version__",
    "conv2d",
    "conv2d_backward",
    "conv_transpose2d",
    "conv_transpose2d_backward",
    "get_float32_precision",
    "get_num_threads",
    "merge_feature_maps",
    "merge_feature_maps_backward",
    "num_threads",
    "pac_conv2d",
    "pac_conv2d_backward",
    "pac_conv_transpose2d",
    "pac_conv_transpose2d_backward",
    "pac_kernel2d",
    "pac_kernel2d_backward",
    "pac_pool2d",
    "pac_pool2d_backward",
    "resize2d",
    "resize2d_backward",
    "segment_count",
    "segment_max",
    "segment_max_backward",
    "segment_mean",
    "segment_mean_backward",
    "segment_min",
    "segment_min_backward",
    "segment_reduce",
    "segment_reduce_backward",
    "segment_sum",
    "segment_sum_backward",
    "segment_unpool",
    "segment_unpool_backward",
    "segment_var",
    "segment_var_backward",
    "set_float32_precision",
    "set_num_threads",
]
