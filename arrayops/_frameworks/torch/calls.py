"""Calls that torch transforms: recorded by autograd, cast by autocast, traced, or batched."""

from collections.abc import Sequence
from typing import Any

import torch

from arrayops._call.run import run
from arrayops._core.op import Op
from arrayops._frameworks import type_name
from arrayops._frameworks.torch import library
from arrayops._frameworks.torch.autocast import autocast
from arrayops._frameworks.torch.autograd import OperatorNode, needs_gradient, refuse_tangents
from arrayops._frameworks.torch.memory_format import in_memory_format, may_be_channels_last
from arrayops._frameworks.torch.private import (
    any_autocast,
    dispatch_modes,
    forward_mode,
    functorch_level,
    is_legacy_batched,
    jit_trace,
)

PLAIN: frozenset[type] = frozenset({torch.Tensor, torch.nn.Parameter})
"""Tensor classes stored as plain tensors."""


def must_transform(arrays: Sequence[Any]) -> bool:
    """Whether a call is more than `run`."""
    if _is_surrounded() or any_autocast() or forward_mode():
        return all(array is None or isinstance(array, torch.Tensor) for array in arrays)
    grad_enabled, found = torch.is_grad_enabled(), False
    for array in arrays:
        if array is None:
            continue
        if type(array) not in PLAIN:
            if not isinstance(array, torch.Tensor):
                return False
            found = True
        elif (grad_enabled and array.requires_grad) or may_be_channels_last(array) or _is_no_data(array):
            found = True
    return found


def call(op: Op, arrays: tuple[Any, ...], parameters: Any) -> tuple[Any, ...]:
    """Call an operator as a public function does."""
    return call_operator(op, autocast(op, arrays) if any_autocast() else arrays, parameters)


def call_operator(op: Op, arrays: Sequence[Any], parameters: Any) -> tuple[Any, ...]:
    """Call an operator with the given dtypes, differentiably: by its autograd node, or by its library operator."""
    if _is_surrounded() or any(
        array is not None and (type(array) not in PLAIN or _is_no_data(array)) for array in arrays
    ):
        _refuse_legacy_batches(op, arrays)
        if any(array is not None and array.is_nested for array in arrays):
            return run(op, arrays, parameters)  # which refuses it in our words
        return library.call(op, arrays, parameters)
    refuse_tangents(op, arrays)
    if not needs_gradient(arrays):
        return run_plain(op, arrays, parameters)
    if op.saved:
        parameters = parameters._replace(save=True)
    results: tuple[Any, ...] = OperatorNode.apply(run_plain, call_operator, op, parameters, *arrays)
    return results[: len(op.outputs)] if op.saved else results


def call_in_compiled_function(op: Op, arrays: Sequence[Any], parameters: Any) -> tuple[Any, ...]:
    """`call`, as Dynamo traces it."""
    for i, array in enumerate(arrays):
        spec = op.arrays[min(i, len(op.arrays) - 1)]
        if array is None and not spec.optional:
            raise TypeError(f"{op.name}: {spec.name} is None, expected an array")
        if array is not None and not isinstance(array, torch.Tensor):
            raise TypeError(f"{op.name}: {spec.name} is {type_name(array)}, expected a torch.Tensor")
    return library.call(op, autocast(op, tuple(arrays)), parameters)


def _refuse_legacy_batches(op: Op, arrays: Sequence[Any]) -> None:
    if any(array is not None and is_legacy_batched(array) for array in arrays):
        raise NotImplementedError(
            f"{op.name}: is_grads_batched=True, which vectorize=True and check_batched_grad=True use, is not provided, "
            "expected torch.func.vmap"
        )


def run_plain(op: Op, arrays: Sequence[Any], parameters: Any) -> tuple[Any, ...]:
    """`run`, in the memory format of the tensors."""
    return tuple(in_memory_format(run, op, arrays, parameters))


def _is_surrounded() -> bool:
    """Whether a dispatch mode, a transformation of torch.func or torch.jit.trace sees every operation."""
    return bool(dispatch_modes()) or functorch_level() is not None or jit_trace() is not None


def _is_no_data(tensor: torch.Tensor) -> bool:
    return tensor.is_meta or is_legacy_batched(tensor)
