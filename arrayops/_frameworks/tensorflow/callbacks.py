"""Calls of Python by graphs: all of a call but its arrays is in the name of its operation.

::

    <prefix> host {"operator": "conv2d", "arrays": ["input", "weight"], "parameters": {"stride": [1, 1], ...}, ...}

So graphs can be saved. Arrays, parameters and results are stored by name: those that a later version adds have their
defaults in older programs. A name is decoded when the graph runs, in this process or another. Nothing is registered,
and nothing grows with the number of traces.
"""

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from arrayops._call.run import run
from arrayops._core.op import BackwardParameters, Op
from arrayops._frameworks.saved_programs import PREFIX
from arrayops._frameworks.tensorflow.private import DeviceFunction
from arrayops._ops import OPS

HOST, DEVICE, REFUSAL = "host", "device", "refuse"
"""Kinds of callbacks: of NumPy arrays, of eager tensors, and one that only raises an error."""


class GraphCall(NamedTuple):
    """A call in a graph: which of the operator's arrays and results it has, by name.

    ``watched`` are the arguments that a GradientTape watched while the graph was built.
    """

    op: Op
    parameters: Any
    arrays: tuple[str, ...]
    results: tuple[str, ...]
    watched: tuple[str, ...] = ()

    def all_arrays(self, present: Sequence[Any]) -> list[Any]:
        """An entry for each array of the operator, None for those that the call does not have."""
        given = dict(zip(self.arrays, present, strict=True))
        return [given.get(name) for name in array_names(self.op, self.arrays)]

    def all_results(self, present: Sequence[Any]) -> list[Any]:
        """An entry for each result of the operator, None for those that the call does not have."""
        given = dict(zip(self.results, present, strict=True))
        return [given.get(name) for name in result_names(self.op, len(array_names(self.op, self.arrays)))]

    def encoded(self, kind: str) -> str:
        """The name of the callback."""
        parameters, needs = self.parameters, {}
        if isinstance(parameters, BackwardParameters):
            parameters, needs = parameters.forward, {"needs": sorted(parameters.needs)}
        fields = {"arrays": self.arrays, "results": self.results, "parameters": parameters._asdict(), **needs}
        watched = {"watched": self.watched} if self.watched else {}
        return f"{PREFIX}{kind} {json.dumps({'operator': self.op.name, **fields, **watched})}"

    @classmethod
    def decoded(cls, name: str) -> "GraphCall":
        """The call of a name.

        Raises
        ------
        ValueError
            If it was saved by a newer version of arrayops.
        """
        content = json.loads(name.removeprefix(PREFIX).partition(" ")[2])
        op = _operator(content["operator"])
        parameters = _parameters(op.forward or op, content["parameters"])
        if op.forward is not None:
            parameters = BackwardParameters(parameters, frozenset(content["needs"]))
        arrays, results, watched = (tuple(content.get(field, ())) for field in ("arrays", "results", "watched"))
        known = array_names(op, arrays)
        _check_known(op, arrays, known)
        _check_known(op, results, result_names(op, len(known)))
        return cls(op, parameters, arrays, results, watched)


def array_names(op: Op, present: Sequence[str]) -> tuple[str, ...]:
    """Names of the arrays of a call that has those named ``present``; with those that the forward saved or without."""
    count = len(present)
    if not op.arrays[-1].variadic:
        saved = () if op.forward is None else op.forward.saved
        count = len(op.arrays) - (0 if any(name.startswith("saved_") for name in present) else len(saved))
    return tuple(spec.name for spec in op.specs(count))


def result_names(op: Op, array_count: int) -> tuple[str, ...]:
    """Names of the results of a call of so many arrays; those of a backward are its differentiable arrays."""
    if op.forward is None:
        return op.outputs + op.saved
    grads = len(op.forward.differentiable_outputs)
    return tuple(spec.name for spec in op.specs(array_count)[grads:] if spec.differentiable)


def name_of_refusal(error: NotImplementedError) -> str:
    """The name of a callback that raises ``error`` unless its array is zero."""
    return f"{PREFIX}{REFUSAL} {json.dumps(str(error))}"


@lru_cache(maxsize=512)
def callback(name: str) -> Callable[..., Any]:
    """The function of a name."""
    kind, _, text = name.removeprefix(PREFIX).partition(" ")
    if kind == REFUSAL:
        return _refusal(json.loads(text))
    graph_call = GraphCall.decoded(name)
    names = result_names(graph_call.op, len(array_names(graph_call.op, graph_call.arrays)))

    def call(*arrays: Any) -> list[Any]:
        results = run(graph_call.op, graph_call.all_arrays(arrays), graph_call.parameters)
        found = dict(zip(names, results, strict=False))
        return [found[name] for name in graph_call.results]

    return call if kind == HOST else DeviceFunction(call)


def _operator(name: str) -> Op:
    forward = OPS.get(name.removesuffix("_backward"))
    if forward is None:
        raise _newer(name, "this operator")
    return forward if forward.name == name else forward.backward


def _parameters(op: Op, fields: dict[str, Any]) -> Any:
    _check_known(op, fields, op.parameters._fields)  # type: ignore[attr-defined]
    return op.parameters(**{name: _as_tuple(value) for name, value in fields.items()})


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _check_known(op: Op, names: Any, known: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise _newer(op.name, ", ".join(unknown))


def _newer(name: str, unknown: str) -> ValueError:
    return ValueError(
        f"{name}: the program has {unknown}, which this version of arrayops does not know, expected a program of this "
        "version or an older one: install the version of arrayops that saved it"
    )


def _refusal(message: str) -> Callable[[Any], Any]:
    def zero_or_error(array: Any) -> Any:
        if np.any(array != 0):
            raise NotImplementedError(message)
        return np.float32(0)

    return zero_or_error
