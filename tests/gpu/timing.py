"""The benchmarks of `tests/benchmarks` as stages: rows of all families in order of weight, streamed as they come."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gpu import results

LEAST_S = 5.0
"""A row is not begun with less time left."""


@contextmanager
def emulator() -> Iterator[None]:
    """Torch's tensors of the host go to the CUDA backend, whose kernels the emulator runs."""
    from cuda_device import emulated
    from torch_on_host import as_on_gpus

    with emulated(), as_on_gpus():
        yield


def bench(dry: bool, deadline: float) -> int:
    """Every row of the GPU benchmarks: 1 if one is wrong."""
    import torch

    import calls_cuda
    import conv_cuda
    import gpu_harness
    import merge_cuda
    import pac_cuda
    import segment_cuda

    scripts: tuple[Any, ...] = (pac_cuda, conv_cuda, calls_cuda, segment_cuda, merge_cuda)
    rows = sorted((row for script in scripts for row in script.rows()), key=lambda row: row.rank)
    gpu_harness.prepare()
    if dry:
        # Tensors of the host cannot become arrays of CuPy.
        rows = [row for row in rows if not row.name.endswith("on cupy")]
        with emulator():
            return _measure(rows, gpu_harness.Place("cpu"), deadline, rounds=1)
    place = gpu_harness.Place("cuda")
    rates = {name: round(rate, 1) for name, rate in gpu_harness.ceilings(place).items()}
    device = torch.cuda.get_device_name()
    results.emit(
        "bench", event="ceilings", device=device, cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version(), **rates
    )
    return _measure(rows, place, deadline, gpu_harness.ROUNDS)


def _measure(rows: list[Any], place: Any, deadline: float, rounds: int) -> int:
    import gpu_harness

    wrong = False
    for number, row in enumerate(rows):
        if time.monotonic() > deadline - LEAST_S:
            results.emit("bench", event="out of time", left=f"{len(rows) - number} rows left")
            break
        begin = time.monotonic()
        result = gpu_harness.measure(row, place, rounds)
        results.emit("bench", **result, seconds=round(time.monotonic() - begin, 2))
        wrong = wrong or not result["ok"]
        if results.context_is_lost(result.get("exception", "")):
            return results.LOST
    return 1 if wrong else 0


def threads(dry: bool, deadline: float) -> int:
    """The CPU backend by number of threads."""
    import threads_cpu

    for row in threads_cpu.results([1] if dry else threads_cpu.available(), rounds=2 if dry else threads_cpu.ROUNDS):
        results.emit("threads", **row)
        if time.monotonic() > deadline - LEAST_S:
            results.emit("threads", event="out of time", left="")
            break
    return 0
