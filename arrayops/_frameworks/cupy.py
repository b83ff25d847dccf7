"""CuPy arrays, which are the CUDA backend's own, and what other frameworks need to lend their GPU arrays to it.

bfloat16 is ``ml_dtypes.bfloat16`` in CuPy; `cupy.from_dlpack` takes and gives it when ml_dtypes is installed.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any, ClassVar

import cupy

from arrayops._core.op import Meta
from arrayops._frameworks.base import Device, Framework
from arrayops._frameworks.numpy import NAMES, dtype_name


def launching(
    number: int, stream: int | None = None, allocator: Callable[[int], Any] | None = None
) -> AbstractContextManager[Any]:
    """Context in which CuPy works on GPU ``number``.

    Without more it launches on CuPy's own current stream and takes memory from CuPy's pool, which keeps freed memory
    apart by stream, so that temporaries of a call are used again only behind the work that still reads them.

    Parameters
    ----------
    number : int
        GPU.
    stream : int, optional
        Handle of a foreign stream (``cudaStream_t``) to launch on.
    allocator : callable, optional
        Bytes -> `cupy.cuda.MemoryPointer`, on that stream. It has to keep freed memory apart by stream, too.
    """
    device: AbstractContextManager[Any] = cupy.cuda.Device(number)
    return device if stream is None else _lent(device, foreign_stream(stream), allocator)


@contextmanager
def _lent(
    device: AbstractContextManager[Any],
    stream: AbstractContextManager[Any],
    allocator: Callable[[int], Any] | None,
) -> Iterator[None]:
    with device, stream:
        if allocator is None:
            yield
        else:
            with cupy.cuda.using_allocator(allocator):
                yield


@lru_cache(maxsize=256)
def foreign_stream(handle: int) -> Any:
    """CuPy's stream for a handle that another library owns; it is never destroyed from here."""
    return cupy.cuda.Stream.from_external(_Handle(handle))


class _Handle:
    """A stream handle as CUDA's stream protocol wants it."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


class _Devices(dict[int, Device]):
    """Devices by number; the same object each time, which dispatch tells apart at once."""

    def __missing__(self, number: int) -> Device:
        return self.setdefault(number, Device("cuda", number))


DEVICES = _Devices()
HERE = nullcontext()


class CuPyFramework(Framework):
    """cupy.ndarray."""

    name: ClassVar[str] = "CuPy"
    differentiates: ClassVar[bool] = False

    def recognises(self, kind: type) -> bool:
        return issubclass(kind, cupy.ndarray)

    def describe(self, array: Any) -> Meta:
        dtype = array.dtype
        # As Meta(...), in half the time.
        return tuple.__new__(Meta, (array.shape, NAMES.get(dtype) or dtype_name(dtype)))

    def device(self, array: Any) -> Device:
        return DEVICES[array.data.device_id]

    def to_backend(self, array: Any) -> Any:
        return array

    def from_backend(self, result: Any, like: Any) -> Any:
        return result

    def launching(self, device: Device) -> Any:
        # Entering the device that is current already would cost as much as the look-up of a plan.
        return HERE if cupy.cuda.runtime.getDevice() == device.number else launching(device.number)


framework = CuPyFramework()
