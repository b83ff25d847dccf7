"""Values, dtypes, shapes and types of conv2d and conv_transpose2d against the loops and against torch."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import arrayops as ao
from case import Case
from conv_cases import NAMED, build, named
from optional import optional
from oracles import conv
from strategies import BFLOAT16, CONVOLUTIONS, DTYPES, FLOAT16, FLOAT64, ONE_QUICK, convolutions, examples
from tolerances import assert_close

torch = optional("torch")
F = optional("torch.nn.functional")


def run(case: Case) -> np.ndarray:
    """The output; inputs must come out as they went in, and the result be a new array."""
    arrays = [value for value in case.arrays.values() if value is not None]
    before = [array.tobytes() for array in arrays]
    output = case.call(ao)
    assert [array.tobytes() for array in arrays] == before, "an input was written to"
    assert type(output) is np.ndarray
    assert output.dtype == case.dtype
    assert output.flags.writeable
    assert not any(np.shares_memory(output, array) for array in arrays if array.size)
    return output


def sizes(case: Case) -> Case:
    """The call with absolute values: its result is the size of what the call sums up."""
    return case.replace(**{k: None if v is None else np.abs(v.astype(np.float64)) for k, v in case.arrays.items()})


@pytest.mark.parametrize("dtype", ONE_QUICK, ids=str)
@pytest.mark.parametrize("operator", CONVOLUTIONS)
@examples(80)
@given(data=st.data())
def test_drawn_calls_equal_the_loops(operator: str, dtype: np.dtype, data: st.DataObject) -> None:
    case = data.draw(convolutions(operator, (dtype,)))
    assert_close(run(case), case.call(conv), dtype, sizes(case).call(conv), repr(case))


@pytest.mark.parametrize("zero", ["batch", "input", "output"])
@pytest.mark.parametrize("operator", CONVOLUTIONS)
@examples(20)
@given(data=st.data())
def test_zero_sizes(operator: str, zero: str, data: st.DataObject) -> None:
    case = data.draw(convolutions(operator, (FLOAT64, FLOAT16), zero=zero))
    assert_close(run(case), case.call(conv), case.dtype, None, repr(case))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("operator", "name"), NAMED)
def test_named_calls_equal_torch(operator: str, name: str, dtype: np.dtype, layout: str) -> None:
    """Torch's own keywords, and tolerances relative to the result itself."""
    case = named(operator, name, dtype=dtype)
    tensors = [torch.from_numpy(array.astype(np.float64)) for array in case.arrays.values()]
    want = getattr(F, operator)(*tensors, **case.options).numpy()
    got = run(named(operator, name, dtype=dtype, layout=layout))
    assert_close(got, want if layout == "NCHW" else want.transpose(0, 2, 3, 1), dtype)


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_half_types_accumulate_in_float32(operator: str, dtype: np.dtype) -> None:
    # A half accumulator would stop growing at 2048 (256 for bfloat16).
    x, weight = np.ones((1, 4096, 1, 1), dtype), np.ones((4096, 1, 1, 1), dtype)
    weight = weight if operator == "conv_transpose2d" else weight.transpose(1, 0, 2, 3)
    assert float(getattr(ao, operator)(x, weight)[0, 0, 0, 0]) == 4096


@pytest.mark.parametrize("padding", ["SAME", "Same", "same", "sAmE"])
def test_padding_in_any_case_of_letters(padding: str) -> None:
    upper, other = (build("conv2d", padding=letters, stride=2).call(ao) for letters in ("SAME", padding))
    assert upper.tobytes() == other.tobytes()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_views_that_repeat_one_element(operator: str, layout: str) -> None:
    case = build(operator, layout=layout, padding=1)
    views = {k: np.broadcast_to(v[..., :1], v.shape) for k, v in case.arrays.items()}
    copies = {k: v.copy() for k, v in views.items()}
    assert case.replace(**views).call(ao).tobytes() == case.replace(**copies).call(ao).tobytes()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("operator", "name"), NAMED)
def test_nan_spreads_to_the_windows_that_see_it(operator: str, name: str, layout: str) -> None:
    """And to no other: rows of a tile share the zeros between them, and its ends hold junk."""
    case = named(operator, name, layout=layout)
    seen = 0
    for at in ((0, 0, 0), (1, 4, 9), (0, 8, 0), (1, 3, 3)):
        broken = case.arrays["input"].copy()
        (broken if layout == "NCHW" else broken.transpose(0, 3, 1, 2))[at[0], 2, at[1], at[2]] = np.nan
        spoiled = case.replace(input=broken)
        tensors = {key: torch.from_numpy(value) for key, value in spoiled.arrays.items()}
        want = conv.differentiable(operator, tensors, case.options).numpy()
        seen += np.isnan(want).sum()
        np.testing.assert_array_equal(np.isnan(spoiled.call(ao)), np.isnan(want))
    assert seen


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_pixels_that_no_window_sees_are_never_used(layout: str) -> None:
    """Columns between strided windows may hold anything."""
    case = build("conv2d", stride=(1, 4), size=(9, 12), layout=layout)
    broken = case.arrays["input"].copy()
    broken[(slice(None),) * (3 if layout == "NCHW" else 2) + (slice(3, None, 4),)] = np.nan
    assert case.replace(input=broken).call(ao).tobytes() == case.call(ao).tobytes()


@pytest.mark.parametrize("dtype", [FLOAT16, FLOAT64], ids=str)
@pytest.mark.parametrize("axis", [0, 1])
def test_output_padding_of_a_filter_of_one_tap_is_zero(axis: int, dtype: np.dtype) -> None:
    # Stride 1 and output_padding, which dilation allows: outputs that no tap reaches.
    dilation, padding = ((2, 1), (1, 0)) if axis == 0 else ((1, 2), (0, 1))
    for number in range(1, 60):
        # Freed memory that a result without these values would show.
        junk = [np.full(size, 0x3C, np.uint8) for size in range(60, 120)]
        del junk
        image, weight = np.full((1, 1, 1, 1), number, dtype), np.full((1, 1, 1, 1), 2, dtype)
        got = ao.conv_transpose2d(image, weight, dilation=dilation, output_padding=padding)
        assert got.ravel().tolist() == [2 * number, 0]
