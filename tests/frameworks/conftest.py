"""The frameworks, each imported once a session, and only when a test of it runs."""

import atexit
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from arrayops import _backends
from backend_recorder import Recorder
from toy_op import Backend

# Read when JAX starts its CPU platform, and by no test that runs before this file is collected.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2".strip()
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Frameworks share a GPU here: by themselves JAX takes three quarters of its memory, and TensorFlow the rest.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
# torch.compile keeps programs on disk by the calls in them, whatever these did when the program was made.
os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.mkdtemp(prefix="arrayops-inductor-")
atexit.register(shutil.rmtree, os.environ["TORCHINDUCTOR_CACHE_DIR"], ignore_errors=True)


def imported(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed")


@pytest.fixture(scope="session")
def torch() -> Any:
    return imported("torch")


@pytest.fixture(scope="session")
def jax() -> Any:
    return imported("jax")


@pytest.fixture(scope="session")
def tf() -> Any:
    tensorflow = imported("tensorflow")
    cpu = tensorflow.config.list_physical_devices("CPU")[0]
    tensorflow.config.set_logical_device_configuration(cpu, [tensorflow.config.LogicalDeviceConfiguration()] * 2)
    return tensorflow


@pytest.fixture(scope="session")
def keras(request: pytest.FixtureRequest) -> Any:
    """Keras on the backend of the variable KERAS_BACKEND, by default TensorFlow."""
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    request.getfixturevalue("tf" if backend == "tensorflow" else backend)
    return imported("keras")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    backend = Backend()
    monkeypatch.setattr(_backends, "find", backend.find)
    return backend


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(monkeypatch)


class PacCall:
    """Arrays for pac_conv2d and its backward, and what they give in NumPy."""

    def __init__(self) -> None:
        random = np.random.default_rng(5)
        shapes = ((2, 4, 9, 11), (2, 3, 9, 11), (6, 4, 3, 3), (6,))
        self.arrays = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
        self.gradient = random.standard_normal((2, 6, 9, 11)).astype(np.float32)
        self.output = ao.pac_conv2d(*self.arrays, padding=1)
        self.gradients = ao.pac_conv2d_backward(self.gradient, *self.arrays, padding=1)[:4]


@pytest.fixture(scope="session")
def pac() -> PacCall:
    return PacCall()
