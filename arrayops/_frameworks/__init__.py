"""Array frameworks: adapters that convert arrays to backend arrays and results back.

An adapter module is imported with the first array of its framework, so that arrayops never imports a framework that the
user has not imported.
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

_framework_of_type: dict[type, Framework | None] = {}


def find(array: Any) -> Framework | None:
    """The framework of an array, or None; one dictionary look-up, except for the first array of a type."""
    array_type = type(array)
    try:
        return _framework_of_type[array_type]
    except KeyError:
        return _framework_of_type.setdefault(array_type, _search(array_type))


def _search(array_type: type) -> Framework | None:
    for base in array_type.__mro__:
        adapter = ADAPTERS.get(base.__module__.partition(".")[0])
        if adapter is not None:
            frameworks: tuple[Framework, ...] = import_module(f"arrayops._frameworks.{adapter}").frameworks
            return next((framework for framework in frameworks if framework.recognises(array_type)), None)
    if hasattr(array_type, "__dlpack__") and hasattr(array_type, "__dlpack_device__"):
        from arrayops._frameworks.dlpack import DLPackFramework

        return DLPackFramework.of(array_type)
    return None


def unwrapped(array: Any) -> Any:
    """``array``, or the one that it holds if it is a variable."""
    framework = find(array)
    return array if framework is None or not framework.wraps else unwrapped(framework.unwrap(array))


def type_name(value: Any) -> str:
    """Readable name of a value's type, with its module unless built in."""
    array_type = type(value)
    return (
        array_type.__qualname__
        if array_type.__module__ == "builtins"
        else f"{array_type.__module__}.{array_type.__qualname__}"
    )
