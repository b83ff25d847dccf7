"""Features of processors, as the system lists them, as NumPy does, and as compilers use them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from arrayops._backends.cpu.engine import features
from arrayops._backends.cpu.engine.target import target_of


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    features.processor_features.cache_clear()
    yield
    features.processor_features.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu sse avx2\nbugs\t\t: none\n\nprocessor\t: 1\nflags\t\t: fpu\n", "fpu sse avx2"),
        ("processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd sve\nCPU part\t: 0xd40\n", "fp asimd sve"),
    ],
    ids=["x86", "ARM"],
)
def test_linux_lists_them(text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(features, "CPUINFO", tmp_path / "cpuinfo")
    assert features.processor_features() == set(expected.split())


@pytest.mark.parametrize("text", [None, "processor\t: 0\n"])
def test_numpy_lists_them_elsewhere(text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same names, as far as architectures require them."""
    required = frozenset().union(*features.ARCHITECTURES.get(target_of().machine, {}).values())
    here = features.processor_features() & required
    features.processor_features.cache_clear()
    monkeypatch.setattr(features, "CPUINFO", tmp_path / "cpuinfo")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    found = features.processor_features()
    assert found
    assert found & required == here


# The macro by which a compiler says that it uses a feature.
MACROS = {
    "pni": "__SSE3__",
    "ssse3": "__SSSE3__",
    "sse4_1": "__SSE4_1__",
    "sse4_2": "__SSE4_2__",
    "popcnt": "__POPCNT__",
    "cx16": "__GCC_HAVE_SYNC_COMPARE_AND_SWAP_16",
    "avx": "__AVX__",
    "avx2": "__AVX2__",
    "f16c": "__F16C__",
    "fma": "__FMA__",
    "bmi1": "__BMI__",
    "bmi2": "__BMI2__",
    "abm": "__LZCNT__",
    "movbe": "__MOVBE__",
    "avx512f": "__AVX512F__",
    "avx512bw": "__AVX512BW__",
    "avx512cd": "__AVX512CD__",
    "avx512dq": "__AVX512DQ__",
    "avx512vl": "__AVX512VL__",
}


@pytest.mark.parametrize("level", features.ARCHITECTURES["x86_64"])
def test_levels_are_those_of_compilers(level: str, gxx: str) -> None:
    if target_of().machine != "x86_64":
        pytest.skip(f"levels of x86-64 on {target_of().machine}")
    command = [gxx, f"-march={level}", "-dM", "-E", "-x", "c++", "-"]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this g++ does not know {level}")
    defined = {line.split()[1] for line in done.stdout.splitlines()}
    used = {feature for feature, macro in MACROS.items() if macro in defined}
    assert used == features.ARCHITECTURES["x86_64"][level]
