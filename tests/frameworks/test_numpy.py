"""NumPy arrays, and NumPy's side of bfloat16."""

import numpy as np
import pytest

from arrayops._core.dtypes import BFLOAT16_DTYPE
from arrayops._frameworks.numpy import NAMES, dtype_name, frameworks, host_view
from toy_op import Backend, address, bfloat16

(framework,) = frameworks
ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_result_and_no_copy(toy: Backend, dtype: str) -> None:
    array = np.arange(6, dtype=dtype).reshape(2, 3)
    result = toy.scaled(array)
    assert toy.arrays[0] is array
    assert result is toy.result
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, array * 2)


def test_bfloat16_of_ml_dtypes_comes_back_as_it_came(toy: Backend) -> None:
    array = np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16)
    result = toy.scaled(array)
    assert toy.arrays[0].dtype == BFLOAT16_DTYPE
    assert address(toy.arrays[0]) == address(array)
    assert result.dtype == ml_dtypes.bfloat16
    assert address(result) == address(toy.result)
    np.testing.assert_array_equal(result.astype(np.float32), array.astype(np.float32) * 2)


def test_bfloat16_without_ml_dtypes_comes_back_as_it_came(toy: Backend) -> None:
    array = bfloat16([1.0, 2.5, -3.0])
    result = toy.scaled(array)
    assert result.dtype == BFLOAT16_DTYPE
    np.testing.assert_array_equal(result.view(np.uint16), bfloat16([2.0, 5.0, -6.0]).view(np.uint16))


def test_bfloat16_is_known_at_first_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frameworks that name dtypes themselves hand over arrays whose NumPy dtype nothing has described before."""
    monkeypatch.delitem(NAMES, np.dtype(ml_dtypes.bfloat16), raising=False)
    assert host_view(np.ones(3, ml_dtypes.bfloat16)).dtype == BFLOAT16_DTYPE


@pytest.mark.parametrize("name", ["reversed", "transposed", "stepped", "broadcast", "read-only"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_strides_and_read_only(toy: Backend, name: str, dtype: str) -> None:
    whole = np.arange(24).reshape(4, 6).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    whole.flags.writeable = name != "read-only"
    array = {
        "reversed": whole[::-1, ::-1],
        "transposed": whole.T,
        "stepped": whole[::2, 1::3],
        "broadcast": np.broadcast_to(whole[0], (3, 6)),
        "read-only": whole,
    }[name]
    before = array.tobytes()
    result = toy.scaled(array)
    assert toy.arrays[0].strides == array.strides
    assert result.flags.c_contiguous
    assert array.tobytes() == before
    np.testing.assert_array_equal(result.astype(np.float32), array.astype(np.float32) * 2)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_scalars_and_zero_size(toy: Backend, shape: tuple[int, ...], dtype: str) -> None:
    array = np.ones(shape, ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    result = toy.scaled(array)
    assert result.shape == shape
    assert result.dtype == array.dtype


def test_numpy_scalar_is_an_array(toy: Backend) -> None:
    result = toy.scaled(np.float32(3))
    assert isinstance(result, np.ndarray)
    assert result == 6


def test_subclass_gives_plain_array(toy: Backend) -> None:
    class Subclass(np.ndarray):
        pass

    result = toy.scaled(np.ones((2, 3)).view(Subclass))
    assert type(result) is np.ndarray


def test_masked_array_is_refused(toy: Backend) -> None:
    with pytest.raises(TypeError) as error:
        toy.scaled(np.ma.array([1.0, 2.0], mask=[True, False]))
    assert str(error.value) == (
        "scaled: input is a numpy.ma.MaskedArray, expected a plain array; pass its mask as mask="
    )


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (np.float32, "float32"),
        (np.bool, "bool"),
        (np.uint16, "uint16"),
        (ml_dtypes.bfloat16, "bfloat16"),
        (BFLOAT16_DTYPE, "bfloat16"),
        (ml_dtypes.float8_e4m3, "float8_e4m3"),
        (">f4", ">f4"),
        (np.complex64, "complex64"),
        (object, "object"),
        ("U3", "<U3"),
    ],
)
def test_dtype_names(dtype: object, name: str) -> None:
    assert dtype_name(np.dtype(dtype)) == name
    assert framework.describe(np.zeros(2, dtype)) == ((2,), name)
