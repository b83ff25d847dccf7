"""Every operator is complete: public functions, results on every engine, documentation. See docs/adding_an_op.md."""

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import arrayops
from arrayops._backends import find
from arrayops._call.dispatch import dispatch, dispatch_backward
from arrayops._core.op import ArraySpec, Op
from arrayops._ops import OPS
from operator_oracles import ORACLES, Registered, check_operator, normal

ROOT = Path(__file__).resolve().parents[2]
every_op = pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
differentiable_op = pytest.mark.parametrize(
    "op", [op for op in OPS.values() if op.differentiable], ids=lambda op: op.name
)

needs_cupy = pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")


def public_names(op: Op) -> tuple[str, ...]:
    """An operator, and its gradient unless nothing that it takes can have one."""
    return (op.name, op.backward.name) if op.differentiable else (op.name,)


def backend_modules(family: str) -> dict[str, object]:
    found = {}
    for backend in ("numpy", "cuda"):
        name = f"arrayops._backends.{backend}.{family}"
        if importlib.util.find_spec(name) is not None:
            found[backend] = importlib.import_module(name)
    return found


def test_names_are_unique_and_records_are_keyed_by_them() -> None:
    assert all(name == op.name for name, op in OPS.items())
    assert len(OPS) >= 4


@every_op
def test_public_functions(op: Op) -> None:
    module = importlib.import_module(f"arrayops.{op.family}")
    for name in public_names(op):
        assert getattr(arrayops, name) is getattr(module, name)
        assert name in arrayops.__all__


