"""Compares calls of every family on the GPU with the NumPy backend."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import arrayops as ao
import cuda_device
from gpu import cases, results

# Height and width, and number of channels.
SMOKE = (19, 16)
LARGE = (131, 64)
LIMITS = {"float32": 1e-5, "float16": 4e-3}
"""Maximum relative errors, as norms over all elements."""

SHARED_FILES = ("pack_weights.cu", "segment_labels.cu", "segment_order.cu", "sums.cu")
"""Files of kernels that many calls share: they are not listed for a failure, as they do not help to locate it."""


@contextmanager
def device(dry: bool) -> Iterator[cuda_device.Device]:
    """The GPU, or the emulator."""
    with cuda_device.emulated() if dry else cuda_device.real() as opened:
        yield opened


def run(stage: str, dry: bool, size: int, channels: int, *, repeats: int = 0, only: str = "") -> int:
    """`check` on the GPU, or on the emulator."""
    with device(dry) as opened:
        return check(stage, opened, size, channels, repeats=repeats, only=only)


def check(stage: str, device: cuda_device.Device, size: int, channels: int, *, repeats: int = 0, only: str = "") -> int:
    """Check every case whose name contains ``only`` on a device.

    Results of ``repeats`` more calls must be bitwise equal. Returns 0, 1 if a case failed, or
    `results.LOST_CONTEXT_EXIT`.
    """
    failures = 0
    for call in cases.calls(size, channels):
        if only not in call.name:
            continue
        before = {str(kernel.identity) for kernel in cuda_device.kernels()}
        row = _row(call, device, repeats)
        if not row["ok"]:
            failures += 1
            kernels = {str(kernel.identity) for kernel in cuda_device.kernels()} - before
            row["kernels"] = sorted(name for name in kernels if not name.startswith(SHARED_FILES))[:8]
        results.emit(stage, **row)
        if results.context_is_lost(row.get("exception", "")):
            results.emit(stage, event="CUDA context lost", case=call.name)
            return results.LOST_CONTEXT_EXIT
    return 1 if failures else 0


def _row(call: cases.Call, device: cuda_device.Device, repeats: int) -> dict[str, Any]:
    row: dict[str, Any] = {"case": call.name, "ok": False}
    try:
        begin = time.perf_counter()
        output = flat(call.on(device))
        row["first_s"] = round(time.perf_counter() - begin, 3)
        expected = flat(call.widened().on(ao))
        row["error"] = max((relative_error(a, b) for a, b in zip(output, expected, strict=True)), default=0.0)
        row["limit"] = LIMITS[call.dtype]
        row["ok"] = row["error"] <= row["limit"]
        for _ in range(repeats):
            repeated = flat(call.on(device))
            if any(a.tobytes() != b.tobytes() for a, b in zip(output, repeated, strict=True)):
                row |= {"ok": False, "exception": "repeated calls are not bitwise equal"}
                break
    except Exception as error:
        row |= {"ok": False, "exception": results.describe(error)}
    return row


def flat(result: Any) -> list[Any]:
    """The arrays of a result."""
    if isinstance(result, (tuple, list)):
        return [array for part in result for array in flat(part)]
    return [] if result is None else [result]


def relative_error(output: Any, expected: Any) -> float:
    """Norm of the difference divided by the norm of ``expected``; infinite if shapes differ or there is a NaN."""
    output, expected = np.asarray(output, np.float64), np.asarray(expected, np.float64)
    if output.shape != expected.shape:
        return float("inf")
    error = float(np.linalg.norm((output - expected).ravel())) / (float(np.linalg.norm(expected.ravel())) or 1.0)
    return error if error == error else float("inf")
