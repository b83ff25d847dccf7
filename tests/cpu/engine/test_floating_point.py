"""Loading a library leaves the floating-point arithmetic of every thread as it was."""

import shutil
import subprocess
from pathlib import Path

import pytest

from arrayops._backends.cpu.engine import compiler
from arrayops._backends.cpu.engine.target import target_of
from new_process import in_new_process

# Denormal results and arguments in the main thread and in threads that began before and after a library is loaded, then
# the control word.
CODE = """
    import ctypes, sys, threading
    from pathlib import Path
    import numpy as np
    import planted_units
    planted_units.plant(Path(sys.argv[1]))

    def exact():
        smallest, half = np.full(16, 1e-40, np.float32), np.full(16, 0.5, np.float32)
        return bool((smallest * half > 0).all() and (smallest + smallest > smallest).all())

    def run(wait=lambda: None):
        wait()
        seen.append(exact())

    seen = []
    run()
    loaded, ready = threading.Event(), threading.Event()
    before = threading.Thread(target=lambda: run(lambda: (ready.set(), loaded.wait())))
    before.start()
    ready.wait()
    reader = sys.argv[2:3]
    control_word = ctypes.CDLL(reader[0]).control_word if reader else None
    words = [control_word()] if control_word else []
    {load}
    words += [control_word()] if control_word else []
    loaded.set()
    before.join()
    after = threading.Thread(target=run)
    after.start()
    after.join()
    run()
    print(*seen, len(set(words)))
"""


def compiled(gxx: str, path: Path, text: str, *arguments: str) -> str:
    source = path.with_suffix(".cpp")
    source.write_text(text)
    subprocess.run([gxx, "-shared", "-fPIC", *arguments, str(source), "-o", str(path)], check=True)
    return str(path)


@pytest.fixture
def reader(gxx: str, tmp_path: Path) -> list[str]:
    """A library that reads the control word, on machines whose instruction for it is known."""
    if target_of().machine != "x86_64":
        return []
    from planted_units import CONTROL_WORD

    text = CONTROL_WORD.replace('#include "export.h"\nEXPORTED', 'extern "C"')
    return [compiled(gxx, tmp_path / "reader.so", text)]


@pytest.mark.parametrize("name", ["g++", "clang++", "zig"])
def test_denormals_and_control_word(name: str, tmp_path: Path, reader: list[str]) -> None:
    command = " ".join(compiler._ziglang() or ()) if name == "zig" else shutil.which(name)
    if not command:
        pytest.skip(f"{name} is not there")
    load = "assert planted_units.load_and_call() == 6"
    printed = in_new_process(CODE.format(load=load), str(tmp_path / "kernels"), *reader, ARRAYOPS_CXX=command)
    assert printed.split() == ["True"] * 4 + [str(len(reader))]


def test_a_library_that_changes_them_is_seen(tmp_path: Path, reader: list[str], gxx: str) -> None:
    if not reader:
        pytest.skip("the start-up code of -ffast-math is known for x86-64")
    library = compiled(gxx, tmp_path / "fast.so", "", "-ffast-math")
    if b"set_fast_math" not in Path(library).read_bytes():
        pytest.skip("this g++ links no start-up code into libraries for -ffast-math")
    printed = in_new_process(CODE.format(load=f"ctypes.CDLL({library!r})"), str(tmp_path / "kernels"), *reader)
    assert printed.split()[-1] == "2"
    assert "False" in printed
