"""Any other library with DLPack: one of the array API standard, and a class that has nothing else."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from arrayops import _frameworks
from arrayops._frameworks.dlpack import DLPackFramework
from arrayops._ops import OPS
from operator_oracles import ORACLES, Call, as_tuple, normal
from toy_op import Backend, address

xp = pytest.importorskip("array_api_strict", reason="array_api_strict is not installed")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_result_and_no_copy(toy: Backend, dtype: str) -> None:
    array = xp.reshape(xp.arange(6, dtype=getattr(xp, dtype)), (2, 3))
    result = toy.scaled(array)
    assert type(result) is type(array)
    assert (result.dtype, result.shape, result.device) == (array.dtype, array.shape, array.device)
    assert xp.all(result == array * 2)
    assert address(toy.arrays[0]) == address(np.from_dlpack(array))
    assert address(np.from_dlpack(result)) == address(toy.result)


@pytest.mark.parametrize("name", ["reversed", "transposed", "stepped", "read-only"])
def test_strides_and_read_only(toy: Backend, name: str) -> None:
    memory = np.arange(24.0).reshape(4, 6)
    memory.flags.writeable = name != "read-only"
    whole = xp.asarray(memory, copy=False)
    array = {
        "reversed": whole[::-1, ::-1],
        "transposed": whole.T,
        "stepped": whole[::2, 1::3],
        "read-only": whole,
    }[name]
    result = toy.scaled(array)
    assert xp.all(result == array * 2)
    np.testing.assert_array_equal(memory, np.arange(24.0).reshape(4, 6))
    assert not toy.arrays[0].flags.writeable


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
def test_scalars_and_zero_size(toy: Backend, shape: tuple[int, ...]) -> None:
    assert toy.scaled(xp.ones(shape)).shape == shape


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"])
def test_other_dtypes(toy: Backend, dtype: str) -> None:
    array = xp.ones(3, dtype=getattr(xp, dtype))
    assert toy.scaled(array).dtype == array.dtype
    assert _frameworks.find(array).describe(array) == ((3,), dtype)


OWN_PACKAGE = __name__.partition(".")[0]


class Minimal:
    """An array with no public attributes but those of DLPack."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **keywords: Any) -> Any:
        return self._array.__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


class WithClassMethod(Minimal):
    """An array whose type can import others."""

    @classmethod
    def from_dlpack(cls, array: Any) -> "WithClassMethod":
        return cls(np.from_dlpack(array))


class OfModule(Minimal):
    """An array of a library with a function ``from_dlpack``, which is put into a module by the tests."""


