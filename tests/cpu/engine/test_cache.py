"""Entries that are damaged, old or made elsewhere, folders that are not to be trusted, several processes at once."""

import ctypes
import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import planted_units
from arrayops._backends.cpu.engine import cache, library
from arrayops._backends.cpu.engine import target as target_module
from arrayops._backends.cpu.engine.cache import Cache, CacheUnusable, default_folder
from arrayops._backends.cpu.engine.errors import EngineUnavailable
from arrayops._backends.cpu.engine.target import target_of
from arrayops._backends.cpu.engine.unit import prepare
from new_process import in_new_process
from planted_units import load_and_call, scaled

posix_only = pytest.mark.skipif(os.name != "posix", reason="owners and modes of folders are those of POSIX")
DAY = 24 * 3600


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch, gxx: str, tmp_path: Path) -> Path:
    """A file with a line for each run of the compiler, which is a script."""
    if os.name != "posix":
        pytest.skip("the compiler of this test is a shell script")
    script = tmp_path / "logging-g++"
    script.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/log\nexec {gxx} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("ARRAYOPS_CXX", str(script))
    return tmp_path / "log"


def compilations(log: Path) -> int:
    return log.read_text().count("scaled.cpp") if log.exists() else 0


def load_anew(scale: int = 3) -> float:
    """As a new process would."""
    planted_units.forget()
    return load_and_call(scale)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name[0] != ".")


