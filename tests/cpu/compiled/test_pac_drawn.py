"""Drawn calls of PAC, of all options, dtypes and orders of memory, against float64."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given

import arrayops as ao
from case import Case
from oracles import pac
from pac_checks import assert_equals_torch, output_shape
from strategies import DTYPES, FLOAT16, MEMORY, OPERATORS, Ranges, cases, examples, in_memory, in_other_order
from tolerances import assert_close

pytest.importorskip("torch", reason="torch is not installed")

# Groups, channels and rows on both sides of what fills vectors; dilations that reach beyond a block.
FEW = Ranges(
    kernel=(1, 2, 3, 3, 4, 5, 7),
    stride=(1, 1, 2, 3, 5),
    dilation=(1, 1, 1, 2, 3, 12),
    padding=9,
    more=(40, 9),
    groups=(1, 1, 2, 3, 17),
    channels=(1, 1, 2, 3, 4, 6, 8),
)
MANY = Ranges(
    kernel=(1, 2, 3, 3, 5),
    stride=(1, 1, 2, 3),
    dilation=(1, 1, 2, 7),
    padding=6,
    more=(20, 6),
    groups=(1, 1, 2),
    channels=(9, 12, 16, 17, 33, 70),
)


def in_drawn_orders(data: st.DataObject, case: Case) -> Case:
    """Some of the images in the order of the other layout."""
    layout = case.options.get("layout", "NCHW")
    for name in ("input", "guide", "weight", "kernel"):
        if case.arrays.get(name) is not None and data.draw(st.integers(0, 4)) == 0:
            case = case.replace(**{name: in_other_order(layout, case.arrays[name])})
    return case


@pytest.mark.parametrize("ranges", [FEW, MANY], ids=["few channels", "many channels"])
@pytest.mark.parametrize("operator", OPERATORS)
@examples(100)
@given(data=st.data())
def test_drawn_calls(data: st.DataObject, operator: str, ranges: Ranges) -> None:
    case = in_drawn_orders(data, data.draw(cases(operator, DTYPES, ranges=ranges, guides=(1, 2, 3, 3, 8))))
    shape = output_shape(case)
    # The gradient of inv_alpha is the sum of all of them, which float16 cannot hold.
    assume(case.dtype != FLOAT16 or operator != "pac_kernel2d" or np.prod(shape) < 3e4)
    grad = case.grad(shape)
    form = data.draw(st.sampled_from((*MEMORY, "other layout", "one value")))
    if form == "one value":
        grad = np.broadcast_to(grad[(slice(1),) * grad.ndim], grad.shape)
    elif form == "other layout":
        grad = in_other_order(case.options.get("layout", "NCHW"), grad)
    else:
        grad = in_memory(grad, form)
    assert_equals_torch(case, grad=grad, relative_to_terms=True)


ZERO = {
    "pac_kernel2d": ("batch", "guide"),
    "pac_conv2d": ("batch", "input", "output", "guide"),
    "pac_conv_transpose2d": ("batch", "input", "output", "guide"),
    "pac_pool2d": ("batch", "input", "guide"),
}


@pytest.mark.parametrize(("operator", "zero"), [(operator, zero) for operator in ZERO for zero in ZERO[operator]])
@examples(6)
@given(data=st.data())
def test_size_zero(data: st.DataObject, operator: str, zero: str) -> None:
    case = data.draw(cases(operator, DTYPES, zero=zero))
    output, want = case.call(ao), case.call(pac)
    if case.options.get("mask") is not None:
        np.testing.assert_array_equal(output.output_mask, want[1])
        output, want = output.output, want[0]
    assert output.dtype == case.dtype
    assert_close(output, want, case.dtype)
    gradients = case.backward(ao, case.grad(output.shape))
    for name in case.present:
        gradient = getattr(gradients, name)
        assert (gradient.dtype, gradient.shape) == (case.arrays[name].dtype, case.arrays[name].shape)
        # Nothing is summed; without channels of the guide, the kernel is that of a constant guide.
        if zero != "guide" and (zero, name) != ("input", "bias"):
            assert not gradient.any(), name
