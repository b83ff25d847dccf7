"""Types of public signatures."""

from typing import Generic, Literal, NamedTuple, TypeVar

ArrayT = TypeVar("ArrayT")
Size = int | tuple[int, int]
Padding = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] | str
KernelType = Literal["gaussian", "inv"]
Layout = Literal["NCHW", "NHWC"]


class MaskedOutput(NamedTuple, Generic[ArrayT]):
    """Result of a call with ``mask``: the output, and where it had anything to go by.

    ``output_mask`` is bool, one channel at the resolution of the output; it is False where a window held no valid
    sample, and ``output`` is then 0 (or the bias).
    """

    output: ArrayT
    output_mask: ArrayT
