"""Array frameworks: how each hands its arrays to a backend and takes the results back.

An adapter module is imported the first time an array of its framework arrives, never before, so that nothing here
imports a framework for the user.
"""

from importlib import import_module
from typing import Any

from arrayops._frameworks.base import Framework

# Top-level module of an array type (or of one of its base classes) -> adapter.
ADAPTERS = {
    "numpy": "numpy",
    "cupy": "cupy",
    "torch": "torch",
    "jax": "jax",
    "jaxlib": "jax",
    "tensorflow": "tensorflow",
    "keras": "keras",
}

_found: dict[type, Framework | None] = {}


def find(array: Any) -> Framework | None:
    """The framework of an array, or None; one dictionary look-up after the first array of a type."""
    kind = type(array)
    try:
        return _found[kind]
    except KeyError:
        return _found.setdefault(kind, _search(kind))


def _search(kind: type) -> Framework | None:
    for base in kind.__mro__:
        adapter = ADAPTERS.get(base.__module__.partition(".")[0])
        if adapter is not None:
            framework: Framework = import_module(f"arrayops._frameworks.{adapter}").framework
            return framework if framework.recognises(kind) else None
    if hasattr(kind, "__dlpack__") and hasattr(kind, "__array_namespace__"):
        from arrayops._frameworks.dlpack import ArrayAPIFramework

        return ArrayAPIFramework.of(kind)
    return None


def type_name(value: Any) -> str:
    """Readable name of a value's type, with its module unless built in."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
