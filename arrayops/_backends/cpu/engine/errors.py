"""The error of a kernel that cannot be compiled or loaded here, and results that may be such an error."""

from collections.abc import Callable, MutableMapping
from typing import TypeVar

KeyT = TypeVar("KeyT")
ResultT = TypeVar("ResultT")


class EngineUnavailable(RuntimeError):
    """Compiled kernels cannot serve; the message says why. Raised before any work, so that NumPy can serve instead."""


class CompilerHangs(EngineUnavailable):
    """A compiler was stopped at its time limit."""


def remembered(
    results: "MutableMapping[KeyT, ResultT | EngineUnavailable]", key: KeyT, make: Callable[[KeyT], ResultT]
) -> ResultT:
    """``make(key)``, or the `EngineUnavailable` that it raised, of the first time.

    No lock: two threads may do the same work, of which both take the first result, but neither a child that is forked
    meanwhile nor a signal handler finds a lock held.
    """
    found = results.get(key)
    if found is None:
        try:
            found = make(key)
        except EngineUnavailable as error:
            # Its traceback would keep the caller's arrays.
            found = EngineUnavailable(str(error))
        found = results.setdefault(key, found)
    if isinstance(found, EngineUnavailable):
        raise EngineUnavailable(str(found))
    return found
