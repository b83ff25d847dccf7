"""Derivatives of calls in reverse mode: one ``jax.custom_vjp`` for each operator and its parameters."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from arrayops._call.derivatives import derivatives
from arrayops._call.run import run
from arrayops._core.op import Op
from arrayops._frameworks.jax.callback import traced_call
from arrayops._frameworks.jax.private import SymbolicZero, Tracer, varying_axes

Arrays = tuple[Any, ...]


def differentiable_call(op: Op, arrays: Sequence[Any], parameters: Any) -> Arrays:
    """`run` of arrays among which are tracers of any transformation."""
    function = _differentiable(op, parameters, repr(parameters), len(arrays))
    results: Arrays = function(tuple(arrays))
    return results


class Wanted(NamedTuple):
    """For each array of a call, whether its derivative is wanted: part of a trace, and not one of its values."""

    arrays: tuple[bool, ...]


jax.tree_util.register_static(Wanted)


@lru_cache(maxsize=512)
def _differentiable(op: Op, parameters: Any, text: str, count: int) -> Callable[[Arrays], Arrays]:
    """The function of a tuple of ``count`` arrays, each an array or None, and its derivative rule.

    ``text`` separates parameters that are equal but not the same, such as 0.0 and -0.0.
    """
    # The results that the derivatives need are computed only if there are derivatives.
    saving = op.saving_parameters(parameters)

    @jax.custom_vjp  # type: ignore[untyped-decorator]
    def function(arrays: Arrays) -> Arrays:
        return _call(op, arrays, parameters, traced_call)

    def forward(arrays: Arrays) -> tuple[Arrays, tuple[Arrays, Arrays, Wanted]]:
        values = tuple([None if array is None else _as_jax(array.value) for array in arrays])
        wanted = Wanted(tuple([array is not None and array.perturbed for array in arrays]))
        # A differentiable call: a derivative of higher order differentiates this one.
        results = _call(op, values, saving)
        return op.requested_results(results, parameters), (values, tuple(op.saved_results(results)), wanted)

    def backward(kept: tuple[Arrays, Arrays, Wanted], cotangents: Arrays) -> tuple[Arrays]:
        values, saved, wanted = kept
        values, saved = (tuple(map(_as_jax, arrays)) for arrays in (values, saved))
        given = [None if _is_zero(cotangent) else _as_jax(cotangent) for cotangent in cotangents]
        found = derivatives(op, values, parameters, saved, wanted.arrays, given, _call, jnp.zeros_like)
        return (tuple(map(_sum_over_devices, found, values)),)

    function.defvjp(forward, backward, symbolic_zeros=True)
    return function  # type: ignore[no-any-return]


def _call(
    op: Op, arrays: Sequence[Any], parameters: Any, traced: Callable[..., Arrays] = differentiable_call
) -> Arrays:
    """Call an operator by ``traced`` if an array is a tracer, and else at once."""
    values = tuple(map(_as_jax, arrays))
    return (traced if any(isinstance(array, Tracer) for array in values) else run)(op, values, parameters)


def _as_jax(array: Any) -> Any:
    """``array``, which JAX may have given as NumPy's: cotangents and constants of traced functions."""
    return array if array is None or isinstance(array, jax.Array) else jnp.asarray(array)


def _is_zero(cotangent: Any) -> bool:
    return cotangent is None or isinstance(cotangent, SymbolicZero) or cotangent.dtype == jax.dtypes.float0


def _sum_over_devices(gradient: Any, value: Any) -> Any:
    """The gradient of a value that is equal on devices of ``jax.shard_map`` is the sum of theirs."""
    if gradient is None:
        return None
    axes = varying_axes(gradient) - varying_axes(value)
    return jax.lax.psum(gradient, tuple(sorted(axes))) if axes else gradient
