"""What a call on CuPy arrays or torch tensors costs in Python, beside the launches: no kernel is compiled or run.

Memory of CuPy's calls comes from an allocator that always gives the same piece, as its pool gives one back in well
under a microsecond. Tensors of torch are on the host, and go the way of those on GPUs: read by pointer, on a foreign
stream, with results and temporaries in torch's storages.

Run from a checkout: ``PYTHONPATH=.:tests:tests/support python tests/benchmarks/cuda_overhead.py [--profile]``
"""

import argparse
import cProfile
import pstats
import sys
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any
from unittest import mock

import cupy
import numpy as np

import arrayops as ao
from cuda_units import Function, nothing_launched
from harness import least_microseconds
from torch_on_host import as_on_gpus

LIMITS_US = {"pac_conv2d": 30, "pac_conv2d, torch": 80}
PROFILED = "pac_conv2d"
PIECE = 64 << 20
CLOCK = "a list of 40 numbers by a comprehension"


def launches(function: Callable[[], Any]) -> int:
    """How many kernels a call launches."""
    count = 0

    def counted(*_: Any, **__: Any) -> None:
        nonlocal count
        count += 1

    with mock.patch.object(Function, "__call__", counted):
        function()
    return count


def launched(*_: Any, **__: Any) -> None:
    """In the place of a launch."""


def main() -> int:
    """Print what each call costs; 1 if one is over its limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--profile", action="store_true", help=f"also print where {PROFILED} spends its time")
    arguments = parser.parse_args()
    with nothing_launched(), as_on_gpus() if find_spec("torch") else nullcontext():
        piece = cupy.cuda.alloc(PIECE)
        cupy.cuda.set_allocator(lambda _: piece)
        # A C function each in CuPy, and Python in the emulator.
        constants = (
            mock.patch.object(cupy.cuda.runtime, "getDevice", int),
            mock.patch.object(cupy.cuda, "Device", Nothing),
            mock.patch.object(Function, "__call__", launched),
        )

        def array(*shape: int) -> Any:
            return cupy.ndarray(shape, np.float32)

        x, weight, bias, mask = array(2, 16, 32, 32), array(16, 16, 3, 3), array(16), cupy.ndarray((2, 1, 32, 32), bool)
        labels, pooled = cupy.ndarray((2, 32, 32), np.int32), array(2, 16, 300)
        calls: dict[str, Callable[[], Any]] = {
            PROFILED: lambda: ao.pac_conv2d(x, x, weight, bias, padding=1),
            "pac_conv2d, mask": lambda: ao.pac_conv2d(x, x, weight, bias, padding=1, mask=mask),
            "pac_conv_transpose2d": lambda: ao.pac_conv_transpose2d(x, x, weight, bias, padding=1),
            "pac_pool2d": lambda: ao.pac_pool2d(x, x, 3, padding=1),
            "pac_kernel2d": lambda: ao.pac_kernel2d(x, 3, padding=1),
            "pac_conv2d_backward": lambda: ao.pac_conv2d_backward(x, x, x, weight, bias, padding=1),
            "pac_pool2d_backward": lambda: ao.pac_pool2d_backward(x, x, x, 3, padding=1),
            "segment_mean": lambda: ao.segment_mean(x, labels, 300),
            "segment_mean_backward": lambda: ao.segment_mean_backward(pooled, x, labels, 300),
            "segment_unpool": lambda: ao.segment_unpool(pooled, labels),
        }
        calls |= torch_calls()
        counts = {name: launches(call) for name, call in calls.items()}
        for constant in constants:
            constant.start()
        costs = least_microseconds(calls | {CLOCK: lambda: [i for i in range(40)]})  # noqa: C416
        clock = costs.pop(CLOCK)
        print("| call | us | launches |\n|---|---|---|")
        for name, cost in costs.items():
            print(f"| {name} | {cost:.1f} | {counts[name]} |")
        print(f"\nThe machine's clock meanwhile: {clock:.2f} us for {CLOCK}.")
        if arguments.profile:
            profile = cProfile.Profile()
            profile.enable()
            for _ in range(3000):
                calls[PROFILED]()
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        for constant in constants:
            constant.stop()
    return 0 if all(costs[name] <= limit for name, limit in LIMITS_US.items() if name in costs) else 1


def torch_calls() -> dict[str, Callable[[], Any]]:
    """The limited call on tensors, where torch is installed."""
    if find_spec("torch") is None:
        return {}
    import torch

    # Small enough for malloc to keep what is freed, as the allocator of a GPU does.
    x, weight, bias = torch.empty(2, 16, 8, 8), torch.empty(16, 16, 3, 3), torch.empty(16)
    return {"pac_conv2d, torch": lambda: ao.pac_conv2d(x, x, weight, bias, padding=1)}


class Nothing:
    """A device that costs nothing to enter."""

    def __init__(self, _: int) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    sys.exit(main())
