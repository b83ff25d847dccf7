"""All that representative calls compile, on every architecture: no warnings, no spills, and blocks that start."""

from __future__ import annotations

import pytest

from emulator import nvrtc
from emulator.units import UNITS as UNITS_APART

pytest.importorskip("cupy", reason="CuPy is not installed")

import cuda_units
from arrayops._core import kernel_source
from cuda_units import ARCHITECTURES, STATIC_SHARED_BYTES, Unit

if reason := nvrtc.why_not():
    pytest.skip(reason, allow_module_level=True)

# Bytes that a thread may spill in float64, whose values take two registers each.
DOUBLE_SPILL = 128

# Two blocks a multiprocessor leave the tensor-core kernel 128 registers, of which it wants a few more on sm_100.
TENSOR_CORE_SPILL = 40

UNITS = [(unit, architecture) for architecture in ARCHITECTURES for unit in cuda_units.units(architecture)]


@pytest.mark.parametrize(
    ("unit", "architecture"),
    [pytest.param(unit, architecture, id=f"sm_{architecture}-{unit}") for unit, architecture in UNITS],
)
def test_unit(unit: Unit, architecture: int) -> None:
    compiled = cuda_units.compiled(unit, architecture)
    spill = DOUBLE_SPILL if ("SCALAR_FLOAT64", "") in unit.defines else 0
    if unit.file == "contraction_mma.cu" and architecture == 100:
        spill = TENSOR_CORE_SPILL
    assert compiled.warnings == ""
    for name, use in unit.uses.items():
        needed = compiled.kernels[name]
        assert needed.registers <= cuda_units.registers_allowed(use.threads), name
        assert needed.spill <= spill, name
        assert needed.shared <= STATIC_SHARED_BYTES, name


def test_every_file_is_compiled() -> None:
    files = {file.name for file in kernel_source.kernel_directory("cuda").glob("*.cu")} - {
        unit.file for unit in UNITS_APART
    }
    for architecture in ARCHITECTURES:
        missing = files - {unit.file for unit, found in UNITS if found == architecture}
        # There is no bfloat16 and no TF32 on the tensor cores of sm_75, and float16 goes without them too.
        assert missing <= ({"contraction_mma.cu"} if architecture == 75 else set()), architecture
