"""Memory of another framework for the arrays of the CUDA backend."""

from collections.abc import Callable
from threading import local
from typing import Any

Empty = Callable[[tuple[int, ...], Any], Any]
"""Shape and dtype -> C-contiguous `cupy.ndarray` of any content on the current device.

Its memory has to be freed as the work on the current stream asks for: handed out again only behind what still reads it.
"""


class Lent(local):
    """What calls of this thread work with."""

    empty: Empty | None = None
    """None where CuPy's own memory serves."""


lent = Lent()
