"""What a GPU says about this checkout, in a few minutes: values, tests, sanitizers, timings.

On a machine with an NVIDIA GPU, CuPy, pytest, pytest-xdist, pytest-timeout and hypothesis, with torch for timings::

    python tests/gpu/first_run.py --out results --budget 480

Each stage is a process of its own with a deadline, so that a hang, a lost CUDA context or a time-out costs one stage.
Every result is a line of JSON in ``results/results.jsonl`` the moment it is known; a table of at most 100 lines ends
the output. ``--dry-run`` runs the stages on the emulator, with tiny inputs.

Exit codes: 0 all is well; 1 something is wrong; 2 a stage crashed or ran out of time; 3 there is no GPU.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# The folder of this script, which Python puts first, holds a package's modules and no top-level ones.
sys.path[:1] = [str(ROOT), *(str(ROOT / "tests" / folder) for folder in (".", "support", "benchmarks"))]

from gpu import stages, supervisor  # noqa: E402


def main() -> int:
    """Run the stages, or, as the supervisor asks of its child processes, one of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("gpu_results"), help="folder of the results")
    parser.add_argument("--budget", type=float, default=480, help="seconds for all stages together (default 480)")
    parser.add_argument("--stages", default=",".join(stages.STAGES), help="which to run, with commas between (all)")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="multiplies the deadlines of stages, for slow machines"
    )
    parser.add_argument("--dry-run", action="store_true", help="on the emulator, with tiny inputs")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--deadline", type=float, default=float("inf"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    if arguments.stage:
        return stages.run(arguments.stage, stages.Context(out, arguments.dry_run, arguments.deadline))
    wanted = arguments.stages.split(",")
    if unknown := sorted(set(wanted) - set(stages.STAGES)):
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(stages.STAGES)}")
    plan = [(name, stage.seconds * arguments.scale) for name, stage in stages.STAGES.items() if name in wanted]

    def command(stage: str, deadline: float) -> list[str]:
        options = ["--stage", stage, "--deadline", str(deadline), "--out", str(out)]
        return [sys.executable, str(Path(__file__).resolve()), *options, *(["--dry-run"] if arguments.dry_run else [])]

    return supervisor.supervise(plan, command, out, arguments.budget)


if __name__ == "__main__":
    sys.exit(main())
