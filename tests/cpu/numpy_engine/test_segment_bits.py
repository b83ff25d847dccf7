"""The same bits in every run, for any number of threads and any order in which blocks are computed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from arrayops._backends.numpy import blocks
from segment_cases import large

NAMES = ("mean", "sum", "max", "min", "var", "count")


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    yield ao.set_num_threads
    ao.set_num_threads(None)


def everything(layout: str, batch: int = 1) -> list[bytes]:
    features, labels = large(0, layout, batch=batch)
    pooled = ao.segment_reduce(features, labels, NAMES, 50, layout=layout)
    grads = (*pooled[:5], None)
    results: list[Any] = [
        *pooled,
        ao.segment_reduce_backward(grads, features, labels, NAMES, 50, layout=layout).features,
        ao.segment_mean_backward(pooled[0], features, labels, 50, layout=layout).features,
        ao.segment_unpool(pooled[0], labels, layout=layout),
        ao.segment_unpool_backward(features, pooled[0], labels, layout=layout).pooled,
        ao.segment_count(labels, 50),
    ]
    return [result.tobytes() for result in results]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batch", [1, 3])
def test_number_of_threads(layout: str, batch: int, threads: Callable[[int], None]) -> None:
    """One image, which is cut into parts that are merged, and several."""
    threads(1)
    want = everything(layout, batch)
    for count in (2, 3, 8):
        threads(count)
        assert everything(layout, batch) == want


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_fifty_runs(layout: str) -> None:
    want = everything(layout)
    for _ in range(50):
        assert everything(layout) == want


def test_order_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are computed in any order; only commits have one."""
    want = everything("NHWC")
    shuffled = random.Random(0)

    def run(count: int, begin: Any, commit: Any = None, workspace: int = 0) -> None:
        with np.errstate(all="ignore"):
            results: dict[int, Any] = {}
            order = list(range(count))
            shuffled.shuffle(order)
            for index in order:
                # Each in a workspace of its own, so that results outlive the computing of others.
                results[index] = begin(blocks.Scratch())(index)
            for index in range(count):
                if commit is not None:
                    commit(index, results[index])

    for module in ("totals", "spread", "gradients", "labels"):
        monkeypatch.setattr(f"arrayops._backends.numpy.segment_{module}.run_blocks", run)
    for _ in range(5):
        assert everything("NHWC") == want
