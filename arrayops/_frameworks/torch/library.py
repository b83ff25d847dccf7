"""Operators of torch's dispatcher, ``torch.ops.arrayops.<name>``, generated from the operator records.

Whatever sees operations of the dispatcher sees these: torch.compile, torch.export, FakeTensorMode, make_fx, torch.func
and dispatch modes. Autograd records plain eager calls by the same node without them, in half the time.

::

    conv2d(Tensor input, Tensor weight, Tensor? bias, str parameters, SymInt[] integers, float[] floats) -> Tensor[]

The results include those that the forward saves for the backward. A result that is not computed is an empty uint8
vector, so that traced code needs no shape rules.
"""

import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch

from arrayops._call.run import run
from arrayops._core.op import Meta, Op
from arrayops._frameworks.torch.autograd import OperatorNode, needs_gradient, or_none, refuse_tangents
from arrayops._frameworks.torch.dtypes import DTYPES, describe
from arrayops._frameworks.torch.encoding import decode, encode
from arrayops._frameworks.torch.memory_format import in_memory_format
from arrayops._frameworks.torch.private import (
    EXACT_STRIDES,
    after_autograd,
    below_autograd,
    forward_mode_enabled,
    functorch_level,
    single_level_functions,
)
from arrayops._frameworks.torch.vmap import batched_call
from arrayops._ops import OPS

LIBRARY = torch.library.Library("arrayops", "FRAGMENT")
TAGS = (torch.Tag.pt2_compliant_tag, *((EXACT_STRIDES,) if EXACT_STRIDES is not None else ()))

HANDLES: dict[str, Any] = {}
"""Overloads of the operators, by name."""

FINGERPRINTS: dict[str, str] = {}
"""By name of the operator, the start of the text of its parameters, which changes with the arguments and parameters of
the operator and of its backward. torch keeps compiled programs on disk, with the backward calls that our code made: it
must not find those of another version of arrayops."""


def call(op: Op, arrays: Sequence[Any], parameters: Any) -> tuple[Any, ...]:
    """Call the library operator of ``op``."""
    handle = _handle(op)
    text, integers, floats = encode(parameters)
    found = handle(*_packed(op, arrays), FINGERPRINTS[op.name] + text, integers, floats)
    results = [or_none(result) for result in found]
    return op.requested_results(tuple(results), parameters)


def _handle(op: Op) -> Any:
    if op.name not in HANDLES:
        define(op)
    return HANDLES[op.name]


def _packed(op: Op, arrays: Sequence[Any]) -> tuple[Any, ...]:
    """Arrays as arguments of the schema: variadic ones in a list, saved ones always there."""
    fixed = len(op.arrays) - 1
    if op.arrays[-1].variadic:
        return (*arrays[:fixed], list(arrays[fixed:]))
    return (*arrays, *[None] * (len(op.arrays) - len(arrays)))


class Arguments(NamedTuple):
    """Arguments of a library operator, taken apart: variadic arrays one by one."""

    arrays: tuple[Any, ...]
    text: str
    integers: Sequence[int]
    floats: Sequence[float]


def define(op: Op) -> None:
    """Define the library operator of ``op``, with its kernels for real, fake, recorded and batched tensors."""
    LIBRARY.define(f"{_schema(op)} -> Tensor[]", tags=TAGS)
    FINGERPRINTS[op.name] = _fingerprint(op)
    handle = HANDLES[op.name] = getattr(torch.ops.arrayops, op.name).default
    kernels = Kernels(op, handle)
    LIBRARY.impl(op.name, kernels.real, "CompositeExplicitAutograd")
    LIBRARY.impl(op.name, kernels.recorded, "Autograd", with_keyset=True)
    torch.library.register_fake(f"arrayops::{op.name}", kernels.fake, lib=LIBRARY)
    torch.library.register_vmap(f"arrayops::{op.name}", kernels.batched, lib=LIBRARY)


def _schema(op: Op) -> str:
    kinds = ["Tensor[]" if spec.variadic else "Tensor?" if spec.optional else "Tensor" for spec in op.arrays]
    declared = ", ".join(f"{kind} {spec.name}" for kind, spec in zip(kinds, op.arrays, strict=True))
    return f"{op.name}({declared}, str parameters, SymInt[] integers, float[] floats)"


def _fingerprint(op: Op) -> str:
    forward = op.forward or op
    described = [_schema(forward), *forward.parameters.__annotations__]
    if forward.differentiable:
        described += [_schema(forward.backward), *forward.backward.parameters.__annotations__]
    return f"{zlib.crc32(repr(described).encode()):08x}"


