"""Dispatch: every public function ends here, and goes on by the framework of its arrays."""

from collections.abc import Iterable, Sequence
from typing import Any

from arrayops import _frameworks
from arrayops._call.compiled import dispatch_in_torch_compile, missing_integer, read_integer_in_torch_compile
from arrayops._call.derivatives import backward_call
from arrayops._call.run import run
from arrayops._core.errors import rename_operator
from arrayops._core.op import Op
from arrayops._core.opaque import traced_by_torch_as


@traced_by_torch_as(dispatch_in_torch_compile)
def dispatch(op: Op, arrays: Sequence[Any], parameters: Any) -> tuple[Any, ...]:
    """Call ``op`` as the framework of its arrays does: differentiated, traced or batched, or at once by `run`.

    Arguments, results and errors are those of `run`, but tracers and variables are arrays too.
    """
    framework = None
    for array in arrays:
        if array is not None:
            found = _frameworks.find(array)
            if found is not None and found.wraps:
                return dispatch(op, [_frameworks.unwrapped(each) for each in arrays], parameters)
            framework = framework or found
    if framework is not None and framework.transforms and framework.must_transform(arrays):
        return framework.transform(op, tuple(arrays), parameters)
    return run(op, arrays, parameters)


@traced_by_torch_as(read_integer_in_torch_compile)
def read_integer(op: Op, array: Any, parameters: Any, caller: str, argument: str) -> int:
    """The result of an operator that computes one integer from one array, read on the host.

    Parameters
    ----------
    op, array, parameters
        The call.
    caller, argument : str
        The public operator and the argument that the integer is a default of, for error messages.

    Raises
    ------
    ValueError
        If the array has no value, as in a traced program.
    """
    array = _frameworks.unwrapped(array)
    framework = _frameworks.find(array)
    if framework is not None and framework.transforms and framework.is_traced(array):
        raise ValueError(missing_integer(caller, argument))
    try:
        (result,) = run(op, (array,), parameters)
        assert framework is not None
        return framework.integer(result)
    except (TypeError, ValueError) as error:
        rename_operator(error, op.name, caller)
        raise


def dispatch_backward(
    op: Op,
    gradients: Sequence[Any],
    arrays: Sequence[Any],
    parameters: Any,
    needs: Iterable[str] | None,
    saved: Sequence[Any] = (),
) -> tuple[Any, ...]:
    """Run the backward of ``op``: one gradient for each differentiable array, None if not requested.

    Parameters
    ----------
    op : Op
        The forward operator.
    gradients, arrays : sequence of array or None
        Gradients of its differentiable outputs, and its arrays.
    parameters : hashable
        Its parameter tuple.
    needs : iterable of str, or None
        Names of the requested gradients; None means all.
    saved : sequence of array or None
        What the forward saved for these arrays and parameters, its results after the outputs if the parameters have
        ``save``; without it, the backward recomputes it.
    """
    requested = op.all_needs if needs is None else checked_needs(op, needs)
    return dispatch(*backward_call(op, gradients, arrays, parameters, requested, saved))


def checked_needs(op: Op, needs: Iterable[str]) -> frozenset[str]:
    """Return ``needs`` as a set, after checking that each name is a differentiable array of ``op``."""
    try:
        requested = frozenset((needs,) if isinstance(needs, str) else needs)
    except TypeError:
        raise TypeError(f"{op.name}_backward: needs is {needs!r}, expected names among {op.differentiable}") from None
    for name in sorted(requested, key=str):
        if name not in op.differentiable:
            raise ValueError(f"{op.name}_backward: needs has {name!r}, expected names among {op.differentiable}")
    return requested
