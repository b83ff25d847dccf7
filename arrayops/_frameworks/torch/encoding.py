"""Parameter tuples as arguments of a library operator: a text, integers and floats.

The text is the structure of the tuple as a Python literal, with strings, bools and None as they are, ``...`` for each
integer and ``0.0`` for each float::

    ConvParameters(stride=(2, 2), padding="SAME", ..., groups=1)   ->   "((...,...,),'SAME',...,...,)", [2, 2, 1], []

So integers may be symbolic in a traced program, and a saved program needs no table of parameters.
"""

import ast
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch

from arrayops._core.op import Op

INT64_LIMIT = 2**63


def encode(parameters: Any) -> tuple[str, list[int], list[float]]:
    """Text, integers and floats of a parameter tuple."""
    integers: list[int] = []
    floats: list[float] = []
    return _encode(parameters, integers, floats), integers, floats


def _encode(value: Any, integers: list[int], floats: list[float]) -> str:
    # torch.compile traces this function: it has no generator expressions and no types beyond the simplest.
    if value is None or isinstance(value, (bool, str)):
        return repr(value)
    if isinstance(value, frozenset):
        value = tuple(sorted(value))
    if isinstance(value, tuple):
        return "(" + "".join([_encode(item, integers, floats) + "," for item in value]) + ")"
    if isinstance(value, float):
        floats.append(value)
        return "0.0"
    # Dynamo would turn the comparison into a bound of a symbolic size.
    if isinstance(value, int) and not torch.compiler.is_dynamo_compiling() and not -INT64_LIMIT <= value < INT64_LIMIT:
        return repr(value)
    integers.append(value)
    return "..."


def decode(op: Op, text: str, integers: Any, floats: Any) -> Any:
    """The parameter tuple of an operator."""
    fields = _fill(_structure(text), iter(integers), iter(floats))
    if op.forward is None:
        return op.parameters(*fields)
    forward, needs = fields
    return op.parameters(op.forward.parameters(*forward), frozenset(needs))


@lru_cache(maxsize=512)
def _structure(text: str) -> Any:
    return ast.literal_eval(text)


def _fill(item: Any, integers: Iterator[int], floats: Iterator[float]) -> Any:
    if isinstance(item, tuple):
        return tuple([_fill(each, integers, floats) for each in item])
    if item is ...:
        return next(integers)
    return next(floats) if isinstance(item, float) else item
