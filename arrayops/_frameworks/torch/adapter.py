"""PyTorch tensors, shared without copies: through torch's NumPy bridge on the CPU, through `cuda` on GPUs."""

from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch

from arrayops._core import opaque
from arrayops._core.dtypes import BFLOAT16_DTYPE
from arrayops._core.op import Meta, Op
from arrayops._frameworks import type_name
from arrayops._frameworks.base import GPUS, Device, Framework, Unreadable
from arrayops._frameworks.numpy import HOST
from arrayops._frameworks.torch import private
from arrayops._frameworks.torch.dtypes import describe


class TorchFramework(Framework):
    """torch.Tensor on the CPU and on CUDA devices."""

    name: ClassVar[str] = "PyTorch"
    transforms: ClassVar[bool] = True

    def recognises(self, array_type: type) -> bool:
        return issubclass(array_type, torch.Tensor)

    def must_transform(self, arrays: Sequence[Any]) -> bool:
        return _calls().must_transform(arrays)  # type: ignore[no-any-return]

    def transform(self, op: Op, arrays: tuple[Any, ...], parameters: Any) -> tuple[Any, ...]:
        return _calls().call(op, arrays, parameters)  # type: ignore[no-any-return]

    def is_traced(self, array: Any) -> bool:
        return (
            private.is_functorch_wrapped(array)
            or array.is_meta
            or private.active_tracer() is not None
            or private.overrides_dispatch(type(array))
        )

    def describe(self, array: Any) -> Meta:
        if private.is_functorch_wrapped(array):
            raise Unreadable(
                "belongs to a torch.func transformation (vmap, grad, jvp), expected a plain tensor: call arrayops "
                "outside the transformation"
            )
        if (tracer := private.active_tracer()) is not None:
            raise Unreadable(f"is traced by {tracer}, expected a call outside the trace")
        if array.is_nested or array.layout is not torch.strided or array.is_quantized:
            _reject_layout(array)
        if private.overrides_dispatch(type(array)):
            # Its memory may be absent or not hold its values.
            raise Unreadable(
                f"is {type_name(array)}, a tensor subclass with a __torch_dispatch__, expected a plain tensor"
            )
        return describe(array)

    def device(self, array: Any) -> Device:
        if array.is_cpu:
            return HOST
        if array.is_cuda:
            return GPUS[array.get_device()]
        if array.is_meta:
            raise Unreadable("is on the meta device, without data, expected a tensor on the CPU or a CUDA device")
        raise Unreadable(f"is on {array.device}, which arrayops does not support: move it to the CPU")

    def to_backend(self, array: Any) -> Any:
        if type(array) is not torch.Tensor:
            with private.without_torch_function():
                array = array.as_subclass(torch.Tensor)
        if array.requires_grad:
            array = array.detach()
        # NumPy and DLPack do not support torch's flags for lazy negation and conjugation.
        if array.is_neg():
            array = array.resolve_neg()
        if array.is_conj():
            array = array.resolve_conj()
        if not array.is_cpu:
            return _on_gpus().to_cupy(array, array.get_device())
        view = array.view(torch.int16).numpy().view(BFLOAT16_DTYPE) if array.dtype is torch.bfloat16 else array.numpy()
        view.setflags(write=False)
        return view

    def from_backend(self, result: Any, like: Any) -> Any:
        if not like.is_cpu:
            return _on_gpus().from_cupy(result, like.device)
        # On negative strides torch.from_numpy raises, whereas torch.from_dlpack would abort the process.
        if result.dtype == BFLOAT16_DTYPE:
            return torch.from_numpy(result.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(result)

    def launching(self, device: Device) -> Any:
        return _on_gpus().launching(device.number)


@cache
def _on_gpus() -> Any:
    """The module `cuda`, which needs CuPy; cached, as an import statement in each call would be slower."""
    from arrayops._frameworks.torch import cuda

    return cuda


@cache
def _calls() -> Any:
    """The module `calls`, which imports this package."""
    from arrayops._frameworks.torch import calls

    return calls


def _reject_layout(array: torch.Tensor) -> None:
    if array.is_nested:
        raise Unreadable("is a nested tensor, expected a dense tensor: pass its components one at a time")
    if array.is_quantized:
        raise Unreadable("is a quantized tensor, expected a floating-point tensor: pass tensor.dequantize()")
    raise Unreadable(f"has layout {array.layout}, expected torch.strided: pass tensor.to_dense()")


for _code in opaque.CODES:
    private.never_compile(_code)

framework = TorchFramework()
frameworks = (framework,)
