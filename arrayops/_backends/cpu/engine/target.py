"""What kernels are compiled for."""

import os
import platform
import sys
from typing import NamedTuple

from arrayops._backends.cpu.engine.errors import EngineUnavailable
from arrayops._backends.cpu.engine.features import ARCHITECTURES, processor_features

NATIVE = "native"
_MACHINES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}


class Target(NamedTuple):
    """An operating system and a processor."""

    system: str
    """As in `sys.platform`: "linux", "darwin", "win32"."""
    machine: str
    """ "x86_64", "aarch64", or another name of the system."""
    architecture: str
    """ "native", or a key of `ARCHITECTURES`."""
    features: frozenset[str]
    """Features of the processor that libraries may use."""


def target_of(architecture: str | None = None) -> Target:
    """The target that the environment asks for, or ``architecture`` on this system, whatever this processor has.

    Raises
    ------
    ValueError
        If this machine has no such architecture.
    """
    name = os.environ.get("ARRAYOPS_CPU_ARCH") or NATIVE if architecture is None else architecture
    machine = platform.machine().lower()
    machine = _MACHINES.get(machine, machine)
    levels = ARCHITECTURES.get(machine, {})
    if name != NATIVE and name not in levels:
        asked = f"ARRAYOPS_CPU_ARCH is {name!r}" if architecture is None else f"the architecture is {name!r}"
        raise ValueError(f"{asked}, expected one of {', '.join((NATIVE, *levels))} on {machine}")
    return Target(sys.platform, machine, name, processor_features() if name == NATIVE else levels[name])


def check_processor(target: Target) -> None:
    """Raise `EngineUnavailable` if this processor lacks features of the target."""
    if lacking := target.features - processor_features():
        raise EngineUnavailable(
            f"ARRAYOPS_CPU_ARCH is {target.architecture!r}, but this processor lacks {', '.join(sorted(lacking))}: "
            "name a lower level or none"
        )
