"""Lets TensorFlow run and differentiate the calls of arrayops in graphs, in every process that imports arrayops.

An operation of a graph that calls Python has a name, by which TensorFlow looks a function up when the operation runs,
and the gradient of such operations is in a table. A graph may have been saved by another process, and run before
arrayops has seen a tensor. So both are extended as soon as TensorFlow is imported, which arrayops does not do itself.
"""

import sys
from typing import Any

MODULE = "tensorflow.python.ops.script_ops"
"""Module of the operations that call Python."""

PREFIX = "arrayops (to run this program, import arrayops first) "
"""Start of the names of calls of arrayops. TensorFlow prints the name where it is not found."""

extended: list[Any] = []
"""The module, once it is extended. It is not if TensorFlow lacks the names that this needs."""


def serve() -> None:
    """Extend TensorFlow, now or when it is imported."""
    module = sys.modules.get(MODULE)
    if module is not None:
        extend(module)
    else:
        sys.meta_path.insert(0, _OnImport())


def extend(script_ops: Any) -> None:
    """Let the look-up of functions, and the gradient of their operations, know the names of arrayops."""
    kinds = "PyFuncStateless", "EagerPyFunc"
    try:
        functions, gradients = script_ops._py_funcs, script_ops.ops.gradient_registry._registry
        other_function, other_gradients = functions.get, [gradients[kind]["type"] for kind in kinds]
    except (AttributeError, KeyError):
        # Calls in graphs will say so; TensorFlow's import must not fail.
        return

    def function(name: Any, default: Any = None) -> Any:
        if not isinstance(name, str) or not name.startswith(PREFIX):
            return other_function(name, default)
        from arrayops._frameworks.tensorflow.callbacks import callback

        return callback(name)

    functions.get = function
    for kind, other in zip(kinds, other_gradients, strict=True):
        gradients[kind] = {**gradients[kind], "type": _extended_gradient(other)}
    extended.append(script_ops)


def _extended_gradient(other: Any) -> Any:
    """The gradient of a kind of operations; ``other`` is that of operations which are not of arrayops."""

    def gradient(operation: Any, *grads: Any) -> Any:
        name = operation.get_attr("token").decode()
        if not name.startswith(PREFIX):
            return [None] * len(operation.inputs) if other is None else other(operation, *grads)
        from arrayops._frameworks.tensorflow import graph

        return graph.gradient(operation, name, grads)

    return gradient


class _OnImport:
    """A finder that leaves finding modules to the others, and calls `extend` after the import of `MODULE`."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """The spec that the next finders have."""
        if name != MODULE:
            return None
        # Those before have been asked already.
        others = sys.meta_path[sys.meta_path.index(self) + 1 :]
        finds = (getattr(finder, "find_spec", None) for finder in others)
        specs = (find(name, path, target) for find in finds if find is not None)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_extend(module: Any) -> None:
                execute(module)
                # The loader may be one for many modules.
                if module.__name__ == MODULE and self in sys.meta_path:
                    sys.meta_path.remove(self)
                    extend(module)

            spec.loader.exec_module = execute_and_extend
        return spec
