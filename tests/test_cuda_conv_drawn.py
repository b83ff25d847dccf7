"""Drawn windows, sizes and forms of memory of the plain convolutions on the CUDA backend.

Filter sizes and widths of groups are what kernels are compiled for, so few of them are drawn from.
"""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, assume, given, settings

from conv_cases import build
from oracles import pac_torch
from strategies import CONVOLUTIONS, DTYPES, MEMORY, Case, examples, in_memory

pytest.importorskip("cupy", reason="CuPy is not installed")

from cuda_checks import check_backward, check_forward

# The device holds nothing that one example could leave behind for the next.
RUNS = settings(examples(60), suppress_health_check=list(HealthCheck))

# Groups, input and output channels.
CHANNELS = ((1, 6, 6), (1, 20, 9), (3, 6, 6), (6, 6, 6), (6, 6, 12), (8, 32, 32), (2, 32, 16), (5, 5, 20))

two = st.one_of(st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3)))
sides = st.tuples(st.integers(0, 4), st.integers(0, 4))
paddings = st.one_of(st.integers(0, 3), st.tuples(sides, sides), st.sampled_from(("SAME", "VALID")))


@st.composite
def windows(draw: st.DrawFn, operator: str) -> Case:
    groups, channels, outputs = draw(st.sampled_from(CHANNELS))
    kernel_size = draw(st.sampled_from(((3, 3), (2, 4))))
    options = {"stride": draw(two), "dilation": draw(two), "padding": draw(paddings)}
    size = draw(st.tuples(st.integers(1, 19), st.integers(1, 19)))
    geometry = pac_torch.geometry(
        operator == "conv_transpose2d", kernel_size, options["stride"], options["padding"], options["dilation"], 0, size
    )
    assume(min(geometry.output_size) > 0)
    case = build(
        operator,
        dtype=draw(st.sampled_from(DTYPES)),
        layout=draw(st.sampled_from(("NCHW", "NHWC"))),
        batch=draw(st.integers(1, 3)),
        size=size,
        channels=channels,
        outputs=outputs,
        kernel_size=kernel_size,
        groups=groups,
        **options,
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
