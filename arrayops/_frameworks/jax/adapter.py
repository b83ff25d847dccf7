"""JAX arrays: inputs are read as NumPy views of their buffers; JAX takes over the memory of results."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import jax
import numpy as np

from arrayops._call.arguments import check_framework
from arrayops._core.dtypes import BFLOAT16_DTYPE
from arrayops._core.op import Meta, Op
from arrayops._frameworks.base import Device, Framework, Unreadable
from arrayops._frameworks.jax.autodiff import differentiable_call
from arrayops._frameworks.jax.private import Tracer, put
from arrayops._frameworks.jax.wide_integers import check_fits
from arrayops._frameworks.numpy import NAMES, dtype_name, host_view

_devices: dict[Any, Device] = {}


class JAXFramework(Framework):
    """Concrete jax.Array on one device, and tracers."""

    name: ClassVar[str] = "JAX"
    transforms: ClassVar[bool] = True

    def recognises(self, array_type: type) -> bool:
        return issubclass(array_type, (jax.Array, Tracer))

    def must_transform(self, arrays: Sequence[Any]) -> bool:
        for array in arrays:  # noqa: SIM110 (a generator would take longer than all of the loop)
            if isinstance(array, Tracer):
                return True
        return False

    def transform(self, op: Op, arrays: tuple[Any, ...], parameters: Any) -> tuple[Any, ...]:
        check_framework(op, arrays, self)
        return differentiable_call(op, arrays, parameters)

    def is_traced(self, array: Any) -> bool:
        return isinstance(array, Tracer)

    def describe(self, array: Any) -> Meta:
        if array.is_deleted():
            raise Unreadable("is a deleted or donated JAX array, expected one that has not been deleted")
        dtype = array.dtype
        return Meta(array.shape, NAMES.get(dtype) or dtype_name(dtype))

    def device(self, array: Any) -> Device:
        device = array.device
        return _devices.get(device) or _classify(array, device)

    def to_backend(self, array: Any) -> Any:
        if self.device(array).kind == "cuda":
            import cupy

            return cupy.from_dlpack(array)
        # A read-only view without a copy; np.from_dlpack does not support bfloat16.
        return host_view(np.asarray(array))

    def from_backend(self, result: Any, like: Any) -> Any:
        on_gpu = not isinstance(result, np.ndarray)
        if result.dtype == BFLOAT16_DTYPE and not on_gpu:
            result = result.view(jax.numpy.bfloat16)
        elif result.dtype.itemsize == 8 and jax.dtypes.canonicalize_dtype(result.dtype) != result.dtype:
            return _import_64bit(result) if on_gpu else _put_64bit(result, like)
        return jax.dlpack.from_dlpack(result) if on_gpu else _put(result, like)

    def launching(self, device: Device) -> Any:
        return _launching(device.number)


@contextmanager
def _launching(number: int) -> Iterator[None]:
    """Launch on CuPy's current stream after the GPU has finished JAX's pending work, and synchronize it on exit.

    The stream argument of ``__dlpack__`` orders data between the streams of JAX and CuPy, but neither allocator tracks
    the other's stream. An argument that is freed on return could be overwritten while CuPy's stream still reads it. And
    JAX returns a result's memory to CuPy as soon as the result is deleted, although a running or queued computation on
    JAX's stream may still read it: this call must not write to that memory before.
    """
    import cupy

    from arrayops._frameworks.cupy import launching

    with launching(number):
        cupy.cuda.runtime.deviceSynchronize()
        try:
            yield
        finally:
            cupy.cuda.get_current_stream().synchronize()


def _classify(array: Any, device: Any) -> Device:
    if not isinstance(device, jax.Device):
        devices = array.sharding.device_set
        if len(devices) != 1:
            raise Unreadable(
                f"is sharded over {len(devices)} devices, expected an array on one device: gather it with "
                "jax.device_put"
            )
        # JAX before 0.10 returns the sharding here, even for a single device.
        (device,) = devices
    if device.process_index != jax.process_index():
        raise Unreadable(f"is on {device} of another process, expected an array of this process")
    if device.platform == "cpu":
        converted = Device("cpu", device.id)
    elif device.platform in ("gpu", "cuda"):
        converted = Device("cuda", array.__dlpack_device__()[1])
    else:
        raise Unreadable(f"is on {device}, which arrayops does not support: move it to the CPU with jax.device_put")
    return _devices.setdefault(device, converted)


def _put(result: Any, like: Any) -> Any:
    """``result`` on the device of ``like``, committed to it only if ``like`` is."""
    device = like.device
    if not isinstance(device, jax.Device):
        (device,) = like.devices()
    return put(result, device, like.committed)


def _put_64bit(result: Any, like: Any) -> Any:
    """Convert a 64-bit result while jax_enable_x64 is off.

    float64 results come from float64 inputs, which were created while it was on, and stay float64. Integers become
    32-bit, as all integers in JAX without x64; a value that does not fit raises OverflowError.
    """
    if result.dtype.kind == "f":
        with jax.enable_x64(True):
            return _put(result, like)
    target_dtype = jax.dtypes.canonicalize_dtype(result.dtype)
    check_fits(result, target_dtype)
    return _put(result.astype(target_dtype), like)


def _import_64bit(result: Any) -> Any:
    """`_put_64bit` for a GPU result, which JAX takes over; ``jax.dlpack`` alone would silently truncate values."""
    target_dtype = result.dtype if result.dtype.kind == "f" else jax.dtypes.canonicalize_dtype(result.dtype)
    with jax.enable_x64(True):
        imported = jax.dlpack.from_dlpack(result)
        if target_dtype != imported.dtype:
            check_fits(imported, target_dtype)
        return imported.astype(target_dtype)


framework = JAXFramework()
frameworks = (framework,)
