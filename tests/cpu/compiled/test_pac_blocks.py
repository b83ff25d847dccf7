"""How the compiled PAC operators cut their work, by counting: nothing is computed."""

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import arrayops as ao
from case import Case
from pac_cases import build
from recorded_jobs import Job, assert_little_memory, recorded_jobs
from strategies import FLOAT32, OPERATORS, Ranges, cases, examples

MIN_BLOCKS = 32
LARGE_OPERATIONS = 2e8
"""About 2 ms of one thread."""
LAYOUTS = ("NCHW", "NHWC")

# N, C, O, G, H, W, k: the shapes of the benchmarks.
SHAPES = (
    (1, 32, 32, 8, 256, 256, 5),
    (1, 64, 64, 16, 128, 128, 5),
    (1, 21, 21, 5, 256, 256, 5),
    (2, 16, 16, 8, 128, 128, 3),
    (4, 64, 64, 3, 56, 56, 3),
    (1, 3, 3, 3, 256, 256, 7),
)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "all options": {"masked": True, "normalize": True, "kernel_type": "inv", "smooth": (3, 3), "asymmetric": True},
    "kernel given": {"with_kernel": True},
}

LARGE = Ranges(
    kernel=(1, 2, 3, 5, 7, 11),
    stride=(1, 1, 2, 5),
    dilation=(1, 1, 2, 30),
    padding=20,
    more=(120, 60),
    groups=(1, 1, 2, 17),
    channels=(1, 2, 4, 8, 40, 90),
)


def benchmark(shape: tuple[int, ...], layout: str = "NCHW", **options: Any) -> Case:
    """A convolution of the shape, or another operator with its samples and guide."""
    batch, channels, outputs, guides, height, width, k = shape
    return build(
        options.pop("operator", "pac_conv2d"),
        dtype=FLOAT32,
        layout=layout,
        batch=batch,
        size=(height, width),
        channels=channels,
        outputs=outputs,
        guide_channels=guides,
        kernel_size=(k, k),
        padding=k // 2,
        **options,
    )


def jobs_of(case: Case) -> list[Job]:
    """Jobs of forward and backward."""
    with recorded_jobs() as jobs:
        found = case.call(ao)
        case.backward(ao, found[0] if isinstance(found, tuple) else found)
    return jobs


def weight_bytes(case: Case) -> int:
    return case.arrays["weight"].nbytes if "weight" in case.arrays else 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_memory_of_64_threads(shape: tuple[int, ...], options: str, layout: str) -> None:
    case = benchmark(shape, layout, **OPTIONS[options])
    for job in jobs_of(case):
        assert_little_memory(job, weight_bytes(case))


@pytest.mark.parametrize("operator", OPERATORS)
@examples(60)
@given(data=st.data())
def test_memory_of_drawn_calls(data: st.DataObject, operator: str) -> None:
    case = data.draw(cases(operator, (FLOAT32,), memory=False, ranges=LARGE, guides=(1, 2, 3, 3, 8, 32)))
    for job in jobs_of(case):
        assert_little_memory(job, weight_bytes(case))


# Kinds of calls that take more than 2 ms on one thread, and the files whose kernels compute them.
KINDS: dict[str, dict[str, Any]] = {
    **{f"convolution, {name}": options for name, options in OPTIONS.items()},
    "shared": {"shared_filters": True},
    "groups": {"grouped": True},
    "pooled": {"operator": "pac_pool2d"},
    "pooled, channel_wise": {"operator": "pac_pool2d", "channel_wise": True},
    "kernels": {"operator": "pac_kernel2d"},
}


def kind_of(shape: tuple[int, ...], layout: str, kind: str) -> Case:
    options = dict(KINDS[kind])
    if options.pop("grouped", False):
        options["groups"] = shape[1]
    return benchmark(shape, layout, **options)


def operations(case: Case) -> float:
    """Of the forward, roughly: products with samples, and those of the adaptive kernel."""
    image = case.arrays["guide" if case.arrays.get("guide") is not None else "input"].size
    if "weight" not in case.arrays or case.options.get("shared_filters"):
        taps = np.prod(case.options.get("kernel_size", (0, 0))) or case.arrays["weight"].size
        return float(2 * image * taps)
    return float(2 * case.arrays["input"].size // case.arrays["input"].shape[1] * case.arrays["weight"].size)
