"""Keras on every backend: variables, which hold arrays, and symbolic tensors, which have no data."""

from typing import Any, ClassVar, NoReturn

import keras

from arrayops._core.op import Meta
from arrayops._frameworks import find
from arrayops._frameworks.base import ArrayWrapper, Device, Framework, Unreadable


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
    """keras.KerasTensor, which is an error."""

    name: ClassVar[str] = "Keras"

    def recognises(self, array_type: type) -> bool:
        return _has_base(array_type, "KerasTensor")

    def default_layout(self, array: Any) -> str:
        return str(keras.config.image_data_format())

    def describe(self, array: Any) -> Meta:
        _reject()

    def device(self, array: Any) -> Device:
        _reject()

    def to_backend(self, array: Any) -> Any:
        _reject()

    def from_backend(self, result: Any, like: Any) -> Any:
        _reject()


def _has_base(array_type: type, name: str) -> bool:
    return any(base.__name__ == name for base in array_type.__mro__)


def _reject() -> NoReturn:
    raise Unreadable(
        "is a symbolic KerasTensor without data, expected an array: call arrayops in the call method of a keras.Layer"
    )


frameworks = KerasVariableWrapper(), KerasTensorFramework()
