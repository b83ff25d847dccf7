"""Backends: twin packages with one module a family and one function an operator.

``numpy`` serves arrays in host memory, ``cuda`` arrays on NVIDIA GPUs. A function takes ``(arrays, parameters)`` and
returns a tuple of results, as ``arrayops._core.op.Op`` states.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

# Device kind -> backend package.
BACKENDS = {"cpu": "numpy", "cuda": "cuda"}


@cache
def find(kind: str, family: str, name: str) -> Callable[[tuple[Any, ...], Any], tuple[Any, ...]]:
    """The function ``name`` of the backend for devices of one kind."""
    package = f"arrayops._backends.{BACKENDS[kind]}"
    try:
        function: Callable[[tuple[Any, ...], Any], tuple[Any, ...]] = getattr(
            import_module(f"{package}.{family}"), name
        )
    except (ModuleNotFoundError, AttributeError) as error:
        missing = isinstance(error, AttributeError) or error.name == f"{package}.{family}"
        if isinstance(error, ModuleNotFoundError) and error.name == "cupy":
            raise ImportError(
                f"{name}: arrays on a GPU need CuPy: pip install 'arrayops-nn[cuda12]' or 'arrayops-nn[cuda13]'"
            ) from error
        if not missing:
            raise
        raise NotImplementedError(
            f"{name}: arrays on {kind} are not served by this version of arrayops, move them to the CPU"
        ) from None
    return function
