"""Tests, without a GPU, of the run on a GPU: deadlines, exit codes, results, table, lost contexts, recorded units."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("cupy", reason="CuPy is not installed")

import cuda_device
from gpu import cases, counters, priming, report, results, supervisor, testing, values

SCRIPT = Path(__file__).with_name("first_run.py")


def supervised(tmp_path: Path, programs: dict[str, str], seconds: float = 20, budget: float = 100) -> tuple[int, Any]:
    """Exit code and rows of a run whose stages are these Python programs."""

    def command(name: str, deadline: float) -> list[str]:
        assert 0 < deadline - time.monotonic() <= seconds
        return [sys.executable, "-c", programs[name]]

    code = supervisor.supervise([(name, seconds) for name in programs], command, tmp_path, budget)
    return code, results.read(tmp_path / "results.jsonl")


def codes_of_stages(rows: Any) -> dict[str, int]:
    return {row["stage"]: row["code"] for row in rows if row.get("event") == "stage ended"}


def check_program(ok: bool) -> str:
    """A program that emits the result of one check."""
    return f"import sys; sys.path[:0] = {sys.path!r}; from gpu import results; results.emit('a', case='c', ok={ok})"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the environment variables that the supervisor sets in its own process."""
    for name in (results.FILE, results.START, "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"):
        monkeypatch.setenv(name, os.environ.get(name, ""))


def test_all_checks_pass(tmp_path: Path) -> None:
    code, rows = supervised(tmp_path, {"a": check_program(True), "b": ""})
    assert code == 0
    assert codes_of_stages(rows) == {"a": 0, "b": 0}
    assert [row["ok"] for row in rows if "ok" in row] == [True]


def test_a_failed_check_fails_the_run(tmp_path: Path) -> None:
    code, rows = supervised(tmp_path, {"a": check_program(False), "b": "raise SystemExit(5)"})
    assert code == 1
    assert codes_of_stages(rows) == {"a": 0, "b": 5}


def test_a_stage_beyond_its_deadline_is_killed_with_its_children(tmp_path: Path) -> None:
    started = tmp_path / "child"
    child = f"import os, time; open({str(started)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    hangs = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}]).wait()"
    begin = time.monotonic()
    code, rows = supervised(tmp_path, {"hangs": hangs, "next": ""}, seconds=3)
    assert time.monotonic() - begin < 30
    assert code == 2
    assert codes_of_stages(rows) == {"hangs": supervisor.TIMED_OUT, "next": 0}
    with pytest.raises(ProcessLookupError):
        _wait_until_gone(int(started.read_text()))


def _wait_until_gone(process: int) -> None:
    """Raise ProcessLookupError once the process has ended or is a zombie."""
    finish = time.monotonic() + 10
    while time.monotonic() < finish:
        os.kill(process, 0)
        status = Path(f"/proc/{process}/status")
        if status.exists() and "State:\tZ" in status.read_text():
            raise ProcessLookupError
        time.sleep(0.05)


def test_a_crashed_stage_does_not_affect_others(tmp_path: Path) -> None:
    code, rows = supervised(tmp_path, {"a": "import os; os.abort()", "b": check_program(True)})
    assert code == 2
    assert codes_of_stages(rows)["a"] != 0
    assert codes_of_stages(rows)["b"] == 0


def test_no_gpu_ends_the_run(tmp_path: Path) -> None:
    code, rows = supervised(tmp_path, {"a": "raise SystemExit(3)", "b": check_program(True)})
    assert code == 3
    assert codes_of_stages(rows) == {"a": 3}


def test_no_stage_is_started_without_remaining_budget(tmp_path: Path) -> None:
    code, rows = supervised(tmp_path, {"a": check_program(True)}, budget=5)
    assert code == 2
    assert codes_of_stages(rows) == {"a": supervisor.TIMED_OUT}


