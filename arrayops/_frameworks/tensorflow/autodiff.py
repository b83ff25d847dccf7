"""Calls of eager tensors that a GradientTape or ForwardAccumulator watches."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from arrayops._call.run import run
from arrayops._core.op import Op
from arrayops._frameworks.tensorflow.derivatives import tensor_derivatives
from arrayops._frameworks.tensorflow.private import is_watched, record_operation


def recorded_call(op: Op, arrays: Sequence[Any], parameters: Any) -> tuple[Any, ...]:
    """Compute the results of ``op`` at once, and record the call on all tapes."""
    specs = op.specs(len(arrays))
    wanted = [
        array is not None and spec.differentiable and array.dtype.is_floating and is_watched((array,))
        for spec, array in zip(specs, arrays, strict=True)
    ]
    if not any(wanted):
        return run(op, arrays, parameters)
    # What the gradient needs is saved, as there will be one.
    results = run(op, arrays, op.saving_parameters(parameters))
    saved = op.saved_results(results)
    # A variadic backward has more results than names, all of them differentiable.
    fixed = {i for i, differentiable in enumerate(op.differentiable_results) if not differentiable}
    outputs = [i for i in range(len(results) - len(saved)) if results[i] is not None and i not in fixed]
    present = [i for i, array in enumerate(arrays) if array is not None]

    def backward(*cotangents: Any) -> list[Any]:
        given: list[Any] = [None] * len(results)
        for i, cotangent in zip(outputs, cotangents, strict=True):
            # That of tf.gather is not a tensor.
            given[i] = None if cotangent is None else tf.convert_to_tensor(cotangent)
        found = tensor_derivatives(op, arrays, parameters, saved, wanted, given)
        return [found[i] for i in present]

    record_operation(op.name, [results[i] for i in outputs], [arrays[i] for i in present], backward)
    return op.requested_results(results, parameters)
