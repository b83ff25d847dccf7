"""The way of GPU arrays, as far as it goes without a GPU: a stand-in for CuPy records devices, streams and lent memory.

Where memory itself is at stake, CuPy is the real one, over torch's memory of the host.
"""

import ctypes
import gc
import sys
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arrayops import _frameworks
from arrayops._core import allocator
from arrayops._frameworks.base import Device

ADAPTERS = ("cupy", "torch.cuda")


class FakeCuPy(ModuleType):
    """Keeps a log of what happens in which order."""

    class ndarray:
        shape = (2, 3)
        dtype = np.dtype(np.float32)
        data = SimpleNamespace(device_id=1)

    def __init__(self) -> None:
        super().__init__("cupy")
        self.log: list[str] = []
        self.streams = 0
        self.current = 0
        self.cuda = SimpleNamespace(
            runtime=SimpleNamespace(
                getDevice=lambda: self.current, deviceSynchronize=lambda: self.log.append("wait for all")
            ),
            Device=lambda number: self.entered(f"device {number}"),
            Stream=SimpleNamespace(from_external=self.from_external),
            get_current_stream=lambda: SimpleNamespace(synchronize=lambda: self.log.append("wait")),
            UnownedMemory=None,
            MemoryPointer=None,
        )

    def from_external(self, foreign: Any) -> Any:
        self.streams += 1
        return Repeatable(lambda: self.entered(f"stream {foreign.__cuda_stream__()}"))

    @contextmanager
    def entered(self, name: str) -> Iterator[None]:
        self.log.append(f"enter {name}")
        try:
            yield
        finally:
            self.log.append(f"leave {name}")


class Repeatable:
    """A context that may be entered again and again, as CuPy's streams."""

    def __init__(self, make: Any) -> None:
        self.make, self.open = make, []

    def __enter__(self) -> None:
        self.open.append(self.make())
        self.open[-1].__enter__()

    def __exit__(self, *failure: Any) -> None:
        self.open.pop().__exit__(*failure)


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuPy]:
    fake = FakeCuPy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    for name in ADAPTERS:
        monkeypatch.delitem(sys.modules, f"arrayops._frameworks.{name}", raising=False)
        monkeypatch.delattr(_frameworks, name, raising=False)
    yield fake
    for name in ADAPTERS:
        sys.modules.pop(f"arrayops._frameworks.{name}", None)
        vars(_frameworks).pop(name, None)


def test_cupy_arrays_pass_as_they_are(cupy: FakeCuPy) -> None:
    (framework,) = import_module("arrayops._frameworks.cupy").frameworks
    array = cupy.ndarray()
    assert framework.recognises(cupy.ndarray)
    assert framework.describe(array) == ((2, 3), "float32")
    assert framework.device(array) == Device("cuda", 1)
    assert framework.to_backend(array) is array
    assert framework.from_backend(array, array) is array
    with framework.launching(Device("cuda", 1)):
        cupy.log.append("work")
    assert cupy.log == ["enter device 1", "work", "leave device 1"]


def test_the_current_device_is_not_entered_again(cupy: FakeCuPy) -> None:
    (framework,) = import_module("arrayops._frameworks.cupy").frameworks
    with framework.launching(Device("cuda", cupy.current)):
        cupy.log.append("work")
    assert cupy.log == ["work"]


