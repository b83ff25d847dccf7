"""Names of JAX that are experimental or differ between its versions, each looked up here only."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero as SymbolicZero
from jax.experimental.buffer_callback import buffer_callback as buffer_callback

try:
    from jax._src.core import ShapedArray as _ShapedArray
    from jax._src.interpreters.pxla import batched_device_put as _batched_device_put
except ImportError:
    _batched_device_put = None

Tracer = jax.core.Tracer

DLPACK_CPU = 1
"""kDLCPU, the kind of a device in ``__dlpack_device__``."""


def varying_axes(array: Any) -> frozenset[str]:
    """Mesh axes of ``jax.shard_map`` along which the devices have different values of ``array``."""
    array_type = jax.typeof(array)
    manual = getattr(array_type, "manual_axis_type", None)
    # JAX 0.9 keeps them in the type itself.
    axes: Iterable[str] = getattr(array_type, "vma", ()) if manual is None else manual.varying
    return frozenset(axes)


def as_varying(array: Any, axes: frozenset[str]) -> Any:
    """``array`` with a type that varies along ``axes`` as well."""
    missing = axes - varying_axes(array)
    return jax.lax.pcast(array, tuple(sorted(missing)), to="varying") if missing else array


def put(array: Any, device: jax.Device, committed: bool) -> jax.Array:
    """A NumPy array as a concrete JAX array on ``device``, also while a function is traced.

    JAX takes over 64-byte aligned memory without a copy, and copies any other.
    """
    if _batched_device_put is not None:
        # What jax.device_put ends in, in an eighth of its time.
        shape = _ShapedArray(array.shape, array.dtype)
        result: jax.Array = _batched_device_put(shape, _on_device(device), [array], [device], committed)
        return result
    with jax.ensure_compile_time_eval():
        if committed:
            return jax.device_put(array, device)
        with jax.default_device(device):
            return jax.device_put(array)


@lru_cache(maxsize=64)
def _on_device(device: jax.Device) -> Any:
    return jax.sharding.SingleDeviceSharding(device)
