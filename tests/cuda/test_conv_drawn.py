"""Drawn windows, sizes and forms of memory of the plain convolutions on the CUDA backend.

Filter, groups, channels and dtype are what kernels are compiled for, so they are those of named calls, whose kernels
`test_cuda_conv_values` compiles as well; all that kernels take at run time is drawn.
"""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, assume, given, settings

from case import Case
from conv_cases import CALLS, build
from oracles import pac_torch
from strategies import CONVOLUTIONS, MEMORY, examples, in_memory

pytest.importorskip("cupy", reason="CuPy is not installed")

from cuda_checks import check_backward, check_forward

# The device holds nothing that one example could leave behind for the next.
RUNS = settings(examples(40), suppress_health_check=list(HealthCheck))

# Named calls of few channels; their sizes, strides, dilations and padding are drawn.
NAMES = (
    "1x1",
    "3x3",
    "groups",
    "depthwise",
    "depthwise, 2 x 4",
    "2 to 2 a group",
    "width 4",
)

two = st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3)))
sides = st.tuples(st.integers(0, 4), st.integers(0, 4))
paddings = st.one_of(st.integers(0, 3), st.tuples(sides, sides), st.sampled_from(("SAME", "VALID")))


@st.composite
def windows(draw: st.DrawFn, operator: str) -> Case:
    named, dtype, layout = CALLS[operator, draw(st.sampled_from(NAMES))]
    kernel_size = named.get("kernel_size", (3, 3))
    options = {**named, "stride": draw(two), "dilation": draw(two), "padding": draw(paddings)}
    options.pop("output_padding", None)
    size = draw(st.tuples(st.integers(1, 19), st.integers(1, 19)))
    geometry = pac_torch.geometry(
        operator == "conv_transpose2d", kernel_size, options["stride"], options["padding"], options["dilation"], 0, size
    )
    assume(min(geometry.output_size) > 0)
    case = build(
        operator, **{**options, "dtype": dtype, "layout": layout, "batch": draw(st.integers(1, 3)), "size": size}
    )
    arrays = {name: in_memory(array, draw(st.sampled_from(MEMORY))) for name, array in case.arrays.items()}
    if draw(st.booleans()):
        arrays["bias"] = None
    return case.replace(**arrays)


@pytest.mark.parametrize("operator", CONVOLUTIONS)
@RUNS
@given(data=st.data())
def test_drawn_calls(device: Any, operator: str, data: st.DataObject) -> None:
    case = data.draw(windows(operator))
    with device.order(data.draw(st.sampled_from(("fifo", "lifo", "random"))), data.draw(st.integers(0, 99))):
        check_forward(device, case, relative_to_terms=True)
        check_backward(device, case, relative_to_terms=True, memory=data.draw(st.sampled_from(MEMORY)))
