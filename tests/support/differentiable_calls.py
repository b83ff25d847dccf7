"""The calls of `operator_oracles` as differentiable functions of arrays, for tests of the frameworks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import arrayops as ao
from arrayops._core.op import Op
from arrayops._ops import OPS
from operator_oracles import ORACLES, Call, as_tuple, normal


class DifferentiableCall(NamedTuple):
    """One call of an operator, with its differentiable arrays apart, in the order of the record."""

    op: Op
    call: Call
    names: tuple[str, ...]
    """The argument of each array; that of feature maps once for each map."""
    arrays: tuple[np.ndarray, ...]

    def function(self, convert: Callable[[np.ndarray], Any]) -> Callable[..., tuple[Any, ...]]:
        """The public function of the differentiable arrays alone, with the other arrays converted.

        It returns a tuple with the differentiable results.
        """
        rest = {name: convert(value) if isinstance(value, np.ndarray) else value for name, value in self.call.items()}

        def function(*values: Any) -> tuple[Any, ...]:
            results = as_tuple(getattr(ao, self.op.name)(**self.arguments(values, rest)))
            return self.differentiable(results)

        return function

    def arguments(self, values: Sequence[Any], rest: dict[str, Any]) -> dict[str, Any]:
        """Keywords of the public function."""
        given = {name: value for name, value in rest.items() if name not in self.names}
        for name, value in zip(self.names, values, strict=True):
            if isinstance(self.call[name], list):
                given.setdefault(name, []).append(value)
            else:
                given[name] = value
        return given

    def differentiable(self, results: tuple[Any, ...]) -> tuple[Any, ...]:
        """The differentiable ones among the results of the public function: all but masks and counts."""
        names = self.call.get("reductions", ("output",))
        return tuple(result for name, result in zip(names, results, strict=False) if name != "count")

    def cotangents(self) -> tuple[np.ndarray, ...]:
        """A gradient for each differentiable result."""
        results = self.differentiable(as_tuple(getattr(ao, self.op.name)(**self.call)))
        return tuple(normal(40 + i, *result.shape) for i, result in enumerate(results))

    def gradients(self, cotangents: Sequence[Any]) -> tuple[np.ndarray, ...]:
        """Gradients of the arrays by the public backward function on NumPy arrays."""
        names = self.call.get("reductions", ("output",))
        given = dict(zip((name for name in names if name != "count"), cotangents, strict=True))
        grads = tuple(given.get(name) for name in names)
        found = getattr(ao, self.op.backward.name)(grads if "reductions" in self.call else grads[0], **self.call)
        return tuple(each for name in dict.fromkeys(self.names) for each in as_tuple(getattr(found, name)))

    @property
    def linear_names(self) -> tuple[str, ...]:
        """Arguments with second derivatives."""
        linearity = self.op.linearity
        how, reductions = self.call.get("how"), set(self.call.get("reductions", ()))
        if linearity is None or how == "max" or reductions - {"mean", "sum", "count"}:
            return ()
        if self.op.name in {"segment_max", "segment_min", "segment_var"}:
            return ()
        return tuple(name for name in dict.fromkeys(self.names) if name in linearity.arrays + linearity.additive)


def differentiable_call(op: Op, call: Call) -> DifferentiableCall:
    """Take ``call`` apart."""
    pairs = [(name, each) for name in op.differentiable if call.get(name) is not None for each in as_tuple(call[name])]
    return DifferentiableCall(op, call, tuple(name for name, _ in pairs), tuple(array for _, array in pairs))


LINEAR_REDUCTIONS = {**ORACLES["segment_reduce"].calls[0], "reductions": ("sum", "count", "mean"), "empty": 3}

CALLS = {
    f"{op.name}-{i}": differentiable_call(op, call)
    for op in OPS.values()
    if op.differentiable
    for i, call in enumerate(ORACLES[op.name].calls)
} | {"segment_reduce-linear": differentiable_call(OPS["segment_reduce"], LINEAR_REDUCTIONS)}
"""Every differentiable operator, by an id for pytest."""
