"""How many CPU threads the operators may use."""

import os

_requested: int | None = None


def _wish() -> int | None:
    """What ``ARRAYOPS_NUM_THREADS`` says."""
    found = os.environ.get("ARRAYOPS_NUM_THREADS", "")
    return int(found) if found.isdigit() else None


_most = _wish()


def set_num_threads(count: int | None) -> None:
    """Limit the CPU threads that operators use.

    Parameters
    ----------
    count : int or None
        At least 1; None returns to the default. Results do not depend on it, to the last bit.

    Raises
    ------
    ValueError
        For a count below 1.

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
        raise ValueError(f"set_num_threads: count is {count!r}, expected a whole number of at least 1, or None")
    _requested = count


def get_num_threads() -> int:
    """Number of CPU threads that an operator called now may use.

    Without `set_num_threads` it is the number of CPUs that the calling thread may run on, at most the value that the
    environment variable ``ARRAYOPS_NUM_THREADS`` had when arrayops was imported.

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
    return available if _most is None else max(1, min(available, _most))
