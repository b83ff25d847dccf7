"""Import of the packages that only the demo requires."""

from __future__ import annotations

import importlib
from types import ModuleType


class DemoError(Exception):
    """A failure to report to the user in one line, without a traceback."""


def load(module: str) -> ModuleType:
    """Import a module of the ``examples`` extra.

    Parameters
    ----------
    module : str
        Dotted name of the module.

    Returns
    -------
    ModuleType
        The module itself, not its top-level package.

    Raises
    ------
    DemoError
        If the package is missing; the message gives the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise  # the package is installed, but a package that it imports is not
        raise DemoError(f'the demo requires {package}: pip install "arrayops-nn[examples]"') from error
