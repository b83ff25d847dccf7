"""Argument checks shared by operators. Every message reads "<operator>: <argument> is <got>, expected <expected>"."""

from collections.abc import Collection
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np

from arrayops._core import dtypes
from arrayops._core.op import Meta
from arrayops._core.shapes import as_int, is_integer

ResolvedLayout = Literal["NCHW", "NHWC"]
LAYOUTS: dict[str, ResolvedLayout] = {"NCHW": "NCHW", "NHWC": "NHWC", "CHANNELS_FIRST": "NCHW", "CHANNELS_LAST": "NHWC"}
"""Layouts by their names in upper case."""


def choice(op: str, name: str, value: Any, allowed: Collection[str]) -> str:
    """Return ``value``, which must be one of the ``allowed`` strings."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{op}: {name} is {value!r}, expected {' or '.join(map(repr, allowed))}")
    return str(value)


def layout(op: str, value: Any) -> ResolvedLayout:
    """Return "NCHW" or "NHWC" for ``value``, a name of either in any case."""
    found = LAYOUTS.get(value.upper()) if isinstance(value, str) else None
    if found is None:
        raise ValueError(
            f"{op}: layout is {value!r}, expected 'NCHW', 'NHWC', 'channels_first', 'channels_last' or None"
        )
    return found


def flag(op: str, name: str, value: Any) -> bool:
    """Return ``value``, which must be a bool; other truthy values are rejected, as they may be misplaced arguments."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise TypeError(f"{op}: {name} is {value!r}, expected True or False")


def count(op: str, name: str, value: Any) -> int:
    """Return ``value``, which must be an integer of at least 1."""
    if not is_integer(value):
        raise TypeError(f"{op}: {name} is {value!r}, expected an integer")
    if value < 1:
        raise ValueError(f"{op}: {name} is {value!r}, expected at least 1")
    return as_int(value)


def number(op: str, name: str, value: Any) -> float:
    """Check a real number; integers stay int and are therefore exact."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real):
        raise TypeError(f"{op}: {name} is {value!r}, expected a number")
    return int(value) if isinstance(value, Integral) else float(value)


def axes(op: str, name: str, meta: Meta, letters: str) -> None:
    """Check that ``meta`` has one axis for each of the space-separated ``letters``."""
    expected = letters.split()
    if len(meta.shape) != len(expected):
        raise ValueError(f"{op}: {name} is {meta.shape}, expected {len(expected)} axes ({', '.join(expected)})")


def shape(op: str, name: str, meta: Meta, expected: tuple[int, ...], why: str) -> None:
    """Check that the shape of ``meta`` is ``expected``; ``why`` ends the error message."""
    if meta.shape != expected:
        raise ValueError(f"{op}: {name} is {meta.shape}, expected {expected} {why}")


def floating(op: str, name: str, meta: Meta) -> None:
    """Check that ``meta`` has a floating-point dtype."""
    if meta.dtype not in dtypes.FLOATING:
        raise TypeError(f"{op}: {name} is {meta.dtype}, expected float16, bfloat16, float32 or float64")


def integer(op: str, name: str, meta: Meta) -> None:
    """Check that ``meta`` has an integer dtype."""
    if meta.dtype not in dtypes.INTEGER:
        raise TypeError(f"{op}: {name} is {meta.dtype}, expected an integer dtype")


def dtype(op: str, name: str, meta: Meta, expected: str, why: str) -> None:
    """Check that the dtype of ``meta`` is ``expected``; ``why`` ends the error message."""
    if meta.dtype != expected:
        raise TypeError(f"{op}: {name} is {meta.dtype}, expected {expected} {why}")
