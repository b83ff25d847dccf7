"""Any other library with DLPack and the array API standard."""

from typing import Any

import numpy as np
import pytest

import arrayops as ao
from arrayops import _frameworks
from arrayops._frameworks.dlpack import ArrayAPIFramework
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


def test_pac_conv2d_equals_numpy(pac: Any) -> None:
    arrays = [xp.asarray(array) for array in pac.arrays]
    np.testing.assert_array_equal(np.from_dlpack(ao.pac_conv2d(*arrays, padding=1)), pac.output)
    gradients = ao.pac_conv2d_backward(xp.asarray(pac.gradient), *arrays, padding=1)
    for gradient, expected in zip(gradients, pac.gradients, strict=False):
        np.testing.assert_array_equal(np.from_dlpack(gradient), expected)


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
    assert isinstance(found, ArrayAPIFramework)
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


def test_dlpack_alone_is_not_enough(toy: Backend) -> None:
    class Exporter:
        def __dlpack__(self) -> Any:
            return np.ones(3).__dlpack__()

    with pytest.raises(TypeError, match="Exporter, expected an array of NumPy"):
        toy.scaled(Exporter())
