"""Which blocks the scheduler computes, in which order, on which threads and with which memory."""

import ctypes
import itertools
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import arrayops as ao
from arrayops._backends.cpu.engine import scheduler
from arrayops._backends.cpu.engine.scheduler import run
from new_process import in_new_process
from observed_blocks import ENOUGH_WORK, Blocks, halve_in_blocks

THREADS = (1, 2, 3, 7, 64)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("most", [0, 1, 3, 1000])
def test_every_block_once(kernels: ctypes.CDLL, threads: int, most: int) -> None:
    with ao.num_threads(threads):
        for count in (1, 2, 5, 64, 1000):
            assert Blocks(kernels, count).run(most).all_once()


@pytest.mark.parametrize("threads", THREADS)
def test_tasks_and_barriers(kernels: ctypes.CDLL, threads: int) -> None:
    """Each phase sees all blocks of those before; a task without a barrier belongs to the phase of the one before."""
    counts, barriers = (7, 0, 40, 1, 30, 0, 13), (False, True, False, True, True, False, False)
    for _ in range(20):
        total = np.zeros(1, np.int64)
        tasks = [Blocks(kernels, count, nanoseconds=2000, total=total) for count in counts]
        with ao.num_threads(threads):
            run(
                [task.task(3, barrier=barrier) for task, barrier in zip(tasks, barriers, strict=True)],
                nanoseconds=ENOUGH_WORK,
            )
        before = 0
        for task, barrier, start in zip(tasks, barriers, itertools.accumulate(counts, initial=0), strict=False):
            before = start if barrier else before
            assert (task.counts == 1).all()
            assert (task.seen >= before).all()
        assert total == sum(counts)


def test_a_task_without_a_barrier_overlaps_with_the_one_before(kernels: ctypes.CDLL) -> None:
    total = np.zeros(1, np.int64)
    long, short = Blocks(kernels, 1, nanoseconds=200_000_000, total=total), Blocks(kernels, 20, total=total)
    with ao.num_threads(2):
        run([long.task(), short.task()], nanoseconds=ENOUGH_WORK)
    assert short.seen[0] == 0
    assert total == 21


def test_no_tasks_and_no_blocks(kernels: ctypes.CDLL) -> None:
    run([], nanoseconds=0)
    run([Blocks(kernels, 0).task(), Blocks(kernels, 0).task(barrier=True)], nanoseconds=ENOUGH_WORK)


def test_ranges_are_as_long_as_allowed_and_short_in_the_end(kernels: ctypes.CDLL) -> None:
    with ao.num_threads(2):
        sizes = Blocks(kernels, 1000).run(8, nanoseconds=2e5).sizes
    assert sizes[0] == 8
    assert sizes.max() == 8
    assert sizes[-1] == 1


def test_ranges_of_long_blocks_are_short(kernels: ctypes.CDLL) -> None:
    """They decide how long a signal waits, also where the estimate was far too low."""
    with ao.num_threads(2):
        sizes = Blocks(kernels, 40, nanoseconds=3_000_000).run(40, nanoseconds=40 * 3e6).sizes
        assert sizes.max() == 1
    # On one thread, and in less than the 80 ms after which a foreign call ends: the first range of each may be long.
    with ao.num_threads(1):
        sizes = Blocks(kernels, 12, nanoseconds=3_000_000).run(3, nanoseconds=2e5).sizes
        assert sizes[3:].max() == 1


def test_threads(kernels: ctypes.CDLL) -> None:
    """Little work stays on the calling thread; much is shared, the caller taking part."""
    caller = threading.get_native_id() if sys.platform == "linux" else 0
    with ao.num_threads(3):
        little = Blocks(kernels, 90, nanoseconds=1000).run(nanoseconds=9e4)
        much = Blocks(kernels, 200, nanoseconds=100_000).run(nanoseconds=2e7)
    assert {*little.threads} == {caller}
    if sys.platform != "linux":
        pytest.skip("threads are numbered on Linux only")
    assert caller in much.threads
    assert 2 <= len({*much.threads}) <= 3


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [0, 1, 1000, 1 << 20, 3 << 20])
def test_workspace(kernels: ctypes.CDLL, threads: int, size: int) -> None:
    """Aligned, and each thread's own: a kernel finds what it wrote."""
    with ao.num_threads(threads):
        assert Blocks(kernels, 10, workspace=size).run(2).all_once()


def test_large_workspaces_take_64_mib_together(kernels: ctypes.CDLL) -> None:
    if sys.platform != "linux":
        pytest.skip("threads are numbered on Linux only")
    for megabytes, threads in ((15, 4), (22, 2), (33, 1), (100, 1)):
        blocks = Blocks(kernels, 200, nanoseconds=20_000)
        with ao.num_threads(7):
            run([blocks.task()], workspace=megabytes << 20, nanoseconds=ENOUGH_WORK)
        assert blocks.all_once()
        assert len({*blocks.threads}) <= threads


