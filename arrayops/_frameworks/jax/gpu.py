"""Calls on GPU buffers, by kernels on XLA's stream."""

from collections.abc import Callable, Sequence
from typing import Any

import cupy
import numpy as np

from arrayops._core.dtypes import BFLOAT16, BFLOAT16_DTYPE
from arrayops._frameworks.cupy import launching
from arrayops._frameworks.jax.wide_integers import check_fits

DEVICE_TO_DEVICE = 3
"""cudaMemcpyDeviceToDevice."""


def compute_on_gpu(
    compute: Callable[..., None],
    function: Callable[..., Any],
    number: int,
    stream: int,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
) -> None:
    """Call ``compute(function, arrays, outputs, write)`` with CuPy arrays over XLA's buffers.

    Parameters
    ----------
    compute : callable
        The call.
    function : callable
        The function of the backend.
    number : int
        Number of the GPU.
    stream : int
        Handle of XLA's stream (``cudaStream_t``). Nothing here waits for it: buffers and CuPy's temporaries are reused
        only by later work on it.
    inputs, outputs : sequence of buffer
        XLA's buffers.
    """
    with launching(number, stream):
        compute(
            function,
            [over_buffer(buffer, number) for buffer in inputs],
            [over_buffer(buffer, number) for buffer in outputs],
            write,
        )


def over_buffer(buffer: Any, number: int) -> Any:
    """A CuPy array over one of XLA's buffers, which outlives the call."""
    dtype = np.dtype(buffer.dtype)
    if dtype.name == BFLOAT16:
        # The interface of CUDA arrays has no bfloat16.
        return cupy.from_dlpack(buffer).view(BFLOAT16_DTYPE)
    pointer = buffer.__cuda_array_interface__["data"][0]
    size = dtype.itemsize * int(np.prod(buffer.shape, dtype=np.int64))
    memory = cupy.cuda.UnownedMemory(pointer, size, buffer, number)
    return cupy.ndarray(tuple(buffer.shape), dtype, cupy.cuda.MemoryPointer(memory, 0))


def write(targets: list[Any], results: list[Any]) -> None:
    """Copy results to the outputs, within the stream."""
    for target, result in zip(targets, results, strict=True):
        if result.dtype != target.dtype:
            # Waits for the stream, as the limits are read on the host.
            check_fits(result, target.dtype)
        elif target.flags.c_contiguous:
            cupy.cuda.runtime.memcpyAsync(
                target.data.ptr,
                result.data.ptr,
                result.nbytes,
                DEVICE_TO_DEVICE,
                cupy.cuda.get_current_stream().ptr,
            )
            continue
        target[...] = result
