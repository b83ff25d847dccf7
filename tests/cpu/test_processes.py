"""Forked children, threads and limited CPU affinity: nothing hangs and no bit changes."""

import contextlib
import gc
import hashlib
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from arrayops._backends.numpy.block_threads import UFUNC_BUFFER, helpers
from arrayops._backends.numpy.blocks import run_blocks
from arrayops._backends.numpy.process_settings import SingleThreadedBlas
from arrayops._backends.numpy.scratch import Scratch

TIMEOUT = 120


def arrays(seed: int = 0) -> "list[np.ndarray[Any, Any]]":
    """An input, a guide and weights large enough for several blocks of every backward and forward."""
    random = np.random.default_rng(seed)
    shapes = ((1, 8, 160, 200), (1, 3, 160, 200), (8, 8, 5, 5))
    return [random.standard_normal(shape, np.float32) for shape in shapes]


def call(seed: int = 0) -> "list[np.ndarray[Any, Any]]":
    """Output and gradients of one call."""
    x, guide, weight = arrays(seed)
    output = ao.pac_conv2d(x, guide, weight, padding=2)
    gradients = ao.pac_conv2d_backward(output, x, guide, weight, padding=2)
    return [output, gradients.input, gradients.guide, gradients.weight]


def digest(results: "list[np.ndarray[Any, Any]]") -> list[bytes]:
    return [result.tobytes() for result in results]


@pytest.fixture(scope="module")
def expected() -> list[bytes]:
    """Bits of `call`, computed with the pool of this process in use."""
    ao.set_num_threads(2)
    try:
        return digest(call())
    finally:
        ao.set_num_threads(None)


def in_child(connection: Any) -> None:
    ao.set_num_threads(2)
    connection.send(digest(call()))
    connection.close()


def fork_and_call(count: int = 1) -> list[list[bytes]]:
    context = multiprocessing.get_context("fork")
    children, ends = [], []
    for _ in range(count):
        end, child_end = context.Pipe(duplex=False)
        child = context.Process(target=in_child, args=(child_end,))
        with warnings.catch_warnings():
            # Forking a process that has threads is what this is about.
            warnings.simplefilter("ignore")
            child.start()
        child_end.close()
        children.append(child)
        ends.append(end)
    try:
        received = [end.recv() if end.poll(TIMEOUT) else None for end in ends]
    finally:
        for child in children:
            child.join(5)
            if child.is_alive():
                child.kill()
    assert None not in received, "a forked child hangs"
    return received


def fork_while_computing() -> None:
    # First of all a call alone: no child that is forked while another thread imports a module can ever import it.
    finished = [digest(call())]
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            finished.append(digest(call()))

    worker = threading.Thread(target=compute)
    worker.start()
    try:
        forked = [fork_and_call()[0] for _ in range(5)]
    finally:
        stop.set()
        worker.join()
    print("right" if all(result == finished[0] for result in (*forked, *finished, digest(call()))) else "wrong")


def run_alone(code: str, *arguments: str) -> str:
    """What ``code`` prints in a process of its own, in which a hang does not stop the tests."""
    here = Path(__file__).resolve().parent
    done = subprocess.run(
        [sys.executable, "-c", f"import test_processes\n{code}", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(here.parents[1]), str(here)))},
        stdout=subprocess.PIPE,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
