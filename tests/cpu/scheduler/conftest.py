"""The kernels of the tests of the scheduler."""

import ctypes
from pathlib import Path

import pytest

from observed_blocks import compile_kernels


@pytest.fixture(scope="session")
def kernels_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_kernels(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="session")
def kernels(kernels_path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(kernels_path))
