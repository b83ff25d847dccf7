"""Checks this checkout on a GPU within a few minutes: values, tests, sanitizers and benchmarks.

On a machine with an NVIDIA GPU, CuPy, pytest, pytest-xdist, pytest-timeout and hypothesis, with torch for timings::

    python tests/gpu/first_run.py --out results --budget 480

Each stage runs in its own process with a deadline, so that a hang, a corrupted CUDA context or a time-out affects one
stage only. Every result is written to ``results/results.jsonl`` as a line of JSON as soon as it is available; the
output ends with a table of at most 100 lines. ``--dry-run`` runs the stages on the emulator, with tiny inputs.

Exit codes: 0 all checks passed; 1 a check failed; 2 a stage crashed or timed out; 3 there is no GPU.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Replaces the folder of this script, which holds the modules of a package, not top-level modules.
sys.path[:1] = [str(ROOT), *(str(ROOT / "tests" / folder) for folder in (".", "support", "benchmarks"))]

from gpu import stages, supervisor  # noqa: E402


def main() -> int:
    """Run all stages, or a single one in a child process of the supervisor."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("gpu_results"), help="folder of the results")
    parser.add_argument("--budget", type=float, default=480, help="seconds for all stages together (default 480)")
    parser.add_argument(
        "--stages", default=",".join(stages.STAGES), help="comma-separated names of stages (default: all)"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="factor for the deadlines of stages, for slow machines"
    )
    parser.add_argument("--dry-run", action="store_true", help="run on the emulator, with tiny inputs")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, default=float("inf"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    if arguments.stage:
        return stages.run(arguments.stage, stages.Context(out, arguments.dry_run, arguments.deadline))
    selected = arguments.stages.split(",")
    if unknown := sorted(set(selected) - set(stages.STAGES)):
        parser.error(f"unknown stages: {', '.join(unknown)}; expected names among {', '.join(stages.STAGES)}")
    plan = [(name, stage.seconds * arguments.scale) for name, stage in stages.STAGES.items() if name in selected]

    def command(stage: str, deadline: float) -> list[str]:
        options = ["--stage", stage, "--deadline", str(deadline), "--out", str(out)]
        return [sys.executable, str(Path(__file__).resolve()), *options, *(["--dry-run"] if arguments.dry_run else [])]

    return supervisor.supervise(plan, command, out, arguments.budget)


if __name__ == "__main__":
    sys.exit(main())
