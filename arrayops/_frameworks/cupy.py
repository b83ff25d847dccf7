"""CuPy arrays, which are the CUDA backend's own, and what other frameworks need to lend their GPU arrays to it.

bfloat16 is ``ml_dtypes.bfloat16`` in CuPy; `cupy.from_dlpack` takes and gives it when ml_dtypes is installed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import cupy

from arrayops._core.op import Meta
from arrayops._frameworks.base import Device, Framework
from arrayops._frameworks.numpy import dtype_name


@contextmanager
def launching(number: int, stream: Any = None) -> Iterator[None]:
    """Launch on GPU ``number``, on a foreign ``stream`` where one is given, else on CuPy's current stream.

    A foreign stream is an object with ``__cuda_stream__``. CuPy keeps freed memory apart by stream, so that temporaries
    of a call are used again only behind the work that still reads them.
    """
    with cupy.cuda.Device(number):
        if stream is None:
            yield
        else:
            with cupy.cuda.Stream.from_external(stream):
                yield


class CuPyFramework(Framework):
    """cupy.ndarray."""

    name: ClassVar[str] = "CuPy"
    differentiates: ClassVar[bool] = False

    def recognises(self, kind: type) -> bool:
        return issubclass(kind, cupy.ndarray)

    def describe(self, array: Any) -> Meta:
        return Meta(array.shape, dtype_name(array.dtype))

    def device(self, array: Any) -> Device:
        return Device("cuda", array.device.id)

    def to_backend(self, array: Any) -> Any:
        return array

    def from_backend(self, result: Any, like: Any) -> Any:
        return result

    def launching(self, device: Device) -> Any:
        return launching(device.number)


framework = CuPyFramework()
