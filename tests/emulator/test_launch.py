"""Texts, options, arguments and the cache of builds of the emulator."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import emulator
from emulator import EmulatorError, RawModule, building, schedule

Array = np.ndarray[Any, Any]
TESTS = Path(__file__).parents[1]


def ones(dtype: Any = np.float32) -> Array:
    return np.ones(4, dtype)


PARAMETERS = """
#include <cuda_bf16.h>
#include <cuda_fp16.h>
struct Pair { int first; long long second; };
extern "C" __global__ void kernel(const float* x, unsigned char* bytes, const __half* halves,
                                  const __nv_bfloat16* brains, const float4* quads, void* anything, int count,
                                  float scale, bool flag, __half half, Pair pair)
{
    bytes[0] = x ? x[0] : 7;
    bytes[1] = count;
    bytes[2] = scale;
    bytes[3] = flag + pair.second;
}
"""

RIGHT: tuple[Any, ...] = (
    ones(),
    ones(np.uint8),
    ones(np.float16),
    ones(ml_dtypes.bfloat16),
    ones(),
    ones(np.int64),
    np.int32(3),
    np.float32(4),
    np.bool_(True),
    np.float16(2),
    np.array((5, 6), np.dtype([("first", np.int32), ("second", np.int64)], align=True))[()],
)


class TestArguments:
    @staticmethod
    def launch(*changes: tuple[int, Any]) -> Array:
        arguments = [argument.copy() for argument in RIGHT]
        for number, value in changes:
            arguments[number] = value
        RawModule(code=PARAMETERS).get_function("kernel")((1,), (1,), tuple(arguments))
        return np.asarray(arguments[1])

    def test_right(self) -> None:
        assert self.launch().tolist() == [1, 3, 4, 7]

    @pytest.mark.parametrize("null", [None, np.uint64(0)])
    def test_null_pointer(self, null: Any) -> None:
        assert self.launch((0, null))[0] == 7

    def test_masks_and_brains_of_other_names(self) -> None:
        brains = np.zeros(4, np.dtype([("bfloat16", np.uint16)]))
        assert self.launch((1, ones(bool)), (3, brains))[1]

    @pytest.mark.parametrize(
        ("number", "value", "message"),
        [
            (0, ones(np.float64), "parameter 0 points to float32, and the array is float64"),
            (0, 3, "parameter 0 is a pointer, and the launch passes int"),
            (1, ones(np.uint16), "parameter 1 points to uint8, and the array is uint16"),
            (2, ones(np.uint16), "parameter 2 points to float16"),
            (3, ones(np.float16), "parameter 3 points to bfloat16"),
            (6, 3, "parameter 6 is int32, and the launch passes int64"),
            (6, np.uint32(3), "parameter 6 is int32, and the launch passes uint32"),
            (6, ones(np.int32), "parameter 6 is i4, no pointer, and the launch passes an array"),
            (7, 4.0, "parameter 7 is float32, and the launch passes float64"),
            (7, "4", "parameter 7 is f4, and the launch passes str"),
            (10, np.int64(3), "parameter 10 is a struct of 16 bytes, and the launch passes 8 bytes"),
        ],
    )
    def test_wrong(self, number: int, value: Any, message: str) -> None:
        with pytest.raises(EmulatorError, match=message):
            self.launch((number, value))

    def test_wrong_count(self) -> None:
        kernel = RawModule(code=PARAMETERS).get_function("kernel")
        with pytest.raises(EmulatorError, match="kernel has 11 parameters, and the launch passes 1"):
            kernel((1,), (1,), (ones(),))


INDEX = """
extern "C" __global__ void kernel(int* order, int* next)
{
    const int turn = atomicAdd(next, 1);
    order[turn] = (blockIdx.x * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
}
"""


class TestLaunches:
    @staticmethod
    def order_of_threads() -> list[int]:
        order = np.full(24, -1, np.int32)
        RawModule(code=INDEX).get_function("kernel")((3,), (4, 2), (order, np.zeros(1, np.int32)))
        return order.tolist()

    def test_orders(self) -> None:
        """Blocks as well as threads."""
        assert self.order_of_threads() == list(range(24))
        with schedule("lifo"):
            assert self.order_of_threads() == list(range(23, -1, -1))
        shuffled = []
        for seed in (1, 1, 2):
            with schedule("random", seed):
                shuffled.append(self.order_of_threads())
        assert shuffled[0] == shuffled[1] != shuffled[2]
        assert sorted(shuffled[0]) == list(range(24))
        blocks = {tuple(number // 8 for number in order[::8]) for order in shuffled}
        assert blocks != {(0, 1, 2)}

    def test_order_of_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EMULATOR_ORDER", "lifo")
        assert self.order_of_threads()[0] == 23
        monkeypatch.setenv("EMULATOR_ORDER", "up")
        with pytest.raises(ValueError, match="order of threads is 'up'"):
            self.order_of_threads()

    @pytest.mark.parametrize(
        ("grid", "block", "message"),
        [
            ((0,), (1,), r"a grid of \(0,1,1\) blocks is not possible"),
            ((1, 65536), (1,), r"a grid of \(1,65536,1\) blocks"),
            ((1,), (1, 1, 65), r"a block of \(1,1,65\) threads"),
            ((1,), (1025,), "1025 threads a block, its launch bounds allow 1024"),
            ((1,), (-1,), "out of range"),
            ((1,) * 4, (1,), "expected one to three sizes"),
        ],
    )
    def test_impossible_sizes(self, grid: tuple[int, ...], block: tuple[int, ...], message: str) -> None:
        kernel = RawModule(code=INDEX).get_function("kernel")
        with pytest.raises(EmulatorError, match=message):
            kernel(grid, block, (np.zeros(9, np.int32), np.zeros(1, np.int32)))

    def test_launches_of_many_threads_at_once(self) -> None:
        results: list[list[int]] = []
        threads = [threading.Thread(target=lambda: results.append(self.order_of_threads())) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [list(range(24))] * 4

    def test_spinning_for_ever_is_noticed_by_the_one_waited_for(self) -> None:
        """A thread that waits for another one's flag lets it run."""
        code = """
        extern "C" __global__ void kernel(int* flag)
        {
            if (threadIdx.x == 0) {
                while (atomicAdd(flag, 0) == 0) {
                }
            } else {
                atomicExch(flag, 1);
            }
        }
        """
        flag = np.zeros(1, np.int32)
        RawModule(code=code).get_function("kernel")((1,), (2,), (flag,))
        assert flag[0] == 1


DYNAMIC = """
extern "C" __global__ void kernel(int* y, int n)
{
    extern __shared__ __align__(16) unsigned char memory[];
    __shared__ int more[64];
    int* values = reinterpret_cast<int*>(memory);
    values[n - 1 - threadIdx.x] = threadIdx.x;
    more[threadIdx.x % 64] = 0;
    __syncthreads();
    y[threadIdx.x] = values[threadIdx.x];
}
"""


class TestDynamicSharedMemory:
    def test_opting_in(self) -> None:
        kernel = RawModule(code=DYNAMIC).get_function("kernel")
        y = np.zeros(1024, np.int32)
        size = 100 << 10
        arguments = (y, np.int32(1024))
        with pytest.raises(EmulatorError, match="102400 bytes of dynamic shared memory, 49152 are allowed"):
            kernel((1,), (1024,), arguments, shared_mem=size)
        kernel.max_dynamic_shared_size_bytes = size
        kernel((1,), (1024,), arguments, shared_mem=size)
        assert (y == np.arange(1023, -1, -1)).all()

    def test_static_memory_counts(self) -> None:
        kernel = RawModule(code=DYNAMIC).get_function("kernel")
        kernel._dynamic_limit = None
        with pytest.raises(EmulatorError, match="256 bytes of static and 49000 of dynamic shared memory, 49152 are"):
            kernel((1,), (1024,), (np.zeros(1024, np.int32), np.int32(1024)), shared_mem=49000)


SHARED_FORMS = """
#define COUNT 4
#define DECLARE(type, name) __shared__ type name[COUNT]
template <int a, int b> struct Table { int values[a * b]; };
template <typename T> __device__ T first_of(T value) {
  __shared__ T box[1];
  box[0] = value;
  return box[0];
}
extern "C" __global__ void __launch_bounds__(32, 1) first(int* y);
extern "C" __global__ void
__launch_bounds__(2 * COUNT)
first(int* y) {
  /* __shared__ int in_comment[; */
  __shared__ int a[2][COUNT], b, c[1];
  __shared__ Table<2, COUNT> table;
  __shared__ volatile unsigned flag;
  alignas(16) int aligned_local = 1;
  __shared__ __align__(16) float4 quads[2];
  DECLARE(long long, wide); DECLARE(short, narrow);
  a[1][3] = 1; b = 2; c[0] = 4; table.values[7] = 8; flag = 16; quads[1].w = 32; wide[3] = 64; narrow[3] = 128;
  y[0] = a[1][3] + b + c[0] + table.values[7] + flag + static_cast<int>(quads[1].w) + wide[3] + narrow[3];
  y[1] = first_of(1.5f) * 2 + first_of(3);
  y[2] = a[0][0];
  y[3] = sizeof(a) + sizeof(b);
}
extern "C" __global__ void second(int* y) { y[0] = COUNT; }
"""


class TestTexts:
    def test_forms_of_shared_memory(self) -> None:
        y = np.zeros(4, np.int32)
        kernel = RawModule(code=SHARED_FORMS).get_function("first")
        assert kernel.max_threads_per_block == kernel.attributes["max_threads_per_block"] == 8
        kernel((1,), (1,), (y,))
        # 0xFF everywhere before the first write.
        assert y.tolist() == [255, 6, -1, 36]

    def test_several_kernels(self) -> None:
        module = RawModule(code=SHARED_FORMS)
        y = np.zeros(4, np.int32)
        module.get_function("second")((1,), (1,), (y,))
        assert y[0] == 4
        with pytest.raises(EmulatorError, match="no kernel third; there are first, second"):
            module.get_function("third")

    @pytest.mark.parametrize(("preamble", "options"), [("#define VALUE 5\n", ()), ("", ("-DVALUE=5", "-std=c++17"))])
    def test_macros(self, preamble: str, options: tuple[str, ...]) -> None:
        code = f'{preamble}extern "C" __global__ void kernel(int* y) {{ y[0] = VALUE; }}'
        y = np.zeros(1, np.int32)
        RawModule(code=code, options=options, backend="nvrtc").get_function("kernel")((1,), (1,), (y,))
        assert y[0] == 5

    @pytest.mark.parametrize(
        ("code", "options", "message"),
        [
            (
                'extern "C" __global__ void kernel(int* y) {\n y[0] = missing; }',
                (),
                r"kernel\.cu:2:9: error: .*missing",
            ),
            ('extern "C" __global__ void kernel() {}', ("--no-such-option",), "does not know the option"),
            ('extern "C" __global__ void kernel() { __shared__ int a = 1; }', (), "cannot be initialised"),
            ("int f() { return 1; }", (), "holds no __global__ function"),
        ],
    )
    def test_refused(self, code: str, options: tuple[str, ...], message: str) -> None:
        with pytest.raises(EmulatorError, match=message):
            RawModule(code=code, options=options)


BUILD_ALL = """
import numpy as np
from emulator import RawModule, building
calls = []
run = building._run
building._run = lambda command, text: calls.append(command) or run(command, text)
code = 'extern "C" __global__ void kernel(int* y) { y[0] = 1; }'
y = np.zeros(1, np.int32)
RawModule(code=code).get_function("kernel")((1,), (1,), (y,))
assert y[0] == 1
print(sum("-E" in command for command in calls), sum("-shared" in command for command in calls))
"""


class TestCache:
    @staticmethod
    def start(cache: Path) -> "subprocess.Popen[str]":
        variables = {"PYTHONPATH": str(TESTS), "EMULATOR_CACHE": str(cache)}
        command = [sys.executable, "-c", BUILD_ALL]
        return subprocess.Popen(command, env={**os.environ, **variables}, stdout=subprocess.PIPE, text=True)

    def test_processes_build_once(self, tmp_path: Path) -> None:
        """Several at once, and one later: a runtime and a kernel library among them all."""
        children = [self.start(tmp_path) for _ in range(3)]
        outputs = [child.communicate(timeout=120)[0].split() for child in children]
        outputs.append(self.start(tmp_path).communicate(timeout=120)[0].split())
        assert [sum(int(output[column]) for output in outputs) for column in (0, 1)] == [1, 2]
        assert outputs[-1] == ["0", "0"]
        assert not list(tmp_path.glob("building-*"))

    def test_what_a_build_depends_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def key() -> str:
            return building._key("text")

        def with_sanitizer() -> None:
            monkeypatch.setenv("EMULATOR_SANITIZER", "thread")

        def with_other_headers() -> None:
            monkeypatch.setattr(building, "_sources", lambda: b"other")

        keys = [key(), building._key("other text")]
        changes: list[Callable[[], None]] = [with_sanitizer, with_other_headers]
        for change in changes:
            change()
            keys.append(key())
        assert len(set(keys)) == 4

    def test_a_failed_build_leaves_nothing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EMULATOR_CACHE", str(tmp_path))
        for _ in range(2):
            with pytest.raises(EmulatorError, match="error"):
                RawModule(code='extern "C" __global__ void kernel() { wrong }')
        assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


def test_names_of_the_package() -> None:
    assert all(hasattr(emulator, name) for name in emulator.__all__)
