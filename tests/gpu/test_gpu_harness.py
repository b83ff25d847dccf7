"""Tests, on the CPU, of the harness of the GPU benchmarks: an error in one row does not affect others."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import gpu_harness

    return gpu_harness


def row(harness: Any, output: Any, expected: Any) -> Any:
    """A row of two additions, with these results for the comparison."""
    x = torch.ones(20_000)
    rivals = {"arrayops": lambda _: x + 1, "rival": lambda _: 1 + x}
    comparison = harness.Comparison(rivals, 2, lambda: output, lambda: expected, 2e4, 1.6e5)
    return harness.Row("addition", 0, torch.float32, lambda place: comparison)


def test_a_row_has_times_ratios_and_its_roofline(harness: Any) -> None:
    result = harness.measure(row(harness, [torch.ones(3)], [torch.ones(3)]), harness.Place("cpu"), 5)
    assert result["ok"] is True
    assert result["error"] == 0
    assert set(result["ms"]) == set(result["python_us"]) == set(result["peak_mib"]) == {"arrayops", "rival"}
    assert result["ratio"]["rival"] > 0
    assert result["floor_ms"] > 0
    assert result["of_floor"] == pytest.approx(result["floor_ms"] / result["ms"]["arrayops"])
    assert "| addition |" in harness.table([result])


@pytest.mark.parametrize("output", [[torch.zeros(3)], [torch.full((3,), math.nan)]], ids=["zeros", "nan"])
def test_a_row_with_wrong_results_is_marked_and_timed(harness: Any, output: Any) -> None:
    result = harness.measure(row(harness, output, [torch.ones(3)]), harness.Place("cpu"), 2)
    assert result["ok"] is False
    assert "disagree" in result["exception"]
    assert result["ms"]["arrayops"] > 0
    assert "addition (WRONG)" in harness.table([result])


def test_a_row_that_raises_is_reported(harness: Any) -> None:
    def make(place: Any) -> Any:
        raise RuntimeError("no such kernel")

    result = harness.measure(harness.Row("broken", 0, torch.float32, make), harness.Place("cpu"), 2)
    assert result["ok"] is False
    assert result["exception"] == "RuntimeError: no such kernel"
    assert "broken: RuntimeError" in harness.table([result])


def test_a_different_number_of_results_is_wrong(harness: Any) -> None:
    result = harness.measure(row(harness, [torch.ones(3)], [torch.ones(3)] * 2), harness.Place("cpu"), 2)
    assert result["ok"] is False


def test_ratios_are_medians_over_rounds(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not ratios of medians: a slow round slows both sides."""
    place = harness.Place("cpu")
    times = iter([1.0] * 7 + [2.0] * 3 + [10.0, 20.0, 1.0, 4.0, 3.0, 3.0])

    def milliseconds(*_: Any) -> float:
        return next(times)

    # Three estimates for each side, then the rounds; rates are measured later.
    monkeypatch.setattr(place, "milliseconds", milliseconds)
    next(times)
    for _ in range(3):
        next(times)
    timed = harness._timed(row(harness, [], []).make(place), place, 3)
    assert timed["ratio"] == {"rival": 0.5}
    assert timed["ms"] == {"arrayops": 3.0, "rival": 4.0}
