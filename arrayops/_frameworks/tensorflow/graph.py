"""Calls in graphs: one operation that calls Python, with the static shapes of its results, and its gradient.

On the CPU it is ``PyFuncStateless``, which gets NumPy views of the tensors, and which TensorFlow leaves out if no
result is used. It has no kernel for GPUs: tensors would be copied to the host. There the operation is ``EagerPyFunc``,
which gets tensors on the GPU, but runs even if no result is used, and has no int32: labels become int64, and calls with
other int32 arrays run on the host, where TensorFlow keeps such arrays anyway.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from arrayops._call.saved_call import SavedCall, result_names
from arrayops._core.op import ArraySpec, Op
from arrayops._core.unknown_sizes import PartialMeta, infer_partially
from arrayops._frameworks import saved_programs
from arrayops._frameworks.tensorflow.callbacks import DEVICE, HOST, GraphCall
from arrayops._frameworks.tensorflow.derivatives import tensor_derivatives
from arrayops._frameworks.tensorflow.private import in_xla, is_watched


def add_call(op: Op, arrays: Sequence[Any], parameters: Any) -> tuple[Any, ...]:
    """Add a call of ``op`` to the graph that is being built.

    Raises
    ------
    NotImplementedError
        If the graph is to be compiled by XLA, or if this version of TensorFlow is not known.
    """
    if not saved_programs.extended:
        raise NotImplementedError(
            f"{op.name}: called in a tf.function, which is not provided with TensorFlow {tf.__version__}, expected an "
            "eager call or another version"
        )
    if in_xla():
        raise NotImplementedError(
            f"{op.name}: called in a function that XLA compiles, which cannot call Python, expected jit_compile=False, "
            "in tf.function or in compile() of a Keras model"
        )
    specs = op.specs(len(arrays))
    arrays = [_as_argument(spec, array) for spec, array in zip(specs, arrays, strict=True)]
    pairs = list(zip(specs, arrays, strict=True))
    # An array of a variadic argument is watched if one of them is.
    watched = dict.fromkeys(spec.argument for spec, array in pairs if _is_float(array) and is_watched((array,)))
    # What the gradient needs is saved if there will be one. On a GPU it is computed again, as it may be int32.
    saving = op.saving_parameters(parameters) if watched and not uses_gpu() else parameters
    promised = _promised(op, arrays, saving)
    names = [name for name, meta in zip(result_names(op, len(arrays)), promised, strict=False) if meta is not None]
    present = [spec.name for spec, array in pairs if array is not None]
    call = GraphCall(SavedCall(op, saving, tuple(present), tuple(names)), tuple(watched))
    results = _operation(call, [array for array in arrays if array is not None], promised)
    return op.requested_results(tuple(results), parameters)


def _operation(call: GraphCall, tensors: list[Any], promised: Sequence[PartialMeta | None]) -> list[Any]:
    """Add the operation of a call, with results of the promised shapes and dtypes."""
    dtypes = [tf.as_dtype(meta.dtype) for meta in promised if meta is not None]
    if uses_gpu() and tf.int32 not in [*dtypes, *(tensor.dtype for tensor in tensors)]:
        found = tf.raw_ops.EagerPyFunc(input=tensors, token=call.encoded(DEVICE), Tout=dtypes, is_async=False)
    else:
        found = tf.raw_ops.PyFuncStateless(input=tensors, token=call.encoded(HOST), Tout=dtypes)
    _set_shapes(found, promised)
    remaining = iter(found)
    return [None if meta is None else next(remaining) for meta in promised]


def gradient(operation: Any, name: str, cotangents: Sequence[Any]) -> list[Any]:
    """Gradients of the inputs of an operation, as TensorFlow asks its registry of gradients for them.

    Parameters
    ----------
    operation : tf.Operation
        The operation, or what a GradientTape recorded of it.
    name : str
        Its name, of `GraphCall`.
    cotangents : sequence of tf.Tensor or None
        For each of its outputs.
    """
    call, watched = GraphCall.decoded(name)
    op = call.op
    arrays, results = call.all_arrays(operation.inputs), call.all_results(operation.outputs)
    if any(output.shape.rank is None for output in operation.outputs):
        # A ForwardAccumulator asks at once, before `_operation` has set the shapes.
        _set_shapes(operation.outputs, _promised(op, arrays, call.parameters))
    given = call.all_results([_as_tensor(*pair) for pair in zip(cotangents, operation.outputs, strict=True)])
    saved = op.saved_results(results)
    found: list[Any] = [None] * len(arrays)
    for wanted in _groups(op, watched, operation, arrays):
        terms = tensor_derivatives(op, arrays, call.parameters, saved, wanted, given)
        found = [term if yes else other for term, yes, other in zip(terms, wanted, found, strict=True)]
    return [each for each, array in zip(found, arrays, strict=True) if array is not None]


def _groups(op: Op, watched_names: Sequence[str], operation: Any, arrays: Sequence[Any]) -> list[list[bool]]:
    """Arrays by the backward call that computes their gradients.

    A tape tells which gradients it does not need. Elsewhere all of them may be needed: what a tape watched while the
    graph was built is one group, and the rest another, which TensorFlow leaves out if it is not used.
    """
    specs = op.specs(len(arrays))
    wanted = [spec.differentiable and _is_float(array) for spec, array in zip(specs, arrays, strict=True)]
    skipped = getattr(operation, "skip_input_indices", None)
    if skipped is not None:
        given = (i for i, array in enumerate(arrays) if array is not None)
        unused = {i for number, i in enumerate(given) if number in skipped}
        groups = [[yes and i not in unused for i, yes in enumerate(wanted)]]
    else:
        watched = [yes and spec.argument in watched_names for spec, yes in zip(specs, wanted, strict=True)]
        groups = [watched, [yes and not first for yes, first in zip(wanted, watched, strict=True)]]
    return [group for group in groups if any(group)]


def uses_gpu() -> bool:
    """Whether TensorFlow would place operations on a GPU."""
    return bool(tf.config.list_logical_devices("GPU"))


def _promised(op: Op, arrays: Sequence[Any], parameters: Any) -> Sequence[PartialMeta | None]:
    """Shapes, as far as they are known, and dtypes of the results of a call."""
    metas = [
        None if array is None else _meta(op, spec.name, array)
        for spec, array in zip(op.specs(len(arrays)), arrays, strict=True)
    ]
    return infer_partially(op, tuple(metas), parameters)


def _set_shapes(tensors: Sequence[Any], promised: Sequence[PartialMeta | None]) -> None:
    for tensor, meta in zip(tensors, [meta for meta in promised if meta is not None], strict=True):
        tensor.set_shape(meta.shape)


def _as_argument(spec: ArraySpec, array: Any) -> Any:
    """An array as a tensor that the operation can have."""
    if array is None:
        return None
    tensor = tf.convert_to_tensor(array)
    return tf.cast(tensor, tf.int64) if spec.kind == "label" and tensor.dtype == tf.int32 and uses_gpu() else tensor


def _as_tensor(cotangent: Any, output: Any) -> Any:
    """A cotangent, which may be of tf.gather, with the shape of the output as far as that is known."""
    if cotangent is None:
        return None
    tensor = tf.convert_to_tensor(cotangent)
    tensor.set_shape(output.shape)
    return tensor


def _is_float(array: Any) -> bool:
    return array is not None and bool(array.dtype.is_floating)


def _meta(op: Op, name: str, array: Any) -> PartialMeta:
    if array.shape.rank is None:
        raise ValueError(
            f"{op.name}: {name} has an unknown number of axes, expected a known one: set it with "
            f"tf.ensure_shape({name}, [None, ...])"
        )
    return PartialMeta(tuple(array.shape.as_list()), array.dtype.name)
