"""The same bits whatever the threads and addresses, for every kernel."""

import numpy as np
import pytest

import arrayops as ao
import compiled_calls
from same_bits import all_at_offset, at_offset, bits
from strategies import FLOAT32
from tolerances import BFLOAT16

CALLS = [*compiled_calls.CALLS, *compiled_calls.LARGE_CALLS]
DTYPES = [FLOAT32, pytest.param(BFLOAT16, marks=pytest.mark.slow)]


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


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", compiled_calls.CALLS)
def test_byte_offsets(name: str, dtype: np.dtype) -> None:
    case = compiled_calls.call(name, dtype)
    grad = case.grad(case.call(ao).shape)
    want = bits(case, grad)
    for offset in range(0, 64, 4):
        assert bits(all_at_offset(case, offset), at_offset(grad, offset)) == want, offset
        # Each at another offset.
        assert bits(all_at_offset(case, offset, 20), at_offset(grad, 60 - offset)) == want, offset
