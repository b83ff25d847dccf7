"""How the compiled convolutions cut their work, by counting: nothing is computed."""

import dataclasses
import importlib
import math
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import arrayops as ao
from recorded_jobs import Job, assert_little_memory, recorded_jobs
from strategies import CONVOLUTIONS, FLOAT32, Ranges, convolutions, examples

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MIN_BLOCKS = 128
LARGE_OPERATIONS = 2e8
"""About 2 ms of one thread."""
LAYOUTS = ("NCHW", "NHWC")

LARGE = Ranges(
    kernel=(1, 2, 3, 5, 7, 11),
    stride=(1, 1, 2, 5),
    dilation=(1, 1, 2, 30),
    padding=20,
    more=(120, 60),
    groups=(1, 1, 2, 17),
    channels=(1, 2, 4, 8, 40, 90),
)


@dataclasses.dataclass(frozen=True)
class Shape:
    """A convolution of square images."""

    operator: str
    batch: int
    channels: int
    size: int
    outputs: int
    kernel_size: tuple[int, int]
    padding: tuple[int, int]
    stride: int = 1
    dilation: int = 1
    groups: int = 1

    def arrays(self, layout: str) -> list[np.ndarray]:
        """Input and weight, of any values."""
        inner, outer = self.channels // self.groups, self.outputs
        if self.operator == "conv_transpose2d":
            inner, outer = self.outputs // self.groups, self.channels
        if layout == "NCHW":
            shapes = (self.batch, self.channels, self.size, self.size), (outer, inner, *self.kernel_size)
        else:
            shapes = (self.batch, self.size, self.size, self.channels), (*self.kernel_size, inner, outer)
        return [np.empty(shape, np.float32) for shape in shapes]

    @property
    def operations(self) -> float:
        """Operations of the forward, and of each gradient."""
        around = (
            self.dilation * (length - 1) + 1 - 2 * pad
            for length, pad in zip(self.kernel_size, self.padding, strict=True)
        )
        transposed = self.operator == "conv_transpose2d"
        windows = (
            self.size**2 if transposed else math.prod((self.size - beyond) // self.stride + 1 for beyond in around)
        )
        each = self.channels // self.groups * self.outputs * math.prod(self.kernel_size)
        return 2.0 * self.batch * windows * each

    def jobs(self, layout: str) -> list[Job]:
        """Jobs of forward and backward."""
        x, weight = self.arrays(layout)
        options: dict[str, Any] = {name: getattr(self, name) for name in ("stride", "dilation", "padding", "groups")}
        bias = np.empty(self.outputs, np.float32)
        with recorded_jobs() as jobs:
            output = getattr(ao, self.operator)(x, weight, bias, layout=layout, **options)
            getattr(ao, f"{self.operator}_backward")(output, x, weight, bias, layout=layout, **options)
        return jobs


@cache
def shapes_of_benchmarks() -> dict[str, Shape]:
    """Those of the benchmarks of convolutions on the CPU."""
    pytest.importorskip("torch", reason="torch is not installed, which the benchmarks import")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        plain, kinds = (importlib.import_module(name) for name in ("conv_cpu", "conv_kinds_cpu"))
    found = {
        f"{shape}": Shape("conv2d", batch, channels, size, channels, (k, k), (k // 2, k // 2), groups=groups)
        for shape in plain.SHAPES
        for batch, channels, size, groups, k in [shape]
    }
    for name, kind in kinds.KINDS.items():
        operator = "conv_transpose2d" if kind.transposed else "conv2d"
        found[name] = Shape(operator, *kind[:4], kind.kernel_size, kind.around, kind.stride, kind.dilation, kind.groups)
    return found


def large_shapes() -> dict[str, Shape]:
    """Those that take more than 2 ms on one thread."""
    return {name: shape for name, shape in shapes_of_benchmarks().items() if shape.operations >= LARGE_OPERATIONS}


def few_blocks(start: str) -> dict[str, list[int]]:
    """Blocks of the functions whose names start so, in both layouts, of the large shapes for which they are too few."""
    counts = {
        f"{name}, {layout}": [blocks for job in shape.jobs(layout) for blocks in job.blocks(start)]
        for name, shape in large_shapes().items()
        for layout in LAYOUTS
    }
    assert counts
    assert all(counts.values())
    return {name: blocks for name, blocks in counts.items() if min(blocks) < MIN_BLOCKS}


def test_large_correlations_have_blocks_for_many_threads() -> None:
    assert few_blocks("correlate_") == {}


def test_large_gradients_of_weights_have_blocks_for_many_threads() -> None:
    assert few_blocks("weight_gradient_") == {}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_of_64_threads(layout: str) -> None:
    for shape in shapes_of_benchmarks().values():
        for job in shape.jobs(layout):
            assert_little_memory(job, shape.arrays(layout)[1].nbytes)


@pytest.mark.parametrize("operator", CONVOLUTIONS)
@examples(60)
@given(data=st.data())
def test_memory_of_drawn_calls(data: st.DataObject, operator: str) -> None:
    case = data.draw(convolutions(operator, (FLOAT32,), memory=False, ranges=LARGE))
    with recorded_jobs() as jobs:
        case.backward(ao, case.call(ao))
    for job in jobs:
        assert_little_memory(job, case.arrays["weight"].nbytes)


UNUSUAL = {
    "narrow groups, large filters": Shape("conv2d", 1, 512, 300, 32, (11, 11), (5, 5), stride=2, groups=32),
    "many channels, depthwise": Shape("conv2d", 1, 1000, 112, 1000, (11, 1), (5, 0), groups=1000),
    "one output of many inputs": Shape("conv2d", 1, 2000, 112, 1, (7, 7), (36, 36), dilation=12),
    "few outputs of many inputs": Shape("conv2d", 1, 4000, 60, 16, (3, 11), (6, 30), dilation=6, groups=2),
    "many outputs of one input": Shape("conv2d", 1, 32, 600, 640, (11, 3), (5, 1), groups=32),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", UNUSUAL)
def test_workspace_of_unusual_shapes(name: str, layout: str) -> None:
    assert max(job.workspace for job in UNUSUAL[name].jobs(layout)) <= 3 << 20


@pytest.mark.parametrize("layout", LAYOUTS)
def test_number_of_threads_cuts_nothing(layout: str) -> None:
    for shape in large_shapes().values():
        found = []
        for threads in (1, 7, 64):
            with ao.num_threads(threads):
                found.append(shape.jobs(layout))
        assert found[0] == found[1] == found[2], shape
