"""Plans of pixel-adaptive calls: all that depends on shapes, strides, dtypes and parameters alone, made once for each.

A repeated call finds its plan by one look-up and has structures, macros and sizes at hand.
"""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.cuda import device, memory, module, structures
from arrayops._backends.cuda.device import Properties
from arrayops._backends.cuda.launch import struct
from arrayops._backends.cuda.module import Pairs
from arrayops._backends.cuda.structures import View
from arrayops._core.shapes import Axis, Pair
from arrayops._ops import images
from arrayops._ops import pac as records
from arrayops._ops.pac import PacParameters

THREADS = 256
BLOCKS_EACH = 32
"""Blocks for each multiprocessor where threads step over the work: enough to hide the latency of memory."""


class Views(NamedTuple):
    """Views of the arrays of a call, None for those it lacks."""

    samples: View | None
    guide: View | None
    weight: View | None
    kernel: View | None
    mask: View | None
    inv_alpha: View | None
    inv_lambda: View | None
    smooth_kernel: View | None


@dataclass(frozen=True, eq=False)
class Plan:
    """A call's geometry.

    Attributes
    ----------
    axes : pair of Axis
        Windows along rows and columns.
    defines : tuple of pairs
        Macros that every kernel of the call gets.
    window, layout : numpy.void
        ``pac_window`` and ``adaptive_layout`` of ``pac.cuh``.
    kernel_channels : int
        Channels of the adaptive kernel.
    restricted : bool
        Whether the kernel is divided by a divisor.
    smooth : pair of int, or None
        Size of the smoothing kernel.
    launches : dict
        Sums over taps that were launched for the plan: "forward", or the view of the gradient that came in.
    """

    op: str
    parameters: PacParameters
    axes: tuple[Axis, Axis]
    kernel_size: Pair
    batch: int
    guides: int
    guide_size: Pair
    dtype: Any
    accumulator: Any
    guide_dtype: Any
    defines: Pairs
    window: np.void
    layout: np.void
    kernel_channels: int
    restricted: bool
    smooth: Pair | None
    gpu: Properties
    precise: bool
    views: Views
    launches: dict[Any, Any] = field(default_factory=dict)

    def kernel(self, file: str, name: str, *defines: tuple[str, int | str], shared_bytes: int = 0) -> module.Kernel:
        """A kernel with the macros of the call and more."""
        return module.kernel(file, name, self.defines + defines, shared_bytes)

    def blocks(self, count: int) -> int:
        """Blocks of a launch whose threads step over ``count`` entries."""
        return self.gpu.blocks(count, THREADS, BLOCKS_EACH)

    @cached_property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output of a convolution or pooling."""
        p = self.parameters
        assert self.views.samples is not None
        channels = images.image(self.views.samples.shape, p.layout).channels
        if p.filters == "grouped" and self.views.weight is not None:
            outputs = images.weight_extents(self.views.weight.shape, p).outputs
            channels = outputs * p.groups if p.transposed else outputs
        return images.image_shape(self.batch, channels, self.output_size, p.layout)

    @property
    def output_size(self) -> Pair:
        """Height and width of the output."""
        return self.axes[0].output, self.axes[1].output

    @property
    def input_size(self) -> Pair:
        """Height and width of the input."""
        return self.axes[0].size, self.axes[1].size

    @property
    def taps(self) -> int:
        """Taps of the filter."""
        return self.kernel_size[0] * self.kernel_size[1]


@lru_cache(maxsize=256)
def plan(number: int, precise: bool, op: str, p: PacParameters, fields: tuple[Any, ...]) -> Plan:
    """The plan of the operator ``op`` on arrays of some views, on GPU ``number``.

    ``precise`` tells whether float32 keeps all of its bits; ``fields`` are those of `View` for each of `Views`.
    """
    views = Views(*(None if each is None else View(*each) for each in fields))
    samples, guide, weight, kernel, mask, inv_alpha, _, smooth = views
    source = guide if kernel is None else kernel
    assert source is not None
    first = source if samples is None else samples
    kernel_size = p.kernel_size if weight is None else images.weight_extents(weight.shape, p).kernel_size
    assert kernel_size is not None
    guide_size: Pair = (0, 0)
    guides = 0
    if guide is not None:
        _, guides, guide_size = images.image(guide.shape, p.layout)
    if samples is None:
        axes = records.kernel_windows(op, p, guide_size)
    else:
        axes = images.windows(op, p, kernel_size, images.image(samples.shape, p.layout).size)
    if kernel is not None:
        kernel_channels = kernel.shape[1 if p.layout == "NCHW" else 5]
    else:
        kernel_channels = guides if p.channel_wise else 1
    restricted = p.normalize or mask is not None
    accumulator = np.dtype(np.float64 if first.dtype == np.float64 else np.float32)
    settings = {
        "KERNEL_GIVEN": kernel is not None,
        "KERNEL_INV": p.kernel_type == "inv",
        "ASYMMETRIC": p.asymmetric,
        "CHANNEL_WISE": p.channel_wise and kernel is None,
        "SMOOTHED": smooth is not None,
        "RESTRICTED": restricted,
        "NORMALIZED": p.normalize,
        "MASKED": mask is not None,
        "GUIDE_FLOAT32": source.dtype == np.float32 and first.dtype != source.dtype,
    }
    none = (0, 0, 0, 0)
    return Plan(
        op=op,
        parameters=p,
        axes=axes,
        kernel_size=kernel_size,
        batch=first.shape[0],
        guides=guides,
        guide_size=guide_size,
        dtype=first.dtype,
        accumulator=accumulator,
        guide_dtype=source.dtype,
        defines=(
            *memory.dtype_defines(first.dtype),
            ("FILTER_HEIGHT", kernel_size[0]),
            ("FILTER_WIDTH", kernel_size[1]),
            *((name, "") for name, wanted in settings.items() if wanted),
        ),
        window=structures.pac_window(axes, guide_size, first.shape[0], guides),
        layout=struct(
            structures.ADAPTIVE_LAYOUT,
            guide=none if guide is None else structures.image_strides(guide.strides, p.layout),
            mask=none if mask is None else structures.image_strides(mask.strides, p.layout),
            given=(0,) * 6 if kernel is None else structures.kernel_strides(kernel.strides, p.layout),
            inv_channels=1 if inv_alpha is None or not inv_alpha.shape else inv_alpha.shape[0],
            kernel_channels=kernel_channels,
        ),
        kernel_channels=kernel_channels,
        restricted=restricted,
        smooth=None if smooth is None else (smooth.shape[0], smooth.shape[1]),
        gpu=device.properties(number),
        precise=precise,
        views=views,
    )


def weight_strides(view: View | None, p: PacParameters, backward: bool = False) -> tuple[int, ...]:
    """``weight_strides`` of ``pac.cuh``; ``backward`` exchanges the roles of a weight's two channels."""
    if view is None:
        return (0,) * 6
    letters = images.weight_layout(p).split()
    steps = dict(zip(letters, view.strides, strict=True))
    extents = dict(zip(letters, view.shape, strict=True))
    first, row, column = 0, steps["kh"], steps["kw"]
    if p.transposed:
        # A transposed convolution correlates with the flipped filter.
        first = (extents["kh"] - 1) * row + (extents["kw"] - 1) * column
        row, column = -row, -column
    if p.filters == "shared":
        return first, 0, 0, 0, row, column
    outer = letters[0] if letters[0] in "IO" else letters[3]
    group = extents[outer] // p.groups * steps[outer]
    result, source = (steps["I"], steps["O"]) if backward else (steps["O"], steps["I"])
    return first, group, result, source, row, column
