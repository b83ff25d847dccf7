"""Calls of functional Keras models: a layer that calls an operator, whatever operator it is."""

from collections.abc import Sequence
from typing import Any

import keras

from arrayops._call.dispatch import dispatch
from arrayops._call.saved_call import SavedCall, result_names
from arrayops._core.op import Op
from arrayops._core.unknown_sizes import PartialMeta, PartialMetas, infer_partially


def xla_calls_python() -> bool:
    """Whether a function that XLA compiles can call arrayops on the backend: not on TensorFlow."""
    return bool(keras.backend.backend() != "tensorflow")


@keras.saving.register_keras_serializable(package="arrayops")
class OperatorCall(keras.layers.Layer):
    """A layer that calls one operator; what a public function becomes when it gets symbolic tensors.

    Parameters
    ----------
    call : dict
        The call, of `SavedCall.encoded`.
    **kwargs
        Arguments of keras.layers.Layer.
    """

    def __init__(self, call: dict[str, Any], **kwargs: Any) -> None:
        # The arrays of a call have the dtypes that the function allows, which are not always those of one policy.
        super().__init__(**{"autocast": False, **kwargs})
        self._saved = SavedCall.decoded(call)
        self.supports_jit = xla_calls_python()
        # Masks of time steps end here; without this, Keras warns.
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """There is nothing to build."""

    def call(self, inputs: Sequence[Any]) -> list[Any]:
        """The results of the operator for the arrays that the call has."""
        results = dispatch(self._saved.op, self._saved.all_arrays(inputs), self._saved.parameters)
        return self._saved.present_results(results)

    def compute_output_spec(self, inputs: Sequence[Any]) -> list[Any]:
        """Symbolic results."""
        metas = symbolic_results(self._saved.op, self._saved.all_arrays(inputs), self._saved.parameters)
        return [keras.KerasTensor(*meta) for meta in metas if meta is not None]

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """No result has a mask."""

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        config: dict[str, Any] = super().get_config()
        return {**config, "call": self._saved.encoded()}


def symbolic_call(op: Op, arrays: Sequence[Any], parameters: Any) -> tuple[Any, ...]:
    """The symbolic results of a call; it becomes a layer of the model of its arrays.

    Arrays of which Keras records no history belong to no model: their results are of that kind, and there is no layer.
    """
    metas = symbolic_results(op, arrays, parameters)
    if any(not array.record_history for array in arrays if array is not None):
        return tuple(None if meta is None else keras.KerasTensor(*meta, record_history=False) for meta in metas)
    names = [spec.name for spec, array in zip(op.specs(len(arrays)), arrays, strict=True) if array is not None]
    results = [name for name, meta in zip(result_names(op, len(arrays)), metas, strict=False) if meta is not None]
    saved = SavedCall(op, parameters, tuple(names), tuple(results))
    layer = OperatorCall(saved.encoded(), name=f"{op.name}_{keras.backend.get_uid(op.name)}")
    return tuple(saved.all_results(layer([array for array in arrays if array is not None])))[: len(metas)]


def symbolic_results(op: Op, arrays: Sequence[Any], parameters: Any) -> PartialMetas:
    """Shapes, as far as they are known, and dtypes of the results of a call."""
    metas = tuple(None if array is None else PartialMeta(tuple(array.shape), array.dtype) for array in arrays)
    return infer_partially(op, metas, parameters)
