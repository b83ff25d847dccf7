"""Forked children, the end of the interpreter, processors and signals: what is the process's stays as it is."""

import os
import sys
import time
from pathlib import Path

import pytest

from new_process import in_new_process

COMMON = """
import ctypes, multiprocessing, os, signal, sys, threading, time, warnings
from observed_blocks import Blocks, helpers, settings
import arrayops as ao
kernels = ctypes.CDLL(sys.argv[1])
ao.set_num_threads(2)
warnings.simplefilter("ignore")  # forking a process that has threads is what this is about

def compute():
    return Blocks(kernels, 200, nanoseconds=20_000, workspace=1000).run(3).all_once()

def exit_status(child, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    return "hangs"

assert compute()
"""

FORK = """
finished = []
stop = threading.Event()

def go_on():
    while not stop.is_set():
        finished.append(compute())

workers = [threading.Thread(target=go_on) for _ in range(2)]
for worker in workers: worker.start()
statuses = []
for _ in range(30):
    child = os.fork()
    if child == 0:
        right = not helpers() and compute() and len(helpers()) == 1 and compute()
        os._exit(0 if right else 1)
    statuses.append(exit_status(child))
context = multiprocessing.get_context("fork")
with context.Pool(2) as pool:
    pooled = pool.starmap(compute, [()] * 8)
stop.set()
for worker in workers: worker.join()
assert statuses == [0] * 30, statuses
assert pooled == [True] * 8
assert len(finished) > 2 and all(finished)
"""

# A child that goes on with the call that its parent was in: between two foreign calls nothing is in flight.
FORK_IN_A_HANDLER = """
children = []

def handler(*_):
    children.append(os.fork())

from arrayops._backends.cpu.engine import scheduler
signal.signal(signal.SIGALRM, handler)
scheduler.CALL_NANOSECONDS = 1_000_000
signal.setitimer(signal.ITIMER_REAL, 0.01)
blocks = Blocks(kernels, 1000, nanoseconds=100_000).run()
assert len(children) == 1
if children == [0]:
    os._exit(0 if blocks.all_once() else 1)
assert blocks.all_once()
assert exit_status(children[0]) == 0
"""

EXIT = """
def compute_for_long():
    while True:
        Blocks(kernels, 500, nanoseconds=10_000_000).run()

threading.Thread(target=compute_for_long, daemon=True).start()
time.sleep(0.3)
print(time.time())
"""

PROCESSORS = """
allowed = os.sched_getaffinity(0)
first, second = sorted(allowed)[:2]

def masks():
    assert Blocks(kernels, 50, nanoseconds=50_000).run().all_once()
    return [os.sched_getaffinity(number) for number in helpers()]

before = settings()
(mask,) = masks()
assert mask < allowed and len(mask) == len(allowed) - 1, (mask, allowed)
assert settings() == before
os.sched_setaffinity(0, {first})
assert masks() == [{first}]
os.sched_setaffinity(0, {second})
assert masks() == [{second}]
os.sched_setaffinity(0, {first, second})
assert masks() in ([{first}], [{second}])

# While the caller waits in C, its helper is elsewhere.
where = Blocks(kernels, 400, nanoseconds=50_000).run()
caller = threading.get_native_id()
assert len({*where.processors[where.threads != caller]}) == 1
assert os.sched_getaffinity(0) == {first, second}
"""

SIGNALS = """
status = {
    line.split(":")[0]: line.split()[1] for line in open(f"/proc/self/task/{next(iter(helpers()))}/status")
    if line.startswith("Sig")
}
blocked = int(status["SigBlk"], 16)
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD, signal.SIGPROF, signal.SIGUSR1):
    assert blocked >> (number - 1) & 1, number
"""

pytestmark = pytest.mark.slow
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="threads and their processors are listed on Linux only")
forks_only = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@linux_only
@forks_only
def test_fork_in_the_middle_of_calls_of_other_threads(kernels_path: Path) -> None:
    in_new_process(COMMON + FORK, str(kernels_path))


@forks_only
def test_fork_in_the_middle_of_the_own_call(kernels_path: Path) -> None:
    in_new_process(COMMON + FORK_IN_A_HANDLER, str(kernels_path))


def test_the_interpreter_ends_while_a_daemon_thread_computes(kernels_path: Path) -> None:
    began_to_end = float(in_new_process(COMMON + EXIT, str(kernels_path)))
    assert time.time() - began_to_end < 2


@linux_only
def test_helpers_keep_off_the_callers_processor(kernels_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("this process may run on one processor only")
    in_new_process(COMMON + PROCESSORS, str(kernels_path))


@linux_only
def test_helpers_take_no_signals(kernels_path: Path) -> None:
    in_new_process(COMMON + SIGNALS, str(kernels_path))
