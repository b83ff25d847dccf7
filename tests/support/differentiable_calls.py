"""The calls of `operator_oracles` as differentiable functions of arrays, for tests of the frameworks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

import arrayops as ao
from arrayops._core.op import Op
from arrayops._ops import OPS
from operator_oracles import MAPS, ORACLES, Call, as_tuple, normal

Convert = Callable[[np.ndarray], Any]
"""From an array of NumPy to one of the framework."""


class DifferentiableCall(NamedTuple):
    """One call of an operator, with the arrays that gradients are taken of apart, in the order of the record."""

    op: Op
    call: Call
    linear_names: tuple[str, ...]
    """Those arguments among ``names`` whose gradients have derivatives."""
    names: tuple[str, ...]
    """The argument of each array; that of feature maps once for each map."""
    arrays: tuple[np.ndarray, ...]

    @classmethod
    def of(
        cls, op: Op, call: Call, linear_names: Sequence[str], names: Sequence[str] | None = None
    ) -> DifferentiableCall:
        """Take ``call`` apart: the arrays of the named arguments, or all differentiable ones, from the others."""
        chosen = [name for name in (op.differentiable if names is None else names) if call.get(name) is not None]
        linear = tuple(name for name in linear_names if name in chosen)
        pairs = [(name, array) for name in chosen for array in as_tuple(call[name])]
        return cls(op, call, linear, tuple(name for name, _ in pairs), tuple(array for _, array in pairs))

    def by(self, *names: str) -> DifferentiableCall:
        """The call as a function of fewer arrays, those of the named arguments."""
        return self.of(self.op, self.call, self.linear_names, names)

    def all_results(self, convert: Convert) -> Callable[..., tuple[Any, ...]]:
        """The public function of ``arrays`` alone; it gets the other arrays of the call converted."""
        rest = {name: convert(value) if isinstance(value, np.ndarray) else value for name, value in self.call.items()}
        return lambda *values: as_tuple(getattr(ao, self.op.name)(**self._keywords(values, rest)))

    def function(self, convert: Convert) -> Callable[..., tuple[Any, ...]]:
        """`all_results`, of which it returns those that are differentiable."""
        all_results = self.all_results(convert)
        return lambda *values: self.differentiable(all_results(*values))

    def loss(self, convert: Convert) -> Callable[..., Any]:
        """A function of ``arrays`` that is linear in the differentiable results: their gradients are `cotangents`."""
        function, cotangents = self.function(convert), [convert(each) for each in self.cotangents()]
        return lambda *values: sum((y * g).sum() for y, g in zip(function(*values), cotangents, strict=True))

    def differentiable(self, results: tuple[Any, ...]) -> tuple[Any, ...]:
        """The differentiable ones among the results of the public function: all but masks and counts."""
        names = self.call.get("reductions", ("output",))
        # torch 2.7 compiles no generator over parts of different lengths.
        return tuple([results[i] for i in range(len(names)) if names[i] != "count"])

    def cotangents(self) -> tuple[np.ndarray, ...]:
        """A gradient for each differentiable result."""
        results = self.differentiable(as_tuple(getattr(ao, self.op.name)(**self.call)))
        return tuple(normal(40 + i, *result.shape).astype(result.dtype) for i, result in enumerate(results))

    def gradients(
        self, cotangents: Sequence[np.ndarray], arrays: Sequence[np.ndarray] | None = None
    ) -> tuple[np.ndarray, ...]:
        """Gradients of the arrays, or of others in their place, by the public backward function on NumPy arrays."""
        call = self._keywords(self.arrays if arrays is None else arrays, self.call)
        reductions = self.call.get("reductions")
        grads: Any = cotangents[0]
        if reductions is not None:
            given = iter(cotangents)
            grads = tuple(None if name == "count" else next(given) for name in reductions)
        found = getattr(ao, self.op.backward.name)(grads, **call)
        return tuple(each for name in dict.fromkeys(self.names) for each in as_tuple(getattr(found, name)))

    def _keywords(self, values: Sequence[Any], rest: Call) -> Call:
        """Keywords of the public function."""
        given = {name: value for name, value in rest.items() if name not in self.names}
        for name, value in zip(self.names, values, strict=True):
            if isinstance(self.call[name], list):
                given.setdefault(name, []).append(value)
            else:
                given[name] = value
        return given


CONVOLUTION = ("input", "weight", "bias")
LINEAR_NAMES: dict[str, tuple[str, ...]] = {
    "pac_kernel2d": (),
    "pac_conv2d": (*CONVOLUTION, "kernel"),
    "pac_conv_transpose2d": (*CONVOLUTION, "kernel"),
    "pac_pool2d": ("input", "kernel"),
    "conv2d": CONVOLUTION,
    "conv_transpose2d": CONVOLUTION,
    "segment_mean": ("features",),
    "segment_sum": ("features",),
    "segment_max": (),
    "segment_min": (),
    "segment_var": (),
    "segment_reduce": (),
    "segment_reduce-linear": ("features",),
    "segment_unpool": ("pooled",),
    "resize2d": ("input",),
    "merge_feature_maps": ("maps",),
    "merge_feature_maps-max": (),
}
"""Arguments whose gradients have derivatives: of an operator, or of one of `CALLS` that is an exception.

Written out, and not taken from ``Op.linearity``: a record that is wrong is to fail."""


def differentiable_calls() -> dict[str, DifferentiableCall]:
    """The calls of `operator_oracles`, and calls whose parameters decide whether second derivatives are provided."""
    calls = {
        f"{op.name}-{i}": (op, call)
        for op in OPS.values()
        if op.differentiable
        for i, call in enumerate(ORACLES[op.name].calls)
    }
    linear_reductions = {**ORACLES["segment_reduce"].calls[0], "reductions": ("sum", "count", "mean"), "empty": 3}
    calls["segment_reduce-linear"] = OPS["segment_reduce"], linear_reductions
    largest_of_maps = {"maps": [MAPS[0], normal(10, 1, 2, 3, 2)], "how": "max"}
    calls["merge_feature_maps-max"] = OPS["merge_feature_maps"], largest_of_maps
    return {
        name: DifferentiableCall.of(op, _in_one_layout(op, call), LINEAR_NAMES.get(name, LINEAR_NAMES[op.name]))
        for name, (op, call) in calls.items()
    }


def _in_one_layout(op: Op, call: Call) -> Call:
    """``call`` with its layout given: by default it would be the framework's own."""
    return {"layout": "NCHW", **call} if "layout" in op.parameters.__annotations__ else call


CALLS = differentiable_calls()
"""Every differentiable operator, by an id for pytest."""

FIRST_CALLS = {name: call for name, call in CALLS.items() if name.endswith("-0")}
"""One call of every differentiable operator."""
