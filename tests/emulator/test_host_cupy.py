"""Real arrays of CuPy over host memory, and the CUDA backend's own Python on them."""

import ctypes
import threading
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from emulator import EmulatorError, RawModule, building, schedule

cupy: Any = pytest.importorskip("cupy", reason="cupy is not installed")

from emulator.host_cupy import host_cupy, to_device, to_host  # noqa: E402

DTYPES = ["bool", "int8", "uint8", "int32", "int64", "float16", ml_dtypes.bfloat16, "float32", "float64"]

DOUBLED = """
extern "C" __global__ void doubled(const float* x, float* y, int n)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[i] = 2.0f * x[i];
    }
}

extern "C" __global__ void architecture(int* number)
{
    number[0] = __CUDA_ARCH__;
}
"""


@pytest.fixture
def device() -> Iterator[Any]:
    with host_cupy(devices=2) as emulated:
        yield emulated


@pytest.mark.usefixtures("device")
class TestArrays:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(
        "view",
        [
            lambda a: a,
            lambda a: a.transpose(2, 0, 1),
            lambda a: a[::-1, :, ::2],
            lambda a: a[:, :0],
            lambda a: a[1, 2, 3],
            lambda a: np.broadcast_to(a[:, :1], (3, 4, 5)),
        ],
        ids=["whole", "transposed", "stepped", "empty", "scalar", "broadcast"],
    )
    def test_there_and_back(self, dtype: Any, view: Any) -> None:
        array = view(np.arange(60).reshape(3, 4, 5).astype(dtype))
        moved = to_device(array)
        assert isinstance(moved, cupy.ndarray)
        assert (moved.shape, moved.dtype) == (array.shape, array.dtype)
        assert array.size == 0 or moved.strides == array.strides
        back = to_host(moved)
        assert back.dtype == array.dtype
        assert back.flags.c_contiguous
        assert np.array_equal(back, array)

    def test_memory_is_not_shared(self) -> None:
        array = np.zeros(4, np.float32)
        moved = to_device(array)
        array[:] = 1
        copy = to_host(moved)
        moved.fill(2)
        assert copy.tolist() == [0] * 4

    def test_fresh_memory_is_nan(self) -> None:
        assert np.isnan(to_host(cupy.empty((3, 5), "float16"))).all()
        assert (to_host(cupy.empty(5, "int32")) == -1).all()

    def test_replaced_functions(self) -> None:
        x = to_device(np.arange(12, dtype=np.float32).reshape(3, 4))
        assert cupy.asnumpy(x).tolist() == x.get().tolist() == to_host(x).tolist()
        assert x[1, 2].item() == 6
        assert to_host(cupy.ascontiguousarray(x.T)).tolist() == to_host(x).T.tolist()
        assert cupy.ascontiguousarray(x) is x
        assert to_host(cupy.zeros((2, 2), "int32")).tolist() == [[0, 0]] * 2
        assert to_host(cupy.full(3, 2.5)).tolist() == [2.5] * 3
        assert to_host(x[::2].copy()).tolist() == to_host(x)[::2].tolist()

    def test_what_is_not_there_raises(self) -> None:
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError):
            cupy.empty(3) + 1


@pytest.mark.skipif("address" in building.sanitizer(), reason="there are no guards where AddressSanitizer watches")
class TestMemory:
    """Writes outside of an array are seen without a sanitizer as well."""

    @staticmethod
    def write_beside(offset: int, *, drop: bool = False, error: Exception | None = None) -> None:
        with host_cupy():
            array = cupy.empty(3, "float32")
            ctypes.memset(array.data.ptr + offset, 0, 1)
            if drop:
                del array
            if error is not None:
                raise error

    @pytest.mark.parametrize("drop", [False, True])
    @pytest.mark.parametrize(("offset", "where"), [(12, "behind"), (200, "behind"), (-1, "before")])
    def test_damage_is_reported(self, offset: int, where: str, drop: bool) -> None:
        with pytest.raises(EmulatorError, match=f"a write {where} an array of 12 bytes"):
            self.write_beside(offset, drop=drop)

    def test_an_error_inside_comes_first(self) -> None:
        with pytest.raises(KeyError):
            self.write_beside(12, error=KeyError())

    def test_no_damage(self) -> None:
        self.write_beside(11)


class TestDevice:
    @pytest.mark.parametrize("capability", [75, 80, 90, 100])
    def test_capability(self, capability: int) -> None:
        with host_cupy(capability, multiprocessors=7):
            runtime = cupy.cuda.runtime
            assert cupy.cuda.Device().compute_capability == str(capability)
            assert runtime.deviceGetAttribute(runtime.cudaDevAttrMultiProcessorCount, 0) == 7
            optin = runtime.deviceGetAttribute(runtime.cudaDevAttrMaxSharedMemoryPerBlockOptin, 0)
            assert optin == {75: 65536, 80: 166912, 90: 232448, 100: 232448}[capability]
            number = cupy.empty(1, "int32")
            cupy.RawModule(code=DOUBLED).get_function("architecture")((1,), (1,), (number,))
            assert number.item() == 10 * capability
            kernel = cupy.RawModule(code=DOUBLED).get_function("doubled")
            kernel.max_dynamic_shared_size_bytes = optin
            with pytest.raises(EmulatorError, match=f"a block of this device has {optin}"):
                kernel.max_dynamic_shared_size_bytes = optin + 1

    def test_current_device_and_stream(self, device: Any) -> None:
        foreign = object()
        assert cupy.cuda.runtime.getDevice() == 0
        with cupy.cuda.Device(1), cupy.cuda.Stream.from_external(foreign) as stream:
            assert cupy.cuda.runtime.getDevice() == cupy.cuda.Device().id == 1
            assert cupy.cuda.get_current_stream() is stream
            assert stream.foreign is foreign
        assert cupy.cuda.runtime.getDevice() == 0
        assert cupy.empty(3).device == cupy.cuda.Device(0)
        with pytest.raises(EmulatorError, match="there is no device 2, of 2"):
            cupy.cuda.Device(2)

    def test_other_threads(self, device: Any) -> None:
        x, y = to_device(np.arange(3, dtype=np.float32)), cupy.empty(3, "float32")

        def compute() -> None:
            with cupy.cuda.Device(0):
                kernel = cupy.RawModule(code=DOUBLED).get_function("doubled")
                kernel((1,), (32,), (x, y, np.int32(3)))

        thread = threading.Thread(target=compute)
        thread.start()
        thread.join()
        assert to_host(y).tolist() == [0, 2, 4]

    def test_everything_is_put_back(self) -> None:
        def patched() -> list[Any]:
            cuda = cupy.cuda
            return [cupy.RawModule, cuda.Device, cuda.Stream, cuda.runtime.getDevice, cuda.get_allocator()]

        def fail_inside() -> None:
            with host_cupy():
                assert cupy.RawModule is RawModule
                raise KeyError

        before = patched()
        with pytest.raises(KeyError):
            fail_inside()
        assert patched() == before


@pytest.mark.parametrize("order", ["fifo", "lifo", "random"])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_backend_copies_strided_arrays(order: str, dtype: str) -> None:
    """The backend's own modules and kernel, from allocation to launch."""
    from arrayops._backends.cuda.engine import memory

    array = np.arange(4 * 5 * 6).reshape(4, 5, 6).astype(dtype)
    for view in (array.transpose(2, 0, 1), array[::-1, 1:, ::2]):
        with host_cupy(), schedule(order):
            assert np.array_equal(to_host(memory.contiguous(to_device(view))), view)
