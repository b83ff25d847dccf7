"""What torch.compile traces in place of the functions of `dispatch`.

Imports are within the functions, since arrayops does not import torch: Dynamo runs them while it traces. So the first
call of a process may be in a compiled function.
"""

from collections.abc import Sequence
from typing import Any

from arrayops._core.op import Op


def dispatch_in_torch_compile(op: Op, arrays: Sequence[Any], parameters: Any) -> tuple[Any, ...]:
    """`dispatch` of tensors that Dynamo traces."""
    from arrayops._frameworks.torch.calls import call_in_compiled_function

    return call_in_compiled_function(op, arrays, parameters)


def read_integer_in_torch_compile(op: Op, array: Any, parameters: Any, caller: str, argument: str) -> int:
    """`read_integer` of a tensor that Dynamo traces, which has no value."""
    raise ValueError(missing_integer(caller, argument))


def missing_integer(caller: str, argument: str) -> str:
    """Error message for an integer that would have to be read from an array without a value."""
    return (
        f"{caller}: {argument} is None, expected an integer: the labels have no values inside a compiled, traced or "
        f"transformed function, pass {argument}="
    )
