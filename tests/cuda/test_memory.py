"""Arrays, contiguous copies by the copy kernel on the emulator, macros of dtypes, and properties of devices."""

from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

from arrayops._backends.cuda.engine import device, memory, module  # noqa: E402
from arrayops._core.dtypes import BFLOAT16_DTYPE  # noqa: E402
from emulator import schedule  # noqa: E402
from emulator.host_cupy import host_cupy, to_device, to_host  # noqa: E402


@pytest.fixture(autouse=True)
def emulated() -> Iterator[None]:
    with host_cupy(compute_capability=90, devices=2, multiprocessors=3):
        yield


def test_fresh_arrays_are_contiguous() -> None:
    array = memory.empty((2, 3, 4), np.float16)
    assert (array.shape, array.dtype, array.flags.c_contiguous) == ((2, 3, 4), np.float16, True)


VIEWS: dict[str, Callable[[Any], Any]] = {
    "axes in another order": lambda array: array.transpose(4, 2, 0, 3, 1),
    "all axes reversed": lambda array: array.T,
    "negative strides": lambda array: array[::-1, 1:, ::2, ::-1],
    "neighbours that merge": lambda array: array.transpose(4, 0, 1, 2, 3),
    "one axis left out": lambda array: array[..., 1],
    "a single axis": lambda array: array[1, 2, :, 1, 1],
    "broadcast axes": lambda array: cupy.lib.stride_tricks.as_strided(array, (4, 3, 5), (0, array.strides[3], 0)),
    "axes of extent 1": lambda array: array[:, 2:3, ::3, None, :1].transpose(3, 2, 1, 0, 4, 5),
    "nothing": lambda array: array[2:, 5:].transpose(4, 3, 2, 1, 0),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("dtype", [np.bool_, np.float16, ml_dtypes.bfloat16, BFLOAT16_DTYPE, np.float32, np.float64])
def test_contiguous_copies(view: Callable[[Any], Any], dtype: Any) -> None:
    items = np.dtype(dtype).itemsize
    bits = np.random.default_rng(1).integers(0, 2 if dtype is np.bool_ else 256, (3, 5, 4, 2, 3 * items), np.uint8)
    strided = view(to_device(bits.view(dtype)))
    copy = memory.contiguous(strided)
    assert copy.flags.c_contiguous
    assert (copy.shape, copy.dtype) == (strided.shape, strided.dtype)
    assert to_host(copy).tobytes() == to_host(strided).tobytes()


@pytest.mark.parametrize("order", ["fifo", "lifo", "random"])
def test_more_elements_than_threads(order: Any) -> None:
    """Every thread goes round several times: the grid has 48 blocks of 256."""
    whole = np.arange(2 * 9001 * 3, dtype=np.int32).reshape(2, 9001, 3)
    with schedule(order):
        copy = memory.contiguous(to_device(whole).transpose(2, 1, 0))
    assert np.array_equal(to_host(copy), whole.transpose(2, 1, 0))


def test_wide_numbers_copy_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MIN_64BIT_ELEMENTS", 10)
    whole = np.arange(60, dtype=np.float64).reshape(3, 4, 5)
    assert np.array_equal(to_host(memory.contiguous(to_device(whole).T)), whole.T)
    assert [kernel.identity.defines for kernel in module._loaded.kernels.values()] == [
        (("ITEM_BYTES", 8), ("INDEX_64BIT", ""))
    ]


def test_contiguous_arrays_pass() -> None:
    array = memory.empty((3, 1, 4), np.float32)
    assert memory.contiguous(array) is array
    assert not module._loaded.kernels


def test_too_many_axes_are_refused() -> None:
    array = memory.empty((2,) * 7, np.float32)[::-1].T
    with pytest.raises(ValueError, match=r"a CUDA array has strides \(.*\), expected at most 6 independent axes"):
        memory.contiguous(array)


def test_strides_between_elements_are_refused() -> None:
    records = memory.empty((4,), np.dtype([("first", np.uint16), ("second", np.float32)]))
    array = cupy.ndarray((4,), np.float32, records.data, (6,))
    with pytest.raises(
        ValueError, match=r"a CUDA array has strides \(6,\), expected multiples of its item size of 4 bytes"
    ):
        memory.contiguous(array)


@pytest.mark.parametrize(
    ("dtype", "macro"),
    [
        (np.float16, "SCALAR_FLOAT16"),
        (ml_dtypes.bfloat16, "SCALAR_BFLOAT16"),
        (BFLOAT16_DTYPE, "SCALAR_BFLOAT16"),
        (np.float32, "SCALAR_FLOAT32"),
        (np.float64, "SCALAR_FLOAT64"),
    ],
)
def test_macro_of_a_dtype(dtype: Any, macro: str) -> None:
    assert memory.dtype_defines(np.dtype(dtype)) == ((macro, ""),)


def test_other_dtypes_have_no_macro() -> None:
    with pytest.raises(TypeError, match="no CUDA kernel supports arrays of int32, expected one of float16, bfloat16"):
        memory.dtype_defines(np.dtype(np.int32))


def test_properties_of_the_current_device() -> None:
    assert device.current() == device.GpuProperties(90, 3, 227 * 1024)
    with cupy.cuda.Device(1):
        assert device.current() is device.properties(1)
    assert device.current() is device.properties(0)
