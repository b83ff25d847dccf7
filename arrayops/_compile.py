"""Command line of ``python -m arrayops compile``: builds all kernels of the CPU ahead."""

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from arrayops._backends.cpu.engine.cache import Cache, CacheUnusable
from arrayops._backends.cpu.engine.compiler import REMEDY, find_compiler
from arrayops._backends.cpu.engine.errors import EngineUnavailable
from arrayops._backends.cpu.engine.target import Target, target_of
from arrayops._backends.cpu.engine.trust import privileges_differ
from arrayops._backends.cpu.engine.unit import Unit, prepare
from arrayops._backends.cpu.units import all_units
from arrayops._core.threads import get_num_threads


def main(arguments: Sequence[str]) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m arrayops compile",
        description="Compile all CPU kernels ahead, for images and for systems without a compiler or a network.",
    )
    parser.add_argument("--arch", help="lowest processor to run on, such as x86-64-v3 (default: this processor)")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder to be named by ARRAYOPS_CACHE_DIR where the kernels run; it may be read-only there "
        "(default: the cache of this user)",
    )
    options = parser.parse_args(arguments)
    if privileges_differ():
        return failed("the real and the effective user or group of this process differ")
    try:
        target = target_of(options.arch)
        cache = Cache(options.output)
        compiler = find_compiler(target)
    except EngineUnavailable as error:
        return failed(f"{error}\n{REMEDY}")
    except (CacheUnusable, ValueError) as error:
        return failed(str(error))
    print(f"{' '.join(compiler.command)}, {compiler.version}, {target.architecture}, into {cache.folder}")
    return build_all(all_units(), target, cache)


def build_all(units: Sequence[Unit], target: Target, cache: Cache) -> int:
    """Build units, several at a time, with a line for each; return the exit status."""

    def build(unit: Unit) -> str:
        begun = time.monotonic()
        built = prepare(unit, target, cache)
        return f"{unit}: {f'{time.monotonic() - begun:.1f} s' if built else 'there already'}"

    status = 0
    with ThreadPoolExecutor(get_num_threads()) as threads:
        futures = {threads.submit(build, unit): unit for unit in units}
        try:
            for number, future in enumerate(as_completed(futures), 1):
                try:
                    print(f"[{number}/{len(units)}] {future.result()}", flush=True)
                except (EngineUnavailable, OSError) as error:
                    status = failed(f"{futures[future]}: {error}")
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return status


def failed(message: str) -> int:
    """Print a message; return the exit status of failures."""
    print(f"arrayops: {message}", file=sys.stderr, flush=True)
    return 1
