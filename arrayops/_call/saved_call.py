"""Calls as texts in saved programs: of an operator and its parameters, arrays and results by name.

::

    {"operator": "conv2d", "arrays": ["input", "weight"], "results": ["output"], "parameters": {"stride": [1, 1], ...}}

What a later version adds has its default in older programs.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from arrayops._core.op import BackwardParameters, Op
from arrayops._ops import OPS


class SavedCall(NamedTuple):
    """A call in a program: which of the operator's arrays and results it has, by name."""

    op: Op
    parameters: Any
    arrays: tuple[str, ...]
    results: tuple[str, ...]

    def all_arrays(self, present: Sequence[Any]) -> list[Any]:
        """An entry for each array of the operator, None for those that the call does not have."""
        given = dict(zip(self.arrays, present, strict=True))
        return [given.get(name) for name in array_names(self.op, self.arrays)]

    def all_results(self, present: Sequence[Any]) -> list[Any]:
        """An entry for each result of the operator, None for those that the call does not have."""
        given = dict(zip(self.results, present, strict=True))
        return [given.get(name) for name in self._result_names()]

    def present_results(self, results: Sequence[Any]) -> list[Any]:
        """The results that the call has, from those of the operator."""
        given = dict(zip(self._result_names(), results, strict=False))
        return [given[name] for name in self.results]

    def _result_names(self) -> tuple[str, ...]:
        return result_names(self.op, len(array_names(self.op, self.arrays)))

    def encoded(self) -> dict[str, Any]:
        """The call as values of JSON."""
        parameters, needs = self.parameters, {}
        if isinstance(parameters, BackwardParameters):
            parameters, needs = parameters.forward, {"needs": sorted(parameters.needs)}
        fields = {"arrays": self.arrays, "results": self.results, "parameters": parameters._asdict(), **needs}
        return {"operator": self.op.name, **fields}

    @classmethod
    def decoded(cls, content: dict[str, Any]) -> "SavedCall":
        """The call of `encoded`.

        Raises
        ------
        ValueError
            If it was saved by a newer version of arrayops.
        """
        op = _operator(content["operator"])
        parameters = _parameters(op.forward or op, content["parameters"])
        if op.forward is not None:
            parameters = BackwardParameters(parameters, frozenset(content["needs"]))
        arrays, results = tuple(content["arrays"]), tuple(content["results"])
        known = array_names(op, arrays)
        _check_known(op, arrays, known)
        _check_known(op, results, result_names(op, len(known)))
        return cls(op, parameters, arrays, results)


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


def _operator(name: str) -> Op:
    forward = OPS.get(name.removesuffix("_backward"))
    if forward is None:
        raise _newer(name, "this operator")
    return forward if forward.name == name else forward.backward


def _parameters(op: Op, fields: dict[str, Any]) -> Any:
    _check_known(op, fields, op.parameters._fields)  # type: ignore[attr-defined]
    return op.parameters(**{name: _as_tuple(value) for name, value in fields.items()})


def _as_tuple(value: Any) -> Any:
    return tuple(map(_as_tuple, value)) if isinstance(value, (list, tuple)) else value


def _check_known(op: Op, names: Any, known: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in known]:
        raise _newer(op.name, ", ".join(unknown))


def _newer(name: str, unknown: str) -> ValueError:
    return ValueError(
        f"{name}: the program has {unknown}, which this version of arrayops does not know, expected a program of this "
        "version or an older one: install the version of arrayops that saved it"
    )
