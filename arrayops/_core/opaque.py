"""Functions that tracers of Python code (torch.compile, AutoGraph) must call without tracing into them."""

from collections.abc import Callable
from types import CodeType
from typing import TypeVar

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])

CODES: list[CodeType] = []
"""Code objects of all opaque functions, for tracers that identify functions by code object, not by an attribute."""


def opaque(function: FunctionT) -> FunctionT:
    """Mark ``function`` for torch.compile and for TensorFlow's AutoGraph.

    Sets the attributes that ``torch.compiler.disable`` and ``tf.autograph.experimental.do_not_convert`` set, without
    importing either framework.
    """
    function.__dict__.update(_torchdynamo_disable=True, autograph_info__={})
    CODES.append(function.__code__)
    return function
