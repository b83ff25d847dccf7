"""Every planted bug: how it is launched, what the kernel without it gives, and who has to notice."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emulator import EmulatorError, RawModule, schedule

Array = np.ndarray[Any, Any]

THREADS = 128

# The orders in which every kernel runs.
SCHEDULES = (("fifo", 1), ("lifo", 1), ("random", 1), ("random", 2))

FOUR = np.arange(THREADS) % 4

FACTORS = np.dtype([("scale", np.float32), ("first", np.int32), ("stride", np.int64)], align=True)
PACKED_FACTORS = np.dtype([("scale", np.float32), ("stride", np.int64)])


class Bug(NamedTuple):
    """One kernel of bugs.cu.

    `detector` is who has to notice, at the least: "result" if the result is wrong in one of the orders, "report" if the
    emulator refuses, else a sanitizer. `says` has to stand in the report. `start` is what the output holds before.
    """

    name: str
    detector: str
    says: str
    expected: Callable[[Array], Array]
    dtype: str = "float32"
    inputs: int = THREADS
    outputs: int = THREADS
    grid: int = 1
    block: int = THREADS
    shared: int = 0
    start: float | None = None
    third: Callable[[bool], Any] = lambda planted: np.int32(THREADS)


def reversed_tiles(x: Array) -> Array:
    return np.asarray(x.reshape(4, THREADS)[:, ::-1].sum(axis=0))


def window(x: Array) -> Array:
    padded = np.pad(x, 1)
    return np.asarray(padded[:-2] + padded[1:-1] + padded[2:])


def ends_of_four(x: Array) -> Array:
    return np.repeat(x[::4] + x[3::4], 4)


def ends_by_lane(x: Array) -> Array:
    return np.tile(x[:THREADS:4] + x[3:THREADS:4], 4)


def with_partner(distance: int) -> Callable[[Array], Array]:
    return lambda x: x + x[np.arange(x.size) ^ distance]


def shifted(x: Array) -> Array:
    return (x.astype(np.int64) << np.arange(THREADS) % 32).astype(np.int32)


def blocks_and_before(x: Array) -> Array:
    return np.asarray(2 * x + np.r_[np.zeros(THREADS), 2 * x[:-THREADS]])


BUGS = (
    Bug("write_past_end", "address", "heap-buffer-overflow", lambda x: 2 * x, grid=2),
    Bug("read_past_halo", "address", "heap-buffer-overflow", window),
    Bug("static_shared_overrun", "address", "use-after-poison", lambda x: np.roll(x, -1)),
    Bug("dynamic_shared_overrun", "address", "use-after-poison", lambda x: np.roll(x, -1), shared=4 * THREADS),
    Bug("copy_past_end", "address", "heap-buffer-overflow", lambda x: np.roll(x, -4)),
    Bug("misaligned_global", "undefined", "misaligned address", ends_by_lane, inputs=THREADS + 4),
    Bug("misaligned_shared", "undefined", "misaligned address", ends_of_four),
    Bug("unwritten_shared", "result", "", lambda x: x[::-1]),
    Bug("unwritten_output", "result", "", lambda x: 2 * x),
    Bug("missing_barrier_forward", "result", "", lambda x: np.roll(x, -1)),
    Bug("missing_barrier_forward", "thread", "data race", lambda x: np.roll(x, -1)),
    Bug("missing_barrier_backward", "result", "", lambda x: np.r_[0, x[:-1]]),
    Bug("missing_barrier_of_next_tile", "result", "", reversed_tiles, inputs=4 * THREADS),
    Bug("missing_barrier_of_next_tile", "thread", "data race", reversed_tiles, inputs=4 * THREADS),
    Bug("missing_warp_barrier", "result", "", lambda x: np.full(32, x[:32].sum()), outputs=32, block=32),
    Bug("missing_warp_barrier", "thread", "data race", lambda x: np.full(32, x[:32].sum()), outputs=32, block=32),
    Bug("shuffle_as_barrier", "thread", "data race", lambda x: 2 * x[np.arange(32) ^ 1], outputs=32, block=32),
    Bug("barrier_in_branch", "report", "64 threads wait in __syncthreads", lambda x: x),
    Bug("two_barriers", "report", "divergent __syncthreads", lambda x: x),
    Bug("early_return", "report", "100 threads wait in __syncthreads", lambda x: x),
    Bug("shuffle_in_branch", "report", "deadlock", with_partner(8)),
    Bug("mask_without_own_lane", "report", "is not in the mask of a shuffle", with_partner(8)),
    Bug("mask_of_absent_lanes", "report", "with mask 0xffffff00", with_partner(8)),
    Bug("shuffle_from_outside_the_mask", "result", "", with_partner(8)),
    Bug("mma_in_branch", "report", "wait in mma", lambda x: x),
    Bug("misaligned_matrix_row", "report", "not a multiple of 16", lambda x: x),
    Bug("missing_copy_wait", "result", "", lambda x: x[::-1]),
    Bug("wait_for_too_few_groups", "result", "", lambda x: x[:THREADS] + x[THREADS:], inputs=2 * THREADS),
    Bug("missing_barrier_behind_copy", "result", "", lambda x: x[::-1]),
    Bug("missing_barrier_behind_copy", "thread", "data race", lambda x: x[::-1]),
    Bug("sum_without_atomic", "thread", "data race", lambda x: x.sum(keepdims=True), outputs=1),
    Bug(
        "sum_of_blocks_without_atomic",
        "thread",
        "data race",
        lambda x: x[:4].sum(keepdims=True),
        outputs=1,
        grid=4,
        block=32,
        start=0,
    ),
    Bug("read_of_another_block", "result", "", blocks_and_before, inputs=3 * THREADS, outputs=3 * THREADS, grid=3),
    Bug("shift_too_far", "undefined", "shift exponent", shifted, dtype="int32"),
    Bug("index_overflow", "undefined", "signed integer overflow", lambda x: np.roll(x, -64), dtype="int32"),
    Bug(
        "index_outside_array",
        "undefined",
        "out of bounds",
        lambda x: x + np.arange(THREADS) % 4 + THREADS,
        dtype="int32",
    ),
    Bug(
        "struct_of_another_size",
        "report",
        "a struct of 16 bytes, and the launch passes 12 bytes",
        lambda x: 2 * x,
        third=lambda planted: np.array((2, 1), PACKED_FACTORS)[()] if planted else np.array((2, 0, 1), FACTORS)[()],
    ),
    Bug(
        "scalar_of_another_type",
        "report",
        "is float32, and the launch passes float64",
        lambda x: 2 * x,
        third=lambda planted: 2.0 if planted else np.float32(2),
    ),
    Bug("too_many_threads", "report", "128 threads a block, its launch bounds allow 64", lambda x: x),
    Bug("too_much_shared", "report", "49156 bytes of static", lambda x: x),
)

# Without a bug: whoever reports one is wrong.
CORRECT = (
    Bug(
        "sum_in_last_block",
        "",
        "",
        lambda x: x[:THREADS].sum(keepdims=True),
        outputs=1,
        grid=4,
        block=32,
        third=lambda planted: np.full(4, np.nan, np.float32),
    ),
    Bug(
        "histogram",
        "",
        "",
        lambda x: np.bincount(x & 15, minlength=16),
        dtype="int32",
        outputs=16,
        grid=2,
        block=32,
        start=0,
    ),
)


@cache
def module(planted: bool) -> RawModule:
    source = Path(__file__).with_name("bugs.cu").read_text(encoding="utf-8")
    return RawModule(code=source, options=("-DPLANTED",) if planted else ())


def run(bug: Bug, planted: bool, order: str, seed: int) -> str:
    """What is noticed: the emulator's report, that of a sanitizer, "wrong result", or nothing."""
    random = np.random.default_rng(1)
    # Small whole numbers: sums are exact in any order.
    x = random.integers(1, 100, bug.inputs).astype(bug.dtype)
    y = np.empty(bug.outputs, bug.dtype)
    if bug.start is None:
        y.view(np.uint8)[:] = 0xFF
    else:
        y[:] = bug.start
    with schedule(order, seed):
        try:
            kernel = module(planted).get_function(bug.name)
            kernel((bug.grid,), (bug.block,), (x, y, bug.third(planted)), shared_mem=bug.shared)
        except EmulatorError as error:
            return str(error)
    return "" if np.array_equal(y, bug.expected(x)) else "wrong result"


def noticed_in_all_orders(detectors: Sequence[str]) -> dict[str, list[str]]:
    """What is noticed in every order, by name.

    Of all correct kernels, and, with " planted" behind the name, of the bugs that one of the detectors has to notice.
    """
    noticed = {}
    for bug in (*BUGS, *CORRECT):
        for planted in (False, True) if bug.detector in detectors else (False,):
            key = f"{bug.name}{' planted' if planted else ''}"
            if key not in noticed:
                noticed[key] = [run(bug, planted, *schedule) for schedule in SCHEDULES]
    return noticed
