"""Check that the wheel and the sdist in a folder hold all files of the checkout that belong in them."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path


def checkout() -> set[str]:
    """All files that git knows."""
    return set(subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines())


def check_wheel(path: Path, files: set[str]) -> None:
    """Every module and kernel, the marker of types, and nothing else at the top level."""
    names = set(zipfile.ZipFile(path).namelist())
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"arrayops"}
    package = {name for name in files if name.startswith("arrayops/")}
    kernels = {f"arrayops/{name}" for name in files if name.startswith("raw_kernels/")}
    assert package
    assert kernels
    assert not (missing := (package | kernels) - names), f"the wheel lacks {sorted(missing)}"
    print(f"{path.name}: {len(names)} files, all {len(package)} of arrayops and {len(kernels)} kernels")


def check_sdist(path: Path, files: set[str]) -> None:
    """Everything but what only a checkout needs."""
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {name for name in files if not name.startswith(".")}
    assert not (missing := wanted - names), f"the sdist lacks {sorted(missing)}"
    print(f"{path.name}: all {len(wanted)} files of the checkout")


if __name__ == "__main__":
    (wheel,), (sdist,) = (sorted(Path(sys.argv[1]).glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    check_wheel(wheel, checkout())
    check_sdist(sdist, checkout())