def test_torch_lends_its_stream_and_memory(cupy: FakeCuPy, torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_cuda = import_module("arrayops._frameworks.torch.cuda")
    monkeypatch.setattr(torch_cuda, "current_cuda_stream", lambda number: 500 + number)
    framework = _frameworks.find(torch.ones(1))
    allocators: list[Any] = []
    for _ in range(2):
        with framework.launching(Device("cuda", 1)):
            cupy.log.append("work")
            allocators.append(allocator.current.allocate)
        assert allocator.current.allocate is None
    assert (
        cupy.log == ["enter device 1", "enter stream (0, 501)", "work", "leave stream (0, 501)", "leave device 1"] * 2
    )
    assert cupy.streams == 1
    assert allocators == [torch_cuda.allocator("cuda", 1)] * 2


def test_what_is_lent_goes_back_after_failures(cupy: FakeCuPy) -> None:
    launching = import_module("arrayops._frameworks.cupy").launching
    with launching(1, 7, "outer"):
        assert allocator.current.allocate == "outer"
        with pytest.raises(ZeroDivisionError), launching(2, 8, "inner"):
            raise ZeroDivisionError
        assert allocator.current.allocate == "outer"
    assert allocator.current.allocate is None
    assert cupy.log[2:6] == ["enter device 2", "enter stream (0, 8)", "leave stream (0, 8)", "leave device 2"]


def test_a_stream_that_cannot_be_entered_leaves_the_device(cupy: FakeCuPy) -> None:
    class Broken:
        def __enter__(self) -> None:
            raise ZeroDivisionError

    adapter = import_module("arrayops._frameworks.cupy")
    cupy.cuda.Stream.from_external = lambda foreign: Broken()
    with pytest.raises(ZeroDivisionError), adapter.launching(1, 7):
        pass
    assert cupy.log == ["enter device 1", "leave device 1"]
    assert allocator.current.allocate is None


def test_memory_is_lent_to_one_thread() -> None:
    allocator.current.allocate = len
    try:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: allocator.current.allocate).result() is None
    finally:
        allocator.current.allocate = None


def test_foreign_streams_are_made_once_each(cupy: FakeCuPy) -> None:
    adapter = import_module("arrayops._frameworks.cupy")
    for handle in (7, 8, 7):
        with adapter.launching(1, handle):
            pass
    assert cupy.streams == 2
    assert cupy.log[:3] == ["enter device 1", "enter stream (0, 7)", "leave stream (0, 7)"]


def test_jax_arrays_outlive_the_work_on_them(cupy: FakeCuPy, jax: Any) -> None:
    """Arguments that of CuPy, and results that of JAX, whose memory the next call may get."""
    framework = _frameworks.find(jax.numpy.ones(1))
    with framework.launching(Device("cuda", 1)):
        cupy.log.append("work")
    with pytest.raises(ZeroDivisionError), framework.launching(Device("cuda", 1)):
        raise ZeroDivisionError
    assert cupy.log[:5] == ["enter device 1", "wait for all", "work", "wait", "leave device 1"]
    assert cupy.log[5:8] == ["enter device 1", "wait for all", "wait"]


def test_tensorflow_uses_the_current_stream(cupy: FakeCuPy, tf: Any) -> None:
    with _frameworks.find(tf.ones(1)).launching(Device("cuda", 1)):
        cupy.log.append("work")
    assert cupy.log == ["enter device 1", "work", "leave device 1"]


@pytest.fixture
def torch_cuda(torch: Any) -> Any:
    pytest.importorskip("cupy", reason="CuPy is not installed")
    return import_module("arrayops._frameworks.torch.cuda")


@pytest.fixture
def empty(torch_cuda: Any) -> Any:
    """Real CuPy arrays on torch's memory of the host."""
    return torch_cuda.allocator("cpu", 0)


def on_host(array: Any) -> Any:
    """A contiguous CuPy array over host memory as a NumPy array."""
    memory = (ctypes.c_char * array.nbytes).from_address(array.data.ptr)
    return np.frombuffer(memory, array.dtype).reshape(array.shape)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64", "int64", "uint8", "bool"])
