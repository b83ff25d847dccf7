"""Sample kernels against NumPy, in every order of threads and blocks."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import emulator
from emulator import RawModule, schedule

SAMPLES = Path(emulator.__file__).parent / "samples"
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

Array = np.ndarray[Any, Any]


@cache
def kernel(file: str, name: str, *options: str) -> Any:
    return RawModule(path=SAMPLES / file, options=options).get_function(name)


@pytest.fixture(
    params=[("fifo", 1), ("lifo", 1), ("random", 1), ("random", 2)], ids=lambda order: "-".join(map(str, order))
)
def order(request: pytest.FixtureRequest) -> Iterator[None]:
    with schedule(*request.param):
        yield


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(3)


def bits_of(array: Array) -> Array:
    return np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}")


def assert_same_bits(got: Array, want: Array) -> None:
    """Equal to the bit, where every NaN counts as the same."""
    assert (np.isnan(got) == np.isnan(want)).all()
    numbers = ~np.isnan(want)
    assert (bits_of(got)[numbers] == bits_of(want)[numbers]).all()


@pytest.mark.usefixtures("order")
class TestReductions:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_block_sum(self, random: np.random.Generator, dtype: str) -> None:
        x = random.integers(-50, 50, 3001).astype(dtype)
        total = np.zeros(1, dtype)
        options = ("-DSCALAR=double",) if dtype == "float64" else ()
        kernel("reductions.cu", "block_sum", *options)((5,), (96,), (x, total, np.int32(x.size)))
        assert total[0] == x.sum()

    def test_tree_sum(self, random: np.random.Generator) -> None:
        x = random.integers(-50, 50, 4000).astype(np.float32)
        sums = np.full(4, np.nan, np.float32)
        arguments = (x, sums, np.int32(x.size))
        kernel("reductions.cu", "tree_sum")((4,), (1024,), arguments, shared_mem=4096)
        assert (sums == np.pad(x, (0, 96)).reshape(4, 1024).sum(axis=1)).all()

    def test_count_positive(self, random: np.random.Generator) -> None:
        x = random.standard_normal(700).astype(np.float32)
        x[256:512] = 1
        counts = np.zeros(4, np.int32)
        kernel("reductions.cu", "count_positive")((3,), (256,), (x, counts, np.int32(x.size)))
        assert counts.tolist() == [(x > 0).sum()] * 2 + [3, 1]

    def test_softmax_rows(self, random: np.random.Generator) -> None:
        x = random.standard_normal((8, 77)).astype(np.float32)
        y = np.full_like(x, np.nan)
        kernel("reductions.cu", "softmax_rows")((2,), (32, 4), (x, y, np.int32(77)))
        powers = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
        np.testing.assert_allclose(y, powers / powers.sum(axis=1, keepdims=True), rtol=1e-5)

    def test_lanes_together(self, random: np.random.Generator) -> None:
        keys = random.integers(-3, 4, 32).astype(np.int32)
        out = np.zeros((7, 32), np.int32)
        kernel("reductions.cu", "lanes_together")((1,), (32,), (keys, out))
        groups = keys.reshape(4, 8)
        assert (out[0] == (keys[:, None] == keys).sum(axis=1)).all()
        assert (out[1] == groups[:, [0, *range(7)]].ravel()).all()
        assert (out[2] == groups[:, [*range(1, 8), 7]].ravel()).all()
        assert (out[3] == np.repeat(groups[:, 3], 8)).all()
        assert out[4:].tolist() == [[value] * 32 for value in (keys.sum(), keys.min(), keys.max())]


@pytest.mark.usefixtures("order")
class TestConvolution:
    def test_vector_loads(self, random: np.random.Generator) -> None:
        x, before = random.integers(-50, 50, (2, 4000)).astype(np.float32)
        y = before.copy()
        kernel("convolution.cu", "scaled_sum")((3,), (64,), (x, y, np.float32(2.5), np.int32(1000)))
        assert (y == 2.5 * x + before).all()

    @pytest.mark.parametrize("options", [(), ("-DTILE=8",)], ids=["16", "8"])
    def test_tiles(self, random: np.random.Generator, options: tuple[str, ...]) -> None:
        tile = 8 if options else 16
        inputs, outputs, height, width = 3, 11, 21, 37
        x = random.integers(-9, 9, (inputs, height, width)).astype(np.float32)
        weights = random.integers(-9, 9, (outputs, inputs, 3, 3)).astype(np.float32)
        y = np.full((outputs, height, width), np.nan, np.float32)
        grid = (-(-width // tile), -(-height // tile), -(-outputs // 8))
        sizes = tuple(np.int32(size) for size in (inputs, outputs, height, width))
        kernel("convolution.cu", "convolve", *options)(grid, (tile, tile), (x, weights, y, *sizes))
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (1, 1), (1, 1))), (3, 3), axis=(1, 2))
        assert (y == np.einsum("ocij,chwij->ohw", weights, windows)).all()


class TestHalves:
    """All 65536 values of both types, to float and back, and what lies between them."""

    EVERY = np.arange(1 << 16, dtype=np.uint16)

    def test_widen(self) -> None:
        halves, brains = self.EVERY.view(np.float16), self.EVERY.view(BFLOAT16)
        wide, wide_brains = np.zeros((2, 1 << 16), np.float32)
        arguments = (halves, brains, wide, wide_brains, np.int32(1 << 16))
        kernel("halves.cu", "widen")((256,), (256,), arguments)
        assert_same_bits(wide, halves.astype(np.float32))
        assert_same_bits(wide_brains, brains.astype(np.float32))

    @staticmethod
    def narrowed(x: Array, name: str) -> tuple[Array, Array]:
        halves, brains = np.zeros(x.size, np.float16), np.zeros(x.size, BFLOAT16)
        kernel("halves.cu", name)((-(-x.size // 256),), (256,), (x, halves, brains, np.int32(x.size)))
        return halves, brains

    @pytest.mark.parametrize("kind", [np.dtype(np.float16), BFLOAT16], ids=str)
    def test_narrow(self, kind: "np.dtype[Any]") -> None:
        """Every value, every middle between two neighbours, which is a tie, and the floats next to it."""
        with np.errstate(all="ignore"):
            values = self.EVERY.view(kind).astype(np.float32)
            middles = values[:-1] + (values[1:] - values[:-1]) / 2
            around = [np.nextafter(middles, np.float32(limit)) for limit in (-np.inf, np.inf)]
            x = np.concatenate([values, middles, *around]).astype(np.float32)
            halves, brains = self.narrowed(x, "narrow")
            assert_same_bits(halves, x.astype(np.float16))
            assert_same_bits(brains, x.astype(BFLOAT16))
        # One NaN, as a device writes it.
        assert set(bits_of(halves[np.isnan(x)]).tolist()) <= {0x7FFF}
        assert set(bits_of(brains[np.isnan(x)]).tolist()) <= {0x7FFF}

    def test_narrow_double(self) -> None:
        """Next to a tie by less than a float can tell: rounding to float first would round the wrong way."""
        with np.errstate(all="ignore"):
            for kind, which in ((np.dtype(np.float16), 0), (BFLOAT16, 1)):
                values = self.EVERY.view(kind).astype(np.float64)
                below, above = values[:-1], values[1:]
                usable = np.isfinite(below) & np.isfinite(above)
                below, above = below[usable], above[usable]
                middles = below + (above - below) / 2
                for towards in (below, above):
                    x = np.nextafter(middles, towards)
                    got = self.narrowed(x, "narrow_double")[which]
                    # Of the two neighbours the nearer one, which is the one moved to.
                    assert (got.astype(np.float64) == towards).all()

    def test_fused_multiply_add(self, random: np.random.Generator) -> None:
        x, before = random.standard_normal((2, 2000)).astype(np.float16)
        y = before.copy()
        kernel("halves.cu", "scaled_sum")((8,), (128,), (x, y, np.float32(1.7), np.int32(1000)))
        exact = np.float64(np.float16(1.7)) * x.astype(np.float64) + before.astype(np.float64)
        assert (y == exact.astype(np.float16)).all()

    def test_arithmetic(self, random: np.random.Generator) -> None:
        x, y = random.standard_normal((2, 1000)).astype(np.float16)
        results = np.zeros((4, 1000), np.float16)
        kernel("halves.cu", "arithmetic")((8,), (128,), (x, y, results, np.int32(1000)))
        assert_same_bits(results, np.stack([x + y, x - y, x * y, x / y]))
