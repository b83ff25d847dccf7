"""What every way of a plain convolution has to equal."""

from __future__ import annotations

import arrayops as ao
from fixed_cases import grad_output
from oracles import conv
from strategies import Case
from tolerances import assert_close


def assert_equals_loops(call: Case) -> None:
    """Output and all gradients of a call with all arrays are those of the oracle."""
    output = call.call(ao)
    assert output.dtype == call.dtype
    assert_close(output, call.call(conv), call.dtype)
    grad = grad_output(call, output.shape)
    got = call.backward(ao, grad)
    want = conv.backward(call.operator, call.arrays, call.options, grad)
    terms = conv.backward(call.operator, call.arrays, call.options, grad, size=True)
    for array in ("input", "weight", "bias"):
        gradient = getattr(got, array)
        assert gradient.dtype == call.dtype
        assert_close(gradient, want[array], call.dtype, terms[array], f"{array} of {call}")
