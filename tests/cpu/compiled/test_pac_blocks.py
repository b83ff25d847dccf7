"""How the compiled PAC operators cut their work, by counting: nothing is computed."""

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

import arrayops as ao
from case import Case
from pac_cases import build
from recorded_jobs import Job, assert_little_memory, recorded_jobs
from strategies import FLOAT32, OPERATORS, Ranges, cases, examples

MIN_BLOCKS, LARGE_NANOSECONDS = 32, 2e6
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


KINDS: dict[str, dict[str, Any]] = {
    **OPTIONS,
    "depthwise": {"depthwise": True},
    "shared": {"shared_filters": True},
    "transposed": {"operator": "pac_conv_transpose2d", "stride": 2},
    "pooled": {"operator": "pac_pool2d"},
    "pooled, channel_wise": {"operator": "pac_pool2d", "channel_wise": True},
    "kernels": {"operator": "pac_kernel2d"},
    "kernels, all options": {"operator": "pac_kernel2d", **OPTIONS["all options"]},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_large_calls_have_blocks_for_many_threads(kind: str, layout: str) -> None:
    large = 0
    for shape in SHAPES:
        options = dict(KINDS[kind])
        if options.pop("depthwise", False):
            options["groups"] = shape[1]
        jobs = jobs_of(benchmark(shape, layout, **options))
        if jobs[0].nanoseconds < LARGE_NANOSECONDS:
            continue
        large += 1
        for function in {name for job in jobs for name, *_ in job.tasks if ": pac_" in name}:
            counts = [blocks for job in jobs for name, blocks, _ in job.tasks if name == function]
            # Gradients are several tasks, of blocks that share no samples.
            gradient = function.endswith("_gradient") and not function.endswith("_weight_gradient")
            assert (sum(counts) if gradient else max(counts)) >= MIN_BLOCKS, (shape, function)
    assert large or "kernel" in kind


@pytest.mark.parametrize("layout", LAYOUTS)
def test_number_of_threads_cuts_nothing(layout: str) -> None:
    for shape in SHAPES:
        case, found = benchmark(shape, layout), []
        for threads in (1, 7, 64):
            with ao.num_threads(threads):
                found.append(jobs_of(case))
        assert found[0] == found[1] == found[2], shape
