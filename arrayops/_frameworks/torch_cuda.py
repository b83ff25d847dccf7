"""PyTorch tensors on GPUs as CuPy arrays and back, on torch's stream and in torch's memory.

Imported with the first CUDA tensor. Tensors and arrays share their memory by pointer: both sides are known here, so
that DLPack would add nothing but time, and bfloat16 needs no package beside torch.

Results and temporaries are storages of torch's caching allocator. What the allocator gets back, it hands out again to
the same stream alone, and so behind the kernels that still read it; a result is a plain tensor, for which
``record_stream``, the private pools of CUDA graphs and torch's memory statistics work as for any other.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import cupy
import numpy as np
import torch

from arrayops._core import dtypes
from arrayops._frameworks import cupy as cupy_framework
from arrayops._frameworks.numpy import BFLOAT16

_DTYPES: dict[torch.dtype, "np.dtype[Any]"] = {torch.bfloat16: BFLOAT16} | {
    getattr(torch, name): np.dtype(name)
    for name in {*dtypes.FLOATING, *dtypes.INTEGER, dtypes.BOOL} - {dtypes.BFLOAT16}
    if hasattr(torch, name)
}
_TORCH_DTYPES = {numpy: own for own, numpy in _DTYPES.items()}

# Looked up once: they run for each array.
UnownedMemory = cupy.cuda.UnownedMemory
MemoryPointer = cupy.cuda.MemoryPointer


def launching(number: int) -> Any:
    """Context in which CuPy works on torch's current stream of GPU ``number``, in torch's memory."""
    return cupy_framework.launching(number, torch._C._cuda_getCurrentRawStream(number), allocator("cuda", number))


@cache
def allocator(kind: str, number: int) -> Callable[[int], Any]:
    """An allocator for CuPy whose memory is storages of torch on one device."""
    device = torch.device(kind, number)

    def allocate(size: int) -> Any:
        storage = torch.UntypedStorage(size, device=device)
        return MemoryPointer(UnownedMemory(storage.data_ptr(), size, storage, number), 0)

    return allocate


def to_cupy(tensor: torch.Tensor, number: int) -> Any:
    """The tensor's memory, on GPU ``number``, as a CuPy array that keeps the tensor alive."""
    dtype = _DTYPES[tensor.dtype]
    pointer = MemoryPointer(UnownedMemory(tensor.data_ptr(), tensor.nbytes, tensor, number), 0)
    if tensor.is_contiguous():
        return cupy.ndarray(tuple(tensor.shape), dtype, pointer)
    strides = tuple([stride * dtype.itemsize for stride in tensor.stride()])
    return cupy.ndarray(tuple(tensor.shape), dtype, pointer, strides)


def from_cupy(result: Any, device: torch.device) -> torch.Tensor:
    """A C-contiguous array made within `launching`, as a tensor of the same memory."""
    pointer = result.data
    storage = pointer.mem._owner
    offset = (pointer.ptr - storage.data_ptr()) // result.itemsize
    # Not a view of a tensor of bytes: autograd refuses to change some views in place.
    return torch.empty(0, dtype=_TORCH_DTYPES[result.dtype], device=device).set_(storage, offset, result.shape)
