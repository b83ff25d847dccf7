"""The record of one operator, and the record of its backward, which is derived from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, Literal, NamedTuple

from arrayops._core.dtypes import FLOATING
from arrayops._core.errors import extend_message, rename_operator

Kind = Literal["float", "label", "mask"]


class Meta(NamedTuple):
    """Shape and dtype name of an array; checks and shape rules use nothing else."""

    shape: tuple[int, ...]
    dtype: str


Metas = tuple[Meta | None, ...]


class Axes(NamedTuple):
    """Axes of an array in both layouts, one letter each, such as ("NCHW", "NHWC") and ("OIhw", "hwIO")."""

    nchw: str
    nhwc: str

    @property
    def to_nhwc(self) -> tuple[int, ...]:
        """Permutation of axes that turns an NCHW array into an NHWC one."""
        return tuple(self.nchw.index(letter) for letter in self.nhwc)

    @property
    def to_nchw(self) -> tuple[int, ...]:
        """Permutation of axes that turns an NHWC array into an NCHW one."""
        return tuple(self.nhwc.index(letter) for letter in self.nchw)


IMAGE = Axes("NCHW", "NHWC")


@dataclass(frozen=True)
class ArraySpec:
    """One array argument: its name in the public signature and the arrays it accepts.

    ``variadic``, allowed for the last argument only, makes it accept any number of arrays. ``axes`` is None for an
    array whose axes do not depend on the layout; an array with another number of axes does not depend on it either.
    ``stays_float32`` is for arrays whose small differences matter, such as guides: automatic mixed precision does not
    round them to half precision. If an operator has several, they have the dtype of the first one given.
    """

    name: str
    kind: Kind = "float"
    optional: bool = False
    variadic: bool = False
    differentiable: bool = True
    axes: Axes | None = None
    stays_float32: bool = False

    @property
    def argument(self) -> str:
        """Name of the argument: that of a variadic array without its number."""
        return self.name.partition("[")[0]


class BackwardParameters(NamedTuple):
    """Parameters of a backward call: those of the forward, and the names of the requested gradients."""

    forward: Any
    needs: frozenset[str]


@dataclass(frozen=True)
class Linearity:
    """In which arrays an operator is linear; from this follow its second derivatives.

    The results are f(a, b, ...) + t + constant, where f is linear in each of the ``arrays`` if the others are fixed,
    and the term t is linear in an ``additive`` array, alone.

    Attributes
    ----------
    arrays : tuple of str
        Arrays of which f is a linear function, each alone; the arrays of a variadic argument jointly.
    additive : tuple of str
        Optional arrays with a term of their own, such as a bias.
    homogeneous : tuple of (str, value)
        Parameters to replace, so that the constant is 0.
    holds : callable
        Whether all this is true for the given parameters.
    """

    arrays: tuple[str, ...]
    additive: tuple[str, ...] = ()
    homogeneous: tuple[tuple[str, Any], ...] = ()
    holds: Callable[[Any], bool] = lambda parameters: True


@dataclass(frozen=True, eq=False)
class Op:
    """One operator, described once for dispatch, backends, framework gradients and tests.

    Every backend has a module ``family`` with a function ``name`` that takes ``(arrays, parameters)``: a tuple with
    one backend array (or None) for each argument, and a hashable parameter tuple. It returns a tuple with one array
    for each result. All results are C-contiguous, freshly allocated, and of the shapes and dtypes that
    ``infer(metas, parameters)`` returns; it receives metadata only and raises ValueError or TypeError before anything
    is computed.

    Attributes
    ----------
    name : str
        Name of the public function and of the backend functions.
    family : str
        Name of the public module and of the module in each backend.
    arrays : tuple of ArraySpec
        Array arguments, in the order in which backends receive them.
    parameters : type
        Class of the parameter tuple, a NamedTuple of numbers, strings, None and tuples of these.
    shape_rule : callable
        ``(metas, parameters) -> metas of the results``, None for a result that is not computed; called by `infer`.
    outputs : tuple of str
        Names of the results.
    differentiable_outputs : tuple of str
        Names of the results that are differentiable.
    forward : Op or None
        For a backward operator, its forward operator.
    saved : tuple of str
        Names of the intermediate results that the forward can save for its backward; they follow ``outputs``. The
        parameters of such an operator have a field ``save``, False by default; if True, ``infer`` returns their
        metas too, and backends compute them. The backward receives them as its last arrays, None for each that the
        call does not have, or none of them. Not for variadic operators.
    result_axes : tuple of Axes or None
        ``axes`` of the results, outputs and saved ones, as in `ArraySpec`; empty if none depends on the layout.
    linearity : Linearity or None
        None if second derivatives are not provided.
    """

    name: str
    family: str
    arrays: tuple[ArraySpec, ...]
    parameters: type
    shape_rule: Callable[[Metas, Any], Metas]
    outputs: tuple[str, ...] = ("output",)
    differentiable_outputs: tuple[str, ...] = ("output",)
    forward: "Op | None" = None
    saved: tuple[str, ...] = ()
    result_axes: tuple[Axes | None, ...] = ()
    linearity: Linearity | None = None

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

    def infer(self, metas: Metas, parameters: Any) -> Metas:
        """The metas of the results by ``shape_rule``, whose errors also tell of arrays that are in another layout."""
        try:
            return self.shape_rule(metas, parameters)
        except ValueError as error:
            # Imports this module.
            from arrayops._core.layout_hint import layout_hint

            extend_message(error, layout_hint(self, metas, parameters))
            raise

    @cached_property
    def infer_cached(self) -> Callable[[Metas, Any], Metas]:
        """``infer``, cached, so that a repeated call does not repeat the shape checks."""
        return lru_cache(maxsize=512)(self.infer)

    def saving_parameters(self, parameters: Any) -> Any:
        """``parameters`` with which a forward call also returns what its backward uses."""
        return parameters._replace(save=True) if self.saved else parameters

    def saved_results(self, results: Sequence[Any]) -> Sequence[Any]:
        """Those of the results of a call that it saved; none if its parameters do not save, or for a backward."""
        return results[len(self.outputs) :] if self.saved else ()

    def requested_results(self, results: tuple[Any, ...], parameters: Any) -> tuple[Any, ...]:
        """The results that a caller with ``parameters`` asked for, without those that were saved for the backward."""
        return results if not self.saved or parameters.save else results[: len(self.outputs)]

    @cached_property
    def differentiable_results(self) -> tuple[bool, ...]:
        """For each of ``outputs``, whether it is differentiable."""
        return tuple(output in self.differentiable_outputs for output in self.outputs)

    def axes_of_results(self, count: int) -> tuple[Axes | None, ...]:
        """``axes`` of the ``count`` results of a call."""
        if self.forward is not None and self.arrays[-1].variadic:
            return (self.result_axes[-1],) * count
        return self.result_axes[:count] if self.result_axes else (None,) * count

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

        Its arrays are the gradients of the differentiable outputs, ``grad_<name>``, the arrays of the forward and those
        that the forward saved, ``saved_<name>``, if any. Its results are the gradients of the differentiable arrays,
        None for an array that is absent or not in ``needs``.
        """
        forward, name = self, f"{self.name}_backward"
        if self.forward is not None:
            raise TypeError(f"{self.name} is a backward operator, expected a forward operator")
        # With multiple outputs, some may be unused and have no gradient.
        multiple = len(self.differentiable_outputs) > 1
        results = self.outputs + self.saved
        axes = dict(zip(results, self.axes_of_results(len(results)), strict=True))
        gradients = tuple(
            ArraySpec(f"grad_{output}", optional=multiple, axes=axes[output]) for output in self.differentiable_outputs
        )
        saved = tuple(
            ArraySpec(f"saved_{result}", optional=True, differentiable=False, axes=axes[result])
            for result in self.saved
        )

        def shape_rule(metas: Metas, parameters: BackwardParameters) -> Metas:
            arrays, forward_parameters = metas[len(gradients) :], parameters.forward
            saved_metas: Metas = ()
            if saved and len(arrays) > len(forward.arrays):
                arrays, saved_metas = arrays[: -len(saved)], arrays[-len(saved) :]
                forward_parameters = forward_parameters._replace(save=True)
            try:
                results = forward.shape_rule(arrays, forward_parameters)
            except (TypeError, ValueError) as error:
                rename_operator(error, forward.name, name)
                raise
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
                if output in forward.saved and (meta.dtype, expected.dtype) == ("int32", "int64"):
                    # Saved by JAX without 64-bit integers.
                    continue
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
            parameters=BackwardParameters,
            shape_rule=shape_rule,
            outputs=self.differentiable,
            differentiable_outputs=self.differentiable,
            forward=self,
            result_axes=tuple(spec.axes for spec in self.arrays if spec.differentiable),
        )
