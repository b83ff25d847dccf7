"""The bits of all results of a call, and the same arrays at other addresses."""

from __future__ import annotations

import numpy as np

import arrayops as ao
from case import Case


def bits(case: Case, grad: np.ndarray) -> dict[str, bytes]:
    """Of the output, the output mask if there is one, and each gradient."""
    found = case.call(ao)
    outputs = {"output": found} if isinstance(found, np.ndarray) else found._asdict()
    results = {**outputs, **case.backward(ao, grad)._asdict()}
    return {name: array.tobytes() for name, array in results.items() if array is not None}


def at_offset(array: np.ndarray, offset: int) -> np.ndarray:
    """The same values, so many bytes behind a multiple of 64."""
    buffer = np.empty(array.nbytes + 128, np.uint8)
    start = -buffer.ctypes.data % 64 + offset
    moved = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


def all_at_offset(case: Case, offset: int, step: int = 0) -> Case:
    """The call with its arrays at an offset, each ``step`` bytes further than the one before."""
    moved, at = {}, offset
    for name, array in case.arrays.items():
        moved[name] = None if array is None else at_offset(array, at % 64)
        at += step
    return case.replace(**moved)
