"""Derivatives of a call, for every framework: first ones by the backward, second ones where an operator is linear.

Let f be linear in an array a. Its backward for a, contracted with a cotangent u of the gradient of a, is ::

    sum of u * backward(g, a, b).a  =  sum of g * f(u, b)

whose derivative by the gradient g is f(u, b), and by another array b is the backward of f(u, b) for b. So derivatives
of a backward call are forward and backward calls of the same operator, and have derivatives of any order themselves.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from arrayops._core.op import BackwardParameters, Linearity, Op

Call = Callable[[Op, Sequence[Any], Any], tuple[Any, ...]]
"""``(op, arrays, parameters) -> results``, as `dispatch`."""


def backward_call(
    op: Op, gradients: Sequence[Any], arrays: Sequence[Any], parameters: Any, needs: frozenset[str], saved: Any = ()
) -> tuple[Op, tuple[Any, ...], BackwardParameters]:
    """Arguments of `dispatch` for the backward of ``op``."""
    if all(array is None for array in saved):
        saved = ()
    return op.backward, (*gradients, *arrays, *saved), BackwardParameters(parameters, needs)


def derivatives(
    op: Op,
    arrays: Sequence[Any],
    parameters: Any,
    saved: Sequence[Any],
    wanted: Sequence[bool],
    cotangents: Sequence[Any],
    call: Call,
    zeros_like: Callable[[Any], Any],
) -> list[Any]:
    """Derivatives of a forward or a backward call by its arrays.

    Parameters
    ----------
    op, arrays, parameters
        The call.
    saved : sequence of array or None
        What a forward call saved.
    wanted : sequence of bool
        For each of ``arrays``, whether its derivative is wanted.
    cotangents : sequence of array or None
        For each result of the call, the cotangent; None means zero. Further ones are ignored.
    call : callable
        Calls an operator, differentiably.
    zeros_like : callable
        A zero array like the given one.

    Returns
    -------
    list of array or None
        For each of ``arrays``, its derivative; None if it is zero or not wanted.

    Raises
    ------
    NotImplementedError
        If one of `refused_cotangents` of a backward call is not None.
    """
    if op.forward is not None:
        return _second_derivatives(op, arrays, parameters, wanted, cotangents, call, zeros_like)
    specs = op.specs(len(arrays))
    given = [cotangent for cotangent, yes in zip(cotangents, op.differentiable_results, strict=False) if yes]
    needs = frozenset([spec.argument for spec, yes in zip(specs, wanted, strict=True) if yes and spec.differentiable])
    if not needs or all(cotangent is None for cotangent in given):
        return [None] * len(arrays)
    if op.saved:
        parameters = parameters._replace(save=False)
    gradients = iter(call(*backward_call(op, given, arrays, parameters, needs, saved)))
    return [next(gradients) if spec.differentiable else None for spec in specs]


def _second_derivatives(
    op: Op,
    arrays: Sequence[Any],
    parameters: BackwardParameters,
    wanted: Sequence[bool],
    cotangents: Sequence[Any],
    call: Call,
    zeros_like: Callable[[Any], Any],
) -> list[Any]:
    """`derivatives` of a backward call."""
    if all(cotangent is None for cotangent in cotangents):
        return [None] * len(arrays)
    for i, error in refused_cotangents(op, arrays, parameters).items():
        if cotangents[i] is not None:
            raise error
    backward = _split(op, arrays)
    forward, linearity = backward.op, _linearity(op, parameters)
    by_array = dict(zip(backward.differentiable, cotangents, strict=True))
    directions = {i: cotangent for i, cotangent in by_array.items() if cotangent is not None}
    linear, additive = (
        {i: u for i, u in directions.items() if backward.names[i] in names}
        for names in (linearity.arrays, linearity.additive)
    )
    homogeneous = parameters.forward._replace(**dict(linearity.homogeneous))
    own_terms = [
        None if name in linearity.additive else x for name, x in zip(backward.names, backward.arrays, strict=True)
    ]
    found: list[Any] = [None] * len(arrays)
    for substituted in _substitutions(forward, linear, own_terms, zeros_like):
        values = [substituted.get(i, x) for i, x in enumerate(own_terms)]
        if any(wanted[: backward.gradient_count]):
            # The term of an additive array is computed with the first of the linear ones.
            terms, additive = additive, {}
            outputs = call(forward, [terms.get(i, x) for i, x in enumerate(values)], homogeneous)
            for j, k in enumerate(k for k, yes in enumerate(forward.differentiable_results) if yes):
                if wanted[j] and arrays[j] is not None:
                    _add(found, j, outputs[k])
        others = frozenset(
            backward.names[i]
            for i in backward.differentiable
            if i not in substituted and values[i] is not None and wanted[backward.gradient_count + i]
        )
        if others and not forward.arrays[-1].variadic:
            results = call(*backward_call(forward, backward.grads, values, homogeneous, others))
            for i, result in zip(backward.differentiable, results, strict=True):
                if result is not None:
                    _add(found, backward.gradient_count + i, result)
    if additive and any(wanted[: backward.gradient_count]):
        first = next(i for i, name in enumerate(backward.names) if name in linearity.arrays)
        values = [zeros_like(x) if i == first else additive.get(i, x) for i, x in enumerate(own_terms)]
        _add(found, 0, call(forward, values, homogeneous)[0])
    return found


def refused_cotangents(op: Op, arrays: Sequence[Any], parameters: Any) -> dict[int, NotImplementedError]:
    """Errors for the cotangents of a call, by their indices, that have no derivatives, if they are not zero."""
    if op.forward is None:
        return {}
    backward, linearity = _split(op, arrays), _linearity(op, parameters)
    names = [backward.names[i] for i in backward.differentiable]
    linear = {*linearity.arrays, *linearity.additive}
    return {i: _refusal(op, name) for i, name in enumerate(names) if name not in linear}


NOT_LINEAR = Linearity(())


class _Backward(NamedTuple):
    """A backward call taken apart: the forward, its arrays with their argument names, and the output gradients."""

    op: Op
    grads: tuple[Any, ...]
    arrays: tuple[Any, ...]
    names: tuple[str, ...]
    differentiable: tuple[int, ...]

    @property
    def gradient_count(self) -> int:
        return len(self.grads)


def _split(op: Op, arrays: Sequence[Any]) -> _Backward:
    forward = op.forward
    assert forward is not None
    count = len(forward.differentiable_outputs)
    values = tuple(arrays[count:])
    if forward.saved and len(values) > len(forward.arrays):
        values = values[: -len(forward.saved)]
    specs = forward.specs(len(values))
    return _Backward(
        forward,
        tuple(arrays[:count]),
        values,
        tuple(spec.argument for spec in specs),
        tuple(i for i, spec in enumerate(specs) if spec.differentiable),
    )


def _linearity(op: Op, parameters: BackwardParameters) -> Linearity:
    assert op.forward is not None
    linearity = op.forward.linearity
    return linearity if linearity is not None and linearity.holds(parameters.forward) else NOT_LINEAR


def _refusal(op: Op, name: str) -> NotImplementedError:
    assert op.forward is not None
    return NotImplementedError(
        f"{op.name}: the derivative of the gradient of {name} is not provided, as arrayops.{op.forward.name} is not "
        f"linear in {name}: second derivatives exist only for arrays in which an operator is linear"
    )


def _substitutions(
    forward: Op, linear: dict[int, Any], arrays: Sequence[Any], zeros_like: Callable[[Any], Any]
) -> list[dict[int, Any]]:
    """Arrays to replace in each forward call: one at a time, but all arrays of a variadic argument jointly."""
    if not forward.arrays[-1].variadic:
        return [{i: u} for i, u in linear.items()]
    return [{i: linear[i] if i in linear else zeros_like(x) for i, x in enumerate(arrays)}] if linear else []


def _add(found: list[Any], index: int, term: Any) -> None:
    found[index] = term if found[index] is None else found[index] + term