@pytest.mark.skipif(not cuda_device.why_no_gpu(), reason="there is a GPU")
def test_the_script_reports_that_there_is_no_gpu(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--stages", "smoke", "--out", str(tmp_path)]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert completed.returncode == 3, completed.stdout + completed.stderr
    assert "no GPU" in completed.stdout


def _emit_many(number: int) -> None:
    for count in range(200):
        results.emit(f"stage {number}", text="x" * 500, count=count)


def test_lines_of_several_processes_are_not_interleaved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(results.FILE, str(tmp_path / "results.jsonl"))
    monkeypatch.setenv(results.START, "0")
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.map(_emit_many, range(4))
    rows = results.read(tmp_path / "results.jsonl")
    assert len(rows) == 800
    assert sorted(row["count"] for row in rows if row["stage"] == "stage 2") == list(range(200))


def timing(number: int) -> dict[str, Any]:
    return {
        "stage": "bench",
        "case": f"case {number}",
        "ok": True,
        "ms": {"arrayops": 1.5, "rival": 3.0},
        "ratio": {"rival": 0.5},
        "python_us": {"arrayops": 40.0, "rival": 10.0},
        "peak_mib": {"arrayops": 2.0, "rival": 4.0},
        "floor_ms": 0.75,
        "of_floor": 0.5,
        "bound": "bytes",
    }


def test_the_table_groups_failures_by_kernel_and_has_at_most_100_lines() -> None:
    failures = [
        {"stage": "tests", "case": f"t{n}", "ok": False, "exception": "E" * 300, "kernels": [f"k{n % 40}.cu"]}
        for n in range(400)
    ]
    failures += [{"stage": "tests", "case": "often", "ok": False, "exception": "F", "kernels": ["worst.cu"]}] * 50
    kernels = [
        {"stage": "counters", "case": "c", "kernel": f"kernel {n}", "us": float(n), "instructions": 1e9, "issue": 50}
        | {"dram_MB": 3.0, "occupancy": 20.0, "registers": 64}
        for n in range(60)
    ]
    stage = {"stage": "tests", "event": "stage ended", "code": 1, "seconds": 3.0}
    text = report.table([*failures, stage, *map(timing, range(30)), *kernels])
    lines = text.splitlines()
    assert len(lines) == report.MAX_LINES
    assert max(map(len, lines)) <= report.MAX_LINE_CHARACTERS
    assert "450 failures, by kernel:" in lines
    assert "   50 x worst.cu | F; often" in lines
    assert "case 7 | 1.5000 | 0.7500 50% bytes | 40 | 2 | rival 0.50" in lines
    assert "kernel 59" in text, "the slowest kernels are shown"
    assert "kernel 1 " not in text
    assert len(report.table([*map(timing, range(300))]).splitlines()) == report.MAX_LINES


TEST_FILE = """
import os
import pytest

pytestmark = pytest.mark.gpu

def test_lost():
    raise RuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")

@pytest.mark.parametrize("number", range(12))
def test_passes(number):
    pass

def test_fails():
    assert 1 + 1 == 3
"""


def test_a_lost_context_ends_one_worker_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker emits its row before it exits, and another worker runs the remaining tests."""
    file = tmp_path / "test_generated.py"
    file.write_text(TEST_FILE, encoding="utf-8")
    monkeypatch.setenv(results.FILE, str(tmp_path / "results.jsonl"))
    monkeypatch.setenv(results.START, "0")
    assert testing.run("tests", [str(file)], workers=2) != 0
    rows = results.read(tmp_path / "results.jsonl")
    failures = {row["case"].rpartition("::")[2]: row for row in rows if row.get("ok") is False}
    assert set(failures) == {"test_lost", "test_fails"}
    assert failures["test_lost"]["lost"] is True
    assert failures["test_fails"]["lost"] is False
    assert "AssertionError" in failures["test_fails"]["exception"]
    assert [row["passed"] for row in rows if row.get("event") == "finished"] == [12]


class FaultyDevice(cuda_device.Device):
    """Adds 1 to the first element of every result of `conv2d`."""

    def __getattr__(self, name: str) -> Any:
        function = super().__getattr__(name)

        def changed(*arguments: Any, **keywords: Any) -> Any:
            result = np.array(function(*arguments, **keywords))
            result.flat[0] += 1
            return result

        return changed if name == "conv2d" else function


def test_a_wrong_value_is_reported_with_its_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(results.FILE, str(tmp_path / "results.jsonl"))
    monkeypatch.setenv(results.START, "0")
    with cuda_device.emulated():
        assert values.check("smoke", FaultyDevice(), 9, 8, only="conv2d NHWC float32") == 1
        assert values.check("smoke", cuda_device.Device(), 9, 8, repeats=1, only="resize2d") == 0
    rows = results.read(tmp_path / "results.jsonl")
    assert {row["case"]: row["ok"] for row in rows} == {
        "pac_conv2d NHWC float32": True,
        "conv2d NHWC float32": False,
        **{f"resize2d bicubic {layout} {dtype}": True for layout in ("NCHW", "NHWC") for dtype in values.LIMITS},
    }
    failure = next(row for row in rows if not row["ok"])
    assert failure["error"] > failure["limit"]
    assert any("contraction" in name for name in failure["kernels"])


def test_relative_error_of_values_nan_and_shapes() -> None:
    ones = np.ones(100)
    assert values.relative_error(ones * 1.5, ones) == pytest.approx(0.5)
    assert values.relative_error(np.full(100, np.nan), ones) == np.inf
    assert values.relative_error(np.ones(99), ones) == np.inf


def test_recorded_units_include_all_that_calls_compile() -> None:
    """Compared with what calls on the emulated device have compiled."""
    units = priming.units_of([(9, 8)], 80)
    files = {file for file, _ in units}
    assert {"contraction.cu", "contraction_mma.cu", "conv_direct.cu", "weight_grad.cu", "segment_reduce.cu"} <= files
    assert {"pac_kernel_grad.cu", "pac_channelwise.cu", "merge_resize.cu", "pac_kernel.cu"} <= files
    with cuda_device.emulated(80) as device:
        for call in cases.calls(9, 8):
            if call.name.startswith(("conv2d", "segment_max")):
                call.on(device)
        loaded = [kernel.identity for kernel in cuda_device.kernels()]
    used = {(each.file, tuple(sorted(each.defines))) for each in loaded}
    assert used
    assert used <= units


CSV = """==PROF== Connected to process 1061
"ID","Kernel Name","Block Size","Grid Size","gpu__time_duration.sum","smsp__inst_executed.sum","dram__bytes.sum"
"","","","","ns","inst","Mbyte"
"0","next_call","(1, 1, 1)","(1, 1, 1)","1,024","2","0.1"
"1","pack_weights","(256, 1, 1)","(400, 1, 1)","4,416","1,140,000","0.4"
"2","contraction_fma(Window)","(128, 1, 1)","(2048, 1, 1)","1,904,900","1,430,000,000","127.0"
"3","next_call","(1, 1, 1)","(1, 1, 1)","1,024","2","0.1"
"4","merge_resize","(256, 1, 1)","(6272, 2, 1)","52,000","n/a","37.5"
==PROF== Disconnected from process 1061
"""


def test_counters_are_read_in_microseconds_by_call() -> None:
    rows = counters.parse(CSV, ["pac", "merge"])
    assert [(row["case"], row["kernel"]) for row in rows] == [
        ("pac", "pack_weights"),
        ("pac", "contraction_fma"),
        ("merge", "merge_resize"),
    ]
    assert rows[1]["us"] == pytest.approx(1904.9)
    assert rows[1]["instructions"] == 1.43e9
    assert rows[1]["dram_MB"] == 127.0
    assert rows[1]["grid"] == "(2048, 1, 1)"
    assert np.isnan(rows[2]["instructions"])
    assert np.isnan(rows[0]["issue"]), "a counter that is missing"
    assert counters.parse("==ERROR== no permission", ["pac"]) == []
