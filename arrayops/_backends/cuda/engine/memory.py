"""Device memory: new arrays, contiguous copies, and the macro of a dtype.

Nothing here synchronizes with the GPU, so all of it may be captured in a CUDA graph. Memory comes from CuPy's current
allocator or from that of the caller's framework. Both reuse freed memory only for later work on the same stream: a
temporary may be freed while kernels that use it are still running.
"""

import math
from functools import lru_cache
from typing import Any

import cupy
import numpy as np

from arrayops._backends.cuda.engine import device, launch, module
from arrayops._backends.cuda.engine.device import THREADS
from arrayops._core import allocator

MAX_AXES = 6
MIN_64BIT_ELEMENTS = 2**31
"""Arrays of at least this many elements need 64-bit element indices."""
BLOCKS_PER_MULTIPROCESSOR = 16
"""Enough to hide the latency of memory."""

STRIDED_ARRAY = np.dtype(
    [("size", np.int64), ("shape", np.int64, MAX_AXES), ("stride", np.int64, MAX_AXES), ("axes", np.int32)], align=True
)

_DEFINES = {
    "float16": "SCALAR_FLOAT16",
    "bfloat16": "SCALAR_BFLOAT16",
    "float32": "SCALAR_FLOAT32",
    "float64": "SCALAR_FLOAT64",
}


def empty(shape: tuple[int, ...], dtype: Any) -> Any:
    """An uninitialized C-contiguous array on the current device."""
    allocate = allocator.current.allocate
    return cupy.ndarray(shape, dtype) if allocate is None else allocate(shape, dtype)


@lru_cache(maxsize=64)
def dtype_defines(dtype: "np.dtype[Any]") -> tuple[tuple[str, int | str], ...]:
    """The macro that selects the scalar type of ``scalars.cuh`` for ``dtype``.

    bfloat16 is recognized by name, both the dtype of ml_dtypes and the 16-bit structure used for arrays of PyTorch.
    """
    name = dtype.names[0] if dtype.names else dtype.name
    try:
        return ((_DEFINES[name], ""),)
    except KeyError:
        raise TypeError(f"no CUDA kernel supports arrays of {dtype}, expected one of {', '.join(_DEFINES)}") from None


def contiguous(array: Any) -> Any:
    """The array itself if it is C-contiguous, else a C-contiguous copy.

    Raises
    ------
    ValueError
        If more than six axes are left after merging contiguous ones.
    """
    if array.flags.c_contiguous:
        return array
    result = empty(array.shape, array.dtype)
    geometry, axes = _merged_axes(array.shape, array.strides, array.itemsize)
    if axes > MAX_AXES:
        raise ValueError(f"a CUDA array has strides {array.strides}, expected at most {MAX_AXES} independent axes")
    defines: tuple[tuple[str, int | str], ...] = (("ITEM_BYTES", array.itemsize),)
    if array.size >= MIN_64BIT_ELEMENTS:
        defines += (("INDEX_64BIT", ""),)
    blocks = device.current().blocks(array.size, THREADS, BLOCKS_PER_MULTIPROCESSOR)
    copy = module.kernel("copy.cu", "copy_strided", defines)
    launch.launch(copy, (blocks, 1, 1), (THREADS, 1, 1), (array, result, geometry))
    return result


@lru_cache(maxsize=256)
def _merged_axes(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[np.void | None, int]:
    """The copy kernel's structure for an array, and its number of axes after merging.

    Adjacent axes that are contiguous with each other are merged into one.
    """
    axes: list[tuple[int, int]] = []
    for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
        if extent == 1:
            continue
        step, part = divmod(stride, itemsize)
        if part:
            raise ValueError(
                f"a CUDA array has strides {strides}, expected multiples of its item size of {itemsize} bytes"
            )
        if axes and axes[-1][0] * axes[-1][1] == step:
            axes[-1] = (axes[-1][0] * extent, axes[-1][1])
        else:
            axes.append((extent, step))
    if len(axes) > MAX_AXES:
        return None, len(axes)
    padding = (0,) * (MAX_AXES - len(axes))
    geometry = launch.struct(
        STRIDED_ARRAY,
        size=math.prod(shape),
        shape=tuple(extent for extent, _ in axes) + padding,
        stride=tuple(step for _, step in axes) + padding,
        axes=len(axes),
    )
    return geometry, len(axes)
