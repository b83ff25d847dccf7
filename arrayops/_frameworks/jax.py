"""JAX arrays: read through NumPy's view of their buffer, made from results whose memory JAX then keeps."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import jax
import numpy as np

from arrayops._core.dtypes import BFLOAT16_DTYPE
from arrayops._core.op import Meta
from arrayops._frameworks.base import Device, Framework, Unreadable
from arrayops._frameworks.numpy import NAMES, dtype_name, host_view

Tracer = jax.core.Tracer

_devices: dict[Any, Device] = {}


class JAXFramework(Framework):
    """Concrete jax.Array on one device."""

    name: ClassVar[str] = "JAX"

    def recognises(self, kind: type) -> bool:
        return issubclass(kind, (jax.Array, Tracer))

    def wants_gradient(self, array: Any) -> bool:
        # Tracers of jax.grad, jvp, vjp and linearize; those of jit and vmap are refused by describe.
        return isinstance(array, Tracer) and type(array).__module__.endswith("interpreters.ad")

    def describe(self, array: Any) -> Meta:
        if isinstance(array, Tracer):
            raise Unreadable(
                "is traced inside a JAX transformation (jit, vmap, scan, grad), expected a concrete array: call "
                "arrayops outside the transformation"
            )
        if array.is_deleted():
            raise Unreadable("is a JAX array that was deleted or donated, expected one that still holds data")
        dtype = array.dtype
        return Meta(array.shape, NAMES.get(dtype) or dtype_name(dtype))

    def device(self, array: Any) -> Device:
        device = array.device
        return _devices.get(device) or _classify(array, device)

    def to_backend(self, array: Any) -> Any:
        if self.device(array).kind == "cuda":
            import cupy

            return cupy.from_dlpack(array)
        # Read-only, and no copy; np.from_dlpack would refuse bfloat16.
        return host_view(np.asarray(array))

    def from_backend(self, result: Any, like: Any) -> Any:
        on_gpu = not isinstance(result, np.ndarray)
        if result.dtype == BFLOAT16_DTYPE and not on_gpu:
            result = result.view(jax.numpy.bfloat16)
        elif result.dtype.itemsize == 8 and jax.dtypes.canonicalize_dtype(result.dtype) != result.dtype:
            return _taken_wide(result) if on_gpu else _put_wide(result, like)
        return jax.dlpack.from_dlpack(result) if on_gpu else _put(result, like)

    def launching(self, device: Device) -> Any:
        return _launching(device.number)


@contextmanager
def _launching(number: int) -> Iterator[None]:
    """Launch on CuPy's current stream, once the GPU has done what JAX asked it for, and wait for it.

    JAX and CuPy order the data between their streams through the stream argument of ``__dlpack__``, but neither's
    allocator knows of the other's stream. An argument that is freed on return could be overwritten while CuPy's stream
    reads it. And JAX gives a result's memory back to CuPy as soon as the result is dropped, though a computation on
    JAX's stream may still read it, or wait for its turn: this call must not write there before.
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
        count = len(array.sharding.device_set)
        raise Unreadable(
            f"is sharded over {count} devices, expected an array on one device: gather it by jax.device_put"
        )
    if device.process_index != jax.process_index():
        raise Unreadable(f"is on {device} of another process, expected an array of this process")
    if device.platform == "cpu":
        found = Device("cpu", device.id)
    elif device.platform in ("gpu", "cuda"):
        found = Device("cuda", array.__dlpack_device__()[1])
    else:
        raise Unreadable(f"is on {device}, which no backend serves: move it to the CPU")
    return _devices.setdefault(device, found)


def _put(result: Any, like: Any) -> Any:
    """``result`` on the device of ``like``, and bound to it only if ``like`` is.

    JAX takes over memory that is 64-byte aligned, as results are, and copies any other.
    """
    if like.committed:
        return jax.device_put(result, like.device)
    with jax.default_device(like.device):
        return jax.device_put(result)


def _put_wide(result: Any, like: Any) -> Any:
    """A result of 64 bits while jax_enable_x64 is off.

    Floating-point results come from inputs of 64 bits, made while it was on, and stay like them. Integers become 32
    bits wide, as all integers do in JAX without x64, and it is an error if that changes a value.
    """
    if result.dtype.kind == "f":
        with jax.enable_x64(True):
            return _put(result, like)
    _check_fits(result, jax.dtypes.canonicalize_dtype(result.dtype))
    return _put(result, like)


def _taken_wide(result: Any) -> Any:
    """The same of a GPU's result, which JAX takes over; ``jax.dlpack`` by itself would cut off without a word."""
    kept = result.dtype if result.dtype.kind == "f" else jax.dtypes.canonicalize_dtype(result.dtype)
    with jax.enable_x64(True):
        taken = jax.dlpack.from_dlpack(result)
        if kept != taken.dtype:
            _check_fits(taken, kept)
        return taken.astype(kept)


def _check_fits(result: Any, dtype: "np.dtype[Any]") -> None:
    """Refuse integers that do not fit the 32 bits that they get."""
    narrow = np.iinfo(dtype)
    if result.size and not narrow.min <= int(result.min()) <= int(result.max()) <= narrow.max:
        raise OverflowError(
            f"a result is {result.dtype} with values beyond {narrow.dtype}, which JAX would cut off: set jax_enable_x64"
        )


framework = JAXFramework()
