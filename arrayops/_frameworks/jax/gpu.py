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
    lend: bool,
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
    lend : bool
        Whether the backend may allocate its results in the outputs: only if it is called once.
    """
    lent = LentOutputs()
    with launching(number, stream, lent):
        targets = [over_buffer(buffer, number) for buffer in outputs]
        if lend:
            lent.add(targets)
        compute(function, [over_buffer(buffer, number) for buffer in inputs], targets, write)


class LentOutputs:
    """Allocator that gives the memory of the outputs to the first arrays that look like them, and else CuPy's.

    The first such array is the result in most cases, which then is not copied. Only floating-point outputs are lent:
    what a backend keeps for later calls, tables of integers, must not be in XLA's memory.
    """

    def __init__(self) -> None:
        self._free: list[Any] = []

    def add(self, outputs: Sequence[Any]) -> None:
        """Lend the floating-point arrays among ``outputs``."""
        self._free += [output for output in outputs if output.dtype.kind in "fV"]

    def __call__(self, shape: tuple[int, ...], dtype: Any) -> Any:
        for i, output in enumerate(self._free):
            if output.shape == tuple(shape) and output.dtype == dtype:
                return self._free.pop(i)
        return cupy.ndarray(shape, dtype)


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
    """Copy results to the outputs, within the stream, unless they are there."""
    addresses = [target.data.ptr for target in targets]
    for i, result in enumerate(results):
        if result.data.ptr in addresses and result.data.ptr != addresses[i]:
            # In the memory of another output, which the copies below write to.
            results[i] = result.copy()
    for target, result in zip(targets, results, strict=True):
        if result.data.ptr == target.data.ptr:
            continue
        if result.dtype != target.dtype:
            # Waits for the stream, as the limits are read on the host.
            check_fits(result, target.dtype)
            target[...] = result
        elif target.flags.c_contiguous:
            stream = cupy.cuda.get_current_stream().ptr
            cupy.cuda.runtime.memcpyAsync(target.data.ptr, result.data.ptr, result.nbytes, DEVICE_TO_DEVICE, stream)
        elif target.dtype == BFLOAT16_DTYPE:
            # CuPy copies no structures.
            target.view(np.uint16)[...] = result.view(np.uint16)
        else:
            target[...] = result
