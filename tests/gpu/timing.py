"""The benchmarks of `tests/benchmarks` as stages: rows of all families, the most important first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gpu import results

MIN_ROW_S = 5.0
"""A row is not started with less time left."""


@contextmanager
def emulator() -> Iterator[None]:
    """Pass torch's CPU tensors to the CUDA backend, whose kernels run on the emulator."""
    from cuda_device import emulated
    from torch_on_host import as_on_gpus

    with emulated(), as_on_gpus():
        yield


def bench(dry: bool, deadline: float) -> int:
    """Run all rows of the GPU benchmarks; return 1 if a result is wrong."""
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
        # CPU tensors cannot be converted to CuPy arrays.
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

    failed = False
    for number, row in enumerate(rows):
        if time.monotonic() > deadline - MIN_ROW_S:
            results.emit("bench", event="out of time", left=f"{len(rows) - number} rows not run")
            break
        begin = time.monotonic()
        result = gpu_harness.measure(row, place, rounds)
        results.emit("bench", **result, seconds=round(time.monotonic() - begin, 2))
        failed = failed or not result["ok"]
        if results.context_is_lost(result.get("exception", "")):
            return results.LOST_CONTEXT_EXIT
    return 1 if failed else 0


def threads(dry: bool, deadline: float) -> int:
    """Benchmark the CPU backend with different numbers of threads."""
    import threads_cpu

    for row in threads_cpu.results([1] if dry else threads_cpu.available(), rounds=2 if dry else threads_cpu.ROUNDS):
        results.emit("threads", **row)
        if time.monotonic() > deadline - MIN_ROW_S:
            results.emit("threads", event="out of time", left="")
            break
    return 0
