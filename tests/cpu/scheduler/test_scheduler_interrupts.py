"""Exceptions that signal handlers raise in the middle of a call, and handlers that call the scheduler themselves."""

import signal
from pathlib import Path

import pytest

from new_process import in_new_process

COMMON = """
import ctypes, os, random, signal, sys, threading, time
import threadpoolctl
from observed_blocks import ENOUGH_WORK, Blocks, settings
import arrayops as ao
from arrayops._backends.cpu.engine import scheduler
kernels = ctypes.CDLL(sys.argv[1])
threads = int(sys.argv[2])
ao.set_num_threads(threads)
assert Blocks(kernels, 50, nanoseconds=10_000).run().all_once()

class Raised(Exception):
    pass

def check_that_nothing_goes_on(blocks, seconds):
    before = int(blocks.total[0])
    assert blocks.counts.sum() == before
    assert blocks.counts.max(initial=0) <= 1
    time.sleep(seconds)
    assert blocks.total[0] == before == blocks.counts.sum()

def check_that_the_next_call_is_right():
    assert Blocks(kernels, 9, nanoseconds=1000, workspace=100).run().all_once()
"""

# A handler that raises after a random time.
TIMER = """
def handler(*_):
    raise Raised

signal.signal(signal.SIGALRM, handler)
scheduler.CALL_NANOSECONDS = 200_000
before = settings()
mode = kernels.float_mode() if hasattr(kernels, "float_mode") else 0
random.seed(0)
raised = 0
for _ in range(1500):
    blocks = Blocks(kernels, 60, nanoseconds=20_000, workspace=64)
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 1.3e-3 / min(threads, os.cpu_count())))
        blocks.run(3)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for _ in range(3):
            pass  # a signal that has arrived by then is handled here
    except Raised:
        raised += 1
    check_that_nothing_goes_on(blocks, 1e-4)
    check_that_the_next_call_is_right()
assert settings() == before, (settings(), before)
flags = 0x3f
assert not hasattr(kernels, "float_mode") or kernels.float_mode() | flags == mode | flags
print(raised)
"""

# An exception at the n-th instruction of `run`, for every n until there are no more, and again from the first.
TRACER = """
class Tracer:
    def __init__(self, instruction):
        self.left = instruction

    def __call__(self, frame, event, argument):
        if not frame.f_code.co_filename.endswith("scheduler.py"):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left < 0:
                raise Raised
        return self

scheduler.CALL_NANOSECONDS = 0
before = settings()
raised = instruction = 0
while raised < 1200:
    blocks = Blocks(kernels, 60, nanoseconds=2000)
    try:
        sys.settrace(Tracer(instruction))
        blocks.run()
        sys.settrace(None)
        assert instruction > 100 and blocks.all_once()
        instruction = 0
    except Raised:
        sys.settrace(None)
        raised += 1
        instruction += 1
    check_that_nothing_goes_on(blocks, 1e-4)
    check_that_the_next_call_is_right()
assert settings() == before, (settings(), before)
"""

# The handler's own call, what it finds of the outer one, and settings that it changes in the middle.
NESTED = """
nested, moved = [], []

def handler(*_):
    before = int(outer.total[0])
    nested.append(Blocks(kernels, 30, nanoseconds=5000, workspace=1000).run(2).all_once())
    moved.append(int(outer.total[0]) - before)
    sys.setswitchinterval(0.0123)
    threadpoolctl.threadpool_limits(1)

signal.signal(signal.SIGALRM, handler)
scheduler.CALL_NANOSECONDS = 200_000
outer = Blocks(kernels, 2000, nanoseconds=50_000, workspace=1000)
signal.setitimer(signal.ITIMER_REAL, 2e-3, 2e-3)
outer.run(3)
signal.setitimer(signal.ITIMER_REAL, 0)
assert outer.all_once()
assert len(nested) > 5 and all(nested), nested
assert not any(moved), moved
assert abs(sys.getswitchinterval() - 0.0123) < 1e-6
assert all(library["num_threads"] == 1 for library in threadpoolctl.threadpool_info())
"""

# Control-C in a job of five seconds on one thread.
CONTROL_C = """
def interrupt():
    time.sleep(0.3)
    times.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

times = []
threading.Thread(target=interrupt).start()
blocks = Blocks(kernels, 500, nanoseconds=10_000_000)
try:
    blocks.run(1000, nanoseconds=float(sys.argv[3]))
except KeyboardInterrupt:
    times.append(time.perf_counter())
assert len(times) == 2, "not interrupted"
check_that_nothing_goes_on(blocks, 0.05)
check_that_the_next_call_is_right()
print(times[1] - times[0])
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers that send signals"),
]


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_a_handler_that_raises_at_any_time(kernels_path: Path, threads: int) -> None:
    assert int(in_new_process(COMMON + TIMER, str(kernels_path), str(threads))) > 1000


@pytest.mark.parametrize("threads", [1, 2])
def test_an_exception_at_every_instruction(kernels_path: Path, threads: int) -> None:
    in_new_process(COMMON + TRACER, str(kernels_path), str(threads))


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_a_handler_that_calls_the_scheduler_and_changes_settings(kernels_path: Path, threads: int) -> None:
    in_new_process(COMMON + NESTED, str(kernels_path), str(threads))


@pytest.mark.parametrize(
    ("threads", "estimate"),
    [
        pytest.param(1, 5e9, id="one thread"),
        pytest.param(2, 5e9, id="two threads"),
        pytest.param(2, 5e8, id="estimate too low"),
    ],
)
def test_control_c(kernels_path: Path, threads: int, estimate: float) -> None:
    assert float(in_new_process(COMMON + CONTROL_C, str(kernels_path), str(threads), str(estimate))) < 0.5
