"""Runs a command under a sanitizer, prints what was found, and fails if there was anything.

    python -m emulator.sanitize address,undefined|thread -- pytest ...

The command may be a pytest run, with or without xdist: kernels are built for the sanitizer and cached beside others.
"""

import sys
from collections.abc import Sequence

from emulator import sanitizer


def main(arguments: Sequence[str]) -> int:
    if len(arguments) < 3 or arguments[0] not in sanitizer.KINDS or arguments[1] != "--":
        print(f"usage: python -m emulator.sanitize {'|'.join(sanitizer.KINDS)} -- command", file=sys.stderr)
        return 2
    outcome = sanitizer.run(arguments[0], arguments[2:], capture=False)
    if outcome.reports:
        print(outcome.reports, file=sys.stderr)
    return outcome.status or (sanitizer.FAILED if outcome.reports else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
