"""Torch's tensors of the host, taken the way of those of a GPU, where there is no GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def as_on_gpus() -> Iterator[None]:
    """Send tensors of the host to the CUDA backend.

    They are read by pointer, launches go to a foreign stream, and results and temporaries are torch's memory; all but
    torch's own allocator is what tensors on a GPU meet.
    """
    import torch

    from arrayops import _frameworks
    from arrayops._frameworks import cupy as cupy_framework
    from arrayops._frameworks.base import GPUS, Device
    from arrayops._frameworks.torch import cuda as torch_cuda
    from arrayops._frameworks.torch.adapter import TorchFramework

    class OnHost(TorchFramework):
        def device(self, array: Any) -> Device:
            return GPUS[array.get_device() + 1]

        def to_backend(self, array: Any) -> Any:
            # Asked of tensors on a GPU, too, and so part of what a call costs.
            array.is_neg(), array.is_conj(), array.is_cpu
            return torch_cuda.to_cupy(array, 0)

        def from_backend(self, result: Any, like: Any) -> Any:
            return torch_cuda.from_cupy(result, like.device)

        def launching(self, device: Device) -> Any:
            return cupy_framework.launching(device.number, 1, torch_cuda.allocator("cpu", 0))

    before = _frameworks.find(torch.empty(0))
    _frameworks._framework_of_type[torch.Tensor] = OnHost()
    try:
        yield
    finally:
        _frameworks._framework_of_type[torch.Tensor] = before
