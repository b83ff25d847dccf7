"""Calls that torch transforms: recorded by autograd, cast by autocast, traced, or batched."""

from collections.abc import Sequence
from typing import Any

import torch

from arrayops._call.arguments import check_framework
from arrayops._call.run import run
from arrayops._core.op import Op
from arrayops._frameworks import type_name
from arrayops._frameworks.torch import library
from arrayops._frameworks.torch.adapter import framework
from arrayops._frameworks.torch.autocast import autocast
from arrayops._frameworks.torch.autograd import OperatorNode, refuse_tangents
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


# Loops in place of any() and all() in this module: a generator would take as long as all the tests of a call.


def must_transform(arrays: Sequence[Any]) -> bool:
    """Whether a call is more than `run`."""
    surrounded = _is_surrounded()
    found = surrounded or any_autocast() or forward_mode()
    grad_enabled = torch.is_grad_enabled()
    for array in arrays:
        if array is None:
            continue
        if type(array) in PLAIN:
            if (grad_enabled and array.requires_grad) or may_be_channels_last(array) or _has_no_values(array):
                found = True
        elif isinstance(array, torch.Tensor):
            found = True
        else:
            # An array of another framework, which is refused, by `run` where it can tell tensors.
            return surrounded
    return found


def call(op: Op, arrays: tuple[Any, ...], parameters: Any) -> tuple[Any, ...]:
    """Call an operator as a public function does."""
    return call_operator(op, autocast(op, arrays) if any_autocast() else arrays, parameters)


def call_operator(op: Op, arrays: Sequence[Any], parameters: Any) -> tuple[Any, ...]:
    """Call an operator with the given dtypes, differentiably: by its autograd node, or by its library operator."""
    by_library, recorded, grad_enabled = _is_surrounded(), False, torch.is_grad_enabled()
    for array in arrays:
        if array is None:
            continue
        if type(array) not in PLAIN or _has_no_values(array):
            by_library = True
        elif grad_enabled and array.requires_grad:
            recorded = True
    if by_library:
        return _call_library(op, arrays, parameters)
    refuse_tangents(op, arrays)
    if not recorded:
        return run_plain(op, arrays, parameters)
    saving = op.saving_parameters(parameters)
    results: tuple[Any, ...] = OperatorNode.apply(run_plain, call_operator, op, saving, *arrays)
    return op.requested_results(results, parameters)


def _call_library(op: Op, arrays: Sequence[Any], parameters: Any) -> tuple[Any, ...]:
    check_framework(op, arrays, framework)
    for array in arrays:
        if array is not None and is_legacy_batched(array):
            raise NotImplementedError(
                f"{op.name}: is_grads_batched=True, which vectorize=True and check_batched_grad=True use, is not "
                "provided, expected torch.func.vmap"
            )
        if array is not None and array.is_nested:
            # Which is refused there.
            return run(op, arrays, parameters)
    return library.call(op, arrays, parameters)


def call_in_compiled_function(op: Op, arrays: Sequence[Any], parameters: Any) -> tuple[Any, ...]:
    """`call`, as Dynamo traces it."""
    for i, array in enumerate(arrays):
        spec = op.arrays[min(i, len(op.arrays) - 1)]
        if array is None and not spec.optional:
            raise TypeError(f"{op.name}: {spec.name} is None, expected an array")
        if array is not None and not isinstance(array, torch.Tensor):
            raise TypeError(f"{op.name}: {spec.name} is {type_name(array)}, expected a torch.Tensor")
    return library.call(op, autocast(op, tuple(arrays)), parameters)


def run_plain(op: Op, arrays: Sequence[Any], parameters: Any) -> tuple[Any, ...]:
    """`run`, in the memory format of the tensors."""
    return tuple(in_memory_format(run, op, arrays, parameters))


def _is_surrounded() -> bool:
    """Whether a dispatch mode, a transformation of torch.func or torch.jit.trace sees every operation."""
    return bool(dispatch_modes()) or functorch_level() is not None or jit_trace() is not None


def _has_no_values(tensor: torch.Tensor) -> bool:
    return tensor.is_meta or is_legacy_batched(tensor)
