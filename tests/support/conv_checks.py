"""What every way of a plain convolution has to equal."""

from __future__ import annotations

import numpy as np

import arrayops as ao
from case import Case
from oracles import conv
from tolerances import assert_close


def assert_equals_loops(call: Case) -> None:
    """Output and all gradients of a call with all arrays are those of the oracle."""
    output = call.call(ao)
    assert output.dtype == call.dtype
    assert_close(output, call.call(conv), call.dtype)
    grad = call.grad(output.shape)
    got = call.backward(ao, grad)
    want = conv.backward(call.operator, call.arrays, call.options, grad)
    terms = conv.backward(call.operator, call.arrays, call.options, grad, size=True)
    for array in ("input", "weight", "bias"):
        gradient = getattr(got, array)
        assert gradient.dtype == call.dtype
        assert_close(gradient, want[array], call.dtype, terms[array], f"{array} of {call}")


def assert_equals_torch(call: Case, grad: np.ndarray | None = None) -> None:
    """Output and all gradients of a call are those of torch in float64; ``grad`` is that of the output."""
    oracle = conv.Call(call.operator, call.arrays, call.options)
    output = call.call(ao)
    assert output.dtype == call.dtype
    assert_close(output, oracle.forward(), call.dtype, oracle.forward_magnitude(), f"output of {call}")
    grad = call.grad(output.shape) if grad is None else grad
    want, terms = oracle.backward(grad), oracle.backward_magnitude(grad)
    got = call.backward(ao, grad)
    for name in call.present:
        assert getattr(got, name).dtype == call.dtype
        assert_close(getattr(got, name), want[name], call.dtype, terms[name], f"{name} of {call}")


def assert_equal_bits(call: Case) -> None:
    """Output and all gradients of a call are the same with any number of threads."""
    grad = call.grad(call.call(ao).shape)
    found = set()
    try:
        for threads in (1, 2, 3, 8):
            ao.set_num_threads(threads)
            gradients = call.backward(ao, grad)
            found.add((call.call(ao).tobytes(), *(gradient.tobytes() for gradient in gradients)))
    finally:
        ao.set_num_threads(None)
    assert len(found) == 1
