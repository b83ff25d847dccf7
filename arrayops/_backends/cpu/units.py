"""All units that are compiled for the CPU."""

from importlib import import_module

from arrayops._backends.cpu.engine.unit import Unit

# Modules of this package that list their units as UNITS.
MODULES: tuple[str, ...] = ("engine.scheduler", "conv.units", "pac.units")


def all_units() -> list[Unit]:
    """Every unit that an operator may load, in the order of `MODULES`."""
    return [unit for module in MODULES for unit in import_module(f"arrayops._backends.cpu.{module}").UNITS]
