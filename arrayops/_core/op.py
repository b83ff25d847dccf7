"""The record of one operator, and the record of its backward, which is derived from it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple

from arrayops._core.dtypes import FLOATING

Kind = Literal["float", "label", "mask"]


class Meta(NamedTuple):
    """Shape and dtype name of an array; checks and shape rules use nothing else."""

    shape: tuple[int, ...]
    dtype: str


Metas = tuple[Meta | None, ...]


@dataclass(frozen=True)
class ArraySpec:
    """One array argument: its name in the public signature and the arrays it accepts.

    ``variadic``, allowed for the last argument only, makes it accept any number of arrays.
    """

    name: str
    kind: Kind = "float"
    optional: bool = False
    variadic: bool = False
    differentiable: bool = True


class BackwardParameters(NamedTuple):
    """Parameters of a backward call: those of the forward, and the names of the requested gradients."""

    forward: Any
    needs: frozenset[str]


@dataclass(frozen=True)
class Op:
    """One operator, described once for dispatch, backends, framework gradients and tests.

    Every backend has a module ``family`` with a function ``name`` that takes ``(arrays, parameters)``: a tuple with
    one backend array (or None) for each argument, and a hashable parameter tuple. It returns a tuple with one array
    for each result. All results are C-contiguous, freshly allocated, and of the shapes and dtypes that
    ``infer(metas, parameters)`` returns; ``infer`` receives metadata only and raises ValueError or TypeError before
    anything is computed.

    Attributes
    ----------
    name : str
        Name of the public function and of the backend functions.
    family : str
        Name of the public module and of the module in each backend.
    arrays : tuple of ArraySpec
        Array arguments, in the order in which backends receive them.
    infer : callable
        ``(metas, parameters) -> metas of the results``, None for a result that is not computed.
    outputs : tuple of str
        Names of the results.
    differentiable_outputs : tuple of str
        Names of the results that are differentiable.
    forward : Op or None
        For a backward operator, its forward operator.
    saved : tuple of str
        Names of the intermediate results that the forward can save for its backward; they follow ``outputs``. The
        parameters of such an operator have a field ``save``, False by default; if True, ``infer`` returns their metas
        too. Saving is optional for a backend: the backward receives the saved arrays as its last arrays, None for
        each that is absent, or none of them. Not for variadic operators.
    """

    name: str
    family: str
    arrays: tuple[ArraySpec, ...]
    infer: Callable[[Metas, Any], Metas]
    outputs: tuple[str, ...] = ("output",)
    differentiable_outputs: tuple[str, ...] = ("output",)
    forward: "Op | None" = None
    saved: tuple[str, ...] = ()

    def specs(self, count: int) -> tuple[ArraySpec, ...]:
        """The specs of the ``count`` arrays of a call: variadic arrays numbered, saved arrays omitted if not passed."""
        last = self.arrays[-1]
        if last.variadic:
            return self._numbered(count)
        saved = () if self.forward is None else self.forward.saved
        return self.arrays[: -len(saved)] if saved and count == len(self.arrays) - len(saved) else self.arrays

    @cached_property
    def _numbered(self) -> Callable[[int], tuple[ArraySpec, ...]]:
        """`specs` of a variadic operator, cached: building them takes as long as all other checks of a call."""
        *fixed, last = self.arrays

        def numbered(count: int) -> tuple[ArraySpec, ...]:
            return (*fixed, *(replace(last, name=f"{last.name}[{i}]") for i in range(count - len(fixed))))

        return lru_cache(maxsize=64)(numbered)

    @cached_property
    def infer_cached(self) -> Callable[[Metas, Any], Metas]:
        """``infer``, cached, so that a repeated call does not repeat the shape checks."""
        return lru_cache(maxsize=512)(self.infer)

    @cached_property
    def differentiable(self) -> tuple[str, ...]:
        """Names of the differentiable arguments, in order."""
        return tuple(spec.name for spec in self.arrays if spec.differentiable)

    @cached_property
    def all_needs(self) -> frozenset[str]:
        """Value of ``needs`` when the caller passes None: all gradients."""
        return frozenset(self.differentiable)

    @cached_property
    def backward(self) -> "Op":
        """The operator ``<name>_backward``.

        Its arrays are the gradients of the differentiable outputs, the arrays of the forward and the arrays that the
        forward saved, if any. Its results are the gradients of the differentiable arrays, None for an array that is
        absent or not in ``needs``.
        """
        forward, name = self, f"{self.name}_backward"
        if self.forward is not None:
            raise TypeError(f"{self.name} is a backward operator: second derivatives are not supported")
        # With multiple outputs, some may be unused and have no gradient.
        multiple = len(self.differentiable_outputs) > 1
        gradients = tuple(
            ArraySpec(f"grad_{output}", optional=multiple, differentiable=False)
            for output in self.differentiable_outputs
        )
        saved = tuple(ArraySpec(result, optional=True, differentiable=False) for result in self.saved)

        def infer(metas: Metas, parameters: BackwardParameters) -> Metas:
            arrays, forward_parameters = metas[len(gradients) :], parameters.forward
            saved_metas: Metas = ()
            if saved and len(arrays) > len(forward.arrays):
                arrays, saved_metas = arrays[: -len(saved)], arrays[-len(saved) :]
                forward_parameters = forward_parameters._replace(save=True)
            try:
                results = forward.infer(arrays, forward_parameters)
            except (TypeError, ValueError) as error:
                raise type(error)(str(error).replace(f"{forward.name}:", f"{name}:", 1)) from None
            outputs = dict(zip(forward.outputs + (forward.saved if saved_metas else ()), results, strict=True))
            names = forward.differentiable_outputs + forward.saved
            for spec, output, meta in zip(
                gradients + saved, names, metas[: len(gradients)] + saved_metas, strict=False
            ):
                expected = outputs[output]
                if meta is None or expected is None or meta == expected:
                    continue
                if meta.shape != expected.shape:
                    raise ValueError(f"{name}: {spec.name} is {meta.shape}, expected {expected.shape} as the {output}")
                raise TypeError(f"{name}: {spec.name} is {meta.dtype}, expected {expected.dtype} as the {output}")
            specs = forward.specs(len(arrays))
            for spec, meta in zip(specs, arrays, strict=True):
                if spec.differentiable and meta is not None and meta.dtype not in FLOATING:
                    raise TypeError(
                        f"{name}: {spec.name} is {meta.dtype}, expected a floating-point dtype for a gradient"
                    )
            return tuple(
                meta if spec.name.partition("[")[0] in parameters.needs else None
                for spec, meta in zip(specs, arrays, strict=True)
                if spec.differentiable
            )

        return Op(
            name=name,
            family=self.family,
            arrays=gradients + self.arrays + saved,
            infer=infer,
            outputs=self.differentiable,
            differentiable_outputs=(),
            forward=self,
        )
