"""How the CPU backend scales with threads, beside torch with as many: one case of each family.

From a checkout with torch installed: ``PYTHONPATH=. python tests/benchmarks/threads_cpu.py``
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import arrayops as ao
import conv_cpu
import harness
import merge_cpu
import pac_cpu

SCRIPTS = (pac_cpu, conv_cpu, merge_cpu)
THREADS = (1, 2, 4, 8, 16)
LEFT_OUT = ("taps", "compile", "jax", "unfold", "recipe")
"""Rivals that say nothing about threads, take long on one, or do not change their number."""

ROUNDS = 7


def available() -> list[int]:
    """The counts of threads for which there are cores."""
    return [count for count in THREADS if count <= (os.cpu_count() or 1)]


def segments() -> harness.Case:
    """Means of 64 channels over cells of 26 x 26 pixels: superpixels take long to find."""
    features = np.random.default_rng(0).standard_normal((4, 512, 512, 64), np.float32)
    steps = np.arange(512) // 26
    across = int(steps[-1]) + 1
    labels = np.tile((steps[:, None] * across + steps).astype(np.int32), (4, 1, 1))
    count = across**2
    flat = torch.from_numpy(features).view(-1, 64)
    index = torch.from_numpy(labels + count * np.arange(4, dtype=np.int32)[:, None, None]).view(-1).long()
    sizes = index.bincount(minlength=4 * count).float()[:, None]

    def ours() -> Any:
        return ao.segment_mean(features, labels, count, layout="NHWC")

    def added() -> torch.Tensor:
        return torch.zeros(4 * count, 64).index_add_(0, index, flat) / sizes

    def agree() -> None:
        np.testing.assert_allclose(ours().reshape(-1, 64), added().numpy(), atol=1e-4)

    size = float(features.nbytes)
    return harness.Case("mean NHWC", {"arrayops": ours, "index_add": added}, agree, size / 4, size)


def results(counts: Sequence[int], rounds: int = ROUNDS) -> Iterator[dict[str, Any]]:
    """For each case and count of threads: medians in milliseconds, and ratios to each rival."""
    before = ao.get_num_threads(), torch.get_num_threads()
    try:
        cases = {script.__name__.removesuffix("_cpu"): next(iter(script.cases())) for script in SCRIPTS}
        cases["segment"] = segments()
        for family, case in cases.items():
            case = replace(case, rivals={name: call for name, call in case.rivals.items() if name not in LEFT_OUT})
            name = f"{family}: {case.name}"
            for count in counts:
                ao.set_num_threads(count)
                torch.set_num_threads(count)
                row = harness.measure(case, rounds)
                yield {"case": name, "threads": count, "ms": row.median_ms, "ratio": row.ratio_to}
    finally:
        ao.set_num_threads(before[0])
        torch.set_num_threads(before[1])


def main() -> int:
    """Print a line for each measurement as it comes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in harness.machine().items()), flush=True)
    print("| case | threads | arrayops ms | arrayops / rival |\n|---|---|---|---|")
    for row in results(available(), arguments.rounds):
        ratios = ", ".join(f"{name} {ratio:.2f}" for name, ratio in row["ratio"].items())
        print(f"| {row['case']} | {row['threads']} | {row['ms']['arrayops']:.2f} | {ratios} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
