"""Zero-copy conversion between PyTorch's CUDA tensors and CuPy arrays, on torch's stream and in torch's memory.

Imported with the first CUDA tensor. Tensors and arrays share memory by pointer: DLPack would only add overhead, and
bfloat16 needs no package besides torch.

Results and temporaries are tensors of torch's caching allocator. It reuses freed memory only on the same stream, and so
after the kernels that still read it. A result is a plain tensor, for which ``record_stream``, the private pools of CUDA
graphs and torch's memory statistics work as for any other.
"""

import math
from functools import cache
from typing import Any

import cupy
import numpy as np
import torch

from arrayops._core import dtypes
from arrayops._core.allocator import Allocate
from arrayops._core.dtypes import BFLOAT16_DTYPE
from arrayops._frameworks import cupy as cupy_framework
from arrayops._frameworks.torch.private import current_cuda_stream

_DTYPES: dict[torch.dtype, "np.dtype[Any]"] = {torch.bfloat16: BFLOAT16_DTYPE} | {
    getattr(torch, name): np.dtype(name)
    for name in {*dtypes.FLOATING, *dtypes.INTEGER, dtypes.BOOL} - {dtypes.BFLOAT16}
    if hasattr(torch, name)
}
_TORCH_DTYPES = {numpy_dtype: torch_dtype for torch_dtype, numpy_dtype in _DTYPES.items()}

# Looked up once, as they are called for each array.
UnownedMemory = cupy.cuda.UnownedMemory
MemoryPointer = cupy.cuda.MemoryPointer


def launching(number: int) -> Any:
    """Context in which CuPy works on torch's current stream of GPU ``number``, in torch's memory."""
    return cupy_framework.launching(number, current_cuda_stream(number), allocator("cuda", number))


@cache
def allocator(kind: str, number: int) -> Allocate:
    """Allocator of backend arrays backed by tensors of one device, which `from_cupy` recovers."""
    device = torch.device(kind, number)

    def empty(shape: tuple[int, ...], dtype: Any) -> Any:
        dtype = np.dtype(dtype)
        torch_dtype = _TORCH_DTYPES.get(dtype)
        if torch_dtype is None:
            # A dtype that torch lacks, such as a structure, is stored as bytes.
            tensor = torch.empty(math.prod(shape) * dtype.itemsize, dtype=torch.uint8, device=device)
        else:
            tensor = torch.empty(shape, dtype=torch_dtype, device=device)
        return cupy.ndarray(
            shape, dtype, MemoryPointer(UnownedMemory(tensor.data_ptr(), tensor.nbytes, tensor, number), 0)
        )

    return empty


def to_cupy(tensor: torch.Tensor, number: int) -> Any:
    """The tensor's memory, on GPU ``number``, as a CuPy array that keeps the tensor alive."""
    dtype = _DTYPES[tensor.dtype]
    pointer = MemoryPointer(UnownedMemory(tensor.data_ptr(), tensor.nbytes, tensor, number), 0)
    if tensor.is_contiguous():
        return cupy.ndarray(tuple(tensor.shape), dtype, pointer)
    strides = tuple([stride * dtype.itemsize for stride in tensor.stride()])
    return cupy.ndarray(tuple(tensor.shape), dtype, pointer, strides)


def from_cupy(result: Any, device: torch.device) -> torch.Tensor:
    """A C-contiguous array allocated within `launching`, as a tensor that shares its memory."""
    pointer, dtype = result.data, _TORCH_DTYPES[result.dtype]
    tensor: torch.Tensor = pointer.mem._owner
    if tensor.dtype is dtype and tensor.shape == result.shape:
        return tensor
    # A part or another view of the memory. It is not a view of the tensor, as autograd forbids some in-place changes of
    # views.
    offset = (pointer.ptr - tensor.data_ptr()) // result.itemsize
    return torch.empty(0, dtype=dtype, device=device).set_(tensor.untyped_storage(), offset, result.shape)
