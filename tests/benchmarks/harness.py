"""Side-by-side timing: every rival runs in turn within each round, so that drift of the machine hits all alike.

What is reported are medians over rounds, medians of the ratios of each round, and *floors*: the time that the operation
count needs at the rate of a large matrix product measured on this machine, and that its bytes need at the measured rate
of a copy.
"""

import argparse
import json
import math
import os
import platform
import statistics
import time
import timeit
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from arrayops import _backends

THREADS = 2

PAUSE = 0.02
"""Seconds before each timed call: threads that a rival has left spinning, as OpenMP does, go to sleep meanwhile."""


@dataclass
class Case:
    """One comparison: rivals by name, the first of which is ours, and what the work is worth.

    ``agree`` checks results before anything is timed; ``operations`` are floating-point operations, ``bytes`` the
    fewest that must be moved, ``limits`` the most that our time may be, as a multiple of the rival's, and ``limit_ms``
    the most that its median may be.
    """

    name: str
    rivals: Mapping[str, Callable[[], Any]]
    agree: Callable[[], None]
    operations: float
    bytes: float
    limits: Mapping[str, float] = field(default_factory=dict)
    limit_ms: float | None = None


@dataclass
class Row:
    """Result of a case: medians in milliseconds, floors in milliseconds, medians of our time over each rival's."""

    case: str
    median_ms: dict[str, float]
    quartiles_ms: dict[str, tuple[float, float]]
    floor_operations_ms: float
    floor_bytes_ms: float
    ratio_to: dict[str, float]
    limits: dict[str, float]
    limit_ms: float | None = None

    @property
    def in_time(self) -> bool:
        """Whether the limit in milliseconds held."""
        return self.limit_ms is None or next(iter(self.median_ms.values())) <= self.limit_ms

    @property
    def kept(self) -> bool:
        """Whether every limit held."""
        return self.in_time and all(self.ratio_to[rival] <= limit for rival, limit in self.limits.items())


def microseconds(function: Callable[[], Any], calls: int, rounds: int = 31) -> float:
    """Median time of a call too short to be timed alone, over rounds of many calls."""
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        found.append((time.perf_counter() - start) / calls * 1e6)
    return statistics.median(found)


