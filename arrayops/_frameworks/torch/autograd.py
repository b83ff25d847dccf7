"""The autograd node of every operator."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from arrayops._call.derivatives import derivatives
from arrayops._core.op import Op
from arrayops._frameworks.torch.private import (
    SingleLevelFunction,
    forward_mode,
    has_tangent,
    is_functorch_wrapped,
    unwrap_if_dead,
)

Call = Callable[[Op, Sequence[Any], Any], Sequence[Any]]


class OperatorNode(SingleLevelFunction):  # type: ignore[misc]
    """One call in the autograd graph. Results that the forward saves are further results, which its caller drops."""

    @staticmethod
    def forward(ctx: Any, compute: Call, call: Call, op: Op, parameters: Any, *arrays: Any) -> tuple[Any, ...]:
        """Compute the results by ``compute``; gradients will be computed by ``call``, which is differentiable."""
        results = tuple(compute(op, arrays, parameters))
        ctx.call, ctx.op, ctx.parameters, ctx.count = call, op, parameters, len(arrays)
        # An output without a gradient gives None, not zeros.
        ctx.set_materialize_grads(False)
        fixed = [
            result
            for result, differentiable in zip(results, op.differentiable_results, strict=False)
            if result is not None and not differentiable
        ]
        if fixed:
            ctx.mark_non_differentiable(*fixed)
        ctx.save_for_backward(*arrays, *op.saved_results(results))
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Gradients by the arrays, of which only the needed ones are computed."""
        # The function that torch.func.vjp returns may run after its level has ended.
        tensors = [
            unwrap_if_dead(each) if each is not None and is_functorch_wrapped(each) else each
            for each in ctx.saved_tensors
        ]
        arrays, saved = tensors[: ctx.count], [or_none(each) for each in tensors[ctx.count :]]
        wanted = ctx.needs_input_grad[4:]
        found = derivatives(ctx.op, arrays, ctx.parameters, saved, wanted, grads, ctx.call, torch.zeros_like)
        return (None, None, None, None, *found)


def or_none(result: torch.Tensor | None) -> torch.Tensor | None:
    """None for the placeholder that library operators return for a result that is not computed."""
    return None if result is not None and result.dtype is torch.uint8 and result.dim() == 1 else result


def needs_gradient(arrays: Sequence[Any]) -> bool:
    """Whether autograd records a call with these arrays."""
    return torch.is_grad_enabled() and any(array is not None and array.requires_grad for array in arrays)


def refuse_tangents(op: Op, arrays: Sequence[Any]) -> None:
    """Raise NotImplementedError in forward-mode differentiation, which would silently lose the tangents."""
    if forward_mode() and any(array is not None and has_tangent(array) for array in arrays):
        raise NotImplementedError(
            f"{op.name}: forward-mode differentiation (jvp, jacfwd, hessian, dual tensors) is not provided, expected "
            "reverse mode, such as torch.func.vjp and jacrev"
        )
