"""Bugs that are put into kernels on purpose: each is noticed by whoever has to, and no correct kernel is accused."""

import json
from functools import cache
from typing import Any

import pytest

from emulator import sanitizer
from emulator.planted_bugs import table

TIMEOUT = 300
IN_CHILD = """
import json
import sys
from emulator.planted_bugs import table
print(json.dumps(table.noticed_in_all_orders(sys.argv[1:])))
"""

# Detectors by the kind of run they belong to.
DETECTORS = {"": ("result", "report"), "address,undefined": ("address", "undefined"), "thread": ("thread",)}
KINDS = {detector: kind for kind, detectors in DETECTORS.items() for detector in detectors}
IN_PROCESS = [bug for bug in table.BUGS if not KINDS[bug.detector]]
BY_SANITIZER = [bug for bug in table.BUGS if KINDS[bug.detector]]
CORRECT = sorted({bug.name for bug in (*table.BUGS, *table.CORRECT)})


def named(bug: table.Bug) -> str:
    return f"{bug.name}-{bug.detector}"


@cache
def noticed(kind: str) -> dict[str, list[str]]:
    """What is noticed of every kernel in a child that a sanitizer watches, or here for kind ""."""
    if not kind:
        return table.noticed_in_all_orders(DETECTORS[kind])
    if reason := sanitizer.why_not(kind):
        pytest.skip(reason)
    outcome = sanitizer.run_python(kind, IN_CHILD, *DETECTORS[kind], timeout=TIMEOUT)
    assert outcome.status == 0, outcome
    found: Any = json.loads(outcome.output.splitlines()[-1])
    return dict(found)


@pytest.mark.parametrize("bug", IN_PROCESS, ids=named)
def test_noticed_without_a_sanitizer(bug: table.Bug) -> None:
    results = noticed("")[f"{bug.name} planted"]
    if bug.detector == "result":
        assert "wrong result" in results
    else:
        assert all(bug.says in result for result in results), results


@pytest.mark.parametrize("bug", BY_SANITIZER, ids=named)
def test_noticed_by_a_sanitizer(bug: table.Bug) -> None:
    results = noticed(KINDS[bug.detector])[f"{bug.name} planted"]
    assert any("a sanitizer reports" in result and bug.says in result for result in results), results


@pytest.mark.parametrize("kind", ["", *sanitizer.KINDS])
@pytest.mark.parametrize("name", CORRECT)
def test_correct_kernel_is_not_accused(name: str, kind: str) -> None:
    assert noticed(kind)[name] == [""] * len(table.SCHEDULES)


def test_a_line_is_named() -> None:
    """Reports lead to a line of the kernel's text, kept beside what was built from it."""
    report = noticed("")["two_barriers planted"][0]
    source = table.module(True).code.splitlines()
    lines = [int(part.split(",")[0].split()[0]) for part in report.split("kernel.cu:")[1:]]
    assert len(lines) == 2
    assert all("__syncthreads" in source[line - 1] for line in lines)