def least_microseconds(calls: Mapping[str, Callable[[], Any]], rounds: int = 100) -> dict[str, float]:
    """Least time of each call over many short bursts, taken in turn.

    For what a call costs in Python: a clock that falls, and whatever else runs on the machine, only add to it, and
    mostly for longer than a burst takes.
    """
    length, bursts = 20, 20
    least = dict.fromkeys(calls, math.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            least[name] = min(least[name], *timeit.repeat(call, number=length, repeat=bursts))
    return {name: found / length * 1e6 for name, found in least.items()}


def tenth_percentiles(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Tenth percentile of the microseconds of each call, all of them timed in turn, each call alone."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            found[name].append(seconds(call) * 1e6)
    return {name: statistics.quantiles(times, n=10)[0] for name, times in found.items()}


@contextmanager
def instant_backends() -> Iterator[None]:
    """Every backend function computes in its first call only, and returns the same results at once ever after.

    For what a call costs before and behind the backend; all calls of one operator must be of the same shapes.
    """
    find: Callable[[str, str, str], Callable[..., Any]] = _backends.find
    functions: dict[str, Callable[..., Any]] = {}

    def instant(kind: str, family: str, name: str) -> Callable[..., Any]:
        function = functions.get(name)
        if function is None:
            real, results = find(kind, family, name), []

            def function(arrays: Any, parameters: Any) -> Any:
                if not results:
                    results.append(real(arrays, parameters))
                return results[0]

            functions[name] = function
        return function

    with mock.patch.object(_backends, "find", instant):
        yield


def seconds(function: Callable[[], Any]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@cache
def product_rate() -> float:
    """Floating-point operations per second of a large float32 matrix product."""
    a = np.random.default_rng(0).standard_normal((1536, 1536), np.float32)
    a @ a
    return 2 * 1536**3 / statistics.median(seconds(lambda: a @ a) for _ in range(7))


@cache
def copy_rate() -> float:
    """Bytes per second, read and written, of a large copy on one thread."""
    source = np.ones(1 << 25, np.float32)
    target = np.empty_like(source)
    np.copyto(target, source)
    return 2 * source.nbytes / statistics.median(seconds(lambda: np.copyto(target, source)) for _ in range(7))


def milliseconds(rivals: Mapping[str, Callable[[], Any]], rounds: int, *, warm: bool = False) -> dict[str, list[float]]:
    """Time of each rival in each round, after a call of each that is not timed, or with ``warm`` one in each round."""
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for function in rivals.values():
        function()
    for _ in range(rounds):
        for name, function in rivals.items():
            time.sleep(PAUSE)
            if warm:
                function()
            times[name].append(seconds(function) * 1e3)
    return times


def measure(case: Case, rounds: int, *, warm: bool = False) -> Row:
    """Check agreement, warm up, time all rivals in turn."""
    case.agree()
    times = milliseconds(case.rivals, rounds, warm=warm)
    medians = {name: statistics.median(values) for name, values in times.items()}
    quartiles = {name: statistics.quantiles(values, n=4) for name, values in times.items()}
    ours, *others = case.rivals
    return Row(
        case.name,
        medians,
        {name: (values[0], values[2]) for name, values in quartiles.items()},
        case.operations / product_rate() * 1e3,
        case.bytes / copy_rate() * 1e3,
        {
            name: statistics.median(own / other for own, other in zip(times[ours], times[name], strict=True))
            for name in others
        },
        dict(case.limits),
        case.limit_ms,
    )


def machine() -> dict[str, str]:
    """What the numbers were measured on."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [
            line.partition(":")[2].strip() for line in information.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    versions = {}
    for package in ("numpy", "scipy", "torch", "jax", "tensorflow", "opencv-contrib-python-headless"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "date": date.today().isoformat(),
        "cpu": f"{model}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **versions,
    }


def with_limit(value: str, limit: float | None, held: bool) -> str:
    """What a cell says of a figure and its limit."""
    return value if limit is None else f"{value} ({limit:.3g}{'' if held else ', MISSED'})"


def table(rows: Sequence[Row]) -> str:
    """Markdown table of the rows."""
    # Not every rival stands in every row.
    rivals = list(dict.fromkeys(name for row in rows for name in row.median_ms))
    ours, *others = rivals
    head = [
        "case",
        *(f"{name} ms" for name in rivals),
        *(f"{ours} / {name} (limit)" for name in others),
        "floor: operations ms",
        "floor: bytes ms",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        ratios = []
        for name in others:
            if name not in row.ratio_to:
                ratios.append("")
                continue
            limit = row.limits.get(name)
            ratio = row.ratio_to[name]
            ratios.append(with_limit(f"{ratio:.2f}", limit, limit is None or ratio <= limit))
        cells = [
            row.case,
            with_limit(f"{row.median_ms[ours]:.1f}", row.limit_ms, row.in_time),
            *(f"{row.median_ms[name]:.1f}" if name in row.median_ms else "" for name in others),
            *ratios,
            f"{row.floor_operations_ms:.1f}",
            f"{row.floor_bytes_ms:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(title: str, cases: Callable[[], Iterable[Case]]) -> int:
    """Command line of a benchmark: time its cases, print the table, write JSON if asked; 1 if a limit was missed."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of timing (default 15)")
    parser.add_argument("--only", default="", help="run the cases whose name holds this text")
    parser.add_argument(
        "--warm",
        action="store_true",
        help="time the second of two calls after each pause, as in a loop; else the first, for which threads must wake",
    )
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    arguments = parser.parse_args()
    rows = [measure(case, arguments.rounds, warm=arguments.warm) for case in cases() if arguments.only in case.name]
    about = machine()
    print(f"{title}\n\n{', '.join(f'{name} {value}' for name, value in about.items())}; {THREADS} threads each")
    print(f"matrix product {product_rate() / 1e9:.0f} GFLOP/s, copy {copy_rate() / 1e9:.1f} GB/s\n")
    print(table(rows))
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": about, "rows": [asdict(row) for row in rows]}, indent=1))
    return 0 if all(row.kept for row in rows) else 1
