"""What a launch takes, refuses and passes on."""

import re
from typing import Any

import numpy as np
import pytest

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

from arrayops._backends.cuda.engine import errors, launch, module  # noqa: E402

GEOMETRY = np.dtype(
    [("count", np.int32), ("offset", np.int64), ("scale", np.float32), ("size", np.int32, 2)], align=True
)


class Launches:
    """In the place of a compiled kernel: keeps what was launched, and fails with ``failure`` if set."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.failure: Exception | None = None

    def __call__(self, grid: Any, block: Any, arguments: Any, *, shared_mem: int) -> None:
        if self.failure is not None:
            raise self.failure
        self.log.append((grid, block, arguments, shared_mem))


@pytest.fixture
def launches() -> Launches:
    return Launches()


@pytest.fixture
def kernel(launches: Launches) -> module.Kernel:
    return module.Kernel(launches, errors.KernelName("some.cu", "f", (("AXES", 3),)))


@pytest.fixture
def array() -> Any:
    memory = np.zeros(64, np.uint8)
    pointer = cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(memory.ctypes.data, 64, memory, 0), 0)
    return cupy.ndarray((4, 4), np.float32, pointer)


def test_arguments_pass_as_they_are(kernel: module.Kernel, launches: Launches, array: Any) -> None:
    geometry = launch.struct(GEOMETRY, count=3, offset=2**40, scale=0.5, size=(1, 2))
    arguments = (array, None, np.int32(1), np.int64(2), np.float32(3), np.float64(4), np.bool_(True), geometry)
    launch.launch(kernel, (1, 2, 3), (32, 4, 1), arguments, 1024)
    assert launches.log == [((1, 2, 3), (32, 4, 1), arguments, 1024)]


def test_subclasses_of_arrays_pass(kernel: module.Kernel, launches: Launches, array: Any) -> None:
    class Own(cupy.ndarray):  # type: ignore[misc]
        pass

    launch.launch(kernel, (1, 1, 1), (32, 1, 1), (array.view(Own),))
    assert len(launches.log) == 1


@pytest.mark.parametrize("value", [7, 0.5, True, "x", np.zeros(1), (1, 2), 1j])
def test_untyped_arguments_are_refused(kernel: module.Kernel, launches: Launches, array: Any, value: Any) -> None:
    told = f"CUDA kernel f of some.cu (AXES=3): argument 2 is {type(value).__module__}.{type(value).__qualname__} "
    with pytest.raises(TypeError, match=re.escape(told)):
        launch.launch(kernel, (1, 1, 1), (32, 1, 1), (array, np.int32(1), value))
    assert launches.log == []


@pytest.mark.parametrize("grid", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 0, 0), (0, 70000, 1)])
def test_empty_grids_launch_nothing(kernel: module.Kernel, launches: Launches, grid: Any) -> None:
    launch.launch(kernel, grid, (32, 1, 1), ())
    assert launches.log == []


@pytest.mark.parametrize("grid", [(2**31 - 1, 1, 1), (1, 65535, 65535)])
def test_largest_grids_pass(kernel: module.Kernel, launches: Launches, grid: Any) -> None:
    launch.launch(kernel, grid, (32, 1, 1), ())
    assert len(launches.log) == 1


@pytest.mark.parametrize("grid", [(2**31, 1, 1), (1, 65536, 1), (1, 1, 65536), (-1, 1, 1)])
def test_grids_beyond_the_limits_are_refused(kernel: module.Kernel, grid: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"CUDA kernel f of some.cu (AXES=3): the grid is {grid}")):
        launch.launch(kernel, grid, (32, 1, 1), ())


class Status(RuntimeError):
    """As CUDADriverError, which cannot be made without a driver."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        (Status(701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: too many resources"), "more registers or shared memory"),
        (
            Status(1, "CUDA_ERROR_INVALID_VALUE: invalid argument"),
            "size of the grid, of the block or of the shared memory",
        ),
        (Status(700, "CUDA_ERROR_ILLEGAL_ADDRESS"), "an earlier kernel"),
        (RuntimeError("anything else"), "anything else"),
    ],
)
def test_refused_launches(kernel: module.Kernel, launches: Launches, cause: Exception, advice: str) -> None:
    launches.failure = cause
    told = r"CUDA kernel f .* cannot be launched on grid \(1, 1, 1\), block \(64, 1, 1\), with 9 bytes of shared memory"
    with pytest.raises(errors.KernelError, match=f"(?s)^{told}.*{advice}") as caught:
        launch.launch(kernel, (1, 1, 1), (64, 1, 1), (), 9)
    assert caught.value.__cause__ is cause


def test_memory_errors_pass(kernel: module.Kernel, launches: Launches) -> None:
    launches.failure = Status(2, "CUDA_ERROR_OUT_OF_MEMORY: out of memory")
    with pytest.raises(Status):
        launch.launch(kernel, (1, 1, 1), (32, 1, 1), ())


def test_struct_lies_as_in_cpp() -> None:
    made = launch.struct(GEOMETRY, size=(5, 6), scale=0.5, offset=-(2**40), count=3)
    assert type(made) is np.void
    assert made.dtype == GEOMETRY
    # int, padding, long long, float, int[2], padding: as a C++ compiler lays it out.
    assert made.tobytes()[:4] == np.int32(3).tobytes()
    assert made.tobytes()[8:16] == np.int64(-(2**40)).tobytes()
    assert made.tobytes()[16:28] == np.float32(0.5).tobytes() + np.int32([5, 6]).tobytes()
    assert len(made.tobytes()) == 32


def test_cupy_passes_a_struct_by_value() -> None:
    scalar = pytest.importorskip("cupy._core._scalar", reason="CuPy has no CScalar")
    made = launch.struct(GEOMETRY, size=(5, 6), scale=0.5, offset=1, count=3)
    assert scalar.CScalar(made).dtype == GEOMETRY


@pytest.mark.parametrize(
    ("dtype", "fields"),
    [
        (GEOMETRY, {"count": 1}),
        (GEOMETRY, {"count": 1, "offset": 1, "scale": 1, "size": (1, 1), "other": 1}),
        (np.dtype([("count", np.int32), ("offset", np.int64)]), {"count": 1, "offset": 1}),
        (np.dtype(np.float32), {}),
    ],
)
def test_struct_refuses_other_fields_and_layouts(dtype: Any, fields: Any) -> None:
    with pytest.raises(TypeError, match=r"launch\.struct: got fields"):
        launch.struct(dtype, **fields)


def test_struct_refuses_values_that_do_not_fit() -> None:
    with pytest.raises(OverflowError):
        launch.struct(GEOMETRY, count=2**31, offset=1, scale=1, size=(1, 1))
