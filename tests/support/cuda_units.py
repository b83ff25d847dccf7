"""What the CUDA backend compiles for representative calls, recorded from the calls themselves.

Kernels are not run: launches are recorded and dropped. ``PYTHONPATH=.:tests:tests/support python
tests/support/cuda_units.py`` prints the registers and shared memory of each kernel on each architecture.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import cupy
import numpy as np

import conv_cases
import cuda_device
import merge_cases
import segment_cases
from arrayops._backends.cuda.engine import module
from arrayops._backends.cuda.segment.labels import num_segments
from arrayops._ops.segment import LabelParameters
from case import Case
from cuda_checks import oracle
from emulator import nvrtc
from pac_cases import build, named
from strategies import BFLOAT16, FLOAT16, FLOAT32, FLOAT64

REGISTERS_OF_A_MULTIPROCESSOR = 65536
STATIC_SHARED_BYTES = 48 << 10


class Function:
    """Takes launches, and runs nothing."""

    def __init__(self) -> None:
        self.max_dynamic_shared_size_bytes = STATIC_SHARED_BYTES
        self.threads = self.dynamic_shared = 0

    def __call__(self, grid: Any, block: Any, arguments: Any, *, shared_mem: int = 0) -> None:
        self.threads = max(self.threads, block[0] * block[1] * block[2])
        self.dynamic_shared = max(self.dynamic_shared, shared_mem)


class Module:
    """In the place of `cupy.RawModule`."""

    def __init__(self, **_: Any) -> None:
        self.functions: dict[str, Function] = {}

    def get_function(self, name: str) -> Function:
        return self.functions.setdefault(name, Function())


@contextmanager
def nothing_launched(compute_capability: int = 80) -> Iterator[cuda_device.Device]:
    """An emulated device on which kernels are neither compiled nor run."""
    with cuda_device.emulated(compute_capability) as device, mock.patch.object(cupy, "RawModule", Module):
        yield device


class Use(NamedTuple):
    """Of one kernel: threads of its largest block, and bytes of dynamic shared memory."""

    threads: int
    dynamic_shared: int


class Unit(NamedTuple):
    """A file with its macros, and what launches ask of the kernels that they use."""

    file: str
    defines: module.Pairs
    uses: dict[str, Use]

    def __str__(self) -> str:
        macros = "-".join(name if value == "" else f"{name}={value}" for name, value in self.defines)
        return f"{self.file}-{macros}"


def recorded() -> list[Unit]:
    """The units that were asked for since `nothing_launched` was entered."""
    units: dict[tuple[str, module.Pairs], dict[str, Use]] = {}
    for kernel in cuda_device.kernels():
        file, name, defines = kernel.identity
        function: Any = kernel.call
        uses = units.setdefault((file, tuple(sorted(defines, key=lambda pair: pair[0]))), {})
        uses[name] = Use(function.threads, function.dynamic_shared)
    return [Unit(file, defines, uses) for (file, defines), uses in sorted(units.items(), key=str)]


def run(device: cuda_device.Device, case: Any, *needs: str) -> None:
    """Forward and backward; with `needs`, backward for those alone."""
    if isinstance(case, segment_cases.Segments):
        run_segments(device, case)
        return
    output = case.call(device)
    shape = output.shape if case.operator in merge_cases.OPERATORS else oracle(case).forward().shape
    case.backward(device, np.zeros(shape, case.dtype), **({"needs": needs} if needs else {}))


def run_segments(device: cuda_device.Device, case: segment_cases.Segments) -> None:
    """All reductions that there are for a dtype, alone and together, and the way back to pixels."""
    options = {key: value for key, value in case.options.items() if key != "layout"}
    arguments = case.features, case.labels
    device.segment_count(case.labels, case.segments, **options, check=True)
    num_segments((device.place(case.labels).array,), LabelParameters(None))
    if case.features.dtype.kind in "iu":
        device.segment_reduce(*arguments, ("sum", "max", "min", "count"), case.segments, **case.options)
        return
    grad = np.zeros(case.pooled_shape(), case.features.dtype)
    for name in ("mean", "max", "var"):
        getattr(device, f"segment_{name}")(*arguments, case.segments, **case.options)
        getattr(device, f"segment_{name}_backward")(grad, *arguments, case.segments, **case.options)
    names = segment_cases.REDUCTIONS
    device.segment_reduce(*arguments, names, case.segments, **case.options)
    device.segment_reduce_backward((grad,) * len(names), *arguments, names, case.segments, **case.options)
    device.segment_unpool(grad, case.labels, **case.options)


def _convolution(channels: int, filter_size: int, **options: Any) -> Case:
    sizes = {"size": (12, 13), "channels": channels, "outputs": channels, "kernel_size": (filter_size, filter_size)}
    return build("pac_conv2d", **{**sizes, **options})


def contractions(dtype: Any) -> list[Case]:
    """The sizes that matter most, gaussian kernel."""
    return [_convolution(channels, size, dtype=dtype) for channels, size in ((16, 3), (32, 5), (64, 5))]


def options(dtype: Any) -> list[Case]:
    """Every kernel, and every option that a kernel is compiled for."""
    everything = "mask normalize inv smooth"
    return [
        _convolution(32, 5, dtype=dtype, groups=2, layout="NHWC"),
        _convolution(6, 3, dtype=dtype, dilation=150, padding=150),
        named("pac_conv2d", "asymmetric", dtype=dtype),
        named("pac_conv2d", everything, dtype=dtype, channels=32, outputs=32),
        named("pac_conv2d", "kernel", dtype=dtype),
        named("pac_conv2d", "shared", dtype=dtype),
        named("pac_conv_transpose2d", "mask", dtype=dtype, stride=2, channels=32, outputs=32, kernel_size=(5, 5)),
        named("pac_conv_transpose2d", "normalize", dtype=dtype, stride=2, layout="NHWC"),
        named("pac_kernel2d", everything, dtype=dtype, layout="NHWC", masked=True),
        named("pac_kernel2d", "channel_wise inv normalize", dtype=dtype),
        named("pac_pool2d", "gaussian", dtype=dtype),
        named("pac_pool2d", "channel_wise inv normalize", dtype=dtype),
        named("pac_pool2d", "mask", dtype=dtype),
    ]


def convolutions(dtype: Any) -> list[Case]:
    """Plain convolutions by the width of their groups, and the layout that matters most for each dtype."""
    layout = "NHWC" if np.dtype(dtype).itemsize == 2 else "NCHW"
    same: dict[str, Any] = {"dtype": dtype, "layout": layout, "padding": 1}
    return [
        conv_cases.build("conv2d", channels=128, outputs=128, groups=32, **same),
        conv_cases.build("conv2d", channels=128, outputs=128, groups=8, **same),
        conv_cases.build("conv2d", channels=64, outputs=64, **same),
        conv_cases.build("conv2d", channels=32, outputs=32, groups=32, **same),
        conv_cases.build("conv_transpose2d", channels=32, outputs=32, groups=32, stride=2, **same),
    ]


def merges(dtype: Any) -> list[Case]:
    """Every kernel of resizing and merging."""
    same: dict[str, Any] = {"dtype": dtype, "channels": 128, "batch": 1, "layout": "NHWC"}
    sizes = [(7, 7), (4, 4), (2, 2), (3, 5)]
    two, four = sizes[:2], sizes
    return [
        merge_cases.build("resize2d", sizes[:1], size=(5, 9), **same),
        merge_cases.build("resize2d", sizes[:1], size=(5, 9), **{**same, "channels": 3}),
        merge_cases.build("merge_feature_maps", two, **{**same, "layout": "NCHW"}),
        merge_cases.build("merge_feature_maps", four, how="add", **{**same, "layout": "NCHW"}),
        merge_cases.build("merge_feature_maps", two, how="add", **same),
        merge_cases.build("merge_feature_maps", four, how="mean", **same),
        merge_cases.build("merge_feature_maps", two, how="max", **same),
        merge_cases.build("merge_feature_maps", four, how="max", **same),
        merge_cases.build("merge_feature_maps", two, how="flat", size=(9, 9), **same),
    ]


def segments(dtype: Any) -> list[segment_cases.Segments]:
    """Features whose channels are read where they lie, and those that are staged."""
    same: dict[str, Any] = {"dtype": np.dtype(dtype), "channels": 64, "segments": 9, "size": (5, 6), "batch": 1}
    return [segment_cases.labelled("random", form, **same) for form in ("NHWC", "NCHW")]


def _strided_bias(dtype: Any) -> Case:
    case = _convolution(16, 3, dtype=dtype)
    return case.replace(bias=np.ones(32, dtype)[::2])


ARCHITECTURES = nvrtc.ARCHITECTURES


def representative(architecture: int) -> list[Any]:
    """Calls whose units are compiled for an architecture: contractions for all, options where few others are."""
    calls: list[Any] = [*contractions(FLOAT32), *contractions(FLOAT16), *convolutions(FLOAT32), *convolutions(FLOAT16)]
    if architecture != 75:
        calls += [*contractions(BFLOAT16), _convolution(32, 5, dtype=FLOAT16, guide_dtype=FLOAT32)]
    if architecture == 80:
        calls += [*contractions(FLOAT64), *options(FLOAT64)[::3], *convolutions(FLOAT64)]
        calls += merges(FLOAT64)
        whole = segment_cases.labelled("random", "NHWC", dtype=FLOAT32, channels=65, segments=9, size=(5, 6))
        unaligned = segment_cases.Segments(whole.features[..., :64], whole.labels, whole.segments, whole.options)
        calls += [*segments(np.int64), *segments(np.uint8), unaligned]
    calls += [*merges(FLOAT32), *merges(FLOAT16)]
    # One dtype on each: a family of many small units.
    calls += segments({75: FLOAT32, 80: FLOAT64, 90: FLOAT16, 100: FLOAT32}[architecture])
    return [*calls, *options(FLOAT16 if architecture == 90 else FLOAT32), _strided_bias(FLOAT32)]


def units(architecture: int) -> list[Unit]:
    """What representative calls compile on an architecture."""
    with nothing_launched(architecture) as device:
        for case in representative(architecture):
            run(device, case)
        return recorded()


def registers_allowed(threads: int) -> int:
    """Registers of a thread with which a block of so many still starts. They are given out by eights."""
    return min(255, REGISTERS_OF_A_MULTIPROCESSOR // max(threads, 1) // 8 * 8)


def compiled(unit: Unit, architecture: int) -> nvrtc.Compiled:
    return nvrtc.compile_text(module.text(unit.file, unit.defines), architecture, name=unit.file)


def main() -> int:
    """Print a table of all kernels that representative calls launch."""
    print("| kernel | macros | sm | threads | registers | spill | static shared | dynamic shared |")
    print("|---|---|---|---|---|---|---|---|")
    jobs = [(unit, architecture) for architecture in ARCHITECTURES for unit in units(architecture)]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda job: compiled(*job), jobs))
    for (unit, architecture), result in zip(jobs, found, strict=True):
        macros = " ".join(name if value == "" else f"{name}={value}" for name, value in unit.defines)
        for name, use in sorted(unit.uses.items()):
            needed = result.kernels[name]
            print(
                f"| {name} | {macros} | {architecture} | {use.threads} | {needed.registers} | {needed.spill} "
                f"| {needed.shared} | {use.dynamic_shared} |"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
