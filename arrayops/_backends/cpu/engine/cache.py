"""The folder of compiled libraries.

An entry is a record, ``NAME.json``, and the library that it names, ``NAME-DIGEST.so``, the digest being that of the
library's bytes. Both are written under temporary names and renamed, the library first: a record never describes another
library than the one it names, whichever of two processes that build the same entry comes last. There are no locks.
"""

import contextlib
import hashlib
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from arrayops._backends.cpu.engine.trust import distrust, distrust_file

DAY_SECONDS = 24 * 3600
UNUSED_DAYS = 90
SUFFIX = ".dll" if sys.platform == "win32" else ".so"

# A name is FILE-UNIT-BUILD, the last two being digests.
_ENTRY = re.compile(r"(?P<name>\w+-[0-9a-f]{24}-[0-9a-f]{24})(\.json|-[0-9a-f]{24}\.(so|dll))")
_TEMPORARY = re.compile(r"\.arrayops-[0-9a-f]{32}\.tmp")
_PRUNED = ".arrayops-pruned"


class CacheUnusable(OSError):
    """Libraries cannot be kept in the folder; the message says why."""


class Library(NamedTuple):
    """A library whose length and digest are those recorded."""

    path: Path
    data: bytes
    record: "Record"


class Record(NamedTuple):
    """What is kept about a library, beside it."""

    library: str
    length: int
    sha256: str
    features: tuple[str, ...]
    """Features that the processor must have."""
    compiler: str
    architecture: str


def digest(*parts: str) -> str:
    """Part of a name that stands for texts."""
    hashed = hashlib.sha256()
    for part in parts:
        data = part.encode()
        hashed.update(b"%d:" % len(data) + data)
    return hashed.hexdigest()[:24]


def default_folder() -> Path:
    """The folder that ``ARRAYOPS_CACHE_DIR`` names, or one in the user's cache folder."""
    if value := os.environ.get("ARRAYOPS_CACHE_DIR"):
        return Path(value)
    if sys.platform == "win32":
        place = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        place = "~/Library/Caches"
    else:
        place = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(place) / "arrayops"


class Cache:
    """A folder that nobody else can write to.

    Parameters
    ----------
    folder : Path, optional
        Made if it does not exist.

    Raises
    ------
    CacheUnusable
        If it cannot be made, or others can write to it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        try:
            # Symbolic links are followed once, and what they lead to is what is judged and used.
            self.folder = (default_folder() if folder is None else folder).expanduser().resolve()
            _make(self.folder)
            reason = distrust(self.folder)
        except (OSError, RuntimeError) as error:
            raise CacheUnusable(f"the cache folder cannot be used: {error}") from error
        if reason:
            raise CacheUnusable(f"the cache folder cannot be used: {reason}")

    @property
    def writable(self) -> bool:
        """Whether entries can be added."""
        return os.access(self.folder, os.W_OK)

    def names(self, start: str) -> list[str]:
        """Names of the entries that begin with ``start``."""
        return sorted(path.stem for path in self.folder.glob(f"{start}*.json"))

    def find(self, name: str, features: frozenset[str]) -> Library | None:
        """The library of an entry if it is intact and needs no other features than ``features``."""
        record = self._record(name)
        if record is None or not features.issuperset(record.features):
            return None
        path = self.folder / record.library
        data = _read(path)
        # The loader maps the file and trusts it: one that is cut off would end the process.
        if data is None or len(data) != record.length or hashlib.sha256(data).hexdigest() != record.sha256:
            return None
        self._touch(name, record)
        return Library(path, data, record)

    def store(self, name: str, data: bytes, features: frozenset[str], compiler: str, architecture: str) -> Library:
        """Add an entry, or replace it.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.folder / f"{name}-{sha256[:24]}{SUFFIX}"
        record = Record(path.name, len(data), sha256, tuple(sorted(features)), compiler, architecture)
        self._write(path, data)
        self._write(self._record_path(name), json.dumps(record._asdict(), indent=1).encode())
        self._prune()
        return Library(path, data, record)

    def size(self) -> tuple[int, int]:
        """Number of entries, and bytes of all files."""
        sizes = {path.name: path.stat().st_size for path in self._files()}
        return sum(name.endswith(".json") for name in sizes), sum(sizes.values())

    def _record_path(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _record(self, name: str) -> Record | None:
        data = _read(self._record_path(name))
        try:
            record = Record(**json.loads(data or b""))
            # A name with a separator would lead out of the folder.
            fits = _ENTRY.fullmatch(record.library) and all(isinstance(feature, str) for feature in record.features)
        except (ValueError, TypeError):
            return None
        return record if fits else None

    def _write(self, path: Path, data: bytes) -> None:
        temporary = self.folder / f".arrayops-{uuid.uuid4().hex}.tmp"
        try:
            with temporary.open("xb") as file:
                # For every user to read, whatever the process's mask: a folder may be built for others.
                if hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), 0o644)
                file.write(data)
            try:
                os.replace(temporary, path)
            except PermissionError:
                # Windows refuses to replace a library that a process has loaded; it has the same bytes.
                if _read(path) != data:
                    raise
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def _touch(self, name: str, record: Record) -> None:
        """Note that an entry is used, at most once a day."""
        for path in (self._record_path(name), self.folder / record.library):
            # The folder may be read-only.
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > DAY_SECONDS:
                    os.utime(path)

    def _files(self) -> Iterator[Path]:
        return (path for path in self.folder.iterdir() if _ENTRY.fullmatch(path.name) and path.is_file())

    def _prune(self) -> None:
        """Remove entries that are not used any more, and what killed processes left behind; at most once a day."""
        marker = self.folder / _PRUNED
        with contextlib.suppress(OSError):
            if marker.exists() and time.time() - marker.stat().st_mtime < DAY_SECONDS:
                return
            marker.touch()
            for path in self.folder.iterdir():
                days = UNUSED_DAYS if _ENTRY.fullmatch(path.name) else 1 if _TEMPORARY.fullmatch(path.name) else None
                with contextlib.suppress(OSError):
                    if days is not None and time.time() - path.stat().st_mtime > days * DAY_SECONDS:
                        path.unlink()


def _make(folder: Path) -> None:
    """Make a folder and those above it, each such that nobody else can write to it."""
    for place in (*reversed(folder.parents), folder):
        if not place.is_dir():
            place.mkdir(mode=0o755, exist_ok=True)


def _read(path: Path) -> bytes | None:
    """Bytes of a file that nobody else can write; None if there is none."""
    try:
        with path.open("rb") as file:
            return None if distrust_file(file.fileno()) else file.read()
    except OSError:
        return None
