"""What a call on tiny NumPy arrays costs over the backend function that it ends in.

Run from a checkout: ``PYTHONPATH=. python tests/benchmarks/call_overhead.py``
"""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import arrayops as ao
from harness import instant_backends, microseconds

LIMIT_US = 25
CALLS = 500


def overhead(call: Callable[[], Any]) -> float:
    """Time of a public call without that of its backend function."""
    with instant_backends():
        return microseconds(call, CALLS)


def main() -> int:
    """Print the overhead of each call; 1 if one is over the limit."""
    x = np.ones((1, 2, 6, 6), np.float32)
    weight = np.ones((2, 2, 3, 3), np.float32)
    gradient = np.ones((1, 2, 6, 6), np.float32)
    calls = {
        "pac_kernel2d": lambda: ao.pac_kernel2d(x, 3, padding=1),
        "pac_conv2d": lambda: ao.pac_conv2d(x, x, weight, padding=1),
        "pac_conv_transpose2d": lambda: ao.pac_conv_transpose2d(x, x, weight, padding=1),
        "pac_pool2d": lambda: ao.pac_pool2d(x, x, 3, padding=1),
        "pac_conv2d_backward": lambda: ao.pac_conv2d_backward(gradient, x, x, weight, padding=1),
    }
    costs = {name: (overhead(call), microseconds(call, CALLS)) for name, call in calls.items()}
    print("| call | overhead us | whole call us |\n|---|---|---|")
    for name, (extra, whole) in costs.items():
        print(f"| {name} | {extra:.1f} | {whole:.0f} |")
    return 0 if all(extra <= LIMIT_US for extra, _ in costs.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
