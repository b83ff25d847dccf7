"""Fills CuPy's disk cache with what the stages will ask for, on all cores at once.

One process compiles one unit after the other, half a second each: longer than all other stages together.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import tempfile
import time
from pathlib import Path

from gpu import recording, results, sanitizing, testing, values
from gpu.recording import Unit
from gpu.stages import Context


def prime(context: Context) -> int:
    """Record what the tests and the cases compile, then compile it."""
    begin = time.monotonic()
    dry = context.dry
    if not dry:
        import cupy

        os.environ[recording.COMPUTE_CAPABILITY] = cupy.cuda.Device(0).compute_capability
    cores = os.cpu_count() or 1
    sizes = [(9, 8)] if dry else [values.SMOKE, values.LARGE, sanitizing.SIZE]
    with tempfile.TemporaryDirectory() as folder:
        pytest = subprocess.Popen(
            testing.command(testing.FILES[1:2] if dry else testing.FILES, *testing.spread(cores), "--assert=plain"),
            cwd=testing.ROOT,
            env=testing.environment("record", "prime") | {testing.UNITS: folder, "PYTHONOPTIMIZE": "1"},
        )
        units = recording.of_cases(sizes)
        # Its exit code says nothing: tests of values fail where nothing is computed.
        pytest.wait()
        units |= recording.read(Path(folder))
    recorded = time.monotonic()
    results.emit("prime", event="recorded", units=len(units), seconds=round(recorded - begin, 1))
    if not units:
        results.emit("prime", ok=False, case="recording", exception="no unit was recorded")
        return 1
    if dry:
        return 0
    failed = 0
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        for unit, error in pool.imap_unordered(compiled, sorted(units, key=str), chunksize=2):
            if error:
                failed += 1
                results.emit("prime", ok=False, case=f"compiling {unit}", exception=error)
    seconds = round(time.monotonic() - recorded, 1)
    results.emit("prime", event="compiled", units=len(units) - failed, processes=cores, seconds=seconds)
    return 1 if failed else 0


def compiled(unit: Unit) -> tuple[Unit, str]:
    """Compile a unit into CuPy's cache, or say why it cannot be."""
    import cupy

    from arrayops._backends.cuda import module

    try:
        cupy.RawModule(code=module.text(*unit), options=module.OPTIONS).compile()
    except Exception as error:
        return unit, results.described(error)
    return unit, ""
