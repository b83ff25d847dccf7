"""The path of one call from concrete arrays to a backend and back, without any transformation of a framework."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from arrayops import _backends, _frameworks
from arrayops._call.arguments import missing, mixed, unsupported
from arrayops._core.op import Meta, Op
from arrayops._core.opaque import opaque
from arrayops._frameworks.base import Device, Framework, Unreadable

NO_LAUNCH_CONTEXT = nullcontext()


@opaque
def run(op: Op, arrays: Sequence[Any], parameters: Any) -> tuple[Any, ...]:
    """Run ``op`` on arrays of one framework and device; return its results as arrays of that framework and device.

    Parameters
    ----------
    op : Op
        The operator.
    arrays : sequence of array or None
        One entry for each array argument of the operator.
    parameters : hashable
        The operator's parameter tuple.

    Returns
    -------
    tuple of array or None
        One entry for each meta that the operator's ``infer`` returned, None for None.

    Raises
    ------
    TypeError
        If an array is missing, of no supported framework or of another framework than the first, or a tracer.
    ValueError
        If arrays are on different devices, or ``op.infer`` raises it.
    """
    framework: Framework | None = None
    device: Device | None = None
    first_type: type | None = None
    first_name = ""
    like: Any = None
    metas: list[Meta | None] = []
    for spec, array in zip(op.specs(len(arrays)), arrays, strict=True):
        if array is None:
            if not spec.optional:
                raise missing(op, spec)
            metas.append(None)
            continue
        # The arrays of a call nearly always have one type: look its framework up only once.
        own_framework = framework if type(array) is first_type else _frameworks.find(array)
        if own_framework is None:
            raise unsupported(op, spec, array)
        if framework is None:
            framework, first_type, first_name, like = own_framework, type(array), spec.name, array
        elif own_framework is not framework:
            raise mixed(op, spec, own_framework, framework, first_name)
        try:
            metas.append(own_framework.describe(array))
            array_device = own_framework.device(array)
        except Unreadable as reason:
            raise TypeError(f"{op.name}: {spec.name} {reason}") from None
        if device is None:
            device = array_device
        elif array_device is not device and array_device != device:
            copy = own_framework.copy_to(array, device)
            if copy is None:
                raise ValueError(f"{op.name}: {spec.name} is on {array_device}, expected {device} as for {first_name}")
            index = len(metas) - 1
            arrays = (*arrays[:index], copy, *arrays[index + 1 :])
    if framework is None or device is None:
        raise TypeError(f"{op.name}: got no array, expected at least one")
    result_metas = op.infer_cached(tuple(metas), parameters)
    function = _backends.find(device.kind, op.family, op.name)
    to_backend, from_backend = framework.to_backend, framework.from_backend
    with NO_LAUNCH_CONTEXT if device.kind == "cpu" else framework.launching(device):
        results = function(tuple([None if array is None else to_backend(array) for array in arrays]), parameters)
        return tuple(
            [
                None if meta is None else from_backend(result, like)
                for result, meta in zip(results, result_metas, strict=True)
            ]
        )
