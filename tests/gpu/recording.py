"""Which units calls compile, recorded without compiling or launching any: on a device whose values nobody looks at.

A unit is a file of kernels with its macros: (file, ((macro, value), ...)), macros in alphabetical order.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import cuda_device
import cuda_units
import tolerances
from gpu import cases, testing

Unit = tuple[str, tuple[tuple[str, Any], ...]]

COMPUTE_CAPABILITY = "GPU_RUN_COMPUTE_CAPABILITY"
"""Environment variable: that of the GPU whose units are wanted."""

_units: set[Unit] = set()


def compute_capability() -> int:
    """The one that is recorded for."""
    return int(os.environ.get(COMPUTE_CAPABILITY, "90"))


@contextmanager
def device() -> Iterator[cuda_device.Device]:
    """In the place of `cuda_device.real`."""
    with cuda_units.nothing_launched(compute_capability()) as found:
        found.emulated = False
        try:
            yield found
        finally:
            _units.update((file, defines) for file, defines, _ in cuda_units.recorded())


def instead_of_gpu() -> None:
    """Let the tests of this process run on that device, without their assertions.

    `assert` itself is left out by PYTHONOPTIMIZE, which has to be set for the process.
    """

    def nothing(*_: Any, **__: Any) -> None:
        pass

    replaced: Any = cuda_device
    replaced.real, replaced.why_no_gpu = device, str
    replaced.Device.check_result = staticmethod(nothing)
    tolerances.assert_close = nothing
    for name in ("assert_array_equal", "assert_allclose", "assert_equal"):
        setattr(np.testing, name, nothing)


def write() -> None:
    """Write the units of this process beside those of others."""
    folder, process = Path(os.environ[testing.UNITS]), os.environ.get("PYTEST_XDIST_WORKER", "main")
    (folder / f"{process}.json").write_text(json.dumps(sorted(_units, key=str)), encoding="utf-8")


def read(folder: Path) -> set[Unit]:
    """The units of all processes."""
    found: set[Unit] = set()
    for file in folder.glob("*.json"):
        for name, defines in json.loads(file.read_text(encoding="utf-8")):
            found.add((name, tuple((macro, value) for macro, value in defines)))
    return found


def of_cases(sizes: Iterable[tuple[int, int]]) -> set[Unit]:
    """The units of `cases.calls` of these sizes and channels."""
    _units.clear()
    for size, channels in sizes:
        for call in cases.calls(size, channels):
            with device() as found:
                # Results are not computed: what depends on their values may fail.
                try:
                    call.on(found)
                except (ValueError, IndexError, AssertionError):
                    continue
    return set(_units)
