"""Error messages for failures of compilers, drivers and launches, with the kernel's name and advice."""

from typing import NamedTuple

# The same number in cudaError and CUresult.
OUT_OF_MEMORY = 2

NVRTC = (
    "the CUDA compiler library NVRTC is missing: pip install 'arrayops-nn[cuda12]' or 'arrayops-nn[cuda13]', "
    "whichever matches the installed CuPy"
)
HEADERS = (
    "the CUDA headers are missing: pip install 'arrayops-nn[cuda12]' (which brings nvidia-cuda-runtime-cu12) or "
    "'arrayops-nn[cuda13]', whichever matches the installed CuPy, or set CUDA_PATH to a CUDA toolkit"
)
DRIVER = "no usable NVIDIA driver: install one that supports the CUDA version of the installed CuPy"
ARCHITECTURE = "NVRTC does not support this GPU: install the newest nvidia-cuda-nvrtc package of your CUDA version"
RESOURCES = "one block requires more registers or shared memory than this GPU has"
EARLIER_FAILURE = "an earlier kernel, launched by arrayops or other code, failed: restart the process"

ADVICE_BY_STATUS = {
    1: "the size of the grid, of the block or of the shared memory is invalid on this GPU",
    3: "CUDA cannot be used in a fork of a process that has used it: start processes with 'spawn' or 'forkserver'",
    35: DRIVER,
    100: "no NVIDIA GPU is visible to this process",
    209: ARCHITECTURE,
    222: "the driver is older than NVRTC: update the driver",
    500: 'the file has no extern "C" kernel of this name',
    700: EARLIER_FAILURE,
    701: RESOURCES,
    716: EARLIER_FAILURE,
    719: EARLIER_FAILURE,
}
# The first match counts: the log of a missing header also matches later patterns.
ADVICE_BY_TEXT = (
    ("could not open source file", HEADERS),
    ("cannot open source file", HEADERS),
    ("Failed to find CUDA headers", HEADERS),
    ("nvrtc: error: invalid value for --gpu-architecture", ARCHITECTURE),
    ("libnvrtc", NVRTC),
    ("nvrtc64", NVRTC),
    ("libcuda", DRIVER),
    ("nvcuda", DRIVER),
    ("too many resources requested", RESOURCES),
)
MAX_LOG_LINES = 12


class KernelName(NamedTuple):
    """Identity of a kernel: its file, its symbol and the macros it is compiled with."""

    file: str
    name: str
    defines: tuple[tuple[str, int | str], ...]

    def __str__(self) -> str:
        macros = ", ".join(macro if value == "" else f"{macro}={value}" for macro, value in sorted(self.defines))
        return f"CUDA kernel {self.name} of {self.file} ({macros or 'no macros'})"


class KernelError(RuntimeError):
    """A kernel could not be compiled, loaded or launched; ``__cause__`` is the error of CuPy."""


def out_of_memory(error: BaseException) -> bool:
    """Whether device memory is exhausted. Such errors are passed on unchanged: callers may be able to free memory."""
    return getattr(error, "status", None) == OUT_OF_MEMORY and type(error).__name__ != "NVRTCError"


def kernel_error(kernel: KernelName, failed: str, cause: BaseException) -> KernelError:
    """The error to raise for ``kernel`` after ``cause``; ``failed`` is what failed: "cannot be launched"."""
    status = getattr(cause, "status", None)
    text = str(cause).strip() or type(cause).__name__
    advice = next((advice for pattern, advice in ADVICE_BY_TEXT if pattern in text), "")
    # The error numbers of NVRTC overlap those of CUDA.
    if not advice and type(cause).__name__ != "NVRTCError":
        advice = ADVICE_BY_STATUS.get(status, "") if isinstance(status, int) else ""
    lines = text.splitlines()
    omitted = [f"({len(lines) - MAX_LOG_LINES} more lines)"] * (len(lines) > MAX_LOG_LINES)
    shown = "\n".join(lines[:MAX_LOG_LINES] + omitted)
    return KernelError(f"{kernel} {failed}{': ' if advice else ''}{advice}\n{shown}")
