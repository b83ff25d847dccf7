"""The same bits of PAC whatever the threads and addresses, for the table of calls."""

from typing import Any

import numpy as np
import pytest

import arrayops as ao
import compiled_pac_calls
import pac_cases
from arrayops._backends.cpu.pac import gradient as gradient_module
from arrayops._backends.cpu.pac.gradient import gradient
from recorded_jobs import recorded_jobs
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


@pytest.mark.parametrize("operator", ["pac_conv2d", "pac_conv_transpose2d", "pac_pool2d", "pac_kernel2d"])
def test_sums_of_some_blocks_at_a_time(operator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums of alphas, lambdas, smoothing weights and a shared filter, of more blocks than are kept."""
    options: dict[str, Any] = {"kernel_type": "inv", "smooth": (3, 3), "size": (70, 90), "padding": 1, "batch": 3}
    if operator.startswith("pac_conv"):
        options["shared_filters"] = True
    case = pac_cases.build(operator, dtype=FLOAT32, **options)
    found = case.call(ao)
    grad = case.grad((found[0] if isinstance(found, tuple) else found).shape)
    with recorded_jobs(compute=True) as whole:
        want = bits(case, grad)
    gradient.cache_clear()
    monkeypatch.setattr(gradient_module, "MAX_SUMS", 1)
    try:
        with recorded_jobs(compute=True) as jobs:
            assert bits(case, grad) == want
    finally:
        gradient.cache_clear()
    assert len(jobs[-1].blocks("add_sums")) > len(whole[-1].blocks("add_sums")) > 0
