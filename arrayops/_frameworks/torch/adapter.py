"""PyTorch tensors, shared without copies: through torch's NumPy bridge on the CPU, through `torch_cuda` on GPUs."""

from functools import cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch.autograd import forward_ad

from arrayops._core import dtypes, opaque
from arrayops._core.dtypes import BFLOAT16_DTYPE
from arrayops._core.op import Meta
from arrayops._frameworks import type_name
from arrayops._frameworks.base import GPUS, Device, Framework, Unreadable
from arrayops._frameworks.numpy import HOST

NAMES: dict[torch.dtype, str] = {
    getattr(torch, name): name for name in {*dtypes.FLOATING, *dtypes.INTEGER, dtypes.BOOL} if hasattr(torch, name)
}

# Tensor classes stored as plain tensors.
_PLAIN: frozenset[type] = frozenset({torch.Tensor, torch.nn.Parameter})

# Looked up once, as they are called for every tensor of every call.
_is_wrapped = torch._C._functorch.is_functorch_wrapped_tensor
_dispatch_modes = torch._C._len_torch_dispatch_stack
_tracing_state = torch._C._get_tracing_state


class TorchFramework(Framework):
    """torch.Tensor on the CPU and on CUDA devices."""

    name: ClassVar[str] = "PyTorch"
    detached: ClassVar[str] = "{name}.detach()"

    def recognises(self, array_type: type) -> bool:
        return issubclass(array_type, torch.Tensor)

    def requires_gradient(self, array: Any) -> bool:
        if array.requires_grad and torch.is_grad_enabled():
            return True
        # Forward mode sets no flag on the tensor, and reading a dual tensor would silently drop its tangent.
        return forward_ad._current_level >= 0 and _has_tangent(array)

    def describe(self, array: Any) -> Meta:
        if _is_wrapped(array):
            raise Unreadable(
                "belongs to a torch.func transformation (vmap, grad, jvp), expected a plain tensor: call arrayops "
                "outside the transformation"
            )
        if _dispatch_modes() or _tracing_state() is not None:
            _reject_tracing()
        if array.is_nested or array.layout is not torch.strided or array.is_quantized:
            _reject_layout(array)
        if type(array) not in _PLAIN:
            _reject_dispatching(array)
        name = NAMES.get(array.dtype) or str(array.dtype).removeprefix("torch.")
        # Equal to Meta(...), in half the time.
        return tuple.__new__(Meta, (tuple(array.shape), name))

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
            with torch._C.DisableTorchFunctionSubclass():
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
    """The module `torch_cuda`, which needs CuPy; cached, as an import statement in each call would be slower."""
    from arrayops._frameworks import torch_cuda

    return torch_cuda


def _has_tangent(array: torch.Tensor) -> bool:
    return forward_ad.unpack_dual(array).tangent is not None


def _reject_dispatching(array: torch.Tensor) -> None:
    """Reject subclasses that override operations: their memory may be absent or not hold their values."""
    tensor_type = type(array)
    # Compared by equality: an overriding class method is a new bound method on each look-up.
    if tensor_type.__torch_dispatch__ != torch.Tensor.__torch_dispatch__:
        raise Unreadable(f"is {type_name(array)}, a tensor subclass with a __torch_dispatch__, expected a plain tensor")


def _reject_tracing() -> None:
    """Reject calls from torch's tracers, which would record the result as a constant or make it a fake tensor."""
    modes = torch._C._TorchDispatchModeKey
    tracers = (
        ("torch.jit.trace", _tracing_state()),
        ("make_fx", torch._C._get_dispatch_mode(modes.PROXY)),
        ("FakeTensorMode", torch._C._get_dispatch_mode(modes.FAKE)),
    )
    for tracer, active in tracers:
        if active is not None:
            raise Unreadable(
                f"is traced by {tracer}, which cannot record arrayops functions: call arrayops outside the trace"
            )


def _reject_layout(array: torch.Tensor) -> None:
    if array.is_nested:
        raise Unreadable("is a nested tensor, expected a dense tensor: pass its components one at a time")
    if array.is_quantized:
        raise Unreadable("is a quantized tensor, expected a floating-point tensor: pass tensor.dequantize()")
    raise Unreadable(f"has layout {array.layout}, expected torch.strided: pass tensor.to_dense()")


# torch.compile must not trace opaque functions or their callees: Dynamo would translate the NumPy backend into torch
# operations. The graph of a compiled caller breaks there and resumes after the call. The attribute alone is not enough:
# Dynamo would still compile the callees. This is at module level because Dynamo would try to trace it in a function.
_frames = torch._C._dynamo.eval_frame
if hasattr(_frames, "set_code_exec_strategy"):
    for _code in opaque.CODES:
        _frames.set_code_exec_strategy(
            _code, _frames._FrameExecStrategy(_frames._FrameAction.SKIP, _frames._FrameAction.SKIP)
        )
# If the first tensor of the process comes from a compiled function, that call is already in progress: the rest of it
# runs uncompiled. torch.compile installs its hook again at the next call.
_frames.set_eval_frame(None)

framework = TorchFramework()
