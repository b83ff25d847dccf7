"""keras.Variable, which holds an array of the backend, and keras.KerasTensor, which stands for one in a model."""

from collections.abc import Sequence
from typing import Any, ClassVar

import keras

from arrayops._call.arguments import check_framework
from arrayops._core.op import Meta, Op
from arrayops._frameworks import find, type_name
from arrayops._frameworks.base import ArrayWrapper, Device, Framework, Unreadable
from arrayops._frameworks.keras.operator_call import symbolic_call


class KerasVariableWrapper(ArrayWrapper):
    """keras.Variable."""

    def recognises(self, array_type: type) -> bool:
        return _has_base(array_type, "Variable")

    def unwrap(self, array: Any) -> Any:
        # In the dtype of an autocast scope; keras.ops.convert_to_tensor returns some variables as they are.
        return array.value

    def default_layout(self, array: Any) -> str:
        framework = find(array.value)
        return super().default_layout(array) if framework is None else framework.default_layout(array.value)


class KerasTensorFramework(Framework):
    """keras.KerasTensor: a call becomes a layer of a functional model."""

    name: ClassVar[str] = "Keras"
    transforms: ClassVar[bool] = True

    def recognises(self, array_type: type) -> bool:
        return _has_base(array_type, "KerasTensor")

    def default_layout(self, array: Any) -> str:
        return str(keras.config.image_data_format())

    def must_transform(self, arrays: Sequence[Any]) -> bool:
        return True

    def transform(self, op: Op, arrays: tuple[Any, ...], parameters: Any) -> tuple[Any, ...]:
        for spec, array in zip(op.specs(len(arrays)), arrays, strict=True):
            if array is not None and find(array) not in (None, self):
                raise TypeError(
                    f"{op.name}: {spec.name} is {type_name(array)}, expected a KerasTensor as the other arrays are: "
                    "variables and constants of a functional model belong to layers, so take one of "
                    f"arrayops.layers.keras, or call {op.name} in the call method of a layer of your own"
                )
        check_framework(op, arrays, self)
        return symbolic_call(op, arrays, parameters)

    def is_traced(self, array: Any) -> bool:
        return True

    def describe(self, array: Any) -> Meta:
        raise Unreadable(
            "is a symbolic KerasTensor without data, expected an array of the same framework as the other arguments"
        )

    def device(self, array: Any) -> Device:
        raise NotImplementedError

    def to_backend(self, array: Any) -> Any:
        raise NotImplementedError

    def from_backend(self, result: Any, like: Any) -> Any:
        raise NotImplementedError


def _has_base(array_type: type, name: str) -> bool:
    return any(base.__name__ == name for base in array_type.__mro__)


frameworks = KerasVariableWrapper(), KerasTensorFramework()
