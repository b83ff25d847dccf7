"""The same bits whatever the threads and addresses, for every kernel."""

import numpy as np
import pytest

import arrayops as ao
import compiled_calls
from arrayops._backends.cpu.engine import scheduler
from case import Case
from strategies import FLOAT32
from tolerances import BFLOAT16

CALLS = [*compiled_calls.CALLS, *compiled_calls.LARGE_CALLS]
DTYPES = [FLOAT32, pytest.param(BFLOAT16, marks=pytest.mark.slow)]


def bits(case: Case, grad: np.ndarray) -> dict[str, bytes]:
    """Of the output and of each gradient."""
    found = {"output": case.call(ao)} | case.backward(ao, grad)._asdict()
    return {name: array.tobytes() for name, array in found.items()}


@pytest.fixture
def any_work_takes_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "THREAD_NANOSECONDS", 1)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_threads_and_runs(name: str, dtype: np.dtype, any_work_takes_threads: None) -> None:
    case = compiled_calls.call(name, dtype)
    grad = case.grad(case.call(ao).shape)
    with ao.num_threads(1):
        want = bits(case, grad)
    for threads in (1, 2, 2, 3, 3, 7):
        with ao.num_threads(threads):
            assert bits(case, grad) == want, threads


def at_offset(array: np.ndarray, offset: int) -> np.ndarray:
    """The same values, so many bytes behind a multiple of 64."""
    buffer = np.empty(array.nbytes + 128, np.uint8)
    start = -buffer.ctypes.data % 64 + offset
    moved = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    moved[...] = array
    return moved


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", compiled_calls.CALLS)
def test_byte_offsets(name: str, dtype: np.dtype) -> None:
    case = compiled_calls.call(name, dtype)
    grad = case.grad(case.call(ao).shape)
    want = bits(case, grad)
    for offset in range(0, 64, 4):
        moved = case.replace(**{key: at_offset(array, offset) for key, array in case.arrays.items()})
        assert bits(moved, at_offset(grad, offset)) == want, offset
        # Each at another offset.
        apart = {key: at_offset(array, (offset + 20 * n) % 64) for n, (key, array) in enumerate(case.arrays.items())}
        assert bits(case.replace(**apart), at_offset(grad, 60 - offset)) == want, offset
