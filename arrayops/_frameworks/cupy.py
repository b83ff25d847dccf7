"""CuPy arrays, which the CUDA backend uses natively, and launch contexts shared with the adapters of other frameworks.

bfloat16 is ``ml_dtypes.bfloat16`` in CuPy; `cupy.from_dlpack` supports it if ml_dtypes is installed.
"""

import sys
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, ClassVar

import cupy

from arrayops._core import allocator
from arrayops._core.allocator import Allocate
from arrayops._core.op import Meta
from arrayops._frameworks.base import GPUS, Device, Framework
from arrayops._frameworks.numpy import NAMES, dtype_name


def launching(number: int, stream: int | None = None, allocate: Allocate | None = None) -> AbstractContextManager[Any]:
    """Context in which CuPy works on GPU ``number``.

    By default it launches on CuPy's current stream and allocates from CuPy's memory pool. The pool reuses freed memory
    only on the same stream, so that temporaries of a call are reused only after the work that still reads them.

    Parameters
    ----------
    number : int
        Device number.
    stream : int, optional
        Handle of a foreign stream (``cudaStream_t``) to launch on.
    allocate : callable, optional
        Allocator of the backend's arrays, ordered on that stream.
    """
    # Entering the device that is already current would cost as much as the look-up of a plan.
    device = CURRENT_DEVICE if cupy.cuda.runtime.getDevice() == number else cupy.cuda.Device(number)
    return device if stream is None else _ForeignLaunch(device, foreign_stream(stream), allocate)


class _ForeignLaunch:
    """Context of a device, a stream and an allocator; nested generator contexts would cost several times as much."""

    __slots__ = ("_allocate", "_device", "_outer", "_stream")

    def __init__(
        self, device: AbstractContextManager[Any], stream: AbstractContextManager[Any], allocate: Allocate | None
    ) -> None:
        self._device, self._stream, self._allocate = device, stream, allocate

    def __enter__(self) -> None:
        self._device.__enter__()
        try:
            # CuPy keeps a current stream for each device.
            self._stream.__enter__()
        except BaseException:
            self._device.__exit__(*sys.exc_info())
            raise
        self._outer, allocator.current.allocate = allocator.current.allocate, self._allocate

    def __exit__(self, *failure: Any) -> None:
        allocator.current.allocate = self._outer
        try:
            self._stream.__exit__(*failure)
        finally:
            self._device.__exit__(*failure)


@lru_cache(maxsize=256)
def foreign_stream(handle: int) -> Any:
    """CuPy stream for a handle that another library owns; arrayops never destroys it."""
    return cupy.cuda.Stream.from_external(_Handle(handle))


class _Handle:
    """A stream handle that implements the CUDA stream protocol."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


CURRENT_DEVICE: AbstractContextManager[Any] = nullcontext()


class CuPyFramework(Framework):
    """cupy.ndarray."""

    name: ClassVar[str] = "CuPy"

    def recognises(self, array_type: type) -> bool:
        return issubclass(array_type, cupy.ndarray)

    def describe(self, array: Any) -> Meta:
        dtype = array.dtype
        # Equal to Meta(...), in half the time.
        return tuple.__new__(Meta, (array.shape, NAMES.get(dtype) or dtype_name(dtype)))

    def device(self, array: Any) -> Device:
        return GPUS[array.data.device_id]

    def to_backend(self, array: Any) -> Any:
        return array

    def from_backend(self, result: Any, like: Any) -> Any:
        return result

    def launching(self, device: Device) -> Any:
        return launching(device.number)


frameworks = (CuPyFramework(),)
