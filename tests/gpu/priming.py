"""Compiles the kernels of the calls of `gpu.cases` into CuPy's disk cache, on all cores in parallel.

Those calls run in one process, which would compile one unit after the other, half a second each. Kernels of tests are
not compiled in advance: test processes compile in parallel.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterable
from typing import Any

import cuda_units
from gpu import cases, results, sanitizing, values
from gpu.stages import Context

Unit = tuple[str, tuple[tuple[str, Any], ...]]
"""A kernel file and its macros: (file, ((macro, value), ...)), macros in alphabetical order."""


def prime(context: Context) -> int:
    """Record which units the cases compile, then compile them."""
    begin = time.monotonic()
    if context.dry:
        units = units_of([(9, 8)], 90)
    else:
        import cupy

        sizes = [values.SMOKE, values.LARGE, sanitizing.SIZE]
        units = units_of(sizes, int(cupy.cuda.Device(0).compute_capability))
    results.emit("prime", event="recorded", units=len(units), seconds=round(time.monotonic() - begin, 1))
    if not units:
        results.emit("prime", ok=False, case="recording", exception="no unit was recorded")
        return 1
    if context.dry:
        return 0
    begin, failed, cores = time.monotonic(), 0, os.cpu_count() or 1
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        for unit, error in pool.imap_unordered(compile_unit, sorted(units, key=str)):
            if error:
                failed += 1
                results.emit("prime", ok=False, case=f"compiling {unit}", exception=error)
    seconds = round(time.monotonic() - begin, 1)
    results.emit("prime", event="compiled", units=len(units) - failed, processes=cores, seconds=seconds)
    return 1 if failed else 0


def units_of(sizes: Iterable[tuple[int, int]], compute_capability: int) -> set[Unit]:
    """The units of `cases.calls` for these sizes and channels, recorded without compiling or launching kernels."""
    units: set[Unit] = set()
    for size, channels in sizes:
        with cuda_units.nothing_launched(compute_capability) as device:
            for call in cases.calls(size, channels):
                call.on(device)
            units.update((file, defines) for file, defines, _ in cuda_units.recorded())
    return units


def compile_unit(unit: Unit) -> tuple[Unit, str]:
    """Compile a unit into CuPy's cache; return it and the error, empty on success."""
    import cupy

    from arrayops._backends.cuda.engine import module

    try:
        cupy.RawModule(code=module.text(*unit), options=module.OPTIONS).compile()
    except Exception as error:
        return unit, results.describe(error)
    return unit, ""
