"""In which order threads, lanes and blocks run.

A correct kernel gives the same result in every order, so tests run kernels in several. `fifo` starts from thread 0 and
block 0, `lifo` from the last ones, `random` shuffles both by a seed, which makes every run repeatable.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

# In the numbering of the runtime.
ORDERS = ("fifo", "lifo", "random")


class Schedule(NamedTuple):
    """An order by its number in `ORDERS`, and the seed of a random one."""

    order: int
    seed: int


# Innermost last. Of the whole process: what the code under test launches from threads of its own counts as well.
_chosen: list[Schedule] = []


def _checked(order: str, seed: int) -> Schedule:
    if order not in ORDERS:
        raise ValueError(f"order of threads is {order!r}, expected one of {', '.join(ORDERS)}")
    return Schedule(ORDERS.index(order), seed)


@contextmanager
def schedule(order: str, seed: int = 1) -> Iterator[None]:
    """Run the launches inside in this order."""
    _chosen.append(_checked(order, seed))
    try:
        yield
    finally:
        _chosen.pop()


def current() -> Schedule:
    """The innermost `schedule`, else what EMULATOR_ORDER and EMULATOR_SEED say, else fifo."""
    if _chosen:
        return _chosen[-1]
    return _checked(os.environ.get("EMULATOR_ORDER", "fifo"), int(os.environ.get("EMULATOR_SEED", "1")))
