"""Fixtures that tests of several folders share, and marks of whole folders and files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before pytest imports its files for their doctests: a file imported before its package becomes a second module.
import arrayops  # noqa: F401

HERE = Path(__file__).parent
# Compilers, GPUs and frameworks take long; the quick tests are `pytest -m "not slow" -n auto`. They cover the NumPy
# engine through the public operators.
MARKS = {
    "cpu/numpy_engine": ("slow",),
    "cuda": ("slow",),
    "cuda/test_memory.py": ("emulator",),
    "emulator": ("slow", "emulator"),
    "frameworks": ("slow",),
    "frameworks/test_jax_on_emulator.py": ("emulator",),
    "frameworks/test_torch_on_emulator.py": ("emulator",),
    "gpu": ("slow",),
}


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """What tests share holds no tests, and some of it imports packages that are not installed everywhere."""
    return True if collection_path.suffix == ".py" and not collection_path.name.startswith("test_") else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for path, marks in MARKS.items():
            if item.path.is_relative_to(HERE / path):
                for mark in marks:
                    item.add_marker(mark)


@pytest.fixture(
    params=[pytest.param("emulated", marks=pytest.mark.emulator), pytest.param("gpu", marks=pytest.mark.gpu)]
)
def device(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The public functions on a device (`cuda_device.Device`): an emulated one, and a real one if there is one."""
    pytest.importorskip("cupy", reason="CuPy is not installed")
    import cuda_device

    if request.param == "emulated":
        with cuda_device.emulated() as found:
            yield found
        return
    if reason := cuda_device.why_no_gpu():
        pytest.skip(reason)
    with cuda_device.real() as found:
        yield found
