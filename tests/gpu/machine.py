"""What machine this is."""

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
    """Why there is no GPU to run on; empty if there is one."""
    try:
        import cuda_device
    except ImportError as error:
        return f"CuPy cannot be imported: {error}"
    return cuda_device.why_no_gpu()


def toolkit_program(name: str) -> str | None:
    """Path of a program of CUDA's toolkit, which need not be on the PATH."""
    return shutil.which(name) or next(map(str, Path("/usr/local").glob(f"cuda*/bin/{name}")), None)


def describe(stage: str, dry: bool) -> None:
    """Versions, the GPU as nvidia-smi names it, and the CPU."""
    import harness

    about: dict[str, Any] = dict(harness.machine())
    for package in PACKAGES:
        try:
            about[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if not dry:
        import cupy

        about["compute capability"] = cupy.cuda.Device(0).compute_capability
        about["CUDA driver"] = cupy.cuda.runtime.driverGetVersion()
        command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
        try:
            about["nvidia-smi"] = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        except OSError as error:
            about["nvidia-smi"] = str(error)
    results.emit(stage, event="machine", **about)
