"""Compiles kernel texts with g++, and keeps what was compiled.

A build is named by a hash of all that it depends on. Processes that want the same one at the same time wait for one of
them to make it; it appears by a rename, so none ever sees half of it.
"""

import fcntl
import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from emulator.arguments import EmulatorError
from emulator.rewriting import rewrite

HERE = Path(__file__).resolve().parent
SHIM = HERE / "shim"
RUNTIME = HERE / "runtime"

# Of the options for NVRTC: those with a meaning for g++, and those without a bearing on results.
UNDERSTOOD = ("-D", "-U")
IGNORED = (
    "-lineinfo",
    "--generate-line-info",
    "-default-device",
    "--device-as-default-execution-space",
    "-maxrregcount",
    "--maxrregcount",
    "-Xptxas",
    "--ptxas-options",
    "-arch",
    "--gpu-architecture",
    "-use_fast_math",
    "--use_fast_math",
    "-ftz",
    "--ftz",
    "-fmad",
    "--fmad",
    "-prec-div",
    "--prec-div",
    "-prec-sqrt",
    "--prec-sqrt",
    "-extra-device-vectorization",
    "--extra-device-vectorization",
)


def sanitizer() -> str:
    """What kernels are built with: "", "address,undefined" or "thread"."""
    return os.environ.get("EMULATOR_SANITIZER", "")


def cache_directory() -> Path:
    """EMULATOR_CACHE, or a directory of the user's cache."""
    chosen = os.environ.get("EMULATOR_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "arrayops-emulator"


def _run(command: Sequence[str], text: str) -> str:
    # Not with a sanitizer's library in front, which is meant for this process.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(command, input=text, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise EmulatorError(f"{' '.join(command[:1])} failed\n{done.stderr[:6000]}")
    return done.stdout


@cache
def _processor_flags() -> tuple[str, ...]:
    """Instructions that conversions of half types and fused multiply-add are fast with."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return ()
    try:
        known = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return ()
    return tuple(f"-m{name}" for name in ("avx2", "fma", "f16c") if name in known)


@cache
def compiler() -> str:
    """The compiler, with its version."""
    return os.environ.get("EMULATOR_CXX", "g++")


@cache
def _compiler_version() -> str:
    return _run([compiler(), "-dumpfullversion"], "")


def _common_flags() -> list[str]:
    # -fno-strict-aliasing: kernels read floats as float4. -w: NVRTC's warnings are the ones that count.
    flags = ["-O2", "-g1", "-fPIC", "-shared", "-fvisibility=hidden", "-fno-strict-aliasing", "-fno-gnu-unique", "-w"]
    return [*flags, "-fno-math-errno", "-fno-trapping-math", *_processor_flags()]


def _kernel_flags() -> list[str]:
    flags = _common_flags()
    if sanitizer():
        flags += [f"-fsanitize={sanitizer()}", "-fno-omit-frame-pointer"]
    if "address" in sanitizer():
        # Reports are collected after every launch (sanitizer.py): the process has to outlive them.
        flags.append("-fsanitize-recover=address")
    return flags


@cache
def _sources() -> bytes:
    """All files that builds depend on, besides the kernel's own text."""
    files = [*SHIM.iterdir(), *RUNTIME.iterdir(), HERE / "rewriting.py", Path(__file__)]
    return b"\0".join(file.read_bytes() for file in sorted(files))


def _key(*parts: str) -> str:
    machine = (platform.machine(), compiler(), _compiler_version(), *_processor_flags(), sanitizer())
    digest = hashlib.sha256(_sources())
    for part in (*machine, *parts):
        digest.update(b"\0" + part.encode())
    return digest.hexdigest()[:24]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _made_once(key: str, make: Callable[[Path], None]) -> Path:
    """The directory of a build, made by ``make`` in a temporary place unless it is there."""
    directory = cache_directory() / key
    if directory.is_dir():
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    lock = directory.with_suffix(".lock")
    with _locked(lock):
        if not directory.is_dir():
            with tempfile.TemporaryDirectory(dir=directory.parent, prefix="building-") as scratch:
                made = Path(scratch) / "build"
                made.mkdir()
                make(made)
                made.rename(directory)
    return directory


@cache
def runtime_library() -> Path:
    """What runs blocks and threads, one library for all kernels. It is not instrumented: see runtime/sanitizers.h."""
    flags = [*_common_flags(), "-std=c++17", "-fvisibility=default"]
    if "address" in sanitizer():
        flags.append("-DEMULATOR_ADDRESS")
    if "thread" in sanitizer():
        flags.append("-DEMULATOR_THREAD")

    def make(directory: Path) -> None:
        sources = [str(file) for file in sorted(RUNTIME.glob("*.cpp"))]
        _run([compiler(), *flags, "-o", str(directory / "runtime.so"), *sources], "")

    return _made_once(_key("runtime", *flags), make) / "runtime.so"


def _language_flags(options: Sequence[str], architecture: int) -> list[str]:
    flags = [f"-I{SHIM}", f"-D__CUDA_ARCH__={architecture * 10}"]
    standard = "-std=c++17"
    for option in options:
        name = option.partition("=")[0]
        if option.startswith(UNDERSTOOD):
            flags.append(option)
        elif name in ("-std", "--std"):
            standard = f"-std={option.partition('=')[2]}"
        elif name not in IGNORED:
            raise EmulatorError(f"the emulator does not know the option {option!r}")
    return [*flags, standard]


def kernel_library(text: str, options: Sequence[str] = (), architecture: int = 80) -> Path:
    """A library of the kernels of a text, for a compute capability times ten."""
    flags = _language_flags(options, architecture)

    def make(directory: Path) -> None:
        # Kept for readers of reports, which name its lines.
        source = directory / "kernel.cu"
        source.write_text(text, encoding="utf-8")
        command = [compiler(), "-E", *flags, "-include", "cuda_emulator.h", "-x", "c++", "-"]
        preprocessed = _run(command, f'# 1 "{cache_directory() / directory_key / "kernel.cu"}"\n{text}')
        command = [compiler(), *_kernel_flags(), flags[-1], "-x", "c++-cpp-output", "-"]
        _run([*command, "-o", str(directory / "kernels.so")], rewrite(preprocessed))

    directory_key = _key("kernels", text, *flags)
    return _made_once(directory_key, make) / "kernels.so"
