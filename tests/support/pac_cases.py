"""A table of named calls of a size where sums do not cancel as a whole: tolerances are relative to the result."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import numpy as np

from case import Case
from oracles import pac_torch
from strategies import DTYPES, FLOAT64, normal, to_layout

# Options beside the arrays; "smooth" (a shape), "masked", "with_kernel" and "channels" are for `build`.
KERNELS: dict[str, dict[str, Any]] = {
    "gaussian": {},
    "inv": {"kernel_type": "inv"},
    "asymmetric": {"asymmetric": True},
    "inv asymmetric": {"kernel_type": "inv", "asymmetric": True},
    "smooth": {"smooth": (3, 5)},
    "normalize": {"normalize": True},
    "mask": {"masked": True},
    "mask normalize inv smooth": {"masked": True, "normalize": True, "kernel_type": "inv", "smooth": (3, 3)},
}
PLACES: dict[str, dict[str, Any]] = {
    "even filter": {"kernel_size": (4, 2)},
    "SAME stride 2": {"padding": "SAME", "stride": 2, "masked": True},
    "VALID stride (3, 2)": {"padding": "Valid", "stride": (3, 2), "kernel_size": (5, 3)},
    "sides, dilation": {"padding": ((3, 1), (0, 2)), "dilation": (1, 2), "kernel_size": (1, 4), "normalize": True},
}
CHANNEL_WISE: dict[str, dict[str, Any]] = {
    "channel_wise": {"channel_wise": True},
    "channel_wise inv normalize": {"channel_wise": True, "kernel_type": "inv", "normalize": True, "per_channel": True},
}
CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "groups": {"groups": 3},
    "depthwise": {"groups": 6, "masked": True},
    "shared": {"shared_filters": True},
}
KERNEL_GIVEN: dict[str, dict[str, Any]] = {"kernel": {"with_kernel": True, "padding": 1}}

TABLE: dict[str, dict[str, dict[str, Any]]] = {
    "pac_kernel2d": {
        **KERNELS,
        **PLACES,
        **CHANNEL_WISE,
        "transposed": {"transposed": True, "stride": 2, "padding": 1, "output_padding": (1, 0)},
        "transposed mask": {"transposed": True, "stride": 2, "padding": "SAME", "masked": True, "normalize": True},
    },
    "pac_conv2d": {**KERNELS, **PLACES, **CONVOLUTIONS, **KERNEL_GIVEN},
    "pac_conv_transpose2d": {
        **KERNELS,
        **PLACES,
        **CONVOLUTIONS,
        **KERNEL_GIVEN,
        "output_padding": {"stride": (2, 3), "output_padding": (1, 2), "padding": 1, "normalize": True},
    },
    "pac_pool2d": {
        **KERNELS,
        **PLACES,
        **CHANNEL_WISE,
        **KERNEL_GIVEN,
        "kernel channel_wise": {"with_kernel": True, "channel_wise": True, "stride": 2},
    },
}
NAMED = [(operator, name) for operator, table in TABLE.items() for name in table]


def _assigned() -> dict[tuple[str, str], tuple[np.dtype, str]]:
    met: Counter[Any] = Counter()
    assigned: dict[tuple[str, str], tuple[np.dtype, str]] = {}
    # Calls with most options first: pairs that they make need not be made by others.
    for operator, name in sorted(NAMED, key=lambda call: -len(TABLE[call[0]][call[1]])):
        # Both convolutions are made by the same kernels.
        kernels = operator.replace("_transpose", "")
        if (kernels, name) not in assigned:
            options = [(kernels, option, str(value)) for option, value in TABLE[operator][name].items()]

            def cost(choice: tuple[np.dtype, str], options: Any = options) -> tuple[int, int, int]:
                """New pairs of an option with a dtype or layout count most, then how often the pairs were made."""
                made = [met[option, level] for option in options for level in choice]
                return -made.count(0), sum(made), met[options[0][0], choice] if options else 0

            choice = min(product(DTYPES, ("NCHW", "NHWC")), key=cost)
            met.update([(kernels, choice), *product(options, choice)])
            assigned[kernels, name] = choice
        assigned[operator, name] = assigned[kernels, name]
    return assigned


ASSIGNED = _assigned()
"""Dtype and layout of each named call, for tests where one of each is enough.