@differentiable_op
def test_public_signatures_hold_the_arrays_of_the_record(op: Op) -> None:
    forward = inspect.signature(getattr(arrayops, op.name)).parameters
    backward = inspect.signature(getattr(arrayops, op.backward.name)).parameters
    assert {spec.name for spec in op.arrays} <= set(forward)
    # What is saved is a result of the forward and an argument of the backward.
    saved = ["saved"] if "return_saved" in forward else []
    assert op.saved or not saved
    shared = {name: parameter for name, parameter in forward.items() if name != "return_saved"}
    assert list(backward) == ["grad_output", *shared, *saved, "needs"]
    for name, parameter in shared.items():
        assert backward[name].kind == parameter.kind
        assert backward[name].default == parameter.default
    # Positional arguments first, in the order of the record.
    positional = [n for n, p in forward.items() if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    arrays = [spec.name for spec in op.arrays if spec.name in positional]
    assert arrays == [name for name in positional if name in arrays]


@differentiable_op
def test_gradients_are_named_after_the_arrays(op: Op) -> None:
    hint = inspect.signature(getattr(arrayops, op.backward.name)).return_annotation
    fields = hint.__origin__._fields
    assert fields == op.differentiable == op.backward.outputs


@needs_cupy
@every_op
def test_backends_are_twins(op: Op) -> None:
    modules = backend_modules(op.family)
    assert "numpy" in modules
    for module in modules.values():
        for name in public_names(op):
            signature = inspect.signature(getattr(module, name))
            assert list(signature.parameters) == ["arrays", "parameters"]


@needs_cupy
def test_backends_have_no_operator_without_a_record() -> None:
    known = {name for op in OPS.values() for name in public_names(op)}
    for family in {op.family for op in OPS.values()}:
        for module in backend_modules(family).values():
            public = {
                name
                for name, value in vars(module).items()
                if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
            }
            assert public <= known


@every_op
def test_what_is_saved_comes_last_and_may_be_absent(op: Op) -> None:
    assert not set(op.saved) & {*op.outputs, *(spec.name for spec in op.arrays)}
    assert not (op.saved and op.arrays[-1].variadic)
    if op.differentiable:
        arrays = op.backward.arrays
        last = arrays[len(arrays) - len(op.saved) :]
        assert [spec.name for spec in last] == [f"saved_{name}" for name in op.saved]
        assert all(spec.optional and not spec.differentiable for spec in last)


@needs_cupy
@every_op
def test_cuda_family_has_kernels(op: Op) -> None:
    if "cuda" in backend_modules(op.family):
        assert list((ROOT / "raw_kernels" / "cuda").glob(f"{op.family}*.cu"))


@every_op
def test_documentation_names_the_operator(op: Op) -> None:
    assert f"| `{op.name}` |" in (ROOT / "docs" / "operators.md").read_text()
    assert op.name in (ROOT / "CHANGELOG.md").read_text()


@every_op
def test_docstrings_are_complete(op: Op) -> None:
    for name in public_names(op):
        text = inspect.getdoc(getattr(arrayops, name)) or ""
        for section in ("Parameters", "Returns", "Raises", "Examples"):
            assert f"\n{section}\n" + "-" * len(section) in text, (name, section)
        for parameter in inspect.signature(getattr(arrayops, name)).parameters:
            assert parameter in text, (name, parameter)
    assert "References" in (inspect.getdoc(getattr(arrayops, op.name)) or "")


def test_all_is_complete_and_sorted() -> None:
    assert sorted(arrayops.__all__) == list(arrayops.__all__)
    for name in arrayops.__all__:
        assert hasattr(arrayops, name)


def test_a_backward_has_no_backward() -> None:
    backward = next(iter(OPS.values())).backward
    with pytest.raises(TypeError, match="expected a forward operator"):
        _ = backward.backward


@every_op
def test_results_on_the_cpu(op: Op) -> None:
    check_operator(op)


@pytest.mark.slow
@every_op
def test_results_on_gpus(op: Op, device: Any) -> None:
    check_operator(op, device)


def test_no_oracle_is_left_over() -> None:
    assert set(ORACLES) == set(OPS)


class PlantedGradients(NamedTuple):
    input: Any


class TestFaultyOperators:
    """An operator that is not right on every engine fails the tests above."""

    def public(self, op: Op) -> Any:
        """A module with the public functions of ``op``."""
        module = ModuleType("public")
        module.planted = lambda input: dispatch(op, (input,), ())[0]
        module.planted_backward = lambda grad_output, input: PlantedGradients(
            *dispatch_backward(op, (grad_output,), (input,), (), None)
        )
        return module

    @pytest.fixture
    def op(self, monkeypatch: pytest.MonkeyPatch) -> Op:
        """An operator that doubles its input, on the CPU alone, with an oracle."""
        find.cache_clear()
        backend = ModuleType("arrayops._backends.numpy.planted")
        backend.planted = lambda arrays, parameters: (2 * arrays[0],)
        backend.planted_backward = lambda arrays, parameters: (2 * arrays[0],)
        monkeypatch.setitem(sys.modules, backend.__name__, backend)
        call = {"input": normal(0, 2, 3)}
        monkeypatch.setitem(ORACLES, "planted", Registered(lambda input: 2 * input, (call,)))
        yield Op("planted", "planted", (ArraySpec("input"),), tuple, lambda metas, parameters: metas)
        find.cache_clear()

    def test_a_right_one_passes(self, op: Op) -> None:
        check_operator(op, self.public(op))

    @pytest.mark.parametrize("function", ["planted", "planted_backward"])
    def test_one_that_raises(self, op: Op, function: str) -> None:
        def raising(arrays: Any, parameters: Any) -> Any:
            raise NotImplementedError

        setattr(sys.modules["arrayops._backends.numpy.planted"], function, raising)
        with pytest.raises(NotImplementedError):
            check_operator(op, self.public(op))

    @pytest.mark.parametrize("function", ["planted", "planted_backward"])
    def test_one_with_wrong_values(self, op: Op, function: str) -> None:
        setattr(sys.modules["arrayops._backends.numpy.planted"], function, lambda arrays, parameters: (3 * arrays[0],))
        with pytest.raises(AssertionError, match="error"):
            check_operator(op, self.public(op))

    def test_one_without_an_oracle(self, op: Op, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(ORACLES, "planted")
        with pytest.raises(AssertionError, match="planted has no oracle"):
            check_operator(op, self.public(op))

    def test_one_whose_cuda_functions_raise(self, op: Op, device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, function in vars(self.public(op)).items():
            if name.startswith("planted"):
                monkeypatch.setattr(arrayops, name, function, raising=False)
        check_operator(op)
        with pytest.raises(NotImplementedError, match="planted: arrays on cuda are not supported"):
            check_operator(op, device)
        backend = ModuleType("arrayops._backends.cuda.planted")

        def raising(arrays: Any, parameters: Any) -> Any:
            raise ValueError("not written yet")

        backend.planted = backend.planted_backward = raising
        monkeypatch.setitem(sys.modules, backend.__name__, backend)
        find.cache_clear()
        with pytest.raises(ValueError, match="not written yet"):
            check_operator(op, device)
