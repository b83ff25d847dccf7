"""Number of CPU threads that operators may use."""

import os
from contextlib import ContextDecorator
from contextvars import ContextVar

_requested: int | None = None

_limits: ContextVar[tuple[int | None, ...]] = ContextVar("arrayops_num_threads", default=(None,))
"""The counts of the `num_threads` that this context is in, the innermost last."""


def _thread_limit_of_environment() -> int | None:
    """Value of ``ARRAYOPS_NUM_THREADS``; None if unset or not a number."""
    value = os.environ.get("ARRAYOPS_NUM_THREADS", "")
    return int(value) if value.isdigit() else None


_environment_limit = _thread_limit_of_environment()


def _check_count(function: str, count: object) -> None:
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ValueError(f"{function}: count is {count!r}, expected an integer of at least 1, or None")


def set_num_threads(count: int | None) -> None:
    """Limit the number of CPU threads that operators use.

    Parameters
    ----------
    count : int or None
        At least 1; None restores the default. Results are bitwise equal for any number of threads.

    Raises
    ------
    ValueError
        If ``count`` is not an integer of at least 1.

    See Also
    --------
    num_threads : A number for some calls only.

    Examples
    --------
    >>> import arrayops as ao
    >>> ao.set_num_threads(2)
    >>> ao.get_num_threads()
    2
    >>> ao.set_num_threads(None)
    """
    global _requested
    _check_count("set_num_threads", count)
    _requested = count


class num_threads(ContextDecorator):
    """Limit the number of CPU threads that operators use, for the calls in a ``with`` block or in a function.

    Other threads are not affected, nor other tasks of asyncio. The threads of autograd, XLA and TensorFlow that compute
    gradients or graphs are others in this sense: they use the number of the process (`set_num_threads`).

    Parameters
    ----------
    count : int or None
        At least 1; None stands for the number of the process. Results are bitwise equal for any number of threads.

    Raises
    ------
    ValueError
        If ``count`` is not an integer of at least 1.

    See Also
    --------
    set_num_threads : The number of the process.

    Examples
    --------
    >>> import arrayops as ao
    >>> with ao.num_threads(3):
    ...     ao.get_num_threads()
    3

    All calls in a function:

    >>> @ao.num_threads(1)
    ... def threads_of_preprocessing():
    ...     return ao.get_num_threads()
    >>> threads_of_preprocessing()
    1
    """

    def __init__(self, count: int | None) -> None:
        _check_count("num_threads", count)
        self._count = count

    # An object may be entered by several threads at once, and again inside of itself, as a decorator is: all that is
    # known of where it has been entered is in the context.
    def __enter__(self) -> None:
        _limits.set((*_limits.get(), self._count))

    def __exit__(self, *exception: object) -> None:
        _limits.set(_limits.get()[:-1])


def get_num_threads() -> int:
    """Return the number of CPU threads that operators may use when they are called where this function is.

    The default is the number of CPUs that the calling thread may run on, limited by the value of the environment
    variable ``ARRAYOPS_NUM_THREADS`` when arrayops is imported.

    Returns
    -------
    int

    Examples
    --------
    >>> import arrayops as ao
    >>> ao.get_num_threads() >= 1
    True
    """
    requested = _limits.get()[-1] or _requested
    if requested is not None:
        return requested
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return available if _environment_limit is None else max(1, min(available, _environment_limit))
