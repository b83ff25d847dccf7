"""Keras variables and symbolic tensors, which are no arrays: here they get a message that says what to pass."""

from typing import Any, ClassVar, NoReturn

from arrayops._core.op import Meta
from arrayops._frameworks.base import Device, Framework, Unreadable


class KerasFramework(Framework):
    """keras.Variable and keras.KerasTensor, refused on every Keras backend."""

    name: ClassVar[str] = "Keras"
    differentiates: ClassVar[bool] = False

    def recognises(self, kind: type) -> bool:
        return bool({"Variable", "KerasTensor"} & {base.__name__ for base in kind.__mro__})

    def describe(self, array: Any) -> Meta:
        _refuse(array)

    def device(self, array: Any) -> Device:
        _refuse(array)

    def to_backend(self, array: Any) -> Any:
        _refuse(array)

    def from_backend(self, result: Any, like: Any) -> Any:
        _refuse(like)


def _refuse(array: Any) -> NoReturn:
    if any(base.__name__ == "KerasTensor" for base in type(array).__mro__):
        raise Unreadable(
            "is a symbolic KerasTensor and holds no data, expected an array: call arrayops on the outputs of the model"
        )
    raise Unreadable("is a keras.Variable, expected an array: pass keras.ops.stop_gradient(variable)")


framework = KerasFramework()
