"""Private names of PyTorch, looked up here and nowhere else, each with what is done if a version lacks it."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import reduce
from types import CodeType
from typing import Any

import torch
from torch.autograd import forward_ad


def _find(path: str, fallback: Any) -> Any:
    """The attribute ``torch.<path>``, or ``fallback``."""
    try:
        return reduce(getattr, path.split("."), torch)
    except AttributeError:
        return fallback


def _nothing(*_: Any) -> Any:
    return None


def _false(*_: Any) -> bool:
    return False


def _same(value: Any) -> Any:
    return value


# --- what is going on around a call; without these names nothing is, and `run` refuses tensors that it cannot read ----

dispatch_modes: Callable[[], int] = _find("_C._len_torch_dispatch_stack", _nothing)
"""Number of active dispatch modes, such as FakeTensorMode."""

functorch_level: Callable[[], Any] = _find("_C._functorch.peek_interpreter_stack", _nothing)
"""Innermost transformation of torch.func, or None."""

jit_trace: Callable[[], Any] = _find("_C._get_tracing_state", _nothing)
"""State of torch.jit.trace, or None."""

is_functorch_wrapped: Callable[[torch.Tensor], bool] = _find("_C._functorch.is_functorch_wrapped_tensor", _false)
"""Whether a tensor belongs to a transformation of torch.func."""

is_legacy_batched: Callable[[torch.Tensor], bool] = _find("_C._functorch.is_legacy_batchedtensor", _false)
"""Whether a tensor is batched by the older vmap that ``autograd.grad(is_grads_batched=True)`` uses."""

unwrap_if_dead: Callable[[torch.Tensor], torch.Tensor] = _find("_C._functorch.unwrap_if_dead", _same)
"""The tensor within a wrapper of a transformation that has ended."""

any_autocast: Callable[[], bool] = _find("_C._is_any_autocast_enabled", lambda: True)
"""Whether autocast is enabled for any device type; True if unknown."""


_MODE_KEYS: Any = _find("_C._TorchDispatchModeKey", None)
_dispatch_mode: Callable[[Any], Any] = _find("_C._get_dispatch_mode", _nothing)


def forward_mode() -> bool:
    """Whether forward-mode differentiation is active."""
    return getattr(forward_ad, "_current_level", -1) >= 0


def has_tangent(array: torch.Tensor) -> bool:
    """Whether ``array`` is a dual tensor of forward-mode differentiation."""
    return forward_ad.unpack_dual(array).tangent is not None


def active_tracer() -> str | None:
    """Name of the tracer that records tensor operations now, without values; None if there is none."""
    if jit_trace() is not None:
        return "torch.jit.trace"
    if dispatch_modes() and _MODE_KEYS is not None:
        if _dispatch_mode(_MODE_KEYS.PROXY) is not None:
            return "make_fx"
        if _dispatch_mode(_MODE_KEYS.FAKE) is not None:
            return "FakeTensorMode"
    return None


def overrides_dispatch(tensor_type: type) -> bool:
    """Whether instances of a tensor subclass may have no memory, or memory that does not hold their values."""
    # Compared by equality: an overriding class method is a new bound method on each look-up.
    return bool(tensor_type.__torch_dispatch__ != torch.Tensor.__torch_dispatch__)  # type: ignore[attr-defined]


# --- autograd ------------------------------------------------------------------------------------------------------

SingleLevelFunction: type = _find("autograd.function._SingleLevelFunction", torch.autograd.Function)
"""Base class of autograd nodes that torch.func does not handle itself: our kernels are called at each of its levels."""

single_level_functions: Callable[[], Any] = _find(
    "_functorch.autograd_function.enable_single_level_autograd_function", nullcontext
)
"""Context in which a `SingleLevelFunction` may be applied at a level of torch.func."""

forward_mode_enabled: Callable[[bool], Any] = _find("autograd.forward_ad._set_fwd_grad_enabled", nullcontext)
"""Context that enables or disables forward-mode differentiation."""

below_autograd: Callable[[], Any] = _find("_C._AutoDispatchBelowAutograd", torch.no_grad)
"""Context in which operators go to the kernels below autograd."""


def after_autograd(keyset: Any) -> Any:
    """The dispatch keys of ``keyset`` that come after autograd."""
    return keyset & torch._C._after_autograd_keyset


# --- conversion of tensors ------------------------------------------------------------------------------------------

without_torch_function: Callable[[], Any] = _find("_C.DisableTorchFunctionSubclass", nullcontext)
"""Context in which tensor subclasses do not see the operations on them."""

current_cuda_stream: Callable[[int], int] = _find(
    "_C._cuda_getCurrentRawStream", lambda number: torch.cuda.current_stream(number).cuda_stream
)
"""Handle of the current stream of a GPU."""


# --- memory format --------------------------------------------------------------------------------------------------


def _suggested_format(tensor: torch.Tensor) -> torch.memory_format:
    contiguous = tensor.is_contiguous() or not tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.contiguous_format if contiguous else torch.channels_last


suggest_memory_format: Callable[[torch.Tensor], torch.memory_format] = _find(
    "_prims_common.suggest_memory_format", _suggested_format
)
"""torch's rule for the memory format of a tensor, also for ambiguous strides; the fallback decides those otherwise."""

EXACT_STRIDES = next(
    (
        getattr(torch.Tag, name)
        for name in ("needs_exact_strides", "needs_fixed_stride_order")
        if hasattr(torch.Tag, name)
    ),
    None,
)
"""Tag of operators to which Inductor passes tensors with the strides of the traced program."""


# --- torch.compile --------------------------------------------------------------------------------------------------


def never_compile(code: CodeType) -> None:
    """Make Dynamo skip frames of ``code`` and all frames below them.

    The attribute that ``torch.compiler.disable`` sets is not enough: if the caller is not compiled, Dynamo would still
    compile the callees, and translate the NumPy backend into torch operations. Older versions do not offer this.
    """
    frames = torch._C._dynamo.eval_frame
    if hasattr(frames, "set_code_exec_strategy"):
        skip = frames._FrameAction.SKIP
        frames.set_code_exec_strategy(code, frames._FrameExecStrategy(skip, skip))