class TestFork:
    def test_after_the_parent_used_its_pool(self, expected: list[bytes]) -> None:
        assert fork_and_call(2) == [expected] * 2

    def test_while_another_thread_of_the_parent_computes(self) -> None:
        """The child inherits locks as they are, held or not, and none of the threads that would release them.

        In the parent, fork ends the threads of OpenBLAS, and a product that was split among them would never return.
        """
        assert run_alone("test_processes.fork_while_computing()") == "right"

    def test_parent_goes_on(self, expected: list[bytes]) -> None:
        fork_and_call()
        assert digest(call()) == expected

    def test_data_loader(self, expected: list[bytes]) -> None:
        torch = pytest.importorskip("torch", reason="torch is not installed")

        class Outputs(torch.utils.data.Dataset):
            def __len__(self) -> int:
                return 4

            def __getitem__(self, index: int) -> Any:
                return ao.pac_conv2d(*map(torch.from_numpy, arrays()), padding=2)

        loader = torch.utils.data.DataLoader(
            Outputs(), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=TIMEOUT
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outputs = [output.numpy().tobytes() for output in loader]
        assert outputs == expected[:1] * 4


class TestThreads:
    def test_calls_at_once(self, expected: list[bytes]) -> None:
        """Different calls on six threads at once give what they give alone."""
        alone = {0: expected} | {seed: digest(call(seed)) for seed in (1, 2)}
        results: dict[int, list[list[bytes]]] = {}
        start = threading.Barrier(6)

        def compute(number: int) -> None:
            start.wait(TIMEOUT)
            results[number] = [digest(call(number % 3)) for _ in range(2)]

        threads = [threading.Thread(target=compute, args=(number,), daemon=True) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
        assert results == {number: [alone[number % 3]] * 2 for number in range(6)}

    @pytest.mark.parametrize("count", [1, 2, 3, 7])
    def test_bits_do_not_depend_on_the_number(self, expected: list[bytes], count: int) -> None:
        ao.set_num_threads(count)
        try:
            assert digest(call()) == expected
        finally:
            ao.set_num_threads(None)

    def test_blas_is_held_and_given_back_by_any_thread(self) -> None:
        """A thread other than the one that set the number of BLAS threads before."""
        import threadpoolctl

        from arrayops._backends.numpy.process_settings import single_threaded_blas as single_threaded

        with single_threaded:
            assert single_threaded.libraries
            # Those that were loaded at its first use, NumPy's among them; SciPy may have brought another since.
            paths = {library.filepath for library in single_threaded.libraries}

        def counts() -> list[int]:
            return [
                library["num_threads"] for library in threadpoolctl.threadpool_info() if library["filepath"] in paths
            ]

        seen: list[list[int]] = []

        def hold() -> None:
            with single_threaded:
                seen.append(counts())
            seen.append(counts())

        with threadpoolctl.threadpool_limits(2, user_api="blas"):
            for _ in range(2):
                thread = threading.Thread(target=hold)
                thread.start()
                thread.join(TIMEOUT)
            hold()
        held, given_back = [1] * len(seen[0]), [2] * len(seen[0])
        assert held
        assert seen == [held, given_back] * 3

    def test_a_blas_of_another_make_is_held_by_threadpoolctl(self) -> None:
        """As is an OpenBLAS whose threads are those of OpenMP, with a number for each thread of ours."""
        for make, layer in (("mkl", "intel"), ("openblas", "openmp")):
            counts = [4]
            library = SimpleNamespace(
                internal_api=make,
                threading_layer=layer,
                get_num_threads=lambda counts=counts: counts[-1],
                set_num_threads=counts.append,
            )
            blas = SingleThreadedBlas()
            blas.libraries = [library]
            with blas:
                assert counts == [4, 1]
            assert counts == [4, 1, 4]

    def test_switch_interval_is_given_back(self) -> None:
        before = sys.getswitchinterval()
        during = []

        def compute(index: int) -> None:
            during.append(sys.getswitchinterval())

        ao.set_num_threads(2)
        try:
            run_blocks(4, lambda scratch: compute)
        finally:
            ao.set_num_threads(None)
        assert during == [pytest.approx(2e-4)] * 4
        assert sys.getswitchinterval() == before

    @pytest.mark.parametrize("count", [1, 2])
    def test_error_state_and_buffer_are_those_of_blocks_and_of_the_caller(self, count: int) -> None:
        seen = []

        def compute(index: int) -> None:
            # Both threads take a block each.
            time.sleep(0.01)
            seen.append((set(np.geterr().values()), np.getbufsize()))

        ao.set_num_threads(count)
        try:
            with np.errstate(all="raise"):
                before = np.geterr(), np.getbufsize()
                run_blocks(4, lambda scratch: compute)
                assert (np.geterr(), np.getbufsize()) == before
        finally:
            ao.set_num_threads(None)
        assert seen == [({"ignore"}, UFUNC_BUFFER)] * 4

    def test_a_call_within_a_block_has_a_workspace_of_its_own(self) -> None:
        """As a finalizer makes it, which runs whenever the interpreter likes."""

        def begin(scratch: Scratch) -> Any:
            def compute(index: int) -> None:
                mine = scratch("samples", (64,), np.float32)
                mine.fill(index)
                if index < 4:
                    run_blocks(2, lambda other: lambda inner: other("samples", (64,), np.float32).fill(-1))
                kept.append(np.array_equal(mine, np.full(64, index)))

            return compute

        for count in (1, 2):
            kept: list[bool] = []
            ao.set_num_threads(count)
            try:
                run_blocks(8, begin)
            finally:
                ao.set_num_threads(None)
            assert kept == [True] * 8

    @pytest.mark.parametrize("fails", [False, True])
    @pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
    def test_what_blocks_hold_is_free_after_the_call(self, fails: bool, busy: bool) -> None:
        """Helpers that had no time for a call still have it before them."""

        def call() -> "weakref.ref[Any]":
            held = np.zeros(8)

            def compute(index: int) -> None:
                held[index] = index
                if fails and index == 5:
                    raise MemoryError("block 5")

            with pytest.raises(MemoryError) if fails else contextlib.nullcontext():
                run_blocks(8, lambda scratch: compute)
            return weakref.ref(held)

        ao.set_num_threads(4)
        run_blocks(8, lambda scratch: lambda index: None)  # starts the helpers
        released = threading.Event()

        def wait() -> None:
            released.wait()

        if busy:
            helpers.ask(threading.active_count(), wait)
        try:
            found = [call() for _ in range(20)]
            gc.collect()
            assert all(reference() is None for reference in found)
        finally:
            released.set()
            ao.set_num_threads(None)

    def test_first_blocks_are_done_before_any_other(self) -> None:
        for count in (1, 2, 4):
            done: set[int] = set()
            seen: list[set[int]] = []

            def compute(index: int, done: set[int] = done, seen: list[set[int]] = seen) -> None:
                if index < 5:
                    time.sleep(0.002 * (5 - index))
                    done.add(index)
                else:
                    seen.append({*done})

            ao.set_num_threads(count)
            try:
                run_blocks(40, lambda scratch, compute=compute: compute, first=5)
            finally:
                ao.set_num_threads(None)
            assert seen == [{0, 1, 2, 3, 4}] * 35

    def test_a_failure_in_a_first_block_ends_the_call(self) -> None:
        def compute(index: int) -> None:
            if index == 2:
                raise MemoryError("block 2")

        for count in (1, 2, 4):
            ao.set_num_threads(count)
            try:
                with pytest.raises(MemoryError, match="block 2"):
                    run_blocks(40, lambda scratch: compute, first=5)
            finally:
                ao.set_num_threads(None)

    def test_a_failure_in_any_block_ends_the_call(self) -> None:
        """Blocks that wait for their turn to commit must not wait for one that will never come."""

        def compute(index: int) -> int:
            if index == 3:
                raise MemoryError("block 3")
            return index

        committed: list[int] = []
        for count in (1, 2, 4):
            ao.set_num_threads(count)
            committed.clear()
            try:
                with pytest.raises(MemoryError, match="block 3"):
                    run_blocks(50, lambda scratch: compute, lambda index, result: committed.append(result))
            finally:
                ao.set_num_threads(None)
            assert committed == list(range(len(committed)))
            assert 3 not in committed


AFFINITY = """
import hashlib, os, sys
cpus = sorted(os.sched_getaffinity(0))[: int(sys.argv[1])]
os.sched_setaffinity(0, cpus)
assert test_processes.ao.get_num_threads() == len(cpus)
print(hashlib.sha256(b"".join(test_processes.digest(test_processes.call()))).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
@pytest.mark.parametrize("cpus", [1, 2])
def test_limited_affinity(expected: list[bytes], cpus: int) -> None:
    assert run_alone(AFFINITY, str(cpus)) == hashlib.sha256(b"".join(expected)).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize(("value", "expected"), [("1", 1), ("0", 1), ("1000", None), ("", None), ("two", None)])
def test_environment_variable(monkeypatch: pytest.MonkeyPatch, value: str, expected: int | None) -> None:
    """None stands for the number of CPUs."""
    monkeypatch.setenv("ARRAYOPS_NUM_THREADS", value)
    found = run_alone("print(test_processes.ao.get_num_threads())")
    assert int(found) == (expected or ao.get_num_threads())


def test_affinity_of_the_calling_thread(expected: list[bytes]) -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no CPU affinity")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert ao.get_num_threads() == 1
        assert digest(call()) == expected
    finally:
        os.sched_setaffinity(0, before)
    assert ao.get_num_threads() == len(before)