An option meets different ones in the calls that have it. Kernels that are compiled for an option know the dtype as the
name of a type, so that all calls in all dtypes would compile several times as much and prove little more.
"""


def build(
    operator: str,
    *,
    seed: int = 0,
    dtype: Any = FLOAT64,
    guide_dtype: Any = None,
    layout: str = "NCHW",
    batch: int = 2,
    size: tuple[int, int] = (9, 10),
    channels: int = 6,
    outputs: int = 6,
    guide_channels: int = 3,
    kernel_size: tuple[int, int] = (3, 3),
    smooth: tuple[int, int] | None = None,
    masked: bool | np.ndarray = False,
    with_kernel: bool = False,
    per_channel: bool = False,
    normalize: bool = False,
    bias: bool = True,
    **options: Any,
) -> Case:
    """A call with random arrays. `size` is the input's, for a transposed pac_kernel2d as well."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    guide_dtype = np.dtype(guide_dtype or dtype)
    groups, shared = options.get("groups", 1), options.get("shared_filters", False)
    transposed = operator == "pac_conv_transpose2d" or options.get("transposed", False)
    geometry = pac_torch.geometry(
        transposed,
        kernel_size,
        options.get("stride", 1),
        options.get("padding", 0),
        options.get("dilation", 1),
        options.get("output_padding", 0),
        size,
    )
    arrays: dict[str, Any] = {}
    if operator != "pac_kernel2d":
        arrays["input"] = normal(rng, (batch, channels, *size), dtype)
    if operator.startswith("pac_conv"):
        outputs = channels if shared else outputs
        inner = (outputs, channels // groups) if operator == "pac_conv2d" else (channels, outputs // groups)
        arrays["weight"] = normal(rng, ((1, 1) if shared else inner) + tuple(kernel_size), dtype)
        arrays["bias"] = normal(rng, (outputs,), dtype) if bias else None
    else:
        options["kernel_size"] = kernel_size
    arrays["guide"] = None
    wide = channels if operator == "pac_pool2d" and options.get("channel_wise") else guide_channels
    if with_kernel:
        one = channels if options.pop("channel_wise", False) else 1
        arrays["kernel"] = normal(rng, (batch, one, *kernel_size, *geometry.output_size), guide_dtype)
    else:
        guide_size = geometry.output_size if transposed else size
        arrays["guide"] = normal(rng, (batch, wide, *guide_size), guide_dtype, 0.6)
        if options.get("kernel_type") == "inv":
            shape = (wide,) if per_channel else ()
            arrays["inv_alpha"] = np.asarray(0.2 + rng.random(shape)).astype(guide_dtype)
            arrays["inv_lambda"] = np.asarray(0.4 + rng.random(shape)).astype(guide_dtype)
        if smooth is not None:
            arrays["smooth_kernel"] = normal(rng, smooth, guide_dtype, 0.5)
        if normalize:
            options["normalize" if operator == "pac_kernel2d" else "normalize_kernel"] = True
        if isinstance(masked, np.ndarray):
            options["mask"] = masked
        elif masked:
            options["mask"] = rng.random((batch, 1, *size)) < 0.6
    if "mask" in options:
        options["mask"] = to_layout("mask", options["mask"], layout)
    arrays = {k: None if v is None else to_layout(k, v, layout) for k, v in arrays.items()}
    if layout != "NCHW":
        options["layout"] = layout
    return Case(operator, arrays, options, dtype, seed)


def named(operator: str, name: str, **more: Any) -> Case:
    return build(operator, **{**TABLE[operator][name], **more})
