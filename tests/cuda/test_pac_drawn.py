"""Drawn windows, sizes and forms of memory on the CUDA backend, for the options and filters of the named calls.

Options, filter and dtype are what kernels are compiled for, so they are those of the named calls, whose kernels
`test_cuda_pac_values` compiles as well; all that kernels take at run time is drawn.
"""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, assume, given, settings

from case import Case
from oracles import pac_torch
from pac_cases import ASSIGNED, TABLE, build
from strategies import MEMORY, OPERATORS, examples

pytest.importorskip("cupy", reason="CuPy is not installed")

from cuda_checks import check_backward, check_forward, in_form

# The device holds nothing that one example could leave behind for the next.
RUNS = settings(examples(16), suppress_health_check=list(HealthCheck))

# Steps decide how many channels a contraction stages at once, which it is compiled for.
two = st.sampled_from((1, 2, (1, 3), (2, 1)))
sides = st.tuples(st.integers(0, 4), st.integers(0, 4))
paddings = st.one_of(st.integers(0, 3), st.tuples(sides, sides), st.sampled_from(("SAME", "VALID")))


@st.composite
def windows(draw: st.DrawFn, operator: str) -> Case:
    """A named call, elsewhere."""
    name = draw(st.sampled_from(sorted(TABLE[operator])))
    dtype, layout = ASSIGNED[operator, name]
    options = dict(TABLE[operator][name])
    options |= {"stride": draw(two), "dilation": draw(two), "padding": draw(paddings)}
    options.pop("output_padding", None)
    size = draw(st.tuples(st.integers(1, 11), st.integers(1, 11)))
    transposed = operator == "pac_conv_transpose2d" or options.get("transposed", False)
    geometry = pac_torch.geometry(
        transposed,
        options.get("kernel_size", (3, 3)),
        options["stride"],
        options["padding"],
        options["dilation"],
        0,
        size,
    )
    assume(min(geometry.output_size) > 0)
    return build(
        operator,
        **options,
        seed=draw(st.integers(0, 2**32 - 1)),
        dtype=dtype,
        layout=layout,
        batch=draw(st.integers(1, 3)),
        size=size,
        guide_channels=draw(st.integers(1, 4)),
        bias=draw(st.booleans()),
    )


@pytest.mark.parametrize("operator", OPERATORS)
@RUNS
@given(data=st.data())
def test_drawn_calls(device: Any, operator: str, data: st.DataObject) -> None:
    case = data.draw(windows(operator))
    forms = {name: data.draw(st.sampled_from(MEMORY)) for name in case.present}
    case = case.replace(**{name: in_form(case, form).arrays[name] for name, form in forms.items()})
    with device.order(data.draw(st.sampled_from(("fifo", "lifo", "random"))), data.draw(st.integers(0, 99))):
        check_forward(device, case, relative_to_terms=True)
        check_backward(device, case, relative_to_terms=True, memory=data.draw(st.sampled_from(MEMORY)))
