"""Lines for users who sit in front of a terminal or a notebook."""

import sys

_told: set[str] = set()


def tell(text: str) -> None:
    """Write a line to stderr, each text once a process; nothing where stderr goes to a file or to a pipe."""
    if text in _told or sys.stderr is None:
        return
    _told.add(text)
    if sys.stderr.isatty() or type(sys.stderr).__module__.partition(".")[0] == "ipykernel":
        print(f"arrayops: {text}", file=sys.stderr, flush=True)
