"""Plans of pixel-adaptive calls."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.cuda.engine import device, structures
from arrayops._backends.cuda.engine.launch import struct
from arrayops._backends.cuda.engine.structures import ArrayView
from arrayops._backends.cuda.window import plan
from arrayops._backends.cuda.window.plan import WindowPlan
from arrayops._core.shapes import Pair
from arrayops._ops import images
from arrayops._ops import pac as records
from arrayops._ops.pac import PacParameters


class PacViews(NamedTuple):
    """Views of the arrays of a call, None for absent ones."""

    samples: ArrayView | None
    guide: ArrayView | None
    weight: ArrayView | None
    kernel: ArrayView | None
    mask: ArrayView | None
    inv_alpha: ArrayView | None
    inv_lambda: ArrayView | None
    smooth_kernel: ArrayView | None


@dataclass(frozen=True, eq=False, kw_only=True)
class PacPlan(WindowPlan):
    """A call's geometry, and that of its adaptive kernel.

    Attributes
    ----------
    layout : numpy.void
        ``adaptive_layout`` of ``pac.cuh``.
    kernel_channels : int
        Channels of the adaptive kernel.
    precomputed : bool
        Whether the kernel is an input array; otherwise it is computed from a guide of ``guides`` channels.
    has_divisor : bool
        Whether the kernel is divided by a divisor.
    smooth : pair of int, or None
        Size of the smoothing kernel.
    """

    parameters: PacParameters
    guides: int
    guide_size: Pair
    layout: np.void
    kernel_channels: int
    precomputed: bool
    has_divisor: bool
    smooth: Pair | None


@lru_cache(maxsize=256)
def pac_plan(number: int, precise: bool, op: str, parameters: PacParameters, fields: tuple[Any, ...]) -> PacPlan:
    """The plan of the operator ``op`` for arrays with the given views, on GPU ``number``.

    ``precise`` is True if float32 products must not be rounded to TF32; ``fields`` are the fields of an `ArrayView`
    for each of `PacViews`.
    """
    views = PacViews(*(None if each is None else ArrayView(*each) for each in fields))
    samples, guide, weight, kernel, mask, inv_alpha, _, smooth = views
    source = guide if kernel is None else kernel
    assert source is not None
    first = source if samples is None else samples
    kernel_size = (
        parameters.kernel_size if weight is None else images.weight_extents(weight.shape, parameters).kernel_size
    )
    assert kernel_size is not None
    guide_size: Pair = (0, 0)
    guides = 0
    if guide is not None:
        _, guides, guide_size = images.image(guide.shape, parameters.layout)
    if samples is None:
        axes = records.kernel_windows(op, parameters, guide_size)
    else:
        axes = images.windows(op, parameters, kernel_size, images.image(samples.shape, parameters.layout).size)
    if kernel is not None:
        kernel_channels = kernel.shape[1 if parameters.layout == "NCHW" else 5]
    else:
        kernel_channels = guides if parameters.channel_wise else 1
    has_divisor = parameters.normalize or mask is not None
    settings = {
        "KERNEL_PRECOMPUTED": kernel is not None,
        "KERNEL_INV": parameters.kernel_type == "inv",
        "ASYMMETRIC": parameters.asymmetric,
        "CHANNEL_WISE": parameters.channel_wise and kernel is None,
        "SMOOTHED": smooth is not None,
        "HAS_DIVISOR": has_divisor,
        "NORMALIZED": parameters.normalize,
        "MASKED": mask is not None,
        "GUIDE_FLOAT32": source.dtype == np.float32 and first.dtype != source.dtype,
    }
    none = (0, 0, 0, 0)
    # A mask without normalization divides by the fraction of taps left, so K may be as large as the number of taps.
    rescaled = mask is not None and not parameters.normalize
    return PacPlan(
        op=op,
        parameters=parameters,
        axes=axes,
        kernel_size=kernel_size,
        batch=first.shape[0],
        guides=guides,
        guide_size=guide_size,
        dtype=first.dtype,
        samples=samples,
        weight=weight,
        accumulator=plan.accumulator(first.dtype),
        defines=(
            *plan.filter_defines(first.dtype, kernel_size),
            *((name, "") for name, is_set in settings.items() if is_set),
        ),
        window=structures.window(axes, first.shape[0], guide_size, guides),
        layout=struct(
            structures.ADAPTIVE_LAYOUT,
            guide=none if guide is None else structures.image_strides(guide.strides, parameters.layout),
            mask=none if mask is None else structures.image_strides(mask.strides, parameters.layout),
            kernel=(0,) * 6 if kernel is None else structures.kernel_strides(kernel.strides, parameters.layout),
            inv_channels=1 if inv_alpha is None or not inv_alpha.shape else inv_alpha.shape[0],
            kernel_channels=kernel_channels,
        ),
        kernel_channels=kernel_channels,
        has_divisor=has_divisor,
        smooth=None if smooth is None else (smooth.shape[0], smooth.shape[1]),
        gpu=device.properties(number),
        precise=precise,
        filters=parameters.filters,
        adaptive=True,
        at_most_one=parameters.kernel_type == "gaussian" and kernel is None and not rescaled,
        precomputed=kernel is not None,
    )
