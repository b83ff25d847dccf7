"""Functions that tracers of Python code (torch.compile, AutoGraph) must not trace into."""

from collections.abc import Callable
from functools import lru_cache
from types import CodeType
from typing import Any, TypeVar

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

CODES: list[CodeType] = []
"""Code objects of all opaque functions, for tracers that identify functions by code object, not by an attribute."""


def opaque(function: FunctionT) -> FunctionT:
    """Mark ``function`` for torch.compile and for TensorFlow's AutoGraph, which then call it as it is.

    Sets the attributes that ``torch.compiler.disable`` and ``tf.autograph.experimental.do_not_convert`` set, without
    importing either framework.
    """
    function.__dict__.update(_torchdynamo_disable=True, autograph_info__={})
    CODES.append(function.__code__)
    return function


def traced_by_torch_as(traced: Callable[..., Any]) -> Callable[[FunctionT], FunctionT]:
    """Decorator of a function in whose place torch.compile shall trace ``traced``; AutoGraph calls it as it is."""

    def decorate(function: FunctionT) -> FunctionT:
        function.__dict__.update(_torchdynamo_inline=traced, autograph_info__={})
        CODES.append(function.__code__)
        return function

    return decorate


def cached_if_hashable(function: FunctionT) -> FunctionT:
    """Cache results by the positional arguments; a call with unhashable ones, as symbolic sizes are, is not cached.

    torch.compile traces the function itself: it ignores caches, with a warning.
    """
    cached = lru_cache(maxsize=512)(function)

    def call(*arguments: Any) -> Any:
        try:
            return cached(*arguments)
        except TypeError:
            # Also an error of the function itself, which the second call raises again.
            return function(*arguments)

    call.__doc__ = function.__doc__
    return traced_by_torch_as(function)(call)  # type: ignore[return-value]