@pytest.mark.parametrize("threads", [1, 2])
def test_out_of_memory(kernels: ctypes.CDLL, threads: int) -> None:
    with ao.num_threads(threads):
        blocks = Blocks(kernels, 100)
        with pytest.raises(MemoryError, match="1152921504606846976 bytes of workspace"):
            run([blocks.task()], workspace=1 << 60, nanoseconds=ENOUGH_WORK)
        assert not blocks.counts.any()
        assert Blocks(kernels, 100, workspace=1000).run().all_once()


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_calls_from_many_threads(kernels: ctypes.CDLL, threads: int) -> None:
    ao.set_num_threads(threads)
    results: list[bool] = []
    start = threading.Barrier(6)

    def compute(number: int) -> None:
        start.wait()
        for count in range(20):
            blocks = Blocks(kernels, 3 * count + number, nanoseconds=10_000, workspace=100 * number)
            results.append(blocks.run(number).all_once())

    callers = [threading.Thread(target=compute, args=(number,)) for number in range(6)]
    try:
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    finally:
        ao.set_num_threads(None)
    assert results == [True] * 120


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_pauses(kernels: ctypes.CDLL, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that comes back to Python after every range: nothing is computed meanwhile."""
    blocks = Blocks(kernels, 60, nanoseconds=20_000)
    tasks = Blocks(kernels, 30, nanoseconds=20_000, total=blocks.total)
    found: list[int] = []

    def paused(arrayops_run: object = scheduler._foreign_run()) -> object:
        def run_and_look(job: int, nanoseconds: int) -> int:
            state = arrayops_run(job, 0)  # type: ignore[operator]
            before = int(blocks.total[0])
            for _ in range(100):
                assert blocks.total[0] == before
            found.append(before)
            assert (blocks.counts.sum() + tasks.counts.sum()) == before
            return int(state)

        return run_and_look

    monkeypatch.setattr(scheduler, "_foreign_run", paused)
    with ao.num_threads(threads):
        run([blocks.task(3), tasks.task(3, barrier=True)], nanoseconds=ENOUGH_WORK)
    assert (blocks.counts == 1).all()
    assert (tasks.counts == 1).all()
    assert (tasks.seen >= 60).all()
    assert len(found) > 5 or threads > 1, "helpers may be through before the caller"
    assert found == sorted(found)
    assert found[-1] == 90


def test_subnormal_numbers_do_not_depend_on_the_thread(kernels: ctypes.CDLL) -> None:
    if not hasattr(kernels, "float_mode"):
        pytest.skip("the kernels read the floating-point mode of x86 only")
    flush_to_zero = 0x9FC0
    before = kernels.float_mode()
    for threads in (1, 2, 7):
        cells = np.full(200, 1e-310)
        kernels.set_float_mode(flush_to_zero)
        try:
            with ao.num_threads(threads):
                halve_in_blocks(kernels, cells)
            during = kernels.float_mode()
        finally:
            kernels.set_float_mode(before)
        assert during == flush_to_zero
        assert (cells == 5e-311).all()


STARTED_WITH_FLUSH_TO_ZERO = """
import ctypes, sys
import numpy as np
from observed_blocks import halve_in_blocks
import arrayops as ao
kernels = ctypes.CDLL(sys.argv[1])
ao.set_num_threads(3)
cells = np.full(300, 1e-310)
before = kernels.float_mode()
kernels.set_float_mode(0x9FC0)  # which new threads inherit
halve_in_blocks(kernels, cells)
kernels.set_float_mode(before)
assert (cells == 5e-311).all(), (cells == 0).sum()
"""


def test_subnormal_numbers_on_threads_started_by_one_that_flushes_them(
    kernels: ctypes.CDLL, kernels_path: Path
) -> None:
    if not hasattr(kernels, "float_mode"):
        pytest.skip("the kernels read the floating-point mode of x86 only")
    in_new_process(STARTED_WITH_FLUSH_TO_ZERO, str(kernels_path))


def test_flags_raised_by_kernels_do_not_reach_the_caller(kernels: ctypes.CDLL) -> None:
    if not hasattr(kernels, "float_mode"):
        pytest.skip("the kernels read the floating-point mode of x86 only")
    denormal, underflow, flags = 0x02, 0x10, 0x3F
    cells = np.full(10, 5e-324) * 3
    kernels.set_float_mode(kernels.float_mode() & ~flags)
    halve_in_blocks(kernels, cells)
    raised = kernels.float_mode() & flags
    assert (cells == 1e-323).all(), "rounded to even"
    assert not raised & (denormal | underflow)


HELPERS = """
import ctypes, sys, threading
from observed_blocks import Blocks, helpers
import arrayops as ao
kernels = ctypes.CDLL(sys.argv[1])
ao.set_num_threads(64)
Blocks(kernels, 100).run(nanoseconds=9e4)
assert helpers() == {}, "started without need"
ao.set_num_threads(3)
def compute():
    for _ in range(20):
        assert Blocks(kernels, 50, nanoseconds=10_000).run().all_once()
callers = [threading.Thread(target=compute) for _ in range(5)]
for caller in callers: caller.start()
for caller in callers: caller.join()
print(sorted(helpers().values()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads are listed on Linux only")
def test_callers_at_once_share_the_helpers(kernels_path: Path) -> None:
    assert in_new_process(HELPERS, str(kernels_path)).strip() == "['arrayops-1', 'arrayops-2']"
