"""Names of JAX that are experimental or differ between its versions, each looked up here only."""

from collections.abc import Iterable
from typing import Any

import jax
from jax.custom_derivatives import SymbolicZero as SymbolicZero
from jax.experimental.buffer_callback import buffer_callback as buffer_callback

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
