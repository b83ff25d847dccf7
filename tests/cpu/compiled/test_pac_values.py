"""The table of PAC calls: each equals the oracle in every dtype, and at every level of x86-64."""

import platform
from pathlib import Path

import numpy as np
import pytest

import compiled_pac_calls
import pac_cases
from new_process import in_new_process
from pac_checks import assert_equals_torch
from strategies import DTYPES, FLOAT32

pytest.importorskip("torch", reason="torch is not installed")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", compiled_pac_calls.CALLS)
def test_equals_torch(name: str, dtype: np.dtype) -> None:
    assert_equals_torch(compiled_pac_calls.call(name, dtype))


LARGE_DTYPES = [FLOAT32, *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in DTYPES if dtype != FLOAT32)]


@pytest.mark.parametrize("dtype", LARGE_DTYPES, ids=str)
@pytest.mark.parametrize("name", compiled_pac_calls.LARGE_CALLS)
def test_large_calls_equal_torch(name: str, dtype: np.dtype) -> None:
    assert_equals_torch(compiled_pac_calls.call(name, dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("channels", [*range(1, 10), 17])
def test_adjacent_channels(channels: int, dtype: np.dtype) -> None:
    """Pixels of few channels are packed and stored by kernels of their own, if rows are as long as vectors."""
    for columns in (15, 16, 33):
        options = {"size": (3, columns), "channels": channels, "outputs": channels, "guide_channels": channels}
        assert_equals_torch(pac_cases.build("pac_conv2d", dtype=dtype, layout="NHWC", padding=1, **options))


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="levels of x86-64")
@pytest.mark.parametrize("level", ["x86-64", "x86-64-v3"])
def test_equals_torch_at_lower_levels(level: str) -> None:
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import numpy as np
        import compiled_pac_calls
        from pac_checks import assert_equals_torch
        from tolerances import BFLOAT16
        # Every second call, of which every fifth has half precision.
        for number, name in enumerate([*compiled_pac_calls.CALLS][::2]):
            assert_equals_torch(compiled_pac_calls.call(name, BFLOAT16 if number % 5 == 4 else np.dtype(np.float32)))
        print("equal")
    """
    found = in_new_process(code, str(Path(__file__).parent), ARRAYOPS_CPU="compiled", ARRAYOPS_CPU_ARCH=level)
    assert found.strip() == "equal"
