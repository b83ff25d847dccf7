"""Interface of framework adapters, as dispatch uses it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple

from arrayops._core.op import Meta, Op


class Device(NamedTuple):
    """Device of an array.

    ``kind`` is "cpu" or "cuda"; ``label`` is the framework's own name if kind and number do not identify the device.
    """

    kind: str
    number: int
    label: str = ""

    def __str__(self) -> str:
        return self.label or f"{self.kind}:{self.number}"


class _GPUs(dict[int, Device]):
    """CUDA devices by number; one object per device, so that dispatch can compare by identity first."""

    def __missing__(self, number: int) -> Device:
        return self.setdefault(number, Device("cuda", number))


GPUS = _GPUs()


class Unreadable(TypeError):
    """Raised for an array that cannot or must not be read; dispatch prefixes "<operator>: <argument> "."""


class Framework(ABC):
    """Adapter between one framework's arrays and backend arrays (numpy.ndarray or cupy.ndarray)."""

    name: ClassVar[str]
    transforms: ClassVar[bool] = False
    """Whether the adapter differentiates and traces; if not, ``must_transform`` and ``is_traced`` are not called."""
    wraps: ClassVar[bool] = False
    """Whether its objects are no arrays, but hold one, which ``unwrap`` returns; then nothing else is called."""

    @abstractmethod
    def recognises(self, array_type: type) -> bool:
        """Whether instances of ``array_type`` are arrays of this framework."""

    @abstractmethod
    def describe(self, array: Any) -> Meta:
        """Shape and dtype name, without reading data; raises Unreadable."""

    @abstractmethod
    def device(self, array: Any) -> Device:
        """The array's device; raises Unreadable if arrayops does not support it."""

    def default_layout(self, array: Any) -> str:
        """The layout of a call whose first array is ``array`` if the caller names none; any name of it."""
        return "NCHW"

    def copy_to(self, array: Any, device: Device) -> Any:
        """A copy on ``device`` of an array that the framework placed elsewhere; None if the caller must move it."""
        return None

    def unwrap(self, array: Any) -> Any:
        """The array that an object holds, if the framework ``wraps``."""
        return array

    def must_transform(self, arrays: Sequence[Any]) -> bool:
        """Whether a call with these arrays is more than computing results: recorded for a gradient, traced, batched."""
        return False

    def transform(self, op: Op, arrays: tuple[Any, ...], parameters: Any) -> tuple[Any, ...]:
        """Make a call for which ``must_transform`` is true."""
        raise NotImplementedError

    def is_traced(self, array: Any) -> bool:
        """Whether the array is a placeholder in a traced or batched function, whose values cannot be read."""
        return False

    @abstractmethod
    def to_backend(self, array: Any) -> Any:
        """The array as a backend array, without a copy where the framework allows it. Backends never write to it."""

    @abstractmethod
    def from_backend(self, result: Any, like: Any) -> Any:
        """A backend's fresh, C-contiguous result as an array of this framework, on the device of ``like``."""

    def integer(self, array: Any) -> int:
        """The value of an array with one integer; on a GPU this waits for it."""
        return int(array)

    def launching(self, device: Device) -> AbstractContextManager[Any]:
        """Context in which GPU work uses the caller's device, stream and allocator."""
        return nullcontext()


class ArrayWrapper(Framework):
    """Objects that hold an array of a framework, such as variables; calls use that array."""

    name: ClassVar[str] = "variables"
    wraps: ClassVar[bool] = True

    @abstractmethod
    def unwrap(self, array: Any) -> Any:
        """The array."""

    def describe(self, array: Any) -> Meta:
        raise NotImplementedError

    def device(self, array: Any) -> Device:
        raise NotImplementedError

    def to_backend(self, array: Any) -> Any:
        raise NotImplementedError

    def from_backend(self, result: Any, like: Any) -> Any:
        raise NotImplementedError
