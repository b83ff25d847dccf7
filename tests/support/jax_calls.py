"""The registered calls of all operators as functions of JAX arrays, and what NumPy arrays give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import arrayops as ao
from arrayops import _backends
from arrayops._core.op import Op
from arrayops._ops import OPS
from operator_oracles import ORACLES, Call, as_tuple, normal

DIFFERENTIABLE = [op for op in OPS.values() if op.differentiable_outputs]
CALLS = [
    pytest.param(op, call, id=f"{op.name}-{i}")
    for op in DIFFERENTIABLE
    for i, call in enumerate(ORACLES[op.name].calls)
]
FIRST_CALLS = [pytest.param(op, ORACLES[op.name].calls[0], id=op.name) for op in DIFFERENTIABLE]

Values = dict[str, Any]
"""Arrays by argument; a list for a variadic one."""


def is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (isinstance(value, list) and isinstance(value[0], np.ndarray))


class Problem(NamedTuple):
    """A call, cut into the arrays that a gradient is taken by and everything else."""

    op: Op
    values: Values
    others: Call

    @classmethod
    def of(cls, op: Op, call: Call, names: tuple[str, ...] | None = None) -> Problem:
        chosen = [name for name in names or op.differentiable if call.get(name) is not None]
        return cls(
            op,
            {name: call[name] for name in chosen},
            {name: value for name, value in call.items() if name not in chosen},
        )

    @property
    def gradients(self) -> list[np.ndarray]:
        """Gradients of the differentiable results."""
        results = as_tuple(getattr(ao, self.op.name)(**self.values, **self.others))
        return [
            normal(20 + i, *result.shape) for i, result in enumerate(results[: len(self.op.differentiable_outputs)])
        ]

    def results(self, values: Values, convert: Callable[[Any], Any] = np.asarray) -> tuple[Any, ...]:
        """The results of the public function; ``convert`` is applied to all other arrays."""
        others = {
            name: convert(value) if isinstance(value, np.ndarray) else value for name, value in self.others.items()
        }
        return as_tuple(getattr(ao, self.op.name)(**values, **others))

    def loss(self, jnp: Any) -> Callable[[Values], Any]:
        """A linear function of the differentiable results."""
        gradients = [jnp.asarray(gradient) for gradient in self.gradients]

        def loss(values: Values) -> Any:
            results = self.results(values, jnp.asarray)
            return sum((result * gradient).sum() for result, gradient in zip(results, gradients, strict=False))

        return loss

    def backward(self, values: Values | None = None) -> Values:
        """The gradients of `loss` by the public ``_backward`` of NumPy arrays."""
        values = self.values if values is None else values
        gradients: Any = self.gradients
        if len(self.op.differentiable_outputs) > 1:
            count = len(as_tuple(getattr(ao, self.op.name)(**values, **self.others)))
            gradients = (*gradients, *(None,) * (count - len(gradients)))
        else:
            gradients = gradients[0]
        found = getattr(ao, self.op.backward.name)(gradients, **values, **self.others)
        return {name: getattr(found, name) for name in values}


class Recorder:
    """Calls of backend functions: their names, arrays and parameters."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], Any]] = []
        find = _backends.find

        def recording(kind: str, family: str, name: str) -> Any:
            function = find(kind, family, name)

            def record(arrays: tuple[Any, ...], parameters: Any) -> Any:
                self.calls.append((name, arrays, parameters))
                return function(arrays, parameters)

            return record

        monkeypatch.setattr(_backends, "find", recording)

    def names(self) -> list[str]:
        """Names of the functions called since the last time."""
        names = [name for name, _, _ in self.calls]
        self.calls.clear()
        return names

    def needs(self) -> list[list[str]]:
        """The gradients requested by each backward call since the last time."""
        needs = [sorted(parameters.needs) for name, _, parameters in self.calls if name.endswith("_backward")]
        self.calls.clear()
        return needs
