"""Every kernel once, with each main option, in launches small enough for sanitizers.

python -m emulator.sanitize address,undefined -- pytest -n 2 -m "not gpu" tests/cuda/test_small.py
python -m emulator.sanitize thread -- pytest -n 2 -m "not gpu" tests/cuda/test_small.py
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from case import Case
from pac_cases import ASSIGNED, build, named
from strategies import BFLOAT16, FLOAT16, FLOAT32, FLOAT64

pytest.importorskip("cupy", reason="CuPy is not installed")

import conv_cases
import cuda_device
import cuda_units
import merge_cases
import segment_cases
from arrayops._core import kernel_source
from cuda_checks import check_backward, check_forward, check_merge, check_segments, in_form

FILES = (
    "copy.cu",
    "pac_*.cu",
    "conv_*.cu",
    "contraction*.cu",
    "pack_weights.cu",
    "weight_grad.cu",
    "sums.cu",
    "merge_*.cu",
    "segment_*.cu",
)


def small(operator: str, name: str, **options: Any) -> Case:
    return named(operator, name, **{"batch": 1, "size": (5, 6), "dtype": ASSIGNED[operator, name][0], **options})


def plain(operator: str, **options: Any) -> Case:
    return conv_cases.build(operator, **{"batch": 1, "size": (5, 6), "dtype": FLOAT32, **options})


def merge(sizes: list[tuple[int, int]], **options: Any) -> Case:
    options = {"batch": 1, "dtype": FLOAT32, "how": "concat", **options}
    return merge_cases.build("merge_feature_maps", sizes, **options)


EVERYTHING = "mask normalize inv smooth"
CASES: dict[str, Case] = {
    "contraction": small("pac_conv2d", "gaussian", dtype=FLOAT32, batch=2, padding=1),
    "contraction, groups, strided arrays": in_form(small("pac_conv2d", "groups", layout="NHWC"), "every other"),
    "contraction, all options": small("pac_conv2d", EVERYTHING, layout="NHWC", padding=1),
    "contraction, a kernel given": small("pac_conv2d", "kernel"),
    "contraction, direct": small("pac_conv2d", "mask", dtype=FLOAT32, dilation=150, padding=150),
    "contraction, chunks": build(
        "pac_conv2d", dtype=FLOAT32, batch=1, size=(8, 17), kernel_size=(6, 6), channels=9, outputs=9, padding=1
    ),
    "contraction, transposed": small("pac_conv_transpose2d", "normalize", size=(3, 4), stride=2, padding=1),
    "tensor cores": small(
        "pac_conv2d", "smooth", dtype=FLOAT16, channels=17, outputs=9, layout="NHWC", masked=True, normalize=True
    ),
    "tensor cores, chunks": build(
        "pac_conv2d", dtype=BFLOAT16, batch=1, size=(8, 17), kernel_size=(6, 6), channels=34, outputs=9, padding=1
    ),
    "tensor cores, transposed": small(
        "pac_conv_transpose2d", "gaussian", dtype=BFLOAT16, size=(3, 4), channels=8, outputs=8, stride=(1, 2)
    ),
    "shared filter": small("pac_conv2d", "shared", stride=2),
    "shared filter, transposed": small("pac_conv_transpose2d", "shared", size=(3, 4), stride=2),
    "pooling": small("pac_pool2d", EVERYTHING, channels=18),
    "pooling, channel by channel": small("pac_pool2d", "channel_wise inv normalize", channels=5),
    "pooling, a kernel given": small("pac_pool2d", "kernel channel_wise"),
    "kernel": small("pac_kernel2d", EVERYTHING, layout="NHWC"),
    "kernel, channel by channel": small("pac_kernel2d", "channel_wise inv normalize"),
    "convolution": plain("conv2d", channels=9, outputs=10, padding=1),
    "convolution, narrow groups": in_form(plain("conv2d", channels=12, outputs=12, groups=3, stride=2), "every other"),
    "convolution, tensor cores": plain("conv2d", dtype=BFLOAT16, channels=20, outputs=70, layout="NHWC"),
    "convolution, narrow groups on tensor cores": plain(
        "conv2d", dtype=FLOAT16, channels=32, outputs=32, groups=8, layout="NHWC", padding=1
    ),
    "convolution, direct": plain("conv2d", dtype=BFLOAT16, groups=6, layout="NHWC", stride=(1, 2), padding=1),
    "convolution, direct, transposed": in_form(
        plain("conv_transpose2d", groups=6, outputs=12, size=(3, 4), stride=2), "negative strides"
    ),
    "kernel, transposed": small("pac_kernel2d", "transposed mask", size=(3, 4)),
}
MERGES: dict[str, Case] = {
    "concat": merge([(5, 7), (3, 4)], dtype=FLOAT16, mode="bicubic", channels=[3, 14]),
    "concat, channels last": merge([(5, 4), (3, 4)], size="smallest", layout="NHWC", channels=[26, 3], antialias=True),
    "concat, four channels at once": merge([(5, 4), (3, 4)], layout="NHWC", channels=[16, 8], dtype=FLOAT64),
    "sum, four channels at once": merge([(5, 4), (3, 6)], how="add", layout="NHWC", channels=12, dtype=FLOAT16),
    "sum": merge([(3, 4), (5, 2)], how="add", dtype=FLOAT64, size=(4, 4), mode="nearest"),
    "sum of many": merge([(3, 4), (5, 2), (3, 3), (2, 2), (4, 4)], how="mean", dtype=BFLOAT16, layout="NHWC"),
    "largest": merge([(3, 4), (5, 2)], how="max", size=(4, 3), mode="area"),
    "largest of many": merge([(3, 4), (5, 2), (3, 3), (2, 2), (4, 4)], how="max", dtype=FLOAT16, channels=13),
    "flat": merge([(3, 4), (2, 3)], how="flat", size=(4, 5), dtype=FLOAT64, layout="NHWC", channels=13),
}


def labelled(kind: str, form: str, **options: Any) -> segment_cases.Segments:
    options = {"dtype": FLOAT32, "channels": 3, "segments": 9, "size": (5, 6), **options}
    return segment_cases.labelled(kind, form, **options)


REDUCED = segment_cases.REDUCTIONS
SEGMENTS: dict[str, tuple[segment_cases.Segments, tuple[str, ...]]] = {
    "pixels in memory": (labelled("random", "NCHW"), ("mean",)),
    "pixels in memory, all reductions": (labelled("some", "NCHW", dtype=FLOAT64), (*REDUCED, "count")),
    "channels in memory": (labelled("patches", "NHWC", channels=8, label_dtype=np.uint8), ("sum",)),
    "channels in memory, all reductions": (labelled("random", "flat", dtype=FLOAT16, channels=18), REDUCED),
    "one by one": (labelled("sorted", "NHWC", dtype=BFLOAT16, channels=17), REDUCED),
    "many segments": (labelled("random", "flat", channels=1, segments=300, label_dtype=np.int64), ("min",)),
    "one segment over many blocks": (labelled("one", "flat", size=(60, 70), channels=8, segments=1), REDUCED),
    "one segment over more blocks": (
        labelled("one", "NCHW", size=(93, 92), channels=5, segments=1, dtype=FLOAT64, batch=1),
        REDUCED,
    ),
    "integers": (labelled("random", "NHWC", dtype=np.dtype(np.int8)), ("sum", "max", "min")),
    "wide integers": (labelled("some", "NHWC", dtype=np.dtype(np.uint64), channels=4), ("sum", "max", "min", "count")),
}


@pytest.mark.parametrize("name", CASES)
def test_case(device: Any, name: str) -> None:
    case = CASES[name]
    with device.order("random"):
        check_forward(device, case, relative_to_terms=True)
        check_backward(device, case, relative_to_terms=True)


@pytest.mark.parametrize("name", MERGES)
def test_merge(device: Any, name: str) -> None:
    with device.order("random"):
        check_merge(device, MERGES[name])


@pytest.mark.parametrize("name", SEGMENTS)
def test_segments(device: Any, name: str) -> None:
    case, names = SEGMENTS[name]
    with device.order("random"):
        check_segments(device, case, names)


@pytest.mark.parametrize("check", [None, False, True])
@pytest.mark.parametrize("dtype", segment_cases.INTEGERS, ids=str)
def test_labels_beyond_all_segments(device: Any, dtype: np.dtype, check: bool | None) -> None:
    """No label leads out of an array: neither those of features, nor of results and tables."""
    limits = np.iinfo(dtype)
    labels = np.tile(np.array([0, limits.min, 1, limits.max, 2, 3], dtype), (1, 5, 1))
    features, pooled = np.ones((1, 5, 6, 3), np.float32), np.ones((1, 3, 3), np.float32)
    options: dict[str, Any] = {"layout": "NHWC", "check": check}
    assert device.segment_count(labels % 4).shape == (1, 4)
    calls = [
        lambda: device.segment_reduce(features, labels, (*REDUCED, "count"), 3, **options),
        lambda: device.segment_reduce_backward((pooled,) * 5, features, labels, REDUCED, 3, **options),
        lambda: device.segment_mean_backward(pooled, features, labels, 3, **options),
        lambda: device.segment_unpool(pooled, labels, **options),
        lambda: device.segment_count(labels, 3, check=check),
    ]
    for call in calls:
        if check:
            with pytest.raises(ValueError, match=r"labels\[0, 0, [13]\] is"):
                call()
        else:
            call()


def test_tf32(device: Any) -> None:
    """Values are the business of others: here it is run."""
    case = small("pac_conv2d", "gaussian", dtype=FLOAT32, channels=9, outputs=8, padding=1)
    ao.set_float32_precision("tf32")
    try:
        assert np.isfinite(case.call(device)).all()
        assert np.isfinite(case.backward(device, case.call(device), needs=("input",)).input).all()
    finally:
        ao.set_float32_precision("highest")


def test_every_kernel_is_among_them() -> None:
    """A new kernel needs a new case."""
    with cuda_units.nothing_launched():
        device = cuda_device.Device()
        segments = [case for case, _ in SEGMENTS.values()]
        for case in (*CASES.values(), *MERGES.values(), *segments):
            cuda_units.run(device, case)
        launched = {kernel.identity.name for kernel in cuda_device.kernels()}
    directory = kernel_source.kernel_directory("cuda")
    texts = [file.read_text(encoding="utf-8") for pattern in FILES for file in directory.glob(pattern)]
    assert launched == {
        name for text in texts for name in re.findall(r"__global__ void (?:__launch_bounds__\(.*\) )?(\w+)\(", text)
    }
