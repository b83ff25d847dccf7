"""The examples of the documentation run, in processes of their own, and say what they should."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_resnext_block(tmp_path: Path) -> None:
    for module in ("matplotlib", "rich", "skimage"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    figure = tmp_path / "block.png"
    arguments = ["--size", "28", "--batch", "2", "--rounds", "1", "--figure", str(figure)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "examples" / "resnext_block.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = re.search(r"largest relative difference of output and gradients: (\S+)", done.stdout)
    assert found, done.stdout
    assert 0 < float(found[1]) < 4e-6
    memory = [float(line.split("│")[3]) for line in done.stdout.splitlines() if line.count("│") == 4]
    assert len(memory) == 2
    assert memory[0] < memory[1]
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_skip_connection(tmp_path: Path) -> None:
    for module in ("matplotlib", "rich", "skimage"):
        pytest.importorskip(module, reason=f"{module} is not installed")
    figure = tmp_path / "skip.png"
    arguments = ["--size", "43", "--batch", "2", "--steps", "40", "--figure", str(figure)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "examples" / "skip_connection.py"), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLCONFIGDIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = dict(re.findall(r"^(.+): (\S+?)(?: dB)?$", done.stdout, re.MULTILINE))
    assert 0 < float(found["gradient of all weights, against differences"]) < 1e-6
    trained, noisy = (float(found[name]) for name in ("network, trained", "noisy photo"))
    assert trained > noisy + 3
    assert figure.read_bytes().startswith(b"\x89PNG")
