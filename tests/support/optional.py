"""Packages that tests compare with, and do without where they are not installed."""

from __future__ import annotations

import importlib
from typing import Any

import pytest


class Absent:
    """In the place of a package that is not installed: the test that comes to use it is skipped."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __bool__(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what Python and pytest ask of any object
            raise AttributeError(name)
        pytest.skip(f"{self._name} is not installed")


def optional(name: str) -> Any:
    """The module, or what is false and skips the test that uses it."""
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        return Absent(package)
