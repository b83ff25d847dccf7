"""Command line: ``python -m arrayops demo``, ``info`` and ``compile``."""

import sys
from collections.abc import Sequence

USAGE = """usage: python -m arrayops COMMAND [OPTIONS]

  demo     upsample a measured disparity map, guided by its photo (demo --help lists options)
  info     versions, devices, backends, compilers and the caches of compiled kernels
  compile  compile all CPU kernels ahead (compile --help lists options)
"""


def main(arguments: Sequence[str]) -> int:
    """Run a command; return the exit status."""
    command, *rest = arguments or ("--help",)
    if command == "demo":
        from arrayops._demo.command import main as demo

        return demo(rest)
    if command == "info":
        from arrayops._info import report

        print(report())
        return 0
    if command == "compile":
        from arrayops._compile import main as compile_kernels

        return compile_kernels(rest)
    known = command in ("-h", "--help")
    print(USAGE, end="", file=sys.stdout if known else sys.stderr)
    return 0 if known else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
