"""Types of the public signatures.

The type of a result follows from one argument (``input``, ``guide`` of `pac_kernel2d`, ``features``, ``pooled``,
``maps``). The other arrays may differ from it in type, because NumPy's types hold the dtype and the number of axes.
"""

from collections.abc import Sequence
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

import numpy as np


class Array(Protocol):
    """An array of any supported framework."""

    @property
    def shape(self) -> Any:
        """Size of each axis."""

    @property
    def dtype(self) -> Any:
        """Data type of the elements."""


ArrayT = TypeVar("ArrayT", bound=Array)
GuideT = TypeVar("GuideT", bound=Array)
MaskT = TypeVar("MaskT", bound=Array)
ScalarT = TypeVar("ScalarT", bound=np.generic)
GuideScalarT = TypeVar("GuideScalarT", bound=np.generic)
OutputT = TypeVar("OutputT")
SavedT = TypeVar("SavedT")

Size = int | Sequence[int]
Padding = int | Sequence[int] | Sequence[Sequence[int]] | Literal["SAME", "VALID", "same", "valid"]
KernelType = Literal["gaussian", "inv"]
PooledReduction = Literal["mean", "sum", "max", "min", "var"]
Layout = Literal["NCHW", "NHWC", "nchw", "nhwc", "channels_first", "channels_last"]


class MaskedOutput(NamedTuple, Generic[ArrayT, MaskT]):
    """Output and output mask of a call with ``mask``.

    ``output_mask`` is a bool array with one channel and the height and width of the output. It is False where the
    window contains no valid input pixel; there ``output`` is 0, or the bias.
    """

    output: ArrayT
    output_mask: MaskT


class SavedOutput(NamedTuple, Generic[OutputT, SavedT]):
    """Output of a call with ``return_saved``, and what the backward takes as ``saved``."""

    output: OutputT
    saved: SavedT
