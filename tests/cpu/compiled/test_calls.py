"""The table of calls: it reaches every kernel, and each call equals the oracle in every dtype."""

import numpy as np
import pytest

import arrayops as ao
import compiled_calls
from arrayops._backends.cpu.conv.units import FILES
from conv_checks import assert_equals_torch
from recorded_jobs import block_functions, recorded_jobs
from strategies import DTYPES


def test_reaches_every_kernel() -> None:
    reached = set()
    for name in compiled_calls.CALLS:
        call = compiled_calls.call(name)
        with recorded_jobs() as jobs:
            call.backward(ao, call.call(ao))
        reached |= {kernel for job in jobs for kernel, *_ in job.tasks}
    assert reached == {f"{file}: {function}" for file in FILES for function in block_functions(file)}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", [*compiled_calls.CALLS, *compiled_calls.LARGE_CALLS])
def test_equals_torch(name: str, dtype: np.dtype) -> None:
    assert_equals_torch(compiled_calls.call(name, dtype))
