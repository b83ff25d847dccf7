"""The text of a layer's arguments."""

from collections.abc import Mapping
from typing import Any


def arguments_text(*given: str, options: Mapping[str, tuple[Any, Any]]) -> str:
    """The texts ``given``, and ``name=value`` of each option (a value and its default) that is not its default."""
    changed = [f"{name}={value!r}" for name, (value, default) in options.items() if value != default]
    return ", ".join([*given, *changed])
