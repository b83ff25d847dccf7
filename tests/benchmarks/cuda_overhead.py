"""What a call on CuPy arrays costs in Python, beside the launches: kernels are neither compiled nor run.

Memory comes from an allocator that always gives the same piece, as CuPy's pool gives one back in well under a
microsecond.

Run from a checkout: ``PYTHONPATH=.:tests python tests/benchmarks/cuda_overhead.py [--profile]``
"""

import argparse
import cProfile
import pstats
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import cupy
import numpy as np

import arrayops as ao
from cuda_units import Function, nothing_launched

LIMIT_US = 30
LIMITED = "pac_conv2d"
CALLS, ROUNDS = 300, 31
PIECE = 64 << 20


def microseconds(function: Callable[[], Any]) -> float:
    """Median time of a call, over rounds of many calls."""
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(CALLS):
            function()
        rounds.append((time.perf_counter() - start) / CALLS * 1e6)
    return statistics.median(rounds)


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
    """Print what each call costs; 1 if the limited one is over its limit."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--profile", action="store_true", help=f"also print where {LIMITED} spends its time")
    arguments = parser.parse_args()
    with nothing_launched():
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
        calls: dict[str, Callable[[], Any]] = {
            LIMITED: lambda: ao.pac_conv2d(x, x, weight, bias, padding=1),
            "pac_conv2d, mask": lambda: ao.pac_conv2d(x, x, weight, bias, padding=1, mask=mask),
            "pac_conv_transpose2d": lambda: ao.pac_conv_transpose2d(x, x, weight, bias, padding=1),
            "pac_pool2d": lambda: ao.pac_pool2d(x, x, 3, padding=1),
            "pac_kernel2d": lambda: ao.pac_kernel2d(x, 3, padding=1),
            "pac_conv2d_backward": lambda: ao.pac_conv2d_backward(x, x, x, weight, bias, padding=1),
            "pac_pool2d_backward": lambda: ao.pac_pool2d_backward(x, x, x, 3, padding=1),
        }
        counts = {name: launches(call) for name, call in calls.items()}
        for constant in constants:
            constant.start()
        costs = {name: microseconds(call) for name, call in calls.items()}
        print("| call | us | launches |\n|---|---|---|")
        for name, cost in costs.items():
            print(f"| {name} | {cost:.1f} | {counts[name]} |")
        if arguments.profile:
            profile = cProfile.Profile()
            profile.enable()
            for _ in range(10 * CALLS):
                calls[LIMITED]()
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
        for constant in constants:
            constant.stop()
    return 0 if costs[LIMITED] <= LIMIT_US else 1


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