def test_torch_results_are_torch_memory(torch: Any, torch_cuda: Any, empty: Any, name: str) -> None:
    dtype = torch_cuda._DTYPES[getattr(torch, name)]
    result = empty((2, 3, 4), dtype)
    on_host(result).view(np.uint8)[...] = np.arange(result.nbytes).reshape(2, 3, -1) % 2
    content = on_host(result).tobytes()
    tensor = torch_cuda.from_cupy(result, torch.device("cpu"))
    assert tensor.dtype is getattr(torch, name)
    assert tensor.shape == (2, 3, 4)
    assert tensor.is_contiguous()
    assert tensor.data_ptr() == result.data.ptr
    assert not tensor._is_view()
    assert tensor.untyped_storage().nbytes() == result.nbytes
    del result
    assert tensor.view(torch.uint8).numpy().tobytes() == content


def test_torch_results_may_be_parts_of_one_piece(torch: Any, torch_cuda: Any, empty: Any) -> None:
    both = empty((2, 3), np.float32)
    on_host(both)[...] = [[1, 2, 3], [4, 5, 6]]
    part = torch_cuda.from_cupy(both[1], torch.device("cpu"))
    assert part.tolist() == [4, 5, 6]
    assert not part._is_view()


def test_torch_results_may_be_seen_in_other_shapes(torch: Any, torch_cuda: Any, empty: Any) -> None:
    whole = empty((2, 3), np.float32)
    on_host(whole)[...] = [[1, 2, 3], [4, 5, 6]]
    assert torch_cuda.from_cupy(whole.reshape(3, 2), torch.device("cpu")).tolist() == [[1, 2], [3, 4], [5, 6]]
    bits = torch_cuda.from_cupy(whole.view(np.int32), torch.device("cpu"))
    assert bits.dtype is torch.int32
    assert bits.view(torch.float32).tolist() == [[1, 2, 3], [4, 5, 6]]


def test_dtypes_unknown_to_torch_are_lent_as_bytes(empty: Any) -> None:
    dtype = np.dtype([("count", np.int64), ("mean", np.float64)])
    array = empty((2, 3), dtype)
    assert (array.shape, array.dtype, array.data.mem.size) == ((2, 3), dtype, 96)


def test_empty_torch_results(torch: Any, torch_cuda: Any, empty: Any) -> None:
    tensor = torch_cuda.from_cupy(empty((0, 3), np.float32), torch.device("cpu"))
    assert tensor.shape == (0, 3)


def test_torch_results_may_be_changed_in_place(torch: Any, torch_cuda: Any, empty: Any) -> None:
    factor = torch.ones(3, requires_grad=True)

    class Function(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(context: Any, given: Any) -> Any:
            result = empty((3,), np.float32)
            on_host(result)[...] = 2
            return torch_cuda.from_cupy(result, given.device)

        @staticmethod
        def backward(context: Any, gradient: Any) -> Any:
            return gradient

    output = Function.apply(factor)
    output *= 3
    output.sum().backward()
    assert output.tolist() == [6, 6, 6]
    assert factor.grad.tolist() == [3, 3, 3]


def test_temporaries_return_to_torch_at_once(torch_cuda: Any, empty: Any) -> None:
    temporary = empty((5,), np.float32)
    storage = weakref.ref(temporary.data.mem._owner)
    del temporary
    gc.collect()
    assert storage() is None


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_torch_tensors_are_read_in_place(torch: Any, torch_cuda: Any, name: str) -> None:
    whole = torch.arange(60, dtype=torch.float32).to(getattr(torch, name)).reshape(3, 4, 5)
    tensor = whole.permute(2, 0, 1)[1:, :, ::2]
    array = torch_cuda.to_cupy(tensor, 0)
    assert array.shape == (4, 3, 2)
    assert array.strides == tuple(stride * tensor.element_size() for stride in tensor.stride())
    assert array.data.ptr == tensor.data_ptr()
    assert array.data.device_id == 0
    kept = weakref.ref(tensor)
    del tensor
    assert kept() is not None
    del array
    gc.collect()
    assert kept() is None


def test_torch_knows_every_dtype_of_the_operators(torch: Any, torch_cuda: Any) -> None:
    from arrayops._frameworks.torch.dtypes import NAMES

    assert set(torch_cuda._DTYPES) == set(NAMES)
