"""Checks of the arrays of a call, and their error messages, for `run` and for transforming frameworks."""

from collections.abc import Sequence
from typing import Any

from arrayops import _frameworks
from arrayops._core.op import ArraySpec, Op
from arrayops._frameworks.base import Framework


def check_framework(op: Op, arrays: Sequence[Any], framework: Framework) -> None:
    """Check that all required arrays of a call are there, and that all arrays are of ``framework``.

    Raises
    ------
    TypeError
        If an array is missing, of no supported framework or of another one.
    """
    specs = op.specs(len(arrays))
    first_name = next((spec.name for spec, array in zip(specs, arrays, strict=True) if array is not None), "")
    for spec, array in zip(specs, arrays, strict=True):
        if array is None:
            if not spec.optional:
                raise missing(op, spec)
            continue
        own_framework = _frameworks.find(array)
        if own_framework is None:
            raise unsupported(op, spec, array)
        if own_framework is not framework:
            raise mixed(op, spec, own_framework, framework, first_name)


def missing(op: Op, spec: ArraySpec) -> TypeError:
    """Error for a required array that is None."""
    return TypeError(f"{op.name}: {spec.name} is None, expected an array")


def unsupported(op: Op, spec: ArraySpec, array: Any) -> TypeError:
    """Error for an argument that is an array of no framework."""
    return TypeError(
        f"{op.name}: {spec.name} is {_frameworks.type_name(array)}, expected an array of NumPy, CuPy, PyTorch, "
        "JAX, TensorFlow or another library with DLPack"
    )


def mixed(op: Op, spec: ArraySpec, found: Framework, expected: Framework, first_name: str) -> TypeError:
    """Error for an array of another framework than the first."""
    return TypeError(
        f"{op.name}: {spec.name} is an array of {found.name}, expected {expected.name} as for {first_name}"
    )
