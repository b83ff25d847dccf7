"""The text of a layer's options."""

from collections.abc import Mapping
from typing import Any


def not_defaults(options: Mapping[str, tuple[Any, Any]]) -> str:
    """``", name=value"`` of each option, a value and its default, that differs from its default."""
    return "".join(f", {name}={value!r}" for name, (value, default) in options.items() if value != default)
