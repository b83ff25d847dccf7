"""Calls inside compiled functions: XLA calls a backend on its own buffers.

JAX's transformations never see a backend. A traced call becomes one ``buffer_callback``, which maps over calls (vmap)
by additional leading axes: of the size of the map, or of size 1 for an array that is the same for all calls.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import product
from typing import Any

import jax
import numpy as np

from arrayops import _backends
from arrayops._call.batching import batch_arrays
from arrayops._core.dtypes import BFLOAT16_DTYPE
from arrayops._core.op import Meta, Metas, Op
from arrayops._frameworks.jax.private import DLPACK_CPU, as_varying, buffer_callback, varying_axes
from arrayops._frameworks.jax.wide_integers import check_fits
from arrayops._frameworks.numpy import NAMES, dtype_name, host_view

Backend = Callable[[tuple[Any, ...], Any], tuple[Any, ...]]


def traced_call(op: Op, arrays: Sequence[Any], parameters: Any) -> tuple[Any, ...]:
    """Record a call of ``op`` in the trace that the arrays belong to.

    Parameters
    ----------
    op : Op
        The operator.
    arrays : sequence of jax.Array or None
        Its arrays.
    parameters : hashable
        Its parameter tuple.

    Returns
    -------
    tuple of jax.Array or None
        Its results.
    """
    metas = tuple([None if array is None else meta(array) for array in arrays])
    wide = jax.dtypes.canonicalize_dtype(np.int64) == np.int64
    call, promised = _callback(op, parameters, repr(parameters), metas, wide)
    if all(each is None for each in promised):
        return promised
    present = [array for array in arrays if array is not None]
    # Inside jax.shard_map the results of a callback have the type of values that are equal on all devices.
    axes = frozenset[str]().union(*map(varying_axes, present))
    results = iter([as_varying(result, axes) for result in call(*present)])
    return tuple([None if each is None else next(results) for each in promised])


def meta(array: Any) -> Meta:
    """Shape and dtype name of an array or a tracer."""
    return Meta(tuple(array.shape), NAMES.get(array.dtype) or dtype_name(array.dtype))


@lru_cache(maxsize=512)
def _callback(op: Op, parameters: Any, text: str, metas: Metas, wide: bool) -> tuple[Callable[..., Any], Metas]:
    """The traceable function of a call, and the metas of its results.

    JAX compiles anew for each function that it has not seen, so equal calls must get the same one. ``text`` separates
    parameters that are equal but not the same, such as 0.0 and -0.0; without ``wide``, integers have 32 bits.
    """
    promised = op.infer_cached(metas, parameters)
    types = [jax.ShapeDtypeStruct(each.shape, _result_dtype(each, wide)) for each in promised if each is not None]
    return buffer_callback(HostCall(op, parameters, metas, promised), types, vmap_method="expand_dims"), promised


def _result_dtype(result: Meta, wide: bool) -> Any:
    dtype = jax.numpy.dtype(result.dtype)
    return dtype if wide or dtype.kind == "f" or dtype.itemsize < 8 else np.dtype(f"{dtype.kind}4")


class HostCall:
    """The function that XLA calls: it computes on input buffers and writes to output buffers."""

    def __init__(self, op: Op, parameters: Any, metas: Metas, promised: Metas) -> None:
        self._op, self._parameters, self._metas = op, parameters, metas
        self._present = None if None not in metas else tuple(i for i, each in enumerate(metas) if each is not None)
        self._count = len(metas)
        self._first_rank = next(len(each.shape) for each in metas if each is not None)
        self._wanted = None if None not in promised else tuple(i for i, each in enumerate(promised) if each is not None)

    def __call__(self, context: Any, outputs: Sequence[Any], *inputs: Any) -> None:
        kind, number = inputs[0].__dlpack_device__()
        if kind == DLPACK_CPU:
            function = _backends.find("cpu", self._op.family, self._op.name)
            # Asked of the buffer itself, `__array__` takes a third of the time of np.asarray.
            arrays = [host_view(buffer.__array__()) for buffer in inputs]
            self.compute(function, arrays, [host_view(buffer.__array__()) for buffer in outputs], _write)
        else:
            from arrayops._frameworks.jax.gpu import compute_on_gpu

            function = _backends.find("cuda", self._op.family, self._op.name)
            once = inputs[0].ndim == self._first_rank
            compute_on_gpu(self.compute, function, number, context.stream, inputs, outputs, lend=once)

    def compute(
        self, function: Backend, arrays: list[Any], outputs: list[Any], write: Callable[[list[Any], list[Any]], None]
    ) -> None:
        """Call ``function`` on the arrays and ``write`` its results to the outputs, once or for each part of a map."""
        mapped = arrays[0].ndim - self._first_rank
        if not mapped:
            write(outputs, self._results(function, arrays))
            return
        batch = outputs[0].shape[:mapped]
        if 0 in batch:
            return
        indices = range(self._count) if self._present is None else self._present
        folded = self._folded
        # Axes along which an array without the batch differs; all others are joined to the batch.
        loops = {
            axis
            for array, i in zip(arrays, indices, strict=True)
            for axis in range(mapped)
            if not folded or (array.shape[axis] > 1 and i not in folded)
        }
        inner = tuple(size for axis, size in enumerate(batch) if axis not in loops)
        steps: list[Iterable[int | slice]] = [
            range(size) if axis in loops else (slice(None),) for axis, size in enumerate(batch)
        ]
        for place in product(*steps):
            parts = [_part(array, place) for array in arrays]
            if inner:
                parts = [
                    _fold(part, inner) if i in folded else part.reshape(part.shape[len(inner) :])
                    for part, i in zip(parts, indices, strict=True)
                ]
            targets = [output[(*place, ...)] for output in outputs]
            results = self._results(function, parts)
            if inner:
                results = [result.reshape(target.shape) for result, target in zip(results, targets, strict=True)]
            write(targets, results)

    @cached_property
    def _folded(self) -> frozenset[int]:
        """Arrays that lead with the batch, if the results do."""
        return batch_arrays(self._op, self._metas, self._parameters)

    def _results(self, function: Backend, arrays: list[Any]) -> list[Any]:
        if self._present is None:
            results = function(tuple(arrays), self._parameters)
        else:
            given: list[Any] = [None] * self._count
            for i, array in zip(self._present, arrays, strict=True):
                given[i] = array
            results = function(tuple(given), self._parameters)
        return list(results) if self._wanted is None else [results[i] for i in self._wanted]


def _part(array: Any, place: tuple[int | slice, ...]) -> Any:
    """The array of one part of a map, a view; along an axis of size 1 it is the same for all parts."""
    same = zip(place, array.shape, strict=False)
    # Without the ellipsis, all indices would give a number instead of a view.
    return array[(*[0 if size == 1 and isinstance(i, int) else i for i, size in same], ...)]


def _fold(array: Any, inner: tuple[int, ...]) -> Any:
    """The leading axes joined to the batch, which is the next axis."""
    if array.dtype == BFLOAT16_DTYPE:
        # CuPy copies no structures.
        return _fold(array.view(np.uint16), inner).view(BFLOAT16_DTYPE)
    shape = array.shape[len(inner) :]
    if array.shape[: len(inner)] != inner:
        array = (np if isinstance(array, np.ndarray) else _cupy()).broadcast_to(array, (*inner, *shape))
    return array.reshape(math.prod(inner) * shape[0], *shape[1:])


def _cupy() -> Any:
    import cupy

    return cupy


def _write(targets: list[Any], results: list[Any]) -> None:
    """Copy results to the outputs."""
    for target, result in zip(targets, results, strict=True):
        if result.dtype != target.dtype:
            check_fits(result, target.dtype)
        elif target.dtype == BFLOAT16_DTYPE:
            # NumPy copies structures one by one.
            target, result = target.view(np.uint16), result.view(np.uint16)
        target[...] = result