class Kernels:
    """Kernels of one library operator."""

    def __init__(self, op: Op, handle: Any) -> None:
        self.op, self.handle = op, handle
        self._decode_cached: Callable[..., Any] = lru_cache(maxsize=512)(self._decode)

    def real(self, *arguments: Any) -> list[torch.Tensor]:
        """Compute the results."""
        given = self._arguments(arguments)
        return self._filled(given, in_memory_format(run, self.op, given.arrays, self._parameters(given)))

    def fake(self, *arguments: Any) -> list[torch.Tensor]:
        """Results without values, with the shapes, dtypes and strides of the real ones."""
        given = self._arguments(arguments)
        return self._filled(given, in_memory_format(_infer, self.op, given.arrays, self._parameters(given)))

    def recorded(self, keyset: Any, *arguments: Any) -> list[torch.Tensor]:
        """Compute the results by the other kernels, and record a node if autograd asks for it."""
        given = self._arguments(arguments)
        op, parameters = self.op, given[1:]
        keys = after_autograd(keyset)

        def compute(_op: Op, arrays: Sequence[Any], _parameters: Any) -> list[torch.Tensor]:
            if functorch_level() is None:
                with below_autograd():
                    return list(self.handle.redispatch(keys, *_packed(op, arrays), *parameters))
            # The forward of a node runs with gradients disabled, also for the outer levels of torch.func: these would
            # record nothing, and second derivatives would be zero.
            with below_autograd(), torch.enable_grad(), forward_mode_enabled(True):
                return list(self.handle.redispatch(keys, *_packed(op, arrays), *parameters))

        refuse_tangents(op, given.arrays)
        if not needs_gradient(given.arrays):
            return compute(op, given.arrays, None)
        apply = partial(OperatorNode.apply, compute, call, op, self._parameters(given), *given.arrays)
        if functorch_level() is None:
            return list(apply())
        with single_level_functions():
            return list(apply())

    def batched(self, info: Any, in_dims: Sequence[Any], *arguments: Any) -> tuple[list[torch.Tensor], list[Any]]:
        """Compute a map over calls, for torch.func.vmap."""
        given = self._arguments(arguments)
        dims = self._arguments(in_dims).arrays

        def compute(arrays: Sequence[Any]) -> list[torch.Tensor]:
            return list(self.handle(*_packed(self.op, arrays), *given[1:]))

        results = batched_call(self.op, given.arrays, dims, info.batch_size, self._parameters(given), compute)
        return results, [None if or_none(result) is None else 0 for result in results]

    def _arguments(self, arguments: Sequence[Any]) -> Arguments:
        count = len(self.op.arrays)
        arrays, rest = tuple(arguments[:count]), arguments[count:]
        if self.op.arrays[-1].variadic:
            arrays = (*arrays[:-1], *arrays[-1])
        return Arguments(arrays, *rest)

    def _parameters(self, given: Arguments) -> Any:
        try:
            # As texts, since 0.0 and -0.0 are equal.
            return self._decode_cached(given.text, tuple(given.integers), tuple(map(repr, given.floats)))
        except TypeError:
            # Symbolic integers are not hashable.
            return self._decode(given.text, given.integers, given.floats)

    def _decode(self, text: str, integers: Sequence[int], floats: Sequence[float | str]) -> Any:
        fingerprint = FINGERPRINTS[self.op.name]
        if not text.startswith(fingerprint):
            raise RuntimeError(
                f"{self.op.name}: the program was saved by a version of arrayops in which the operator has other "
                "arguments, expected one saved by this version: export it again"
            )
        parameters = decode(self.op, text.removeprefix(fingerprint), integers, map(float, floats))
        return self.op.saving_parameters(parameters)

    def _filled(self, given: Arguments, results: Sequence[Any]) -> list[torch.Tensor]:
        like = next(array for array in given.arrays if array is not None)
        return [like.new_empty(0, dtype=torch.uint8) if result is None else result for result in results]


def _infer(op: Op, arrays: Sequence[Any], parameters: Any) -> list[Any]:
    like = next(array for array in arrays if array is not None)
    metas = op.infer(tuple([None if array is None else describe(array) for array in arrays]), parameters)
    return [None if meta is None else _empty(like, meta) for meta in metas]


def _empty(like: torch.Tensor, meta: Meta) -> torch.Tensor:
    return like.new_empty(meta.shape, dtype=DTYPES[meta.dtype])


for _op in OPS.values():
    define(_op)
    if _op.differentiable:
        define(_op.backward)
