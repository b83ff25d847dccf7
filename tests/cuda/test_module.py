"""Compiling and remembering kernels, and the errors of it, with a stand-in for CuPy's compiler."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

from arrayops._backends.cuda.engine import errors, module  # noqa: E402
from arrayops._core import kernel_source  # noqa: E402

HALF = (("SCALAR_FLOAT16", ""), ("AXES", 3))


class Function:
    """A kernel with the default limit on dynamic shared memory."""

    def __init__(self) -> None:
        self.max_dynamic_shared_size_bytes = 48 * 1024


class Compiler:
    """In the place of `cupy.RawModule`: keeps what was compiled, and fails with ``failure`` if set."""

    def __init__(self) -> None:
        self.device = 0
        self.compiled: list[dict[str, Any]] = []
        self.functions: dict[tuple[int, str], Function] = {}
        self.failure: Exception | None = None
        self.gate: threading.Event | None = None

    def __call__(self, **arguments: Any) -> Any:
        self.compiled.append(arguments)
        number = len(self.compiled)
        return SimpleNamespace(get_function=lambda name: self.get(number, name))

    def get(self, number: int, name: str) -> Function:
        if self.gate is not None:
            self.gate.wait(5)
        if self.failure is not None:
            raise self.failure
        return self.functions.setdefault((number, name), Function())


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Compiler]:
    (tmp_path / "outer.cuh").write_text('#pragma once\n#include "inner.cuh"\nint outer;\n')
    (tmp_path / "inner.cuh").write_text("#pragma once\n#include <cuda_fp16.h>\nint inner;\n")
    (tmp_path / "some.cu").write_text('#include "inner.cuh"\n#include "outer.cuh"\n// kernels\n')
    (tmp_path / "other.cu").write_text("// none\n")
    made = Compiler()
    monkeypatch.setattr(kernel_source, "kernel_directory", lambda backend: tmp_path)
    monkeypatch.setattr(cupy, "RawModule", made)
    monkeypatch.setattr(cupy.cuda.runtime, "getDevice", lambda: made.device)
    kernel_source.read.cache_clear()
    module._loaded.clear()
    yield made
    kernel_source.read.cache_clear()
    module._loaded.clear()


def test_text_is_macros_then_source_with_each_header_once(compiler: Compiler) -> None:
    module.kernel("some.cu", "f", HALF)
    assert compiler.compiled == [
        {
            "code": "#define AXES 3\n#define SCALAR_FLOAT16\n#include <cuda_fp16.h>\nint inner;\n\n\nint outer;\n\n"
            "// kernels\n",
            "options": ("-std=c++17",),
        }
    ]


def test_truth_values_become_numbers(compiler: Compiler) -> None:
    assert module.text("other.cu", (("YES", True), ("NO", False))) == "#define NO 0\n#define YES 1\n// none\n"


def test_a_macro_has_one_value(compiler: Compiler) -> None:
    with pytest.raises(ValueError, match=r"other\.cu: a macro is defined twice"):
        module.kernel("other.cu", "f", (("A", 1), ("A", 2)))


def test_a_kernel_is_compiled_once(compiler: Compiler) -> None:
    first = module.kernel("some.cu", "f", HALF)
    assert module.kernel("some.cu", "f", HALF) is first
    assert module.kernel("some.cu", "f", HALF[::-1]).call is first.call
    assert len(compiler.compiled) == 1


def test_kernels_of_a_file_share_a_unit(compiler: Compiler) -> None:
    assert module.kernel("some.cu", "f", HALF).call is not module.kernel("some.cu", "g", HALF).call
    assert len(compiler.compiled) == 1


@pytest.mark.parametrize("other", [("other.cu", HALF), ("some.cu", (("AXES", 4),)), ("some.cu", ())])
def test_other_files_and_macros_are_other_units(compiler: Compiler, other: tuple[str, Any]) -> None:
    module.kernel("some.cu", "f", HALF)
    module.kernel(other[0], "f", other[1])
    assert len(compiler.compiled) == 2


def test_each_device_has_its_own(compiler: Compiler) -> None:
    first = module.kernel("some.cu", "f", HALF)
    compiler.device = 1
    second = module.kernel("some.cu", "f", HALF)
    assert second.call is not first.call
    compiler.device = 0
    assert module.kernel("some.cu", "f", HALF) is first
    assert len(compiler.compiled) == 2


def test_shared_memory_is_asked_for_beyond_the_default_only(compiler: Compiler) -> None:
    def limit(wish: int) -> int:
        function: Any = module.kernel("some.cu", "f", HALF, wish).call
        return int(function.max_dynamic_shared_size_bytes)

    default = 48 * 1024
    assert [limit(wish) for wish in (0, 1024, default, 100_000)] == [default, default, default, 100_000]
    # The symbol is the same, so that a smaller wish must not take back what the larger one got.
    assert limit(60_000) == 100_000


def test_threads_compile_once(compiler: Compiler) -> None:
    compiler.gate = threading.Event()
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(module.kernel("some.cu", "f", HALF))) for _ in range(4)]
    for thread in threads:
        thread.start()
    compiler.gate.set()
    for thread in threads:
        thread.join()
    assert len(compiler.compiled) == 1
    assert len(found) == 4
    assert len(set(map(id, found))) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
# JAX warns where another test has imported it; the child calls nothing of it.
@pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning")
def test_a_forked_child_compiles_anew(compiler: Compiler) -> None:
    module.kernel("some.cu", "f", HALF)
    # As if another thread of the parent were compiling.
    with module._loaded.lock:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                module.kernel("some.cu", "f", HALF)
                status = 0 if len(compiler.compiled) == 2 else 2
            finally:
                os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    module.kernel("some.cu", "f", HALF)
    assert len(compiler.compiled) == 1


def test_a_failure_is_not_remembered(compiler: Compiler) -> None:
    compiler.failure = RuntimeError("not this time")
    with pytest.raises(errors.KernelError):
        module.kernel("some.cu", "f", HALF)
    compiler.failure = None
    assert module.kernel("some.cu", "f", HALF).call is not None


def compile_error(log: str) -> Exception:
    error: Exception = cupy.cuda.compiler.CompileException(log, "source", "name", ())
    return error


class Status(RuntimeError):
    """As CUDARuntimeError and CUDADriverError, the second of which cannot be made without a driver."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        (compile_error('kern.cu(3): error: identifier "x" is undefined'), 'identifier "x" is undefined'),
        (compile_error('catastrophic error: could not open source file "cuda_fp16.h"'), "nvidia-cuda-runtime-cu12"),
        (compile_error("nvrtc: error: invalid value for --gpu-architecture (-arch)"), "newest nvidia-cuda-nvrtc"),
        (RuntimeError("Failed to find CUDA headers. Please install"), "nvidia-cuda-runtime-cu12"),
        (
            RuntimeError("CuPy failed to load libnvrtc.so.12: OSError"),
            r"arrayops-nn\[cuda12\]' or 'arrayops-nn\[cuda13",
        ),
        (RuntimeError('Failure finding "libnvrtc.so.13 or libnvrtc.so.12": No such file'), "NVRTC is missing"),
        (RuntimeError("CuPy failed to load libcuda.so.1: OSError"), "no usable NVIDIA driver"),
        (cupy.cuda.runtime.CUDARuntimeError(35), "no usable NVIDIA driver.*\ncudaErrorInsufficientDriver"),
        (cupy.cuda.runtime.CUDARuntimeError(100), "no NVIDIA GPU is visible"),
        (cupy.cuda.runtime.CUDARuntimeError(3), "'spawn' or 'forkserver'"),
        (Status(500, "CUDA_ERROR_NOT_FOUND: named symbol not found"), 'no extern "C" kernel of this name'),
        (Status(222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"), "update the driver"),
        (Status(1, "CUDA_ERROR_INVALID_VALUE: invalid argument"), "size of the grid"),
    ],
)
def test_errors_name_the_kernel_and_what_to_do(compiler: Compiler, cause: Exception, advice: str) -> None:
    compiler.failure = cause
    start = r"CUDA kernel f of some\.cu \(AXES=3, SCALAR_FLOAT16\) cannot be compiled or loaded"
    with pytest.raises(errors.KernelError, match=f"(?s)^{start}.*{advice}") as caught:
        module.kernel("some.cu", "f", HALF)
    assert caught.value.__cause__ is cause


def test_long_logs_are_cut(compiler: Compiler) -> None:
    compiler.failure = compile_error("\n".join(f"line {number}" for number in range(20)))
    with pytest.raises(errors.KernelError, match=r"line 11\n\(8 more lines\)$"):
        module.kernel("some.cu", "f", ())


def test_memory_errors_pass(compiler: Compiler) -> None:
    compiler.failure = Status(2, "CUDA_ERROR_OUT_OF_MEMORY: out of memory")
    with pytest.raises(Status):
        module.kernel("some.cu", "f", HALF)
