"""Fills CuPy's disk cache with what the calls of `gpu.cases` ask for, on all cores at once.

Those calls are made in one process, which would compile one unit after the other, half a second each. Tests are not
primed: their processes compile side by side.
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
"""A file of kernels with its macros: (file, ((macro, value), ...)), macros in alphabetical order."""


def prime(context: Context) -> int:
    """Record what the cases compile, then compile it."""
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
        for unit, error in pool.imap_unordered(compiled, sorted(units, key=str)):
            if error:
                failed += 1
                results.emit("prime", ok=False, case=f"compiling {unit}", exception=error)
    seconds = round(time.monotonic() - begin, 1)
    results.emit("prime", event="compiled", units=len(units) - failed, processes=cores, seconds=seconds)
    return 1 if failed else 0


def units_of(sizes: Iterable[tuple[int, int]], compute_capability: int) -> set[Unit]:
    """The units of `cases.calls` of these sizes and channels, recorded where nothing is compiled or launched."""
    units: set[Unit] = set()
    for size, channels in sizes:
        with cuda_units.nothing_launched(compute_capability) as device:
            for call in cases.calls(size, channels):
                call.on(device)
            units.update((file, defines) for file, defines, _ in cuda_units.recorded())
    return units


def compiled(unit: Unit) -> tuple[Unit, str]:
    """Compile a unit into CuPy's cache, or say why it cannot be."""
    import cupy

    from arrayops._backends.cuda.engine import module

    try:
        cupy.RawModule(code=module.text(*unit), options=module.OPTIONS).compile()
    except Exception as error:
        return unit, results.described(error)
    return unit, ""
