"""What dispatch asks of a framework."""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple

from arrayops._core.op import Meta


class Device(NamedTuple):
    """Where an array lies.

    ``kind`` is "cpu" or "cuda"; ``label`` is the framework's own name where kind and number do not tell all.
    """

    kind: str
    number: int
    label: str = ""

    def __str__(self) -> str:
        return self.label or f"{self.kind}:{self.number}"


class _GPUs(dict[int, Device]):
    """CUDA devices by number; the same object each time, which dispatch tells apart at once."""

    def __missing__(self, number: int) -> Device:
        return self.setdefault(number, Device("cuda", number))


GPUS = _GPUs()


class Unreadable(TypeError):
    """An array whose data must not or cannot be read; the message continues "<operator>: <argument> ..."."""


class Framework(ABC):
    """Adapter between one framework's arrays and backend arrays (numpy.ndarray or cupy.ndarray)."""

    name: ClassVar[str]
    differentiates: ClassVar[bool] = True
    """Whether the framework records gradients at all; without, ``wants_gradient`` is not asked."""

    @abstractmethod
    def recognises(self, kind: type) -> bool:
        """Whether instances of ``kind`` are arrays of this framework."""

    @abstractmethod
    def describe(self, array: Any) -> Meta:
        """Shape and dtype name, without reading data; raises Unreadable."""

    @abstractmethod
    def device(self, array: Any) -> Device:
        """Where the array lies; raises Unreadable for a device that no backend serves."""

    def moved(self, array: Any, device: Device) -> Any:
        """The array on ``device``, where the framework itself keeps it elsewhere; None where that is for the caller."""
        return None

    def wants_gradient(self, array: Any) -> bool:
        """Whether the framework would record a gradient through this array."""
        return False

    @abstractmethod
    def to_backend(self, array: Any) -> Any:
        """The array as a backend array, without a copy where the framework allows it. It is never written to."""

    @abstractmethod
    def from_backend(self, result: Any, like: Any) -> Any:
        """A backend's fresh, C-contiguous result as an array of this framework, on the device of ``like``."""

    def launching(self, device: Device) -> AbstractContextManager[Any]:
        """Context in which GPU work goes to the caller's device, stream and allocator."""
        return nullcontext()
