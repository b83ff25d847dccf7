"""Description of the machine: versions of packages, GPU and CPU."""

from __future__ import annotations

import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from gpu import results

PACKAGES = ("cupy-cuda12x", "cupy-cuda13x", "nvidia-cuda-nvrtc")
QUERY = "name,driver_version,memory.total,memory.used,clocks.sm,clocks.mem,clocks.max.sm,temperature.gpu,pstate"


def why_no_gpu() -> str:
    """The reason why no GPU is available; empty if one is."""
    try:
        import cuda_device
    except ImportError as error:
        return f"CuPy cannot be imported: {error}"
    return cuda_device.why_no_gpu()


def toolkit_program(name: str) -> str | None:
    """Path of a program of the CUDA toolkit, even if it is not on PATH; None if it is not installed."""
    return shutil.which(name) or next(map(str, Path("/usr/local").glob(f"cuda*/bin/{name}")), None)


def describe(stage: str, dry: bool) -> None:
    """Emit versions of packages, nvidia-smi's description of the GPU, and the CPU."""
    import harness

    description: dict[str, Any] = dict(harness.machine())
    for package in PACKAGES:
        try:
            description[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if not dry:
        import cupy

        description["compute capability"] = cupy.cuda.Device(0).compute_capability
        description["CUDA driver"] = cupy.cuda.runtime.driverGetVersion()
        command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
        try:
            description["nvidia-smi"] = subprocess.run(
                command, capture_output=True, text=True, check=False
            ).stdout.strip()
        except OSError as error:
            description["nvidia-smi"] = str(error)
    results.emit(stage, event="machine", **description)
