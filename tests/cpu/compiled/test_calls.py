"""The tables of calls: they reach every kernel; each convolution equals the oracle in every dtype."""

from itertools import product
from types import ModuleType

import numpy as np
import pytest

import arrayops as ao
import compiled_calls
import compiled_pac_calls
from arrayops._backends.cpu.conv import units as conv
from arrayops._backends.cpu.pac import units as pac
from conv_checks import assert_equals_torch
from recorded_jobs import block_functions, recorded_jobs
from strategies import DTYPES, FLOAT32
from tolerances import BFLOAT16


@pytest.mark.parametrize(
    ("table", "files"), [(compiled_calls, conv.FILES), (compiled_pac_calls, pac.FILES)], ids=["conv", "pac"]
)
def test_reaches_every_kernel(table: ModuleType, files: tuple[str, ...]) -> None:
    reached = set()
    for name, dtype in product(table.CALLS, (FLOAT32, BFLOAT16)):
        call = table.call(name, dtype)
        with recorded_jobs(dtype.name) as jobs:
            found = call.call(ao)
            call.backward(ao, found[0] if isinstance(found, tuple) else found)
        reached |= {kernel for job in jobs for kernel, *_ in job.tasks}
    own = {f"{file}: {function}" for file in files for function in block_functions(file)}
    assert {kernel for kernel in reached if kernel.partition(":")[0] in files} == own


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", [*compiled_calls.CALLS, *compiled_calls.LARGE_CALLS])
def test_equals_torch(name: str, dtype: np.dtype) -> None:
    assert_equals_torch(compiled_calls.call(name, dtype))
