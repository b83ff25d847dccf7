"""What calls on tiny JAX arrays cost over the same call on NumPy arrays: eager, jitted, and jitted with gradients.

Backends return at once with results made before. Run from a checkout:
``PYTHONPATH=. python tests/benchmarks/jax_overhead.py``
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import numpy as np

import arrayops as ao
from arrayops import _backends

LIMITS_US = {"eager": 150, "jitted": 60, "jitted, with gradients": 150}
CALLS, ROUNDS = 100, 100


class InstantBackends:
    """Backend functions that compute in their first call only, and give the same results ever after."""

    def __init__(self) -> None:
        self._find = _backends.find
        self._functions: dict[str, Callable[..., Any]] = {}

    def find(self, kind: str, family: str, name: str) -> Callable[..., Any]:
        """The function in place of `arrayops._backends.find`'s."""
        function = self._functions.get(name)
        if function is None:
            real, results = self._find(kind, family, name), {}

            def function(arrays: Any, parameters: Any) -> Any:
                if not results:
                    results["first"] = real(arrays, parameters)
                return results["first"]

            self._functions[name] = function
        return function


def tenth_percentiles(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Microseconds of each call; all are timed in turn, so that a busy machine slows all alike."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(CALLS):
                call()
            found[name].append((time.perf_counter() - start) / CALLS * 1e6)
    return {name: statistics.quantiles(times, n=10)[0] for name, times in found.items()}


def main() -> int:
    """Print the overheads; 1 if one is over its limit."""
    x, w = np.ones((1, 2, 6, 6), np.float32), np.ones((2, 2, 3, 3), np.float32)
    gradient = np.ones((1, 2, 6, 6), np.float32)
    arrays = jax.numpy.asarray(x), jax.numpy.asarray(w)

    def conv(x: Any, w: Any) -> Any:
        return ao.conv2d(x, w, padding=1)

    jitted = jax.jit(conv)
    with_gradients = jax.jit(jax.value_and_grad(lambda x, w: conv(x, w).sum(), (0, 1)))
    with mock.patch.object(_backends, "find", InstantBackends().find):
        costs = tenth_percentiles(
            {
                "NumPy": lambda: conv(x, w),
                "NumPy, with gradients": lambda: (conv(x, w), ao.conv2d_backward(gradient, x, w, padding=1)),
                "eager": lambda: conv(*arrays),
                "jitted": lambda: jitted(*arrays).block_until_ready(),
                "jitted, with gradients": lambda: jax.block_until_ready(with_gradients(*arrays)),
            }
        )
    print("| call | whole call us | over NumPy us | limit us |\n|---|---|---|---|")
    kept = True
    for name, cost in costs.items():
        if name not in LIMITS_US:
            print(f"| {name} | {cost:.1f} | | |")
            continue
        over = cost - costs["NumPy, with gradients" if "gradients" in name else "NumPy"]
        print(f"| {name} | {cost:.1f} | {over:.1f} | {LIMITS_US[name]} |")
        kept = kept and over <= LIMITS_US[name]
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
