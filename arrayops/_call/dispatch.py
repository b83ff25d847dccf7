"""The one way of a call: arrays in, framework, checks, backend, arrays out."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from typing import Any

from arrayops import _backends, _frameworks
from arrayops._core.op import BackwardParameters, Meta, Metas, Op
from arrayops._core.opaque import opaque
from arrayops._frameworks.base import Device, Framework, Unreadable

ON_CPU = nullcontext()


@opaque
def dispatch(op: Op, arrays: Sequence[Any], parameters: Any) -> tuple[Any, ...]:
    """Run ``op`` on arrays of one framework and one device; return its results as arrays of the same.

    Parameters
    ----------
    op : Op
        The operator.
    arrays : sequence of array or None
        One entry for each array argument of the operator.
    parameters : hashable
        The operator's parameter tuple.

    Returns
    -------
    tuple of array or None
        One entry for each result that the operator's ``infer`` promised.

    Raises
    ------
    TypeError
        For a missing array, an array of no known framework, mixed frameworks, or one that wants a gradient.
    ValueError
        For arrays on different devices, and whatever ``op.infer`` finds.
    """
    framework: Framework | None = None
    device: Device | None = None
    kind: type | None = None
    first = ""
    like: Any = None
    metas: list[Meta | None] = []
    for spec, array in zip(op.specs(len(arrays)), arrays, strict=True):
        if array is None:
            if not spec.optional:
                raise TypeError(f"{op.name}: {spec.name} is None, expected an array")
            metas.append(None)
            continue
        # Arrays of a call are nearly always of one type, whose framework is then known.
        found = framework if type(array) is kind else _frameworks.find(array)
        if found is None:
            raise TypeError(
                f"{op.name}: {spec.name} is {_frameworks.type_name(array)}, expected an array of NumPy, CuPy, PyTorch, "
                "JAX, TensorFlow or another array API library with DLPack"
            )
        if framework is None:
            framework, kind, first, like = found, type(array), spec.name, array
        elif found is not framework:
            raise TypeError(
                f"{op.name}: {spec.name} is an array of {found.name}, expected {framework.name} as for {first}"
            )
        try:
            if found.differentiates and found.wants_gradient(array):
                raise Unreadable(gradient_refusal(op, found))
            metas.append(found.describe(array))
            where = found.device(array)
        except Unreadable as reason:
            raise TypeError(f"{op.name}: {spec.name} {reason}") from None
        if device is None:
            device = where
        elif where is not device and where != device:
            moved = found.moved(array, device)
            if moved is None:
                raise ValueError(f"{op.name}: {spec.name} is on {where}, expected {device} as for {first}")
            number = len(metas) - 1
            arrays = (*arrays[:number], moved, *arrays[number + 1 :])
    if framework is None or device is None:
        raise TypeError(f"{op.name}: got no array")
    promised = op.infer_cached(tuple(metas), parameters)
    function = _backends.find(device.kind, op.family, op.name)
    take, give = framework.to_backend, framework.from_backend
    with ON_CPU if device.kind == "cpu" else framework.launching(device):
        results = function(tuple([None if array is None else take(array) for array in arrays]), parameters)
        if op.saved and len(promised) > len(op.outputs):
            results, promised = _saved_by_backend(op, results, promised)
        return tuple(
            [None if meta is None else give(result, like) for result, meta in zip(results, promised, strict=True)]
        )


def dispatch_saving(op: Op, arrays: Sequence[Any], parameters: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """`dispatch`, and beside the results what `dispatch_backward` takes as ``saved``.

    Returns
    -------
    results : tuple of array or None
        As of `dispatch`.
    saved : tuple of array or None
        One entry for each name in ``op.saved``; None for what the call has not or the backend does not save.
    """
    if not op.saved:
        return dispatch(op, arrays, parameters), ()
    found = dispatch(op, arrays, parameters._replace(save=True))
    return found[: len(op.outputs)], found[len(op.outputs) :]


def _saved_by_backend(op: Op, results: tuple[Any, ...], promised: Metas) -> tuple[tuple[Any, ...], Metas]:
    """Results of a call that saves, with None and no promise for what the backend did not save."""
    count = len(op.outputs)
    saved = results[count:] or (None,) * len(op.saved)
    kept = [None if array is None else meta for array, meta in zip(saved, promised[count:], strict=True)]
    return (*results[:count], *saved), (*promised[:count], *kept)


def dispatch_backward(
    op: Op,
    gradients: Sequence[Any],
    arrays: Sequence[Any],
    parameters: Any,
    needs: Iterable[str] | None,
    saved: Sequence[Any] = (),
) -> tuple[Any, ...]:
    """Run the backward of ``op``: one gradient for each differentiable array, None for those not made.

    Parameters
    ----------
    op : Op
        The forward operator.
    gradients, arrays : sequence of array or None
        Gradients of its differentiable outputs, and its arrays.
    parameters : hashable
        Its parameter tuple.
    needs : iterable of str, or None
        Names of the gradients that are wanted; None means all.
    saved : sequence of array or None
        What `dispatch_saving` returned with these arrays and parameters; without it the backward finds it anew.
    """
    wanted = op.all_needs if needs is None else checked_needs(op, needs)
    if all(array is None for array in saved):
        saved = ()
    return dispatch(op.backward, (*gradients, *arrays, *saved), BackwardParameters(parameters, wanted))


def checked_needs(op: Op, needs: Iterable[str]) -> frozenset[str]:
    """``needs`` as a set, every name of which is a differentiable array of ``op``."""
    try:
        wanted = frozenset((needs,) if isinstance(needs, str) else needs)
    except TypeError:
        raise TypeError(f"{op.name}_backward: needs is {needs!r}, expected names among {op.differentiable}") from None
    for name in sorted(wanted, key=str):
        if name not in op.differentiable:
            raise ValueError(f"{op.name}_backward: needs has {name!r}, expected names among {op.differentiable}")
    return wanted


def gradient_refusal(op: Op, framework: Framework) -> str:
    """Why an array that asks for a gradient is not taken, and what to call instead."""
    if op.forward is not None:
        return f"asks {framework.name} for a gradient, but {op.name} has none: second derivatives are not provided"
    return (
        f"asks {framework.name} for a gradient, which {op.name} does not carry through {framework.name}: "
        f"pass detached arrays and call arrayops.{op.backward.name} for the gradients"
    )
