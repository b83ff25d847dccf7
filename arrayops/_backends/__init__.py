"""Backends: parallel packages with one module per operator family and one function per operator.

``numpy`` computes on arrays in host memory, ``cuda`` on arrays in the memory of NVIDIA GPUs. A function takes
``(arrays, parameters)`` and returns a tuple of results, as specified by ``arrayops._core.op.Op``.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

# Device kind -> backend package.
BACKENDS = {"cpu": "numpy", "cuda": "cuda"}


@cache
def find(kind: str, family: str, name: str) -> Callable[[tuple[Any, ...], Any], tuple[Any, ...]]:
    """The function ``name`` of the backend for devices of type ``kind``, "cpu" or "cuda".

    Raises
    ------
    NotImplementedError
        If this backend does not implement the operator.
    ImportError
        If CuPy is missing, or a module of the CPU backend, which implements every operator. Other exceptions from the
        import of a backend module propagate.
    """
    module = f"arrayops._backends.{BACKENDS[kind]}.{family}"
    try:
        functions = vars(import_module(module))
    except ModuleNotFoundError as error:
        if error.name == "cupy":
            raise ImportError(
                f"{name}: CuPy is not installed, expected for arrays on a GPU: "
                "pip install 'arrayops-nn[cuda12]' or 'arrayops-nn[cuda13]'"
            ) from error
        if error.name != module:
            raise
        functions = {}
    if name in functions:
        function: Callable[[tuple[Any, ...], Any], tuple[Any, ...]] = functions[name]
        return function
    if kind == "cpu":
        raise ImportError(f"{name}: {module} is missing or incomplete: reinstall arrayops-nn")
    raise NotImplementedError(
        f"{name}: arrays on {kind} are not supported by this version of arrayops: move them to the CPU"
    )
