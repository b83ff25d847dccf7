"""What calls on tiny arrays of PyTorch, JAX and TensorFlow cost over those on NumPy arrays, and what vmap costs.

All calls of a table are timed in turn, each alone; figures are tenth percentiles. The overheads are those of backends
that return at once with results made before. The maps compute: a map over images against the call with a larger batch
that it is folded into. Run from a checkout: ``PYTHONPATH=. python tests/benchmarks/framework_overhead.py``
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

import arrayops as ao
from harness import instant_backends, machine, tenth_percentiles

NUMPY, NUMPY_GRADIENTS = "NumPy", "NumPy, forward and backward"
X, W, GRADIENT = (np.ones(shape, np.float32) for shape in ((1, 2, 6, 6), (2, 2, 3, 3), (1, 2, 6, 6)))
IMAGES, FILTERS = (
    np.random.default_rng(0).standard_normal(shape, np.float32) for shape in ((64, 1, 4, 16, 16), (4, 4, 3, 3))
)

Call = Callable[[], Any]


class Row(NamedTuple):
    """A call, the call it is compared with, if any, and the most that it may cost: more microseconds, or times more."""

    call: Call
    reference: str | None = None
    limit: float | None = None


def conv(x: Any, w: Any) -> Any:
    return ao.conv2d(x, w, padding=1, layout="NCHW")


def numpy_rows() -> dict[str, Row]:
    """The calls that the others are compared with."""
    return {
        NUMPY: Row(lambda: conv(X, W)),
        NUMPY_GRADIENTS: Row(lambda: (conv(X, W), ao.conv2d_backward(GRADIENT, X, W, padding=1))),
    }


def torch_rows(torch: Any) -> dict[str, Row]:
    """Calls without gradients, recorded, and with the gradients of both arrays."""
    x, w, gradient = map(torch.from_numpy, (X, W, GRADIENT))
    leaves = x.clone().requires_grad_(), w.clone().requires_grad_()

    def with_backward(function: Callable[[Any, Any], Any]) -> Call:
        return lambda: torch.autograd.grad(function(*leaves), leaves, gradient)

    return {
        "torch, no gradient": Row(lambda: conv(x, w), NUMPY),
        "torch, forward with a gradient": Row(lambda: conv(*leaves), NUMPY, 60),
        "torch, forward and backward": Row(with_backward(conv), NUMPY_GRADIENTS, 300),
        "torch, library operator": Row(library_call(torch, *leaves), NUMPY),
        "torch's own conv2d, forward and backward": Row(
            with_backward(lambda x, w: torch.nn.functional.conv2d(x, w, padding=1))
        ),
    }


def library_call(torch: Any, x: Any, w: Any) -> Call:
    """The call of the operator of torch's library that a public call is wherever torch traces or transforms."""
    seen: list[tuple[Any, Any]] = []

    class Seen(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append((function, args))
            return function(*args, **(kwargs or {}))

    with Seen():
        conv(x.detach(), w.detach())
    (operator, (_, _, *rest)) = next(each for each in seen if each[0].namespace == "arrayops")
    return lambda: operator(x, w, *rest)


def jax_rows(jax: Any) -> dict[str, Row]:
    """Calls that wait for their results: eager, compiled, and compiled with the gradients of both arrays."""
    x, w = map(jax.numpy.asarray, (X, W))
    jitted = jax.jit(conv)
    gradients = jax.jit(jax.value_and_grad(lambda x, w: conv(x, w).sum(), (0, 1)))
    return {
        "JAX, eager": Row(lambda: conv(x, w).block_until_ready(), NUMPY, 150),
        "JAX, jitted": Row(lambda: jitted(x, w).block_until_ready(), NUMPY, 60),
        "JAX, jitted value_and_grad": Row(lambda: jax.block_until_ready(gradients(x, w)), NUMPY_GRADIENTS, 150),
    }


def tensorflow_rows(tf: Any) -> dict[str, Row]:
    """Eager calls without a tape, recorded, and with the gradients of both arrays; the same in functions."""
    x, w = map(tf.constant, (X, W))

    def gradients(x: Any, w: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = conv(x, w)
        return tape.gradient(y, [x, w])

    def recorded() -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            return conv(x, w)

    def own() -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = tf.nn.conv2d(x, transposed, 1, "SAME")
        return tape.gradient(y, [x, transposed])

    # TensorFlow has no convolution of NCHW on the CPU: of the same size, in its own order.
    transposed = tf.ones((3, 3, X.shape[3], X.shape[3]))
    function, function_of_gradients = tf.function(conv), tf.function(gradients)
    empty = tf.function(lambda x: tf.numpy_function(lambda array: array, [x], tf.float32))
    return {
        "TensorFlow, no tape": Row(lambda: conv(x, w), NUMPY),
        "TensorFlow, forward with a tape": Row(recorded, NUMPY, 100),
        "TensorFlow, forward and backward": Row(lambda: gradients(x, w), NUMPY_GRADIENTS, 600),
        "TensorFlow, in a function": Row(lambda: function(x, w), NUMPY, 700),
        "TensorFlow, forward and backward in a function": Row(lambda: function_of_gradients(x, w), NUMPY_GRADIENTS),
        "TensorFlow's own conv2d, forward and backward": Row(own),
        "TensorFlow, an empty numpy_function in a function": Row(lambda: empty(x)),
    }


def folded(x: Any, w: Any) -> Any:
    """What a map over the first axis of ``x`` is to be: one call, between two changes of shape."""
    result = conv(x.reshape((-1, *x.shape[2:])), w)
    return result.reshape((*x.shape[:2], *result.shape[1:]))


def torch_maps(torch: Any) -> dict[str, Row]:
    """A map, and its one call by hand."""
    x, w = map(torch.from_numpy, (IMAGES, FILTERS))
    mapped = torch.func.vmap(conv, (0, None))
    assert torch.equal(mapped(x, w), folded(x, w))
    return {
        "torch, one call": Row(lambda: folded(x, w)),
        "torch, vmap": Row(lambda: mapped(x, w), "torch, one call", 3),
    }


def jax_maps(jax: Any) -> dict[str, Row]:
    """A map, and its one call by hand, both compiled."""
    x, w = map(jax.numpy.asarray, (IMAGES, FILTERS))
    mapped, by_hand = jax.jit(jax.vmap(conv, (0, None))), jax.jit(folded)
    assert bool((mapped(x, w) == by_hand(x, w)).all())
    return {
        "JAX, jitted, one call": Row(lambda: by_hand(x, w).block_until_ready()),
        "JAX, jitted vmap": Row(lambda: mapped(x, w).block_until_ready(), "JAX, jitted, one call", 3),
    }


def measure(rows: dict[str, Row], rounds: int, head: str, compare: Callable[[float, float], float]) -> bool:
    """Time the rows, print a table; whether every limit was kept."""
    costs = tenth_percentiles({name: row.call for name, row in rows.items()}, rounds)
    print(f"\n| call | us | {head} | limit |\n|---|---|---|---|")
    all_kept = True
    for name, row in rows.items():
        cells = ["", ""]
        if row.reference is not None:
            cost = compare(costs[name], costs[row.reference])
            kept = row.limit is None or cost <= row.limit
            cells = [f"{cost:.1f}", "" if row.limit is None else f"{row.limit:g}{'' if kept else ', MISSED'}"]
            all_kept = all_kept and kept
        print(f"| {name} | {costs[name]:.1f} | {' | '.join(cells)} |")
    return all_kept


def main() -> int:
    """Print the tables; 1 if a limit was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3000, help="rounds of timing (default 3000)")
    rounds = parser.parse_args().rounds
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    kept = True
    # One framework after the other: the code of one is not to push that of another out of the processor's caches.
    for name, overheads, maps in (
        ("torch", torch_rows, torch_maps),
        ("jax", jax_rows, jax_maps),
        ("tensorflow", tensorflow_rows, None),
    ):
        if find_spec(name) is None:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            framework = import_module(name)
        if hasattr(os, "getloadavg"):
            print(f"\nload before {name}: {os.getloadavg()[0]:.2f}")
        with instant_backends():
            rows = numpy_rows() | overheads(framework)
            kept = measure(rows, rounds, "over NumPy us", lambda cost, reference: cost - reference) and kept
        if maps is None:
            continue
        rows = maps(framework)
        kept = measure(rows, rounds // 10, "times one call", lambda cost, reference: cost / reference) and kept
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
