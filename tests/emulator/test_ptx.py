"""mma, ldmatrix and cp.async of the emulator against NumPy."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import emulator
from emulator import RawModule, schedule

SOURCE = Path(emulator.__file__).parent / "samples" / "ptx.cu"

Array = np.ndarray[Any, Any]


@cache
def kernel(name: str, *options: str) -> Any:
    return RawModule(path=SOURCE, options=options or ("-DDEPTH=16",)).get_function(name)


@pytest.fixture(params=["fifo", "lifo", "random"], autouse=True)
def order(request: pytest.FixtureRequest) -> Iterator[None]:
    with schedule(request.param):
        yield


@pytest.mark.parametrize(
    ("operand", "depth", "dtype"),
    [
        ("F16", 16, np.float16),
        ("F16", 8, np.float16),
        ("BF16", 16, ml_dtypes.bfloat16),
        ("BF16", 8, ml_dtypes.bfloat16),
        ("TF32", 8, np.float32),
    ],
)
class TestMma:
    @staticmethod
    def product(operand: str, depth: int, a: Array, b: Array, c: Array) -> Array:
        result = c.astype(np.float32)
        words = [np.ascontiguousarray(matrix).view(np.uint32) for matrix in (a, b.T)]
        kernel("product", f"-DDEPTH={depth}", f"-DOPERAND_{operand}")((1,), (32,), (*words, result))
        return result

    def test_whole_numbers_exactly(self, operand: str, depth: int, dtype: Any) -> None:
        random = np.random.default_rng(0)
        a, b, c = (random.integers(-9, 9, shape) for shape in ((16, depth), (depth, 8), (16, 8)))
        assert (self.product(operand, depth, a.astype(dtype), b.astype(dtype), c) == a @ b + c).all()

    def test_sums_in_float(self, operand: str, depth: int, dtype: Any) -> None:
        """Products are not rounded, and sums are floats."""
        random = np.random.default_rng(1)
        a, b, c = (random.standard_normal(shape) for shape in ((16, depth), (depth, 8), (16, 8)))
        a, b = a.astype(dtype), b.astype(dtype)
        cut = [cut_to_tf32(matrix) if operand == "TF32" else matrix for matrix in (a, b)]
        exact = cut[0].astype(np.float64) @ cut[1].astype(np.float64) + c
        np.testing.assert_allclose(self.product(operand, depth, a, b, c), exact, rtol=0, atol=4e-6)

    def test_places(self, operand: str, depth: int, dtype: Any) -> None:
        """One at every place of A alone picks one row of B."""
        b = np.arange(8 * depth).reshape(depth, 8)
        for row, column in np.ndindex(16, depth):
            a = np.zeros((16, depth))
            a[row, column] = 1
            want = np.zeros((16, 8))
            want[row] = b[column]
            assert (self.product(operand, depth, a.astype(dtype), b.astype(dtype), np.zeros((16, 8))) == want).all()


def cut_to_tf32(matrix: Array) -> Array:
    """Without the last 13 bits, which the hardware ignores."""
    return (np.ascontiguousarray(matrix).view(np.uint32) & ~np.uint32(0x1FFF)).view(np.float32)


def test_round_to_tf32() -> None:
    random = np.random.default_rng(2)
    x = random.standard_normal(4000).astype(np.float32)
    # Ties, both signs, the largest float, which becomes infinite, and what has no nearest number.
    x[:6] = [1 + 2**-11, -1 - 2**-11, 1 + 3 * 2**-11, np.finfo(np.float32).max, np.inf, np.nan]
    y = np.zeros(x.size, np.uint32)
    kernel("round_to_tf32")((16,), (256,), (x, y, np.int32(x.size)))
    got = y.view(np.float32)
    assert got[:5].tolist() == [1 + 2**-10, -1 - 2**-10, 1 + 2**-9, np.inf, np.inf]
    assert np.isnan(got[5])
    assert (y & 0x1FFF == 0).all()
    fraction, exponent = np.frexp(x[6:].astype(np.float64))
    scaled = fraction * 2**11
    nearest = np.trunc(scaled + np.copysign(0.5, scaled))
    assert (got[6:] == np.ldexp(nearest, exponent - 11)).all()


def test_ldmatrix() -> None:
    x = np.random.default_rng(3).integers(0, 1 << 16, (4, 8, 8)).astype(np.uint16)
    out = np.zeros((2, 3, 32, 4), np.uint32)
    kernel("load_matrices")((1,), (32,), (x, out))
    for transposed, matrices in ((0, x), (1, x.swapaxes(1, 2))):
        # Lane 4 r + c holds the halves 2 c and 2 c + 1 of row r.
        registers = np.ascontiguousarray(matrices).view(np.uint32).reshape(4, 32).T
        for number, count in enumerate((1, 2, 4)):
            assert (out[transposed, number, :, :count] == registers[:, :count]).all()
            assert (out[transposed, number, :, count:] == 0).all()


@pytest.mark.parametrize("size", [4, 8, 16])
@pytest.mark.parametrize("missing", [0, 1, 3, 70])
def test_copies_a_stage_ahead(size: int, missing: int) -> None:
    stages, words = 5, size // 4
    total = stages * 32 * words
    # Words behind `valid` do not exist, and sanitizers would see them read.
    x = np.random.default_rng(4).integers(0, 1 << 32, total - missing, dtype=np.uint32)
    y = np.full(total, 7, np.uint32)
    kernel(f"copy_{size}")((1,), (32,), (x, y, np.int32(stages), np.int32(x.size)))
    assert (y == np.pad(x, (0, missing))).all()


def test_copies_are_not_there_before_the_wait() -> None:
    x = np.arange(32, dtype=np.uint32)
    early, late = np.zeros((2, 64), np.uint32)
    kernel("copy_and_look")((1,), (32,), (x, early, late))
    assert (early == 0xFFFFFFFF).all()
    assert (late == np.tile(x, 2)).all()
