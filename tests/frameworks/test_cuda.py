"""The way of GPU arrays, as far as it goes without a GPU: a stand-in for CuPy records devices, streams and exports."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from arrayops import _frameworks
from arrayops._frameworks.base import Device


class FakeCuPy(ModuleType):
    """Keeps a log of what happens in which order."""

    class ndarray:
        shape = (2, 3)
        dtype = np.dtype(np.float32)
        device = SimpleNamespace(id=1)

    def __init__(self) -> None:
        super().__init__("cupy")
        self.log: list[str] = []
        self.cuda = SimpleNamespace(
            Device=lambda number: self.entered(f"device {number}"),
            Stream=SimpleNamespace(from_external=lambda stream: self.entered(f"stream {stream}")),
        )

    @contextmanager
    def entered(self, name: str) -> Iterator[None]:
        self.log.append(f"enter {name}")
        yield
        self.log.append(f"leave {name}")


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuPy]:
    fake = FakeCuPy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.delitem(sys.modules, "arrayops._frameworks.cupy", raising=False)
    yield fake
    sys.modules.pop("arrayops._frameworks.cupy", None)
    vars(_frameworks).pop("cupy", None)


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


def test_torch_lends_its_stream(cupy: FakeCuPy, torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_stream", lambda number: f"of torch on {number}")
    with _frameworks.find(torch.ones(1)).launching(Device("cuda", 1)):
        cupy.log.append("work")
    assert cupy.log == [
        "enter device 1",
        "enter stream of torch on 1",
        "work",
        "leave stream of torch on 1",
        "leave device 1",
    ]


def test_jax_uses_the_current_stream(cupy: FakeCuPy, jax: Any) -> None:
    with _frameworks.find(jax.numpy.ones(1)).launching(Device("cuda", 0)):
        cupy.log.append("work")
    assert cupy.log == ["enter device 0", "work", "leave device 0"]
