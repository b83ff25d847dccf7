"""Side-by-side timing on a GPU: time on the device, the cost of a call in Python, peak memory, floors.

How a row is measured:

- Results first have to agree; a row that disagrees is marked and timed all the same.
- Launches wait in the stream behind a kernel that sleeps for longer than Python needs to queue them, so that the time
  between two events is the GPU's alone. Python's own time is a column of its own.
- Inputs and results are rotated through several sets, which together are larger than the second-level cache, so that
  a row can be compared with the bandwidth of memory.
- All rivals are timed in turn within each round; a ratio is the median of the ratios of rounds.
- The floor is the larger of the operations over the rate of a large matrix product of that dtype, and of the bytes
  that have to be read and written over the rate of a large copy, both measured in the same run.

A script gives `main` its rows. ``--jsonl`` appends each result to a file as it comes; ``--device cpu`` runs tiny shapes
without a GPU, to show that the script works.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import arrayops as ao

LIMITS = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
"""Relative errors up to which results agree."""

OURS = "arrayops"
ROUNDS = 15
CACHE_MULTIPLE = 3
"""How many times the second-level cache all sets of inputs and results of a row take."""

SAMPLE_MS = 0.3
"""A sample is as many calls as take about this long: events count in half microseconds."""

MOST_CALLS = 10
"""In one sample: launches beyond about a thousand would wait for the GPU."""

HOST_SECONDS, HOST_SAMPLES = 0.15, 40
"""Most time and calls for the cost of one call in Python."""


@dataclass(frozen=True)
class Comparison:
    """Calls by rival, the first of which is ours, each given the number of a set of inputs.

    ``found`` gives what ``expected`` is compared with; ``operations`` are floating-point operations, ``bytes`` the
    fewest that have to be moved.
    """

    rivals: Mapping[str, Callable[[int], Any]]
    sets: int
    found: Callable[[], Sequence[Any]]
    expected: Callable[[], Sequence[Any]]
    operations: float
    bytes: float


class Place:
    """The GPU, or the CPU with tiny shapes, and the making of inputs there."""

    def __init__(self, device: str) -> None:
        self.device, self.cuda = device, device == "cuda"
        self.cache_bytes = torch.cuda.get_device_properties(0).L2_cache_size if self.cuda else 0
        self._rates: dict[torch.dtype, float] = {}
        self.cycles_per_ms = 0.0
        if self.cuda:
            cycles = 20_000_000
            self.cycles_per_ms = cycles / statistics.median(self._elapsed(torch.cuda._sleep, cycles) for _ in range(3))

    def _elapsed(self, call: Callable[..., Any], *arguments: Any) -> float:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call(*arguments)
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end))

    def normal(
        self, *shape: int, dtype: torch.dtype = torch.float32, last: bool = False, scale: float = 1.0
    ) -> torch.Tensor:
        """Random numbers; ``last`` makes the memory of four axes channels_last."""
        tensor = (torch.randn(shape, device=self.device) * scale).to(dtype)
        return tensor.contiguous(memory_format=torch.channels_last) if last else tensor

    def sets(self, nbytes: float) -> int:
        """Sets of inputs and results of so many bytes that are needed to keep each out of the cache."""
        return max(2, math.ceil(CACHE_MULTIPLE * self.cache_bytes / max(nbytes, 1))) if self.cuda else 2

    def product_rate(self, dtype: torch.dtype) -> float:
        """Operations a second of a large matrix product."""
        if dtype not in self._rates:
            size = 8192 if self.cuda else 256
            a = self.normal(size, size, dtype=dtype)
            self._rates[dtype] = 2e3 * size**3 / self._rate_of(lambda: a @ a)
        return self._rates[dtype]

    def copy_rate(self) -> float:
        """Bytes a second, read and written, of a large copy."""
        if torch.uint8 not in self._rates:
            source = torch.empty((1 << 30) if self.cuda else 1 << 16, dtype=torch.uint8, device=self.device)
            target = torch.empty_like(source)
            self._rates[torch.uint8] = 2e3 * source.numel() / self._rate_of(lambda: target.copy_(source))
        return self._rates[torch.uint8]

    def _rate_of(self, call: Callable[[], Any]) -> float:
        call()
        return statistics.median(self.milliseconds(lambda _: call(), range(1), 0.1) for _ in range(7))

    def milliseconds(self, call: Callable[[int], Any], numbers: Sequence[int], host_ms: float) -> float:
        """Time of one call on the device, over calls with these numbers, each of which takes Python so long."""
        if not self.cuda:
            begin = time.perf_counter()
            for number in numbers:
                call(number)
            return (time.perf_counter() - begin) * 1e3 / len(numbers)
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        while True:
            torch.cuda.synchronize()
            sleep_ms = 2 * host_ms * len(numbers) + 0.1
            torch.cuda._sleep(int(sleep_ms * self.cycles_per_ms))
            queued = time.perf_counter()
            begin.record()
            for number in numbers:
                call(number)
            end.record()
            queued = (time.perf_counter() - queued) * 1e3
            end.synchronize()
            if queued < sleep_ms or sleep_ms > 50:
                return float(begin.elapsed_time(end)) / len(numbers)
            # The GPU has waited for Python: again, with a longer sleep.
            host_ms *= 2

    def host_microseconds(self, call: Callable[[int], Any], sets: int) -> float:
        """Python's time for a call on an idle GPU: the tenth percentile."""
        found: list[float] = []
        finish = time.perf_counter() + HOST_SECONDS
        while len(found) < 5 or (len(found) < HOST_SAMPLES and time.perf_counter() < finish):
            if self.cuda:
                torch.cuda.synchronize()
            begin = time.perf_counter()
            call(len(found) % sets)
            found.append((time.perf_counter() - begin) * 1e6)
        return sorted(found)[len(found) // 10]

    def peak(self, call: Callable[[int], Any]) -> float:
        """MiB of torch's memory that a call takes at its peak beside what was there."""
        if not self.cuda:
            return 0.0
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call(0)
        torch.cuda.synchronize()
        return float(torch.cuda.max_memory_allocated() - before) / 2**20


@dataclass(frozen=True)
class Row:
    """One comparison, made when its turn comes. Rows of a smaller ``rank`` are measured first."""

    name: str
    rank: int
    dtype: torch.dtype
    make: Callable[[Place], Comparison]


@dataclass(frozen=True)
class Layout:
    """How ours gets torch's tensors of axes (N, C, H, W), and how its results become such tensors again.

    "NHWC" are plain arrays of that layout with weights HWIO, which share the memory of channels_last tensors;
    "channels_last" are those tensors themselves, which ours reads by their strides.
    """

    name: str

    @property
    def last(self) -> bool:
        """Whether channels come last in memory."""
        return self.name != "NCHW"

    @property
    def keywords(self) -> dict[str, Any]:
        """For the call."""
        return {"layout": "NHWC" if self.name == "NHWC" else "NCHW"}

    def image(self, tensor: torch.Tensor) -> torch.Tensor:
        """An argument with pixels."""
        return tensor.permute(0, 2, 3, 1) if self.name == "NHWC" else tensor

    def weight(self, tensor: torch.Tensor) -> torch.Tensor:
        """A weight OIHW as an argument."""
        return tensor.permute(2, 3, 1, 0).contiguous() if self.name == "NHWC" else tensor

    def image_of(self, result: torch.Tensor) -> torch.Tensor:
        """A result with pixels as torch has it."""
        return result.permute(0, 3, 1, 2) if self.name == "NHWC" else result

    def weight_of(self, result: torch.Tensor) -> torch.Tensor:
        """The gradient of a weight as torch has it."""
        return result.permute(3, 2, 0, 1) if self.name == "NHWC" else result


def dtype_name(dtype: torch.dtype) -> str:
    """Without "torch."."""
    return str(dtype).removeprefix("torch.")


def prepare() -> None:
    """Settings of torch for all rows: no TF32 beside float32, cuDNN chooses by trying."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)


def relative_error(found: Sequence[Any], expected: Sequence[Any]) -> float:
    """The largest of all results, in the norm of all elements; infinite where there is a NaN."""
    worst = 0.0
    for got, want in zip(found, expected, strict=True):
        error = float((got.double() - want.double()).norm() / want.double().norm())
        worst = max(worst, error if error == error else math.inf)
    return worst


def measure(row: Row, place: Place, rounds: int = ROUNDS) -> dict[str, Any]:
    """The result of a row. Nothing that goes wrong in it is raised."""
    result: dict[str, Any] = {"case": row.name, "ok": False, "dtype": dtype_name(row.dtype)}
    try:
        comparison = row.make(place)
        result["error"] = relative_error(comparison.found(), comparison.expected())
        result["limit"] = LIMITS[row.dtype]
        result["ok"] = result["error"] <= result["limit"]
        if not result["ok"]:
            result["exception"] = f"results disagree: relative error {result['error']:.1e}"
        result |= _timed(comparison, place, rounds) | _floor(comparison, row.dtype, place)
        result["of_floor"] = result["floor_ms"] / result["ms"][OURS]
    except Exception as error:
        result |= {"ok": False, "exception": f"{type(error).__name__}: {str(error)[:500]}"}
    if place.cuda:
        torch.cuda.empty_cache()
    return result


def _timed(comparison: Comparison, place: Place, rounds: int) -> dict[str, Any]:
    sets, counts, host, peak = comparison.sets, {}, {}, {}
    keeping: dict[str, Callable[[int], None]] = {}
    for name, call in comparison.rivals.items():
        keep = keeping[name] = _keeping(call, sets)
        peak[name] = place.peak(call)
        for number in range(sets):
            keep(number)
        host[name] = place.host_microseconds(call, sets)
        once = statistics.median(place.milliseconds(keep, [number], host[name] / 1e3) for number in (0, 1, 0))
        counts[name] = min(max(1, round(SAMPLE_MS / max(once, 1e-3))), MOST_CALLS) if place.cuda else 1
    times: dict[str, list[float]] = {name: [] for name in comparison.rivals}
    for number in range(rounds):
        for name, keep in keeping.items():
            numbers = [(number * counts[name] + step) % sets for step in range(counts[name])]
            times[name].append(place.milliseconds(keep, numbers, host[name] / 1e3))
    ratios = {
        name: statistics.median(ours / other for ours, other in zip(times[OURS], values, strict=True))
        for name, values in times.items()
        if name != OURS
    }
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {"ms": medians, "ratio": ratios, "python_us": host, "peak_mib": peak, "sets": sets, "rounds": rounds}


def _keeping(call: Callable[[int], Any], sets: int) -> Callable[[int], None]:
    """Holds each result until its set has its turn again, so that the next one is written elsewhere."""
    kept: list[Any] = [None] * sets

    def keep(number: int) -> None:
        kept[number] = call(number)

    return keep


def _floor(comparison: Comparison, dtype: torch.dtype, place: Place) -> dict[str, Any]:
    operations = comparison.operations / place.product_rate(dtype) * 1e3
    moved = comparison.bytes / place.copy_rate() * 1e3
    bound = "operations" if operations > moved else "bytes"
    return {"floor_ms": max(operations, moved), "bound": bound}


def ceilings(place: Place) -> dict[str, float]:
    """Rates that floors are made of."""
    rates = {f"{dtype_name(dtype)} TFLOP/s": place.product_rate(dtype) / 1e12 for dtype in LIMITS}
    return {"copy GB/s": place.copy_rate() / 1e9, **rates}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown. Rows of one script may have different rivals; those without one are left empty."""
    timed = [row for row in rows if "ms" in row]
    names = list(dict.fromkeys(name for row in timed for name in row["ms"]))
    others = [name for name in names if name != OURS]
    head = ["case", *(f"{name} ms" for name in names), *(f"{OURS} / {name}" for name in others)]
    head += ["floor ms", "bound", "share of floor", "Python us", "MiB"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in timed:
        cells = [row["case"] + ("" if row["ok"] else " (WRONG)")]
        cells += [f"{row['ms'][name]:.4f}" if name in row["ms"] else "" for name in names]
        cells += [f"{row['ratio'][name]:.2f}" if name in row["ratio"] else "" for name in others]
        cells += [f"{row['floor_ms']:.4f}", row["bound"], f"{row['of_floor']:.0%}"]
        cells += [f"{row['python_us'][OURS]:.0f}", f"{row['peak_mib'][OURS]:.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [f"{row['case']}: {row['exception']}" for row in rows if "exception" in row]
    return "\n".join(lines)


def main(description: str, rows: Callable[[], Iterable[Row]]) -> int:
    """Command line of a script: 1 if a row is wrong."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", default="", help="run the rows whose name holds this text")
    parser.add_argument("--jsonl", type=Path, help="append each result to this file as it comes")
    arguments = parser.parse_args()
    prepare()
    place = Place(arguments.device)
    gpu = torch.cuda.get_device_name() if place.cuda else "none"
    print(f"GPU {gpu}, torch {torch.__version__}, CUDA {torch.version.cuda}, arrayops {ao.__version__}")
    print(", ".join(f"{name} {rate:.0f}" for name, rate in ceilings(place).items()), "\n")
    results = []
    for row in sorted(rows(), key=lambda row: row.rank):
        if arguments.only in row.name:
            results.append(measure(row, place, arguments.rounds))
            if arguments.jsonl:
                with arguments.jsonl.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(results[-1]) + "\n")
    print(table(results))
    return 0 if all(result["ok"] for result in results) else 1
