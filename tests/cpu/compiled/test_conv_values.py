"""Compiled convolutions beside torch in float64: shapes with many blocks and tails, orders of memory, long sums."""

from __future__ import annotations

import tracemalloc
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given

import arrayops as ao
from large_convolutions import NAMES, SHAPES, Shape, expected, results
from strategies import FLOAT32, FLOAT64, MEMORY, examples
from tolerances import BFLOAT16, assert_close

pytest.importorskip("torch", reason="torch is not installed")


def assert_equals_torch(shape: Shape, dtype: Any, layout: str, memory: str = "contiguous", seed: int = 0) -> None:
    arrays = shape.arrays(dtype, seed)
    found, want = results(shape, arrays, layout, memory), expected(shape, arrays)
    magnitudes = expected(shape, {name: np.abs(array.astype(np.float64)) for name, array in arrays.items()})
    for name in NAMES:
        assert found[name].dtype == dtype
        assert_close(found[name], want[name], np.dtype(dtype), magnitudes[name], f"{name} of {shape}")


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", SHAPES)
def test_named_shapes(name: str, layout: str) -> None:
    assert_equals_torch(SHAPES[name], FLOAT32, layout)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [FLOAT64, np.dtype(np.float16), BFLOAT16], ids=str)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", SHAPES)
def test_named_shapes_of_other_dtypes(name: str, layout: str, dtype: np.dtype) -> None:
    assert_equals_torch(SHAPES[name], dtype, layout)


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", ["dense", "groups of 4", "groups of 16, stride 2", "depthwise", "1x1", "transposed"])
def test_orders_of_memory(name: str, layout: str, memory: str) -> None:
    assert_equals_torch(SHAPES[name], FLOAT32, layout, memory)


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    transposed = draw(st.booleans())
    groups = draw(st.sampled_from((1, 1, 2, 3, 8, 20)))
    inputs, outputs = (draw(st.sampled_from((1, 1, 2, 3, 4, 7, 8, 16, 33))) for _ in range(2))
    kernel, stride, dilation, padding = (
        (draw(st.sampled_from(values)), draw(st.sampled_from(values)))
        for values in ((1, 1, 2, 3, 3, 5, 7), (1, 1, 2, 3), (1, 1, 2, 9), (0, 1, 2, 3, 5))
    )
    size = draw(st.integers(1, 36)), draw(st.integers(1, 50))
    shape = Shape(draw(st.integers(1, 3)), groups, inputs, outputs, size, kernel, stride, padding, dilation, transposed)
    assume(min(shape.output_size()) >= 1)
    return shape


@given(shapes(), st.sampled_from(["NCHW", "NHWC"]), st.sampled_from(MEMORY), st.integers(0, 1000))
@examples(60)
def test_drawn_shapes(shape: Shape, layout: str, memory: str, seed: int) -> None:
    assert_equals_torch(shape, FLOAT32, layout, memory, seed)


LONG = {
    "inputs": Shape(1, 1, 9000, 6, (3, 5), (1, 1), padding=(0, 0)),
    "outputs": Shape(1, 1, 6, 9000, (3, 5), (1, 1), padding=(0, 0)),
    "taps": Shape(1, 1, 700, 18, (6, 9)),
    "positions": Shape(2, 1, 2, 3, (400, 500)),
    "positions of wide groups": Shape(2, 1, 3, 20, (300, 300)),
    "positions, depthwise": Shape(2, 16, 1, 1, (300, 300)),
    "large filter": Shape(1, 1, 5, 6, (40, 40), (29, 29), padding=(14, 14)),
}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", LONG)
def test_long_sums(name: str, layout: str) -> None:
    assert_equals_torch(LONG[name], FLOAT32, layout)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_memory_does_not_grow_with_the_stride(layout: str) -> None:
    x, w = np.ones((1, 3, 3, 3), np.float32), np.ones((3, 3, 3, 3), np.float32)
    for stride in (1, 2**24):
        tracemalloc.start()
        output = ao.conv2d(x, w, stride=stride, padding=1, layout=layout)
        ao.conv2d_backward(output, x, w, stride=stride, padding=1, layout=layout)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_elements_that_are_not_aligned(layout: str) -> None:
    shape = SHAPES["groups of 8"]
    arrays = shape.arrays()
    odd = {}
    for name, array in arrays.items():
        buffer = np.empty(array.nbytes + 1, np.uint8)
        odd[name] = buffer[1:].view(np.float32).reshape(array.shape)
        odd[name][...] = array
        assert not odd[name].flags.aligned
    for name, found in results(shape, odd, "NCHW").items():
        np.testing.assert_array_equal(found, results(shape, arrays, "NCHW")[name])
