"""The way of GPU arrays, as far as it goes without a GPU: a stand-in for CuPy records devices, streams and allocators.

Where memory itself is at stake, CuPy is the real one, over torch's memory of the host.
"""

import ctypes
import gc
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arrayops import _frameworks
from arrayops._frameworks.base import Device

ADAPTERS = ("cupy", "torch_cuda")


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
            runtime=SimpleNamespace(getDevice=lambda: self.current),
            Device=lambda number: self.entered(f"device {number}"),
            Stream=SimpleNamespace(from_external=self.from_external),
            get_current_stream=lambda: SimpleNamespace(synchronize=lambda: self.log.append("wait")),
            using_allocator=lambda allocator: self.entered("allocator"),
            UnownedMemory=None,
            MemoryPointer=None,
        )

    def from_external(self, foreign: Any) -> Any:
        self.streams += 1
        return Repeatable(lambda: self.entered(f"stream {foreign.__cuda_stream__()}"))

    @contextmanager
    def entered(self, name: str) -> Iterator[None]:
        self.log.append(f"enter {name}")
        yield
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
    framework = import_module("arrayops._frameworks.cupy").framework
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
    framework = import_module("arrayops._frameworks.cupy").framework
    with framework.launching(Device("cuda", cupy.current)):
        cupy.log.append("work")
    assert cupy.log == ["work"]


def test_torch_lends_its_stream_and_memory(cupy: FakeCuPy, torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda number: 500 + number, raising=False)
    framework = _frameworks.find(torch.ones(1))
    for _ in range(2):
        with framework.launching(Device("cuda", 1)):
            cupy.log.append("work")
    once = ["enter device 1", "enter stream (0, 501)", "enter allocator", "work"]
    once += ["leave allocator", "leave stream (0, 501)", "leave device 1"]
    assert cupy.log == once * 2
    assert cupy.streams == 1


def test_foreign_streams_are_made_once_each(cupy: FakeCuPy) -> None:
    adapter = import_module("arrayops._frameworks.cupy")
    for handle in (7, 8, 7):
        with adapter.launching(0, handle):
            pass
    assert cupy.streams == 2
    assert cupy.log[:3] == ["enter device 0", "enter stream (0, 7)", "leave stream (0, 7)"]


def test_jax_arrays_outlive_the_work_on_them(cupy: FakeCuPy, jax: Any) -> None:
    framework = _frameworks.find(jax.numpy.ones(1))
    with framework.launching(Device("cuda", 0)):
        cupy.log.append("work")
    with pytest.raises(ZeroDivisionError), framework.launching(Device("cuda", 0)):
        raise ZeroDivisionError
    assert cupy.log[:4] == ["enter device 0", "work", "wait", "leave device 0"]
    assert cupy.log[4:6] == ["enter device 0", "wait"]


def test_tensorflow_uses_the_current_stream(cupy: FakeCuPy, tf: Any) -> None:
    with _frameworks.find(tf.ones(1)).launching(Device("cuda", 0)):
        cupy.log.append("work")
    assert cupy.log == ["enter device 0", "work", "leave device 0"]


@pytest.fixture
def torch_cuda(torch: Any) -> Any:
    pytest.importorskip("cupy", reason="CuPy is not installed")
    return import_module("arrayops._frameworks.torch_cuda")


@pytest.fixture
def real_cupy(torch_cuda: Any) -> Iterator[Any]:
    """CuPy on torch's memory of the host."""
    import cupy

    with cupy.cuda.using_allocator(torch_cuda.allocator("cpu", 0)):
        yield cupy


def on_host(array: Any) -> Any:
    """A contiguous CuPy array over host memory as a NumPy array."""
    memory = (ctypes.c_char * array.nbytes).from_address(array.data.ptr)
    return np.frombuffer(memory, array.dtype).reshape(array.shape)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64", "int64", "uint8", "bool"])
def test_torch_results_are_torch_memory(torch: Any, torch_cuda: Any, real_cupy: Any, name: str) -> None:
    dtype = torch_cuda._DTYPES[getattr(torch, name)]
    result = real_cupy.ndarray((2, 3, 4), dtype)
    on_host(result).view(np.uint8)[...] = np.arange(result.nbytes).reshape(2, 3, -1) % 2
    content = on_host(result).tobytes()
    tensor = torch_cuda.from_cupy(result, torch.device("cpu"))
    assert tensor.dtype is getattr(torch, name)
    assert tensor.shape == (2, 3, 4)
    assert tensor.is_contiguous()
    assert tensor.data_ptr() == result.data.ptr
    assert not tensor._is_view()
    del result
    assert tensor.view(torch.uint8).numpy().tobytes() == content


def test_torch_results_may_be_parts_of_one_piece(torch: Any, torch_cuda: Any, real_cupy: Any) -> None:
    both = real_cupy.ndarray((2, 3), np.float32)
    on_host(both)[...] = [[1, 2, 3], [4, 5, 6]]
    assert torch_cuda.from_cupy(both[1], torch.device("cpu")).tolist() == [4, 5, 6]


def test_empty_torch_results(torch: Any, torch_cuda: Any, real_cupy: Any) -> None:
    tensor = torch_cuda.from_cupy(real_cupy.ndarray((0, 3), np.float32), torch.device("cpu"))
    assert tensor.shape == (0, 3)


def test_torch_results_may_be_changed_in_place(torch: Any, torch_cuda: Any, real_cupy: Any) -> None:
    factor = torch.ones(3, requires_grad=True)

    class Function(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(context: Any, given: Any) -> Any:
            result = real_cupy.ndarray((3,), np.float32)
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


def test_temporaries_return_to_torch_at_once(torch_cuda: Any, real_cupy: Any) -> None:
    temporary = real_cupy.ndarray((5,), np.float32)
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
    from arrayops._frameworks.torch import NAMES

    assert set(torch_cuda._DTYPES) == set(NAMES)
