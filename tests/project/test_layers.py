"""The direction of imports between folders: a module imports from its own folder and from those below it alone.

::

    public functions, layers    pac conv segment merge, _demo, _info
    _frameworks.torch, .jax, .tensorflow, .keras    gradients, tracing
    _call                       dispatch, run
    _frameworks   _backends
                  cpu: pac | conv | window | engine    numpy    cuda: pac conv segment merge | window | engine
                  _ops
    _core
"""

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "arrayops"
MODULES = sorted(PACKAGE.rglob("*.py"))

# What each folder may import besides itself; the longest prefix of a module's name counts.
BELOW: dict[str, tuple[str, ...]] = {
    "_core": (),
    "_ops": ("_core",),
    "_backends": ("_core",),
    "_backends.numpy": ("_core", "_ops"),
    # What an operator of a family falls back to is NumPy's.
    "_backends.cpu": ("_backends.cpu.engine",),
    "_backends.cpu.engine": ("_core",),
    "_backends.cpu.window": ("_backends.cpu.engine", "_backends.numpy", "_core"),
    "_backends.cpu.conv": ("_backends.cpu.window", "_backends.cpu.engine", "_backends.numpy", "_core", "_ops"),
    # Gradients of weights and biases are added by kernels of the convolutions.
    "_backends.cpu.pac": (
        "_backends.cpu.conv",
        "_backends.cpu.window",
        "_backends.cpu.engine",
        "_backends.numpy",
        "_core",
        "_ops",
    ),
    "_backends.cuda": (),
    "_backends.cuda.engine": ("_core", "_ops"),
    "_backends.cuda.window": ("_backends.cuda.engine", "_core", "_ops"),
    **{
        f"_backends.cuda.{family}": ("_backends.cuda.window", "_backends.cuda.engine", "_core", "_ops")
        for family in ("pac", "conv", "segment", "merge")
    },
    "_frameworks": ("_core",),
    "_call": ("_frameworks", "_backends", "_ops", "_core"),
    # What torch.compile traces in place of dispatch; it is called when torch is imported.
    "_call.compiled": ("_frameworks.torch", "_core"),
    # dispatch finds an adapter by its name when it sees the first array; gradients call operators themselves.
    "_frameworks.torch": ("_call", "_frameworks", "_ops", "_core"),
    "_frameworks.tensorflow": ("_call", "_frameworks", "_frameworks.saved_programs", "_ops", "_core"),
    "_frameworks.keras": ("_call", "_frameworks", "_ops", "_core"),
    # A graph calls Python by a name, and is differentiated; TensorFlow is imported by then.
    "_frameworks.saved_programs": ("_frameworks.tensorflow", "_frameworks", "_core"),
    # XLA calls backends itself.
    "_frameworks.jax": ("_call", "_frameworks", "_backends", "_ops", "_core"),
}
TOP = ("__init__", "__main__", "_compile", "_demo", "_info", "_typing", "conv", "layers", "merge", "pac", "segment")


def name_of(path: Path) -> str:
    """Dotted name below ``arrayops``."""
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


NAMES = {name_of(path) for path in MODULES}


def imports(tree: ast.AST) -> Iterator[str]:
    """Modules of arrayops that a module imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "arrayops")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            if module.partition(".")[0] == "arrayops":
                for alias in node.names:
                    inner = f"{module}.{alias.name}"
                    yield inner if inner.partition(".")[2] in NAMES else module


def room_of(module: str) -> str | None:
    """The folder whose rule holds for a module; None at the top, which may import everything."""
    fitting = [room for room in BELOW if module == room or module.startswith(room + ".")]
    return max(fitting, key=len, default=None)


def arrows_up(module: str, imported: list[str]) -> list[str]:
    room = room_of(module)
    if room is None:
        return []
    allowed = {room, *BELOW[room]} | ({"_call.compiled"} if room == "_call" else set())
    return [name for name in imported if room_of(name) not in allowed]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_import_goes_up(path: Path) -> None:
    module = name_of(path)
    assert room_of(module) or module.partition(".")[0] in TOP, f"{module}: no rule for its folder"
    found = [name.partition(".")[2] for name in imports(ast.parse(path.read_text(encoding="utf-8")))]
    assert arrows_up(module, found) == []


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("_core.op", "_call.dispatch"),
        ("_ops.pac", "pac"),
        ("_backends.numpy.memory", "_frameworks.numpy"),
        ("_backends.cuda.segment", "_backends.numpy.memory"),
        ("_backends.cpu.engine.choice", "_backends.numpy.memory"),
        ("_backends.cuda.engine.memory", "_backends.cuda.window.plan"),
        ("_backends.cuda.conv.call", "_backends.cuda.pac.plan"),
        ("_frameworks.torch", "_backends.cuda.engine.memory"),
        ("_frameworks.torch", ""),
    ],
)
def test_an_import_that_goes_up_is_seen(module: str, imported: str) -> None:
    assert arrows_up(module, [imported]) == [imported]


def test_class_names_are_unique() -> None:
    # The NumPy engine is left out: its modules have private classes of the same names.
    names = Counter(
        node.name
        for path in MODULES
        if not name_of(path).startswith("_backends.numpy")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    # The same layer has the same name in every framework, unless the frameworks' own names differ.
    layers = {"MergeFeatureMaps"}
    assert {name for name, count in names.items() if count > 1} == layers


def names_outside_private(framework: str, private: Callable[[ast.AST], str | None]) -> dict[str, list[str]]:
    """Private names of a framework by the file of its adapter, but for private.py, which must have some."""
    found = {}
    for path in (PACKAGE / "_frameworks" / framework).glob("*.py"):
        names = map(private, ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        found[path.name] = sorted(name for name in names if name is not None)
    assert found.pop("private.py")
    return {path: names for path, names in found.items() if names}


def private_name_of_torch(node: ast.AST) -> str | None:
    of_torch = isinstance(node, ast.Attribute) and ast.unparse(node.value).partition(".")[0] == "torch"
    return node.attr if of_torch and node.attr.startswith("_") else None


def private_module_of_tensorflow(node: ast.AST) -> str | None:
    module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
    return module if module.startswith("tensorflow.") else None


def test_private_names_are_in_one_file() -> None:
    assert names_outside_private("torch", private_name_of_torch) == {}
    assert names_outside_private("tensorflow", private_module_of_tensorflow) == {}
