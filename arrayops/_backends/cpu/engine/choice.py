"""Compiled kernels or NumPy: what ``ARRAYOPS_CPU`` asks for, and what can be had."""

import itertools
import os
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

from arrayops._backends.cpu.engine.compiler import REMEDY
from arrayops._backends.cpu.engine.errors import EngineUnavailable

AUTO, NUMPY, COMPILED = CHOICES = ("auto", "numpy", "compiled")

Operator = Callable[[tuple[Any, ...], Any], tuple[Any, ...]]

_choice: str | None = None
_warnings = itertools.count()
_reason: str | None = None


def choice() -> str:
    """What ``ARRAYOPS_CPU`` had asked for when an operator was first called on the CPU: "auto", "numpy" or "compiled".

    Raises
    ------
    ValueError
        If it is something else.
    """
    global _choice
    if _choice is None:
        value = os.environ.get("ARRAYOPS_CPU") or AUTO
        if value not in CHOICES:
            raise ValueError(f"ARRAYOPS_CPU is {value!r}, expected one of {', '.join(CHOICES)}")
        _choice = value
    return _choice


def reason() -> str | None:
    """Why NumPy has served in place of compiled kernels, most recently; None if it has not."""
    return _reason


def compiled_or(plain: Operator) -> Callable[[Operator], Operator]:
    """Decorator of an operator that compiled kernels compute: call ``plain`` where they are not to be had.

    The decorated function loads all units that it needs, and so raises `EngineUnavailable`, before it does any work.
    """

    def decorate(compiled: Operator) -> Operator:
        @wraps(compiled)
        def call(arrays: tuple[Any, ...], parameters: Any) -> tuple[Any, ...]:
            if (_choice or choice()) != NUMPY:
                try:
                    return compiled(arrays, parameters)
                except EngineUnavailable as error:
                    fall_back(error)
            return plain(arrays, parameters)

        return call

    return decorate


def fall_back(error: EngineUnavailable) -> None:
    """Note that NumPy is to serve, with one warning a process.

    Raises
    ------
    EngineUnavailable
        If ``ARRAYOPS_CPU`` is "compiled": NumPy must not serve.
    """
    global _reason
    if choice() == COMPILED:
        raise EngineUnavailable(f"ARRAYOPS_CPU is 'compiled', but compiled kernels cannot serve: {error}") from error
    _reason = str(error)
    if next(_warnings) == 0:
        warnings.warn(
            f"arrayops computes with NumPy on the CPU, which takes several times as long as compiled kernels: {error}\n"
            f"For compiled kernels: {REMEDY}. ARRAYOPS_CPU=numpy chooses NumPy without this warning.",
            RuntimeWarning,
            stacklevel=2,
        )