@pytest.fixture(params=["parent.child", "parent"])
def module(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The module of `OfModule`, itself or its parent package with ``from_dlpack``."""
    for name in ("parent", "parent.child"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(
        sys.modules[request.param], "from_dlpack", lambda array: OfModule(np.from_dlpack(array)), raising=False
    )
    return request.param


CONVERTED = {
    "array_api_strict": (xp.asarray, type(xp.ones(1))),
    "minimal": (Minimal, np.ndarray),
    "class method": (WithClassMethod, WithClassMethod),
}


def converted(value: Any, convert: Callable[[np.ndarray], Any]) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(converted(item, convert) for item in value)
    return convert(value) if isinstance(value, np.ndarray) else value


def assert_equal_results(found: Any, expected: Any, array_type: type) -> None:
    for result, want in zip(as_tuple(found), as_tuple(expected), strict=True):
        if isinstance(want, list):
            assert_equal_results(tuple(result), tuple(want), array_type)
        elif want is None:
            assert result is None
        else:
            assert type(result) is array_type
            exported = np.from_dlpack(result)
            assert (exported.dtype, exported.shape) == (want.dtype, want.shape)
            assert exported.tobytes() == want.tobytes()


@pytest.mark.parametrize("library", CONVERTED)
@pytest.mark.parametrize(
    ("name", "call"),
    [pytest.param(name, call, id=f"{name}-{i}") for name in OPS for i, call in enumerate(ORACLES[name].calls)],
)
def test_every_operator_equals_numpy(name: str, call: Call, library: str) -> None:
    """Results and gradients have the bits of those of NumPy arrays."""
    convert, array_type = CONVERTED[library]
    own = {key: converted(value, convert) for key, value in call.items()}
    want = getattr(ao, name)(**call)
    assert_equal_results(getattr(ao, name)(**own), want, array_type)
    if not OPS[name].differentiable:
        return
    grads: Any = tuple(
        normal(i, *result.shape) if result.dtype.kind == "f" else None for i, result in enumerate(as_tuple(want))
    )
    grads = grads if name == "segment_reduce" else grads[0]
    backward = getattr(ao, f"{name}_backward")
    gradients = backward(converted(grads, convert), **own)
    assert_equal_results(gradients, backward(grads, **call), array_type)


@pytest.mark.parametrize("operator", ["segment_max", "segment_min"])
@pytest.mark.parametrize("library", CONVERTED)
def test_saved_positions(library: str, operator: str) -> None:
    convert, array_type = CONVERTED[library]
    forward, backward = getattr(ao, operator), getattr(ao, f"{operator}_backward")
    features, labels = normal(0, 2, 3, 4, 5), np.arange(40).reshape(2, 4, 5) % 7
    want = forward(features, labels, return_saved=True)
    found = forward(convert(features), convert(labels), return_saved=True)
    assert_equal_results(tuple(found), tuple(want), array_type)
    gradients = backward(convert(want.output), convert(features), convert(labels), saved=convert(want.saved))
    assert_equal_results(tuple(gradients), tuple(backward(want.output, features, labels)), array_type)


def test_import_by_the_module_of_the_type(toy: Backend, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    array_type = type("OfModule", (OfModule,), {"__module__": "parent.child"})
    result = toy.scaled(array_type(np.ones(3)))
    assert type(result) is OfModule
    assert np.from_dlpack(result).tolist() == [2, 2, 2]


def test_import_by_the_module_of_a_base(toy: Backend, module: str) -> None:
    base = type("Base", (OfModule,), {"__module__": "parent.child"})
    assert type(toy.scaled(type("OfUser", (base,), {})(np.ones(3)))) is OfModule


@pytest.mark.parametrize("name", ["reversed", "transposed", "stepped", "read-only"])
def test_minimal_strides_and_read_only(toy: Backend, name: str) -> None:
    memory = np.arange(24.0).reshape(4, 6)
    memory.flags.writeable = name != "read-only"
    view = {"reversed": memory[::-1, ::-1], "transposed": memory.T, "stepped": memory[::2, 1::3], "read-only": memory}
    assert toy.scaled(Minimal(view[name])).tolist() == (view[name] * 2).tolist()
    assert address(toy.arrays[0]) == address(view[name])
    assert not toy.arrays[0].flags.writeable
    assert memory.tolist() == np.arange(24.0).reshape(4, 6).tolist()


def test_legacy_export_without_keywords(toy: Backend) -> None:
    """As before version 1.0 of DLPack: the stream alone, which a capsule on the CPU does not need."""

    class Legacy(Minimal):
        def __dlpack__(self, stream: None = None) -> Any:
            return self._array.__dlpack__()

    assert toy.scaled(Legacy(np.ones(3))).tolist() == [2, 2, 2]


def test_export_that_fails(toy: Backend) -> None:
    class Recorded(Minimal):
        def __dlpack__(self, **keywords: Any) -> Any:
            raise BufferError("detach it first")

    with pytest.raises(TypeError) as error:
        toy.scaled(Recorded(np.ones(3)))
    assert str(error.value) == (
        f"scaled: input is an array of {OWN_PACKAGE} that cannot be imported by DLPack: detach it first"
    )


def test_minimal_errors(toy: Backend) -> None:
    with pytest.raises(ValueError, match=r"^conv2d: weight is \(1, 2, 3\), expected 4 axes"):
        ao.conv2d(Minimal(np.ones((1, 2, 5, 5))), Minimal(np.ones((1, 2, 3))))
    with pytest.raises(TypeError, match=r"^conv2d: input is complex128, expected float16"):
        ao.conv2d(Minimal(np.ones((1, 2, 5, 5), complex)), Minimal(np.ones((1, 2, 3, 3), complex)))
    with pytest.raises(TypeError, match=f"^conv2d: weight is an array of NumPy, expected {OWN_PACKAGE} as for input$"):
        ao.conv2d(Minimal(np.ones((1, 2, 5, 5))), np.ones((1, 2, 3, 3)))

    class OnMetal(Minimal):
        def __dlpack_device__(self) -> tuple[int, int]:
            return 8, 0

    with pytest.raises(TypeError, match=r"^scaled: input is on the DLPack device type 8, which arrayops does not supp"):
        toy.scaled(OnMetal(np.ones(3)))


def test_result_stays_on_the_device(toy: Backend) -> None:
    for name in ("CPU_DEVICE", "device1", "device2"):
        result = toy.scaled(xp.ones(3, device=xp.Device(name)))
        assert result.device == xp.Device(name)


def test_mixed_devices(toy: Backend) -> None:
    with pytest.raises(ValueError, match="weight is on") as error:
        toy.scaled(xp.ones(3, device=xp.Device("device1")), xp.ones(3, device=xp.Device("device2")))
    assert str(error.value) == (
        "scaled: weight is on array_api_strict.Device('device2'), expected array_api_strict.Device('device1') as for "
        "input"
    )


class Library:
    """The least that an array of an array API library has, for libraries that are not installed here."""

    shape = (3,)
    dtype = "library.float32"
    device = "there"
    place = (1, 0)

    def __dlpack__(self, **keywords: Any) -> Any:
        return np.ones(3, np.float32).__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.place

    def __array_namespace__(self) -> Any:
        return self

    def to_device(self, device: Any) -> Any:
        return device


class BFloat16(Library):
    dtype = "bfloat16"


class OnMetal(Library):
    place = (8, 0)


def test_library_is_told_by_its_package(toy: Backend) -> None:
    found = _frameworks.find(Library())
    assert isinstance(found, DLPackFramework)
    assert found is _frameworks.find(BFloat16())
    assert found is not _frameworks.find(xp.ones(3))
    assert found.describe(Library()) == ((3,), "float32")
    with pytest.raises(TypeError) as error:
        toy.scaled(xp.ones(3), Library())
    assert str(error.value) == (f"scaled: weight is an array of {found.name}, expected array_api_strict as for input")


def test_bfloat16_is_refused(toy: Backend) -> None:
    with pytest.raises(
        TypeError, match=r"^scaled: input is a bfloat16 array of .*, which NumPy cannot import, expected "
    ):
        toy.scaled(BFloat16())


def test_device_that_no_backend_serves(toy: Backend) -> None:
    with pytest.raises(TypeError) as error:
        toy.scaled(OnMetal())
    assert str(error.value) == "scaled: input is on there, which arrayops does not support: move it to the CPU"


def test_dlpack_without_a_device_is_not_enough(toy: Backend) -> None:
    class Exporter:
        def __dlpack__(self) -> Any:
            return np.ones(3).__dlpack__()

    with pytest.raises(TypeError, match="Exporter, expected an array of NumPy"):
        toy.scaled(Exporter())
