"""Every unit of the CUDA backend compiles for every architecture within its budget, without a GPU."""

from pathlib import Path
from typing import Any

import pytest

import emulator
from emulator import nvrtc
from emulator.units import UNITS

SAMPLES = Path(emulator.__file__).parent / "samples"

if reason := nvrtc.why_not():
    pytest.skip(reason, allow_module_level=True)

ROWS = [
    pytest.param(unit, architecture, id=f"{unit}-sm_{architecture}")
    for unit in UNITS
    for architecture in unit.architectures
]


def text_of(unit: nvrtc.Unit) -> str:
    pytest.importorskip("cupy", reason="cupy is not installed")
    from arrayops._backends.cuda.engine import module

    return module.text(unit.file, unit.defines)


@pytest.mark.parametrize(("unit", "architecture"), ROWS)
def test_unit(unit: nvrtc.Unit, architecture: int) -> None:
    compiled = nvrtc.compile_text(text_of(unit), architecture, name=unit.file)
    assert nvrtc.over_budget(compiled.kernels, unit.budgets) == []
    assert compiled.warnings == ""


@pytest.mark.parametrize("architecture", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("file", ["reductions.cu", "convolution.cu", "halves.cu"])
def test_samples_are_cuda(file: str, architecture: int) -> None:
    """What the emulator is tested with, a compiler for GPUs takes as well."""
    compiled = nvrtc.compile_text((SAMPLES / file).read_text(encoding="utf-8"), architecture)
    assert compiled.kernels
    assert compiled.warnings == ""


RESOURCES = """
extern "C" __global__ void __launch_bounds__(1024) hungry(const float* x, float* y, int n)
{
    __shared__ float shared[256];
    float values[120];
    shared[threadIdx.x % 256] = x[threadIdx.x];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 120; ++i) {
        values[i] = x[i * n + threadIdx.x];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 120; ++i) {
        y[i * n + threadIdx.x] = values[i] * values[119 - i] + shared[i];
    }
}

extern "C" __global__ void modest(float* y)
{
    y[threadIdx.x] = 1.0f;
}
"""


def test_resources() -> None:
    kernels = nvrtc.compile_text(RESOURCES, 80).kernels
    assert set(kernels) == {"hungry", "modest"}
    # 1024 threads a block leave 64 registers each, and 120 values are more.
    assert kernels["hungry"].registers == 64
    assert kernels["hungry"].spill > 0
    assert kernels["hungry"].shared == 1024
    assert kernels["modest"].registers < 16
    assert kernels["modest"][1:] == (0, 0, 0)


def test_over_budget() -> None:
    kernels = {name: nvrtc.Resources(64, spill, 0, 0) for name, spill in (("a", 0), ("b", 8), ("c", 0))}
    budgets = {"a": nvrtc.Budget(63), "b": nvrtc.Budget(64), "d": nvrtc.Budget()}
    assert nvrtc.over_budget(kernels, budgets) == [
        "c has no budget",
        "there is no kernel d",
        "a needs 64 registers, 63 are allowed",
        "b spills 8 bytes, 0 are allowed",
    ]
    assert nvrtc.over_budget({"b": kernels["b"]}, {"b": nvrtc.Budget(64, 8)}) == []


def test_warnings_are_kept() -> None:
    text = 'extern "C" __global__ void kernel(float* x) { int unused; x[threadIdx.x] = 1; }'
    assert 'variable "unused" was declared but never referenced' in nvrtc.compile_text(text, 80).warnings


def test_errors_name_the_line() -> None:
    with pytest.raises(nvrtc.CompileError, match=r"wrong\.cu\(2\): error: identifier \"missing\" is undefined"):
        nvrtc.compile_text('extern "C" __global__ void kernel(float* x) {\nx[0] = missing; }', 75, name="wrong.cu")


MMA = """
extern "C" __global__ void kernel(float* d, const unsigned* a, const unsigned* b)
{
    asm volatile("mma.sync.aligned.%s {%%0,%%1,%%2,%%3},{%%4,%%5},{%%6},{%%0,%%1,%%2,%%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}
"""


def test_tensor_cores_of_sm_75() -> None:
    """float16 alone, and a table that forgets it is told so."""
    assert nvrtc.compile_text(MMA % "m16n8k8.row.col.f32.f16.f16.f32", 75).kernels
    brain = MMA % "m16n8k8.row.col.f32.bf16.bf16.f32"
    assert nvrtc.compile_text(brain, 80).kernels
    with pytest.raises(nvrtc.CompileError, match="sm_80"):
        nvrtc.compile_text(brain, 75)


def test_disassemble(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cubin = nvrtc.compile_text(RESOURCES, 80).cubin
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nvrtc.disassemble(cubin) is None
    tool = tmp_path / "nvdisasm"
    tool.write_text('#!/bin/sh\necho "code of $1"\n')
    tool.chmod(0o755)
    assert (nvrtc.disassemble(cubin) or "").startswith("code of ")


def test_units_print_as_their_macros() -> None:
    unit: Any = nvrtc.Unit("file.cu", (("A", 1), ("B", "")), {})
    assert str(unit) == "file.cu-A=1-B"
