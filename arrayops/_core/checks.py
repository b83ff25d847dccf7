"""Checks that operators share. Every message reads "<operator>: <argument> is <got>, expected <expected>"."""

from collections.abc import Collection
from typing import Any

import numpy as np

from arrayops._core import dtypes
from arrayops._core.op import Meta
from arrayops._core.shapes import whole

LAYOUTS = ("NCHW", "NHWC")


def choice(op: str, name: str, value: Any, allowed: Collection[str]) -> str:
    """``value``, one of the ``allowed`` words."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{op}: {name} is {value!r}, expected {' or '.join(map(repr, allowed))}")
    return str(value)


def flag(op: str, name: str, value: Any) -> bool:
    """``value``, True or False and nothing that merely counts as such (an array, say, put in the wrong place)."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise TypeError(f"{op}: {name} is {value!r}, expected True or False")


def count(op: str, name: str, value: Any) -> int:
    """``value``, a whole number of at least 1."""
    if not whole(value):
        raise TypeError(f"{op}: {name} is {value!r}, expected a whole number")
    if value < 1:
        raise ValueError(f"{op}: {name} is {value!r}, expected at least 1")
    return int(value)


def axes(op: str, name: str, meta: Meta, letters: str) -> None:
    """``meta`` has one axis for each of the space-separated ``letters``."""
    expected = letters.split()
    if len(meta.shape) != len(expected):
        raise ValueError(f"{op}: {name} is {meta.shape}, expected {len(expected)} axes ({', '.join(expected)})")


def shape(op: str, name: str, meta: Meta, expected: tuple[int, ...], why: str) -> None:
    """``meta`` has exactly the ``expected`` shape, for the reason ``why``."""
    if meta.shape != expected:
        raise ValueError(f"{op}: {name} is {meta.shape}, expected {expected} {why}")


def floating(op: str, name: str, meta: Meta) -> None:
    """``meta`` is of a floating dtype."""
    if meta.dtype not in dtypes.FLOATING:
        raise TypeError(f"{op}: {name} is {meta.dtype}, expected float16, bfloat16, float32 or float64")


def integer(op: str, name: str, meta: Meta) -> None:
    """``meta`` is of an integer dtype."""
    if meta.dtype not in dtypes.INTEGER:
        raise TypeError(f"{op}: {name} is {meta.dtype}, expected an integer dtype")


def dtype(op: str, name: str, meta: Meta, expected: str, why: str) -> None:
    """``meta`` is of the ``expected`` dtype, for the reason ``why``."""
    if meta.dtype != expected:
        raise TypeError(f"{op}: {name} is {meta.dtype}, expected {expected} {why}")
