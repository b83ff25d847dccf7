"""The table at the end of a run: failures by kernel, and measurements."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

MAX_LINES = 100
MAX_FAILURE_GROUPS = 25
"""Maximum number of groups of failures that are shown."""

MAX_LINE_CHARACTERS = 220


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The table, of at most `MAX_LINES` lines; the lines left at the end list the slowest kernels."""
    lines = [*_machine(rows), *_stages(rows), *_failures(rows), *_timings(rows), *_threads(rows)]
    if len(lines) > MAX_LINES:
        lines = [*lines[: MAX_LINES - 1], f"... and {len(lines) - MAX_LINES + 1} more lines: see results.jsonl"]
    lines += _counters(rows, MAX_LINES - len(lines))
    return "\n".join(line[:MAX_LINE_CHARACTERS] for line in lines)


def _machine(rows: Iterable[dict[str, Any]]) -> list[str]:
    shown = ("machine", "ceilings", "no GPU", "recorded", "compiled")
    return [
        f"{row['event']}: " + json.dumps({k: v for k, v in row.items() if k not in ("t", "stage", "event")})
        for row in rows
        if row.get("event") in shown
    ]


def _stages(rows: Sequence[dict[str, Any]]) -> list[str]:
    ended = [row for row in rows if row.get("event") == "stage ended"]
    lines = []
    for row in ended:
        outcomes = [each["ok"] for each in rows if each["stage"] == row["stage"] and "ok" in each]
        line = f"{row['stage']:11s} {row['seconds']:6.1f} s  exit {row['code']}"
        line += f"  {sum(outcomes)} passed, {outcomes.count(False)} failed" if outcomes else ""
        counts = [
            each for each in rows if each["stage"] == row["stage"] and each.get("event") in ("progress", "finished")
        ]
        if counts:
            names = ("passed", "failed", "error", "skipped")
            line += "  tests: " + ", ".join(f"{counts[-1][name]} {name}" for name in names if name in counts[-1])
        notes = [each for each in rows if each["stage"] == row["stage"] and _is_note(each)]
        line += "".join(f"  {_note(each)}" for each in notes[:2])
        lines.append(line)
    return lines


def _is_note(row: dict[str, Any]) -> bool:
    return str(row.get("event", "")).startswith(("not run", "out of time", "stage crashed", "CUDA context lost"))


def _note(row: dict[str, Any]) -> str:
    return f"{row['event']} {row.get('exception', row.get('left', ''))}".strip()


def _failures(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Failures grouped by the kernels that were loaded, largest groups first."""
    groups: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row.get("ok") is False:
            kernels = "; ".join(str(name)[:70] for name in row.get("kernels", [])[:2]) or row["stage"]
            reason = row.get("exception") or f"error {row.get('error', float('nan')):.1e}"
            groups[f"{kernels} | {reason[:90]}"].append(row["case"])
    if not groups:
        return []
    sorted_groups = sorted(groups.items(), key=lambda group: -len(group[1]))
    lines = [f"{sum(map(len, groups.values()))} failures, by kernel:"]
    for title, names in sorted_groups[:MAX_FAILURE_GROUPS]:
        lines.append(f"{len(names):5d} x {title}; {names[0][-100:]}")
    if len(sorted_groups) > MAX_FAILURE_GROUPS:
        lines.append(f"      and {len(sorted_groups) - MAX_FAILURE_GROUPS} more groups")
    return lines


def _timings(rows: Iterable[dict[str, Any]]) -> list[str]:
    timed = [row for row in rows if row["stage"] == "bench" and "ms" in row]
    if not timed:
        return []
    lines = ["case | ms | roofline ms, fraction reached, bound | host us | peak MiB | time of arrayops / other library"]
    for row in timed:
        ratios = ", ".join(f"{name} {ratio:.2f}" for name, ratio in row["ratio"].items())
        cells = [
            f"{row['case']}{'' if row['ok'] else ' FAILED'}",
            f"{row['ms']['arrayops']:.4f}",
            f"{row['floor_ms']:.4f} {row['of_floor']:.0%} {row['bound']}",
            f"{row['python_us']['arrayops']:.0f}",
            f"{row['peak_mib']['arrayops']:.0f}",
            ratios,
        ]
        lines.append(" | ".join(cells))
    return lines


def _counters(rows: Iterable[dict[str, Any]], lines: int) -> list[str]:
    measured = [row for row in rows if row["stage"] == "counters" and "us" in row]
    if not measured or lines < 2:
        return []
    slowest = sorted(measured, key=lambda row: -row["us"])[: lines - 1]
    shown = ["slowest kernels (all: results.jsonl) | us | warp instructions | issue slots used | DRAM MB | occupancy"]
    for row in slowest:
        cells = [
            f"{row['case']}: {row['kernel']}",
            f"{row['us']:.1f}",
            f"{row['instructions']:.3g}",
            f"{row['issue']:.0f} %",
            f"{row['dram_MB']:.1f}",
            f"{row['occupancy']:.0f} %",
        ]
        shown.append(" | ".join(cells))
    return shown


def _threads(rows: Iterable[dict[str, Any]]) -> list[str]:
    cases: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        if row["stage"] == "threads" and "threads" in row:
            ratios = ", ".join(f"{ratio:.2f} x {name}" for name, ratio in row["ratio"].items())
            cases[row["case"]].append(f"{row['threads']}: {row['ms']['arrayops']:.1f} ms ({ratios})")
    return [f"CPU by threads, {case}: " + "; ".join(parts) for case, parts in cases.items()]