class TestEntries:
    def test_a_second_process_runs_no_compiler(self, log: Path) -> None:
        assert load_anew() == 6
        runs = log.read_text()
        assert compilations(log) == 1
        assert load_anew() == 6
        assert log.read_text() == runs

    def test_each_unit_is_compiled_once_a_process(self, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(library, "Cache", failing(CacheUnusable("none")))
        assert [load_and_call(3), load_and_call(4), load_and_call(3)] == [6, 8, 6]
        assert compilations(log) == 2

    def test_source_and_macros_are_part_of_the_key(self, log: Path, tmp_path: Path) -> None:
        load_anew()
        source = tmp_path / "kernels" / "export.h"
        source.write_text(source.read_text() + "// changed\n")
        load_anew()
        assert compilations(log) == 2

    def test_the_compiler_is_part_of_the_key(self, log: Path) -> None:
        load_anew()
        script = Path(os.environ["ARRAYOPS_CXX"])
        script.write_text(script.read_text() + "# another version\n")
        load_anew()
        assert compilations(log) == 2

    @pytest.mark.parametrize(
        "damage", ["cut off", "altered", "longer", "gone", "record", "record of another", "features", "path"]
    )
    def test_a_damaged_one_is_built_again(self, damage: str, log: Path, cache_folder: Path) -> None:
        load_anew()
        (path,) = cache_folder.glob("*.so")
        (record,) = cache_folder.glob("*.json")
        data = bytearray(path.read_bytes())
        planted_units.forget()
        if damage == "cut off":
            replace(path, bytes(data[:5000]))
        elif damage == "altered":
            data[-100] ^= 1
            replace(path, bytes(data))
        elif damage == "longer":
            replace(path, bytes(data) + b"0")
        elif damage == "gone":
            path.unlink()
        elif damage == "record":
            replace(record, record.read_bytes()[:100])
        elif damage == "record of another":
            replace(record, b'{"another": "format"}')
        elif damage == "features":
            replace(record, json.dumps({**json.loads(record.read_text()), "features": [["avx"]]}).encode())
        else:
            (cache_folder / "other").mkdir()
            path.rename(cache_folder / "other" / path.name)
            replace(record, json.dumps({**json.loads(record.read_text()), "library": f"other/{path.name}"}).encode())
        assert load_anew() == 6
        assert compilations(log) == 2
        assert load_anew() == 6
        assert compilations(log) == 2

    @posix_only
    def test_one_that_others_can_write_is_built_again(self, log: Path, cache_folder: Path) -> None:
        load_anew()
        (path,) = cache_folder.glob("*.so")
        path.chmod(0o666)
        assert load_anew() == 6
        assert compilations(log) == 2
        assert path.stat().st_mode & 0o777 == 0o644

    def test_unused_ones_are_removed(self, log: Path, cache_folder: Path) -> None:
        load_anew(3)
        others = [cache_folder / "notes.txt", cache_folder / "scaled.so", cache_folder / "scaled-1-2.json"]
        for path in others:
            path.write_text("not ours")
        left_behind = cache_folder / f".arrayops-{'0' * 32}.tmp"
        left_behind.write_text("")
        for path in cache_folder.iterdir():
            age(path, 91)
        assert load_anew(4) == 8
        assert len(files(cache_folder)) == len(others) + 2
        assert all(path.exists() for path in others)
        assert not left_behind.exists()
        assert load_anew(3) == 6
        assert compilations(log) == 3

    def test_using_one_keeps_it(self, log: Path, cache_folder: Path) -> None:
        load_anew(3)
        for path in cache_folder.iterdir():
            age(path, 89)
        load_anew(3)
        for path in cache_folder.iterdir():
            age(path, 2, relative=True)
        load_anew(4)
        load_anew(3)
        assert compilations(log) == 2

    def test_removal_is_tried_once_a_day(self, cache_folder: Path) -> None:
        load_anew(3)
        for path in cache_folder.glob("scaled*"):
            age(path, 91)
        load_anew(4)
        assert len(files(cache_folder)) == 4


def failing(error: Exception) -> object:
    def fail(*arguments: object, **named: object) -> None:
        raise error

    return fail


def replace(path: Path, data: bytes) -> None:
    """Another file in its place: the old one may be loaded, and must not change."""
    path.unlink()
    path.write_bytes(data)
    path.chmod(0o644)


def age(path: Path, days: float, relative: bool = False) -> None:
    now = path.stat().st_mtime if relative else time.time()
    os.utime(path, (now - days * DAY, now - days * DAY))


class TestProcessor:
    def test_of_fewer_features_does_not_load_what_was_built_for_more(
        self, log: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        features = target_module.processor_features()
        monkeypatch.setattr(target_module, "processor_features", lambda: features | {"avx4096"})
        load_anew()
        monkeypatch.setattr(target_module, "processor_features", lambda: features)
        load_anew()
        assert compilations(log) == 2

    def test_features_are_checked_again_at_load(self, cache_folder: Path, log: Path) -> None:
        """A record that asks for more than its name says."""
        load_anew()
        (record,) = cache_folder.glob("*.json")
        entry = json.loads(record.read_text())
        record.write_text(json.dumps({**entry, "features": [*entry["features"], "avx4096"]}))
        assert load_anew() == 6
        assert compilations(log) == 2

    @pytest.mark.parametrize("value", ["x86-64", "x86-64-v3"])
    def test_a_lower_level(self, value: str, monkeypatch: pytest.MonkeyPatch, log: Path, cache_folder: Path) -> None:
        if target_of().machine != "x86_64":
            pytest.skip(f"levels of x86-64 on {target_of().machine}")
        monkeypatch.setenv("ARRAYOPS_CPU_ARCH", value)
        try:
            target_module.check_processor(target_of())
        except EngineUnavailable as error:
            pytest.skip(str(error))
        assert load_anew() == 6
        assert f"-march={value} " in log.read_text()
        (record,) = cache_folder.glob("*.json")
        assert ("avx2" in json.loads(record.read_text())["features"]) == (value == "x86-64-v3")
        monkeypatch.delenv("ARRAYOPS_CPU_ARCH")
        assert load_anew() == 6
        assert "-march=native " in log.read_text()

    def test_one_that_the_processor_lacks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        if target_of().machine != "x86_64":
            pytest.skip(f"levels of x86-64 on {target_of().machine}")
        monkeypatch.setenv("ARRAYOPS_CPU_ARCH", "x86-64-v4")
        monkeypatch.setattr(
            target_module, "processor_features", lambda: target_module.ARCHITECTURES["x86_64"]["x86-64-v3"]
        )
        with pytest.raises(EngineUnavailable, match="is 'x86-64-v4', but this processor lacks avx512bw, avx512cd"):
            load_and_call()

    def test_an_unknown_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ARRAYOPS_CPU_ARCH", "znver5")
        with pytest.raises(ValueError, match="ARRAYOPS_CPU_ARCH is 'znver5', expected one of native"):
            load_and_call()


@posix_only
class TestTrust:
    @pytest.mark.parametrize("mode", [0o777, 0o775, 0o757, 0o1777])
    def test_a_folder_that_others_can_write(self, mode: int, log: Path, cache_folder: Path) -> None:
        cache_folder.mkdir()
        cache_folder.chmod(mode)
        with pytest.raises(CacheUnusable, match="can be written by others: chmod go-w"):
            Cache()
        assert load_anew() == 6
        assert files(cache_folder) == []
        assert compilations(log) == 1

    @pytest.mark.parametrize(("mode", "trusted"), [(0o777, False), (0o775, False), (0o1777, True), (0o555, True)])
    def test_a_folder_above(self, mode: int, trusted: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        above = tmp_path / "above"
        (above / "cache").mkdir(parents=True)
        above.chmod(mode)
        monkeypatch.setenv("ARRAYOPS_CACHE_DIR", str(above / "cache"))
        assert load_anew() == 6
        assert bool(files(above / "cache")) == trusted

    def test_where_a_link_leads_counts(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "open").mkdir()
        (tmp_path / "open").chmod(0o777)
        (tmp_path / "link").symlink_to(tmp_path / "open")
        with pytest.raises(CacheUnusable, match=r"open can be written by others"):
            Cache(tmp_path / "link" / "cache")

    def test_folders_are_made_such_that_others_cannot_write(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            Cache(tmp_path / "a" / "b")
        finally:
            os.umask(before)
        assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o755] * 2

    def test_a_folder_of_another_user(self, other_user: int, log: Path, cache_folder: Path) -> None:
        load_anew()
        os.chown(cache_folder, other_user, other_user)
        with pytest.raises(CacheUnusable, match=f"belongs to user {other_user}"):
            Cache()
        assert load_anew() == 6
        assert compilations(log) == 2

    def test_a_library_of_another_user(self, other_user: int, log: Path, cache_folder: Path) -> None:
        load_anew()
        (path,) = cache_folder.glob("*.so")
        os.chown(path, other_user, other_user)
        assert load_anew() == 6
        assert compilations(log) == 2

    def test_a_file_in_the_place_of_the_folder(self, cache_folder: Path) -> None:
        cache_folder.write_text("")
        with pytest.raises(CacheUnusable, match="cannot be used"):
            Cache()
        assert load_anew() == 6


AS_ANOTHER = """
    import os, sys
    from pathlib import Path
    import planted_units
    place, user = Path(sys.argv[1]), int(sys.argv[2])
    planted_units.plant(place / "kernels")
    {act}
    try:
        print(planted_units.load_and_call())
    except planted_units.library.EngineUnavailable as error:
        print(error)
"""


@pytest.fixture
def shared_place(other_user: int) -> Iterator[Path]:
    """A folder of root that every user can read: those of pytest are private."""
    place = Path(tempfile.mkdtemp(prefix="arrayops-test-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


class TestUsers:
    def test_a_folder_of_root_that_this_user_can_only_read(
        self, other_user: int, shared_place: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Libraries built ahead by root, on a system without a compiler, and by another one on a system with one."""
        prepare(scaled(), target_of(), Cache(shared_place / "cache"))
        before = files(shared_place / "cache")
        code = AS_ANOTHER.format(act="os.setgroups([]); os.setgid(user); os.setuid(user)")
        arguments = (str(shared_place), str(other_user))
        folder = {"ARRAYOPS_CACHE_DIR": str(shared_place / "cache")}
        for settings in ({"PATH": ""}, {"ARRAYOPS_CXX": "true"}):
            assert in_new_process(code, *arguments, **folder, **settings).strip() == "6.0"
        assert files(shared_place / "cache") == before

    def test_effective_user_is_another(self, other_user: int, shared_place: Path) -> None:
        code = AS_ANOTHER.format(act="os.seteuid(user)")
        folder = {"ARRAYOPS_CACHE_DIR": str(shared_place / "cache")}
        printed = in_new_process(code, str(shared_place), str(other_user), **folder)
        assert "the real and the effective user or group of this process differ" in printed
        assert not (shared_place / "cache").exists()


@pytest.fixture
def mounted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A small file system with the options of the parameter."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"mode=755,{request.param}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this process cannot mount file systems")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


class TestUnusableFolders:
    @pytest.mark.parametrize("mounted", ["noexec", "ro", "size=8k"], indirect=True)
    def test_noexec_read_only_and_full(self, mounted: Path, monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
        monkeypatch.setenv("ARRAYOPS_CACHE_DIR", str(mounted))
        assert load_anew() == 6
        assert not list(mounted.glob("*.tmp"))
        assert compilations(log) == 1
        kept = bool(list(mounted.glob("*.json")))
        # From a folder mounted noexec, the library is copied.
        assert load_anew() == 6
        assert compilations(log) == 2 - kept

    def test_noexec(self, monkeypatch: pytest.MonkeyPatch, cache_folder: Path, log: Path) -> None:
        """What the loader says of it, where no file system can be mounted."""

        def refuse(path: str) -> ctypes.CDLL:
            if Path(path).parent == cache_folder:
                raise OSError(f"{path}: failed to map segment from shared object")
            return open_library(path)

        open_library = ctypes.CDLL
        monkeypatch.setattr(ctypes, "CDLL", refuse)
        assert [load_anew(), load_anew()] == [6, 6]
        assert compilations(log) == 1

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
    def test_not_writable(self, code: int, monkeypatch: pytest.MonkeyPatch, cache_folder: Path) -> None:
        monkeypatch.setattr(Cache, "_write", failing(OSError(code, os.strerror(code))))
        assert load_anew() == 6
        assert files(cache_folder) == []

    def test_nowhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ctypes, "CDLL", failing(OSError("failed to map segment from shared object")))
        with pytest.raises(EngineUnavailable, match=r"scaled\.cpp \(SCALE=3\), built by .*failed to map segment"):
            load_anew()

    def test_no_temporary_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tempfile, "mkdtemp", failing(OSError(errno.ENOSPC, "No space left on device")))
        with pytest.raises(EngineUnavailable, match=r"no temporary folder to compile in.*No space left"):
            load_anew()

    def test_nothing_is_left_in_the_temporary_folder(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        monkeypatch.setattr(library, "Cache", failing(CacheUnusable("none")))
        assert load_anew() == 6
        assert files(tmp_path / "temporary") == []


class TestDefaultFolder:
    def test_is_in_the_cache_folder_of_the_user(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ARRAYOPS_CACHE_DIR")
        monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
        monkeypatch.setenv("LOCALAPPDATA", "/local")
        places = {"linux": "/xdg/arrayops", "darwin": "~/Library/Caches/arrayops", "win32": "/local/arrayops"}
        for system, place in places.items():
            monkeypatch.setattr(cache.sys, "platform", system)
            assert default_folder() == Path(place)
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(cache.sys, "platform", "linux")
        assert default_folder() == Path("~/.cache/arrayops")


ONE_OF_MANY = """
import sys
from pathlib import Path
import planted_units
planted_units.plant(Path(sys.argv[1]))
sys.stdin.readline()
print(planted_units.load_and_call(), flush=True)
"""


class TestAtOnce:
    def test_eight_processes_and_an_empty_cache(self, tmp_path: Path, cache_folder: Path) -> None:
        support = Path(planted_units.__file__).parent
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(support), str(support.parents[1])])}
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", ONE_OF_MANY, str(tmp_path / f"kernels{number}")],
                env=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(8)
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.communicate(timeout=120)[0].strip() for process in processes] == ["6.0"] * 8
        assert len(list(cache_folder.glob("*.json"))) == 1
        assert not list(cache_folder.glob("*.tmp"))
        assert load_anew() == 6

    def test_threads(self) -> None:
        results: list[object] = []
        threads = [threading.Thread(target=lambda: results.append(library.load(scaled()))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(results) == 4
        assert len(set(map(id, results))) == 1

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
    def test_a_child_forked_during_a_compilation(self, tmp_path: Path, gxx: str) -> None:
        """It compiles on its own, and its exit takes nothing away from its parent."""
        slow = tmp_path / "slow-g++"
        slow.write_text(f'#!/bin/sh\necho >> {tmp_path}/begun\nsleep 0.5\nexec {gxx} "$@"\n')
        slow.chmod(0o755)
        code = """
            import os, sys, threading, time
            from pathlib import Path
            import planted_units
            place = Path(sys.argv[1])
            planted_units.plant(place / "kernels")
            results = []
            thread = threading.Thread(target=lambda: results.append(planted_units.load_and_call()))
            thread.start()
            while not (place / "begun").exists():
                time.sleep(0.01)
            child = os.fork()
            if child == 0:
                sys.exit(0 if planted_units.load_and_call() == 6 else 1)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            thread.join()
            print(status, results)
        """
        assert in_new_process(code, str(tmp_path), timeout=60, ARRAYOPS_CXX=str(slow)).strip() == "0 [6.0]"
