"""Calls of every family on the GPU, against the NumPy backend."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import arrayops as ao
import cuda_device
from gpu import cases, results

# Pixels along an axis, and channels.
SMOKE = (19, 16)
LARGE = (131, 64)
LIMITS = {"float32": 1e-5, "float16": 4e-3}
"""Relative errors, in the norm of all elements."""

SHARED_FILES = ("pack_weights.cu", "segment_labels.cu", "segment_order.cu", "sums.cu")
"""Files of kernels that run in many calls: they say little about which kernel is wrong."""


@contextmanager
def device(dry: bool) -> Iterator[cuda_device.Device]:
    """The GPU, or the emulator."""
    with cuda_device.emulated() if dry else cuda_device.real() as found:
        yield found


def run(stage: str, dry: bool, size: int, channels: int, *, repeats: int = 0, only: str = "") -> int:
    """Every case whose name holds ``only``; results of ``repeats`` more calls must have the same bits."""
    with device(dry) as found:
        return check(stage, found, size, channels, repeats=repeats, only=only)


def check(stage: str, device: cuda_device.Device, size: int, channels: int, *, repeats: int = 0, only: str = "") -> int:
    """The same, on a device: 0, 1 if a case is wrong, or `results.LOST`."""
    wrong = 0
    for call in cases.calls(size, channels):
        if only not in call.name:
            continue
        before = {str(kernel.identity) for kernel in cuda_device.kernels()}
        row = _row(call, device, repeats)
        if not row["ok"]:
            wrong += 1
            kernels = {str(kernel.identity) for kernel in cuda_device.kernels()} - before
            row["kernels"] = sorted(name for name in kernels if not name.startswith(SHARED_FILES))[:8]
        results.emit(stage, **row)
        if results.context_is_lost(row.get("exception", "")):
            results.emit(stage, event="the CUDA context is lost", case=call.name)
            return results.LOST
    return 1 if wrong else 0


def _row(call: cases.Call, device: cuda_device.Device, repeats: int) -> dict[str, Any]:
    row: dict[str, Any] = {"case": call.name, "ok": False}
    try:
        begin = time.perf_counter()
        got = flat(call.on(device))
        row["first_s"] = round(time.perf_counter() - begin, 3)
        want = flat(call.widened().on(ao))
        row["error"] = max((relative_error(a, b) for a, b in zip(got, want, strict=True)), default=0.0)
        row["limit"] = LIMITS[call.dtype]
        row["ok"] = row["error"] <= row["limit"]
        for _ in range(repeats):
            again = flat(call.on(device))
            if any(a.tobytes() != b.tobytes() for a, b in zip(got, again, strict=True)):
                row |= {"ok": False, "exception": "bits differ from call to call"}
                break
    except Exception as error:
        row |= {"ok": False, "exception": results.described(error)}
    return row


def flat(result: Any) -> list[Any]:
    """The arrays of a result."""
    if isinstance(result, (tuple, list)):
        return [array for part in result for array in flat(part)]
    return [] if result is None else [result]


def relative_error(got: Any, want: Any) -> float:
    """Norm of the difference over the norm of what is wanted; infinite if shapes differ or there is a NaN."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    if got.shape != want.shape:
        return float("inf")
    error = float(np.linalg.norm((got - want).ravel())) / (float(np.linalg.norm(want.ravel())) or 1.0)
    return error if error == error else float("inf")
