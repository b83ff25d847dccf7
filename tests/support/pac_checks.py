"""Results of PAC calls, by the public functions and by a backend's, and what they have to equal."""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import arrayops as ao
from arrayops._core.op import BackwardParameters
from arrayops._ops.pac import OPS, PacParameters, normalized_parameters
from case import Case
from oracles import pac_torch
from strategies import FLOAT32
from tolerances import assert_close

RECORDS = {op.name: op for op in OPS}
PARAMETERS = ("inv_alpha", "inv_lambda", "smooth_kernel")
"""Each entry of their gradients is one sum over all outputs and taps, whose terms may cancel a thousandfold."""


class Results(NamedTuple):
    """Output, output mask (None without a mask), and the gradients of the arrays that were given."""

    output: np.ndarray
    output_mask: np.ndarray | None
    gradients: dict[str, np.ndarray]

    def all(self) -> dict[str, np.ndarray]:
        """Every array, by name."""
        mask = {} if self.output_mask is None else {"output_mask": self.output_mask}
        return {"output": self.output, **mask, **self.gradients}


def public_results(case: Case, grad: np.ndarray | None = None) -> Results:
    """By the public functions; ``grad`` is the gradient of the output."""
    found = case.call(ao)
    output, output_mask = found if isinstance(found, tuple) else (found, None)
    gradients = case.backward(ao, case.grad(output.shape) if grad is None else grad)
    return Results(output, output_mask, {name: getattr(gradients, name) for name in case.present})


def parameters(case: Case) -> PacParameters:
    """Those that the public function makes of the options."""
    options = {name: value for name, value in case.options.items() if name != "mask"}
    defaults: dict[str, Any] = {"stride": 1, "padding": 0, "dilation": 1, "layout": "NCHW"}
    defaults |= {"kernel_type": "gaussian", "asymmetric": False}
    if case.operator.startswith("pac_conv"):
        defaults["shared_filters"] = False
    if case.operator == "pac_conv_transpose2d":
        defaults["transposed"] = True
    return normalized_parameters(case.operator, **{**defaults, **options})


def backend_results(backend: ModuleType, case: Case, grad: np.ndarray | None = None) -> Results:
    """By the functions of a backend, whose arrays no public function has checked."""
    record, given = RECORDS[case.operator], {**case.arrays, "mask": case.options.get("mask")}
    arrays = tuple(given.get(spec.name) for spec in record.arrays)
    output, output_mask = getattr(backend, case.operator)(arrays, parameters(case))
    grad = case.grad(output.shape) if grad is None else grad
    needs = BackwardParameters(parameters(case), frozenset(case.present))
    found = getattr(backend, f"{case.operator}_backward")((grad, *arrays), needs)
    gradients = dict(zip(record.differentiable, found, strict=True))
    assert {name for name, array in gradients.items() if array is not None} == set(case.present)
    return Results(output, output_mask, {name: gradients[name] for name in case.present})


def output_shape(case: Case) -> tuple[int, ...]:
    """By the oracle."""
    return pac_torch.Call(case.operator, case.arrays, case.options).forward().shape


def assert_equals_torch(
    case: Case, results: Results | None = None, grad: np.ndarray | None = None, *, relative_to_terms: bool = False
) -> None:
    """Results, by default those of the public functions, are those of torch in float64.

    Errors are relative to the results themselves, or to the sums of their terms' absolute values, as those of the
    float32 gradients of `PARAMETERS` always are.
    """
    oracle = pac_torch.Call(case.operator, case.arrays, case.options)
    want = oracle.forward()
    grad = case.grad(want.shape) if grad is None else grad
    results = public_results(case, grad) if results is None else results
    assert results.output.dtype == case.dtype
    assert_close(
        results.output, want, case.dtype, oracle.forward_magnitude() if relative_to_terms else None, f"output of {case}"
    )
    if case.options.get("mask") is None:
        assert results.output_mask is None
    else:
        assert results.output_mask is not None
        assert results.output_mask.dtype == np.bool_
        np.testing.assert_array_equal(results.output_mask, oracle.filled())
    gradients, terms = oracle.backward(grad), oracle.backward_magnitude(grad)
    assert list(results.gradients) == case.present
    for name, gradient in results.gradients.items():
        dtype = case.arrays[name].dtype
        assert gradient.dtype == dtype, name
        magnitude = terms[name] if relative_to_terms or (name in PARAMETERS and dtype == FLOAT32) else None
        assert_close(gradient, gradients[name], dtype, magnitude, f"{name} of {case}")
