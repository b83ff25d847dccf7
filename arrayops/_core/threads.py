"""Number of CPU threads that operators may use."""

import os

_requested: int | None = None


def _thread_limit_of_environment() -> int | None:
    """Value of ``ARRAYOPS_NUM_THREADS``; None if unset or not a number."""
    value = os.environ.get("ARRAYOPS_NUM_THREADS", "")
    return int(value) if value.isdigit() else None


_environment_limit = _thread_limit_of_environment()


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

    Examples
    --------
    >>> import arrayops as ao
    >>> ao.set_num_threads(2)
    >>> ao.get_num_threads()
    2
    >>> ao.set_num_threads(None)
    """
    global _requested
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ValueError(f"set_num_threads: count is {count!r}, expected an integer of at least 1, or None")
    _requested = count


def get_num_threads() -> int:
    """Return the number of CPU threads that operators may use.

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
    if _requested is not None:
        return _requested
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return available if _environment_limit is None else max(1, min(available, _environment_limit))
