"""All units compile everywhere, without warnings and in little time, and compute the same at every level of x86-64."""

from __future__ import annotations

import platform
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

import cross_compiler
from arrayops._backends.cpu.engine.unit import Unit
from arrayops._backends.cpu.units import all_units
from arrayops._core.kernel_source import with_defines
from new_process import in_new_process

UNITS = all_units()
# One dtype of each file; the two conversions in turn.
ONE_OF_EACH = list({unit.file: unit for unit in UNITS if "STORAGE=float16" in str(unit) or not unit.defines}.values())


@pytest.mark.slow
@pytest.mark.parametrize("system", cross_compiler.SYSTEMS)
@pytest.mark.parametrize("unit", ONE_OF_EACH, ids=str)
def test_compiles_for_other_systems(unit: Unit, system: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cross_compiler.build_for(system, unit, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["x86-64", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("unit", ONE_OF_EACH, ids=str)
def test_no_warnings(unit: Unit, level: str, tmp_path: Path) -> None:
    gxx = shutil.which("g++")
    if gxx is None or platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("g++ for x86-64 is not on the PATH")
    source = tmp_path / "unit.cpp"
    source.write_text(with_defines("cpu", unit.file, unit.defines), encoding="utf-8")
    flags = ["-std=c++17", "-O1", f"-march={level}", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti"]
    subprocess.run([gxx, *flags, "-c", str(source), "-o", str(tmp_path / "unit.o")], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_first_calls_wait_a_few_seconds(layout: str, dtype: str, tmp_path: Path) -> None:
    # What compilers compute, in seconds: other processes do not add to it.
    code = """
        import resource
        import sys
        import numpy as np
        import ml_dtypes
        import arrayops as ao

        def compiling():
            usage = resource.getrusage(resource.RUSAGE_CHILDREN)
            return usage.ru_utime + usage.ru_stime

        layout, dtype = sys.argv[1:]
        x, weight = np.ones((1, 8, 8, 8), dtype), np.ones((8, 2, 3, 3) if layout == "NCHW" else (3, 3, 2, 8), dtype)
        output = ao.conv2d(x, weight, np.ones(8, dtype), groups=4, layout=layout)
        first = compiling()
        ao.conv2d_backward(output, x, weight, np.ones(8, dtype), groups=4, layout=layout)
        print(first, compiling())
    """
    variables = {"ARRAYOPS_CPU": "compiled", "ARRAYOPS_CACHE_DIR": str(tmp_path / "cache")}
    forward, both = map(float, in_new_process(code, layout, dtype, **variables).split())
    assert 0 < forward < 3 * slowdown()
    assert forward < both < 8 * slowdown()


def slowdown() -> float:
    """How much slower than a processor of 2020 this one compiles, at least 1: by a file that takes it a second."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    text = with_defines("cpu", "conv_planes.cpp", (("STORAGE", "float"), ("ACCUMULATOR", "float")))
    command = ["c++", "-std=c++17", "-O3", "-march=x86-64-v3", "-x", "c++", "-", "-S", "-o", "/dev/null"]
    subprocess.run(command, input=text.encode(), check=True)
    return max(1.0, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="levels of x86-64")
@pytest.mark.parametrize("level", ["x86-64", "x86-64-v3"])
def test_values_at_lower_levels(level: str) -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import numpy as np
        from large_convolutions import SHAPES
        from test_conv_values import assert_equals_torch
        # Layouts in turn.
        for number, shape in enumerate(SHAPES.values()):
            assert_equals_torch(shape, np.float32, ("NCHW", "NHWC")[number % 2])
            if shape.groups > 1:
                assert_equals_torch(shape, np.float32, ("NHWC", "NCHW")[number % 2])
        print("equal")
    """
    found = in_new_process(code, str(Path(__file__).parent), ARRAYOPS_CPU="compiled", ARRAYOPS_CPU_ARCH=level)
    assert found.strip() == "equal"
