"""Report of ``python -m arrayops info``."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import arrayops

PACKAGES = (
    "numpy",
    "scipy",
    "threadpoolctl",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "torch",
    "jax",
    "tensorflow",
    "keras",
    "array-api-strict",
    "ml_dtypes",
)


def report() -> str:
    """Versions, devices, available backends, compilers and the caches of compiled kernels, as aligned lines."""
    lines = [
        ("arrayops", arrayops.__version__),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *((package, installed(package)) for package in PACKAGES),
        *devices(),
        ("cuda kernel cache", kernel_cache()),
        *cpu_engine(),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


def installed(package: str) -> str:
    """Version of a distribution, without importing it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def devices() -> Iterator[tuple[str, str]]:
    """One entry for each backend: whether it is available, and on which devices."""
    yield "backend numpy", f"available, {arrayops.get_num_threads()} of {os.cpu_count()} CPUs"
    try:
        import cupy
    except ImportError:
        yield "backend cuda", 'not available: CuPy is not installed (pip install "arrayops-nn[cuda12]" or "[cuda13]")'
        return
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        yield "backend cuda", f"not available: {error}"
        return
    yield "backend cuda", f"available, {count} device{'s' * (count != 1)}" + cuda_families()
    for number in range(count):
        yield f"cuda:{number}", device(cupy, number)


def cpu_engine() -> Iterator[tuple[str, str]]:
    """Entries about the compiled kernels of the CPU."""
    from arrayops._backends.cpu.report import report

    return report()


def cuda_families() -> str:
    """Operator families that have CUDA kernels in this version."""
    from arrayops._backends import find
    from arrayops._ops import OPS

    families = set()
    for op in OPS.values():
        try:
            find("cuda", op.family, op.name)
        except NotImplementedError:
            continue
        families.add(op.family)
    return f", kernels for {', '.join(sorted(families))}" if families else ", no kernels in this version"


def device(cupy: Any, number: int) -> str:
    """Name, compute capability and memory of a GPU."""
    properties = cupy.cuda.runtime.getDeviceProperties(number)
    name = properties["name"].decode()
    memory = properties["totalGlobalMem"] / 2**30
    return f"{name}, compute capability {properties['major']}.{properties['minor']}, {memory:.1f} GiB"


def kernel_cache() -> str:
    """Path and size of CuPy's cache of compiled kernels."""
    folder = Path(os.environ.get("CUPY_CACHE_DIR", Path.home() / ".cupy" / "kernel_cache"))
    if not folder.is_dir():
        return f"{folder}, empty"
    sizes = [entry.stat().st_size for entry in folder.iterdir() if entry.is_file()]
    return f"{folder}, {len(sizes)} files, {sum(sizes) / 2**20:.1f} MiB"
