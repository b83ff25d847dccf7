"""Functions that a tracer which translates Python code must call as they are, without looking inside."""

from collections.abc import Callable
from types import CodeType
from typing import TypeVar

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])

CODES: list[CodeType] = []
"""Code objects of all opaque functions, for tracers that are told by code rather than by an attribute."""


def opaque(function: FunctionT) -> FunctionT:
    """Mark ``function`` for torch.compile and for TensorFlow's AutoGraph.

    The attributes are those that ``torch.compiler.disable`` and ``tf.autograph.experimental.do_not_convert`` set;
    neither framework is imported for them.
    """
    function.__dict__.update(_torchdynamo_disable=True, autograph_info__={})
    CODES.append(function.__code__)
    return function
