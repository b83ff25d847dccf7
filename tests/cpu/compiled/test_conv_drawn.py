"""Drawn calls of the compiled convolutions, of all options, dtypes and orders of memory, against float64."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import arrayops as ao
from conv_cases import build
from conv_checks import assert_equals_loops, assert_equals_torch
from strategies import CONVOLUTIONS, DTYPES, FLOAT32, MEMORY, Ranges, convolutions, examples, in_memory, in_other_order

LAYOUTS = ("NCHW", "NHWC")

# Groups and channels on both sides of what fills vectors; dilations that reach beyond a block.
FEW = Ranges(
    kernel=(1, 2, 3, 3, 4, 5, 7, 11),
    stride=(1, 1, 2, 3, 5),
    dilation=(1, 1, 1, 2, 3, 7, 40),
    padding=15,
    more=(40, 12),
    groups=(1, 1, 2, 3, 17),
    channels=(1, 1, 2, 3, 4, 6, 8),
)
MANY = Ranges(
    kernel=(1, 2, 3, 3, 5),
    stride=(1, 1, 2, 3),
    dilation=(1, 1, 2, 7),
    padding=6,
    more=(20, 8),
    groups=(1, 1, 2),
    channels=(9, 12, 16, 17, 33, 70),
)


@pytest.mark.parametrize("ranges", [FEW, MANY], ids=["few channels", "many channels"])
@pytest.mark.parametrize("operator", CONVOLUTIONS)
@examples(150)
@given(data=st.data())
def test_drawn_calls(data: st.DataObject, operator: str, ranges: Ranges) -> None:
    case = data.draw(convolutions(operator, DTYPES, ranges=ranges))
    layout = case.options.get("layout", "NCHW")
    for name in ("input", "weight"):
        if data.draw(st.integers(0, 4)) == 0:
            case = case.replace(**{name: in_other_order(layout, case.arrays[name])})
    grad = case.grad(case.call(ao).shape)
    form = data.draw(st.sampled_from((*MEMORY, "other layout", "one value")))
    if form == "one value":
        grad = np.broadcast_to(grad[:1, :1, :1, :1], grad.shape)
    else:
        grad = in_other_order(layout, grad) if form == "other layout" else in_memory(grad, form)
    assert_equals_torch(case, grad)


@pytest.mark.parametrize("operator", CONVOLUTIONS)
@examples(25)
@given(data=st.data())
def test_drawn_calls_equal_loops(data: st.DataObject, operator: str) -> None:
    """The oracle that does not share an idea with libraries."""
    assert_equals_loops(data.draw(convolutions(operator, DTYPES).filter(lambda case: case.arrays["bias"] is not None)))


@pytest.mark.parametrize("zero", ["batch", "input", "output"])
@pytest.mark.parametrize("operator", CONVOLUTIONS)
@examples(6)
@given(data=st.data())
def test_size_zero(data: st.DataObject, operator: str, zero: str) -> None:
    """Results of sums without terms are the bias and 0."""
    case = data.draw(convolutions(operator, DTYPES, zero=zero))
    output = case.call(ao)
    bias = np.zeros(()) if case.arrays["bias"] is None else case.arrays["bias"]
    if bias.ndim and case.options.get("layout", "NCHW") == "NCHW":
        bias = bias[:, None, None]
    want = np.broadcast_to(bias, output.shape)
    np.testing.assert_array_equal(output.astype(np.float64), want.astype(np.float64))
    gradients = case.backward(ao, case.grad(output.shape))
    for name in ("input", "weight"):
        assert getattr(gradients, name).shape == case.arrays[name].shape
        assert not getattr(gradients, name).any()


@pytest.mark.parametrize("stride", [7, 100])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_transposed_stride_beyond_the_filter(layout: str, stride: int) -> None:
    """Most outputs have no sample: they are the bias."""
    assert_equals_torch(build("conv_transpose2d", FLOAT32, layout, size=(3, 2), stride=stride, groups=2))
