"""Compiles kernel texts with NVRTC for any architecture, and says what each kernel needs. No GPU, no driver, no CuPy.

NVRTC and the headers come from pip, for CUDA 12 (nvidia-cuda-nvrtc-cu12, nvidia-cuda-runtime-cu12) and CUDA 13
(nvidia-cuda-nvrtc, nvidia-cuda-runtime), whose compilers need different registers for the same text.
"""

import ctypes
import re
import shutil
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

# sm_75 has tensor cores for float16 alone: bfloat16 and TF32 need sm_80, as does cp.async.
ARCHITECTURES = (75, 80, 90, 100)


class Toolkit(NamedTuple):
    """Where pip puts one version of CUDA, and what brings it."""

    library: str
    headers: str
    packages: str


TOOLKITS = {
    12: Toolkit(
        "nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
        "nvidia/cuda_runtime/include/cuda_fp16.h",
        "nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12",
    ),
    13: Toolkit(
        "nvidia/cu13/lib/libnvrtc.so.13",
        "nvidia/cu13/include/cuda_fp16.h",
        "'nvidia-cuda-nvrtc>=13,<14' 'nvidia-cuda-runtime>=13,<14'",
    ),
}

# The compiler of each architecture: both work on two each, since all on all would take twice as long.
COMPILERS = {75: 12, 80: 12, 90: 13, 100: 13}

OPTIONS = ("-std=c++17", "--ptxas-options=-v", "-ftz=true")

ENTRY = re.compile(r"Compiling entry function '(?P<name>[^']+)' for")
REGISTERS = re.compile(r"Used (?P<count>\d+) registers")
SHARED = re.compile(r"(?P<count>\d+) bytes smem")
STACK = re.compile(r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill")
# What ptxas says of resources, which is no warning.
NOTICE = re.compile(r"^\s*ptxas\s+(info|\.)\s|^\s*\d+ bytes stack frame")


class CompileError(RuntimeError):
    """NVRTC refuses a text; the message is its log."""


class Resources(NamedTuple):
    """What one kernel needs, in bytes but for the registers of a thread."""

    registers: int
    spill: int
    """Stores and loads of registers that did not fit."""
    stack: int
    shared: int
    """Static shared memory."""


class Compiled(NamedTuple):
    """A text compiled for one architecture."""

    kernels: dict[str, Resources]
    warnings: str
    cubin: bytes


class Budget(NamedTuple):
    """What a kernel may need."""

    registers: int = 255
    spill: int = 0


class Unit(NamedTuple):
    """A row of a table of what has to compile: a file with its macros, and a budget for each of its kernels.

    `budgets` has all symbols of the unit and no other, so that a new kernel cannot be forgotten.
    """

    file: str
    defines: tuple[tuple[str, int | str], ...]
    budgets: dict[str, Budget]
    architectures: tuple[int, ...] = ARCHITECTURES

    def __str__(self) -> str:
        macros = "-".join(name if value == "" else f"{name}={value}" for name, value in self.defines)
        return f"{self.file}-{macros}" if macros else self.file


def _found(file: str) -> Path | None:
    """A file of the nvidia packages."""
    for directory in dict.fromkeys((*site.getsitepackages(), site.getusersitepackages(), *sys.path)):
        if (path := Path(directory) / file).exists():
            return path
    return None


def why_not() -> str:
    """Why nothing can be compiled here; empty if it can."""
    for version, toolkit in TOOLKITS.items():
        if _found(toolkit.library) is None or _found(toolkit.headers) is None:
            return f"the compiler of CUDA {version} is not installed: pip install {toolkit.packages}"
    return ""


@cache
def _library(version: int) -> Any:
    path = _found(TOOLKITS[version].library)
    if path is None:
        raise FileNotFoundError(why_not())
    library = ctypes.CDLL(str(path))
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    return library


def _check(library: Any, status: int) -> None:
    if status != 0:
        raise CompileError(library.nvrtcGetErrorString(status).decode())


@contextmanager
def _program(library: Any, text: str, name: str) -> Iterator[ctypes.c_void_p]:
    program = ctypes.c_void_p()
    _check(library, library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), name.encode(), 0, None, None))
    try:
        yield program
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _output(library: Any, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(library, getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(library, getattr(library, f"nvrtcGet{what}")(program, buffer))
    return buffer.raw


def _resources(log: str) -> dict[str, Resources]:
    """What ptxas reports of each entry function; what it omits is 0."""
    entries = list(ENTRY.finditer(log))
    kernels = {}
    for entry, following in zip(entries, [*entries[1:], None], strict=True):
        part = log[entry.end() : following.start() if following else None]
        registers, shared, stack = REGISTERS.search(part), SHARED.search(part), STACK.search(part)
        if registers is None:
            raise CompileError(f"ptxas says nothing of the registers of {entry['name']}:\n{log}")
        kernels[entry["name"]] = Resources(
            registers=int(registers["count"]),
            spill=int(stack["stores"]) + int(stack["loads"]) if stack else 0,
            stack=int(stack["stack"]) if stack else 0,
            shared=int(shared["count"]) if shared else 0,
        )
    return kernels


def compile_text(
    text: str, architecture: int, options: Sequence[str] = (), name: str = "kernel.cu", cuda: int | None = None
) -> Compiled:
    """Compile a self-contained text for a compute capability times ten, by that of `COMPILERS` or of CUDA ``cuda``.

    Raises
    ------
    CompileError
        With the compiler's log.
    """
    version = COMPILERS[architecture] if cuda is None else cuda
    header, library = _found(TOOLKITS[version].headers), _library(version)
    if header is None:
        raise FileNotFoundError(why_not())
    given = [*OPTIONS, f"-I{header.parent}", f"-arch=sm_{architecture}", *options]
    with _program(library, text, name) as program:
        arguments = (ctypes.c_char_p * len(given))(*(option.encode() for option in given))
        status = library.nvrtcCompileProgram(program, len(given), arguments)
        log = _output(library, program, "ProgramLog").rstrip(b"\0").decode()
        if status != 0:
            raise CompileError(f"{name} for sm_{architecture}:\n{log}")
        cubin = _output(library, program, "CUBIN")
    warnings = [line for line in log.splitlines() if line.strip() and not NOTICE.match(line)]
    return Compiled(_resources(log), "\n".join(warnings), cubin)


def disassemble(cubin: bytes) -> str | None:
    """Machine instructions, or None where neither nvdisasm nor cuobjdump is installed."""
    for tool, options in (("nvdisasm", ()), ("cuobjdump", ("-sass",))):
        if path := shutil.which(tool):
            with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
                file.write(cubin)
                file.flush()
                command = [path, *options, file.name]
                return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return None


def over_budget(kernels: dict[str, Resources], budgets: dict[str, Budget]) -> list[str]:
    """In words, each kernel that needs more than it may, or that one side does not know."""
    complaints = [f"{name} has no budget" for name in sorted(kernels.keys() - budgets.keys())]
    complaints += [f"there is no kernel {name}" for name in sorted(budgets.keys() - kernels.keys())]
    for name in sorted(kernels.keys() & budgets.keys()):
        needed, allowed = kernels[name], budgets[name]
        if needed.registers > allowed.registers:
            complaints.append(f"{name} needs {needed.registers} registers, {allowed.registers} are allowed")
        if needed.spill > allowed.spill:
            complaints.append(f"{name} spills {needed.spill} bytes, {allowed.spill} are allowed")
    return complaints
