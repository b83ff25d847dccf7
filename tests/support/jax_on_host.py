"""JAX's buffers in host memory, handled as buffers of a GPU on machines without one."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np

CUDA, STREAM = 2, 7


class BufferOnGPU:
    """One of XLA's buffers, which says that it is on GPU 0."""

    def __init__(self, buffer: Any) -> None:
        self.buffer, self.shape, self.dtype, self.ndim = buffer, buffer.shape, buffer.dtype, buffer.ndim

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, 0

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        array = self.buffer.__array__()
        if array.dtype.kind == "V":
            raise RuntimeError("the interface of CUDA arrays has no bfloat16")
        return {"data": (array.ctypes.data, False), "shape": self.shape, "typestr": array.dtype.str, "version": 2}


@contextmanager
def as_on_gpus() -> Iterator[list[int]]:
    """Send traced calls to the CUDA backend; yields the handles of the streams on which results were copied.

    CuPy must be that of the emulator, which has no copies within a device and no DLPack.
    """
    import cupy

    from arrayops._frameworks.jax.callback import HostCall

    call, streams = HostCall.__call__, []

    def on_gpu(self: HostCall, context: Any, outputs: Any, *inputs: Any) -> None:
        call(self, SimpleNamespace(stream=STREAM), list(map(BufferOnGPU, outputs)), *map(BufferOnGPU, inputs))

    def copy(target: int, source: int, size: int, kind: int, stream: int) -> None:
        assert kind == 3, "not from device to device"
        streams.append(cupy.cuda.get_current_stream().foreign.__cuda_stream__()[1])
        ctypes.memmove(target, source, size)

    def from_dlpack(buffer: Any) -> Any:
        array = buffer.buffer.__array__()
        memory = cupy.cuda.UnownedMemory(array.ctypes.data, array.nbytes, buffer, 0)
        return cupy.ndarray(array.shape, np.uint16, cupy.cuda.MemoryPointer(memory, 0))

    with (
        mock.patch.object(HostCall, "__call__", on_gpu),
        mock.patch.object(cupy.cuda.runtime, "memcpyAsync", copy),
        mock.patch.object(cupy, "from_dlpack", from_dlpack),
    ):
        yield streams
