"""Backends: parallel packages with one module per operator family and one function per operator.

``cpu`` and ``numpy`` compute on arrays in host memory, with compiled kernels and with NumPy, ``cuda`` on arrays in the
memory of NVIDIA GPUs. A function takes
``(arrays, parameters)`` and returns a tuple of results, as specified by ``arrayops._core.op.Op``.
"""

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

# Device kind -> backend packages, of which the first that has a function serves.
BACKENDS = {"cpu": ("cpu", "numpy"), "cuda": ("cuda",)}


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
    for backend in BACKENDS[kind]:
        module = f"arrayops._backends.{backend}.{family}"
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
            continue
        if name in functions:
            function: Callable[[tuple[Any, ...], Any], tuple[Any, ...]] = functions[name]
            return function
    if kind == "cpu":
        raise ImportError(f"{name}: {module} is missing or incomplete: reinstall arrayops-nn")
    raise NotImplementedError(
        f"{name}: arrays on {kind} are not supported by this version of arrayops: move them to the CPU"
    )
