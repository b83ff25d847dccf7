"""Keras variables and symbolic tensors, which are not arrays: errors that name what to pass instead."""

from typing import Any, ClassVar, NoReturn

from arrayops._core.op import Meta
from arrayops._frameworks.base import Device, Framework, Unreadable


class KerasFramework(Framework):
    """keras.Variable and keras.KerasTensor, rejected on every Keras backend."""

    name: ClassVar[str] = "Keras"

    def recognises(self, array_type: type) -> bool:
        return bool({"Variable", "KerasTensor"} & {base.__name__ for base in array_type.__mro__})

    def describe(self, array: Any) -> Meta:
        _reject(array)

    def device(self, array: Any) -> Device:
        _reject(array)

    def to_backend(self, array: Any) -> Any:
        _reject(array)

    def from_backend(self, result: Any, like: Any) -> Any:
        _reject(like)


def _reject(array: Any) -> NoReturn:
    if any(base.__name__ == "KerasTensor" for base in type(array).__mro__):
        raise Unreadable(
            "is a symbolic KerasTensor without data, expected an array: call arrayops on the outputs of the model"
        )
    raise Unreadable("is a keras.Variable, expected an array: pass keras.ops.stop_gradient(variable)")


framework = KerasFramework()
