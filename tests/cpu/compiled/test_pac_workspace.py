"""The compiled PAC operators keep to their workspace, whatever it holds, and to their blocks, however taken."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import compiled_pac_calls
from exact_workspace import assert_same_in_guarded_workspaces
from strategies import DTYPES, FLOAT32, OPERATORS, Ranges, cases, examples
from tolerances import BFLOAT16

RANGES = Ranges(
    kernel=(1, 2, 3, 3, 5, 7),
    stride=(1, 1, 2, 3, 5),
    dilation=(1, 1, 2, 40),
    padding=9,
    more=(40, 15),
    groups=(1, 1, 2, 17),
    channels=(1, 1, 2, 4, 9, 20),
)


@pytest.mark.parametrize("at_once", [None, 1])
@pytest.mark.parametrize("dtype", [FLOAT32, pytest.param(BFLOAT16, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("name", [*compiled_pac_calls.CALLS, *compiled_pac_calls.LARGE_CALLS])
def test_table_of_calls(name: str, dtype: np.dtype, at_once: int | None) -> None:
    assert_same_in_guarded_workspaces(compiled_pac_calls.call(name, dtype), at_once)


@pytest.mark.parametrize("operator", OPERATORS)
@examples(100)
@given(data=st.data())
def test_drawn_calls(data: st.DataObject, operator: str) -> None:
    case = data.draw(cases(operator, DTYPES, ranges=RANGES, guides=(1, 2, 3, 3, 8)))
    assert_same_in_guarded_workspaces(case, data.draw(st.sampled_from((None, 1))))
