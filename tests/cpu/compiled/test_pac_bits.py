"""The same bits of PAC whatever the threads and addresses, for the table of calls."""

import numpy as np
import pytest

import arrayops as ao
import compiled_pac_calls
from same_bits import all_at_offset, at_offset, bits
from strategies import FLOAT32
from tolerances import BFLOAT16

DTYPES = [FLOAT32, pytest.param(BFLOAT16, marks=pytest.mark.slow)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", [*compiled_pac_calls.CALLS, *compiled_pac_calls.LARGE_CALLS])
def test_threads_and_runs(name: str, dtype: np.dtype, any_work_takes_threads: None) -> None:
    case = compiled_pac_calls.call(name, dtype)
    with ao.num_threads(1):
        found = case.call(ao)
        grad = case.grad((found[0] if isinstance(found, tuple) else found).shape)
        want = bits(case, grad)
    for threads in (1, 2, 3, 3, 7):
        with ao.num_threads(threads):
            assert bits(case, grad) == want, threads


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", compiled_pac_calls.CALLS)
def test_byte_offsets(name: str, dtype: np.dtype) -> None:
    case = compiled_pac_calls.call(name, dtype)
    found = case.call(ao)
    grad = case.grad((found[0] if isinstance(found, tuple) else found).shape)
    want = bits(case, grad)
    for offset in (0, dtype.itemsize, 20, 36, 64 - dtype.itemsize):
        assert bits(all_at_offset(case, offset), at_offset(grad, offset)) == want, offset
        # Each at another offset.
        assert bits(all_at_offset(case, offset, 20), at_offset(grad, (60 - offset) % 64)) == want, offset
