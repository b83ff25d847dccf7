"""Blocks and workspace of compiled convolutions: enough for many threads, in little memory, by shapes alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pytest

import arrayops as ao
from arrayops._backends.cpu import conv
from large_convolutions import SHAPES, Shape

# Shapes of tests/benchmarks that take more than 2 ms on one thread.
BENCHMARKS = {
    "ResNeXt 56": Shape(8, 32, 4, 4, (56, 56)),
    "ResNeXt 28": Shape(8, 32, 8, 8, (28, 28)),
    "ResNeXt 14": Shape(8, 32, 16, 16, (14, 14)),
    "ResNeXt 7": Shape(8, 32, 32, 32, (7, 7)),
    "depthwise 112": Shape(8, 64, 1, 1, (112, 112)),
    "1x1": Shape(4, 1, 256, 256, (56, 56), (1, 1), padding=(0, 0)),
    "dense": Shape(4, 1, 64, 64, (56, 56)),
    "large": Shape(1, 1, 64, 64, (224, 224)),
    "many channels": Shape(8, 1, 256, 256, (14, 14)),
    "stem": Shape(8, 1, 3, 32, (224, 224), (3, 3), (2, 2)),
    "1x7": Shape(8, 1, 192, 192, (17, 17), (1, 7), padding=(0, 3)),
    "stride 2": Shape(8, 1, 128, 128, (56, 56), (3, 3), (2, 2)),
    "dilation 12": Shape(1, 1, 256, 256, (33, 33), padding=(12, 12), dilation=(12, 12)),
    "transposed": Shape(8, 1, 128, 64, (32, 32), (4, 4), (2, 2), transposed=True),
}


@contextmanager
def recorded() -> Iterator[list[tuple[list[Any], int, float]]]:
    """The tasks, workspace and estimated time of all calls, none of which is computed."""
    calls: list[tuple[list[Any], int, float]] = []

    def record(tasks: list[Any], *, workspace: int, nanoseconds: float) -> None:
        calls.append((tasks, workspace, nanoseconds))

    with mock.patch.object(conv, "run", record):
        yield calls


def tasks_of(shape: Shape, layout: str) -> list[tuple[list[Any], int, float]]:
    """Tasks of the output and of each gradient."""
    x = np.empty((shape.batch, shape.groups * shape.inputs, *shape.size), np.float32)
    grad = np.empty((shape.batch, shape.groups * shape.outputs, *shape.output_size()), np.float32)
    weight = np.empty((*shape.channels(), *shape.kernel), np.float32)
    if layout == "NHWC":
        x, grad = (np.ascontiguousarray(array.transpose(0, 2, 3, 1)) for array in (x, grad))
        weight = np.ascontiguousarray(weight.transpose(2, 3, 1, 0))
    if shape.transposed:
        forward, backward = ao.conv_transpose2d, ao.conv_transpose2d_backward
    else:
        forward, backward = ao.conv2d, ao.conv2d_backward
    with recorded() as calls:
        forward(x, weight, **shape.options(layout))
        for needs in ("input", "weight"):
            backward(grad, x, weight, needs=(needs,), **shape.options(layout))
    return calls


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", BENCHMARKS)
def test_enough_blocks(name: str, layout: str) -> None:
    for tasks, _, nanoseconds in tasks_of(BENCHMARKS[name], layout):
        assert nanoseconds > 1e6
        assert max(task.blocks for task in tasks) >= 128


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", [*BENCHMARKS, *SHAPES])
def test_workspace_of_64_threads(name: str, layout: str) -> None:
    for _, workspace, _ in tasks_of({**SHAPES, **BENCHMARKS}[name], layout):
        assert 64 * workspace <= 64 << 20


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", BENCHMARKS)
def test_blocks_are_cut_by_shapes_alone(name: str, layout: str) -> None:
    found = []
    for threads in (1, 64):
        with ao.num_threads(threads):
            found.append([[task.blocks for task in tasks] for tasks, _, _ in tasks_of(BENCHMARKS[name], layout)])
    assert found[0] == found[1]
