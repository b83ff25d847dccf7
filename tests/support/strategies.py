"""Hypothesis strategies that draw complete, valid calls of the PAC operators, small enough for loops in Python.

Hypothesis draws the configuration; the values come from NumPy's generator with a drawn seed, because random normals of
size 1 test sums, and shrinking single values would only hide the shape that fails.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

from case import Case
from tolerances import BFLOAT16

CONVOLUTIONS = ("conv2d", "conv_transpose2d")
OPERATORS = ("pac_kernel2d", "pac_conv2d", "pac_conv_transpose2d", "pac_pool2d")

FLOAT64, FLOAT32, FLOAT16 = np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.float16)
DTYPES = (FLOAT64, FLOAT32, FLOAT16, BFLOAT16)
# For tests that take seconds in each of them: the quick tests use one.
ONE_QUICK = (FLOAT64, *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in DTYPES[1:]))


def examples(count: int) -> settings:
    """The same examples on every run and machine: a failure in CI is a failure at the desk."""
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],  # to explain costs more than it tells
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


# --- arrays ---------------------------------------------------------------------------------------

MEMORY = ("contiguous", "fortran", "every other", "negative strides", "read-only", "offset")


def in_memory(array: np.ndarray, form: str) -> np.ndarray:
    """The same values in another place and order of memory."""
    if form == "fortran":
        return np.asfortranarray(array)
    if form == "every other" and array.ndim:
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), 77, dtype=array.dtype)  # 77: never to be read
        wide[..., ::2] = array
        return wide[..., ::2]
    if form == "negative strides" and array.ndim:
        flip = (slice(None, None, -1),) * array.ndim
        return np.ascontiguousarray(array[flip])[flip]
    if form == "read-only":
        array = array.copy()
        array.flags.writeable = False
        return array
    if form == "offset":  # starts one element into its buffer: aligned to the item, not to 16 or 64 bytes
        buffer = np.empty(array.size + 1, dtype=array.dtype)
        buffer[1:] = array.ravel()
        return buffer[1:].reshape(array.shape)
    return array


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, scale: float = 1.0) -> np.ndarray:
    return (scale * rng.standard_normal(shape)).astype(dtype)


def to_layout(name: str, array: np.ndarray, layout: str) -> np.ndarray:
    """From NCHW (OIHW, IOHW) order to the layout's."""
    if layout == "NCHW" or array.ndim < 4:
        return array
    order = {"weight": (2, 3, 1, 0), "kernel": (0, 4, 5, 2, 3, 1)}.get(name, (0, 2, 3, 1))
    return np.ascontiguousarray(array.transpose(order))


# Axes of images and of kernels in the order that the other layout has in memory.
OTHER_ORDER = {
    ("NCHW", 4): (0, 2, 3, 1),
    ("NHWC", 4): (0, 3, 1, 2),
    ("NCHW", 6): (0, 4, 5, 2, 3, 1),
    ("NHWC", 6): (0, 5, 3, 4, 1, 2),
}


def in_other_order(layout: str, array: np.ndarray) -> np.ndarray:
    """The same values in memory in the order that the other layout has: of NCHW, a view of NHWC."""
    order = OTHER_ORDER[layout, array.ndim]
    back = tuple(np.argsort(order))
    return np.ascontiguousarray(array.transpose(order)).transpose(back)


# --- calls ----------------------------------------------------------------------------------------


class Ranges(NamedTuple):
    """What calls are drawn from; a value that is given twice is drawn more often."""

    kernel: tuple[int, ...] = (1, 2, 3, 4)
    stride: tuple[int, ...] = (1, 2, 3)
    dilation: tuple[int, ...] = (1, 1, 2, 3)
    padding: int = 4
    more: tuple[int, int] = (5, 3)  # rows beyond the fewest that are valid, at most: plain and transposed
    groups: tuple[int, ...] = (1, 1, 2, 3, 5)
    channels: tuple[int, ...] = (1, 1, 2, 3)  # inputs of a group, and outputs


SMALL = Ranges(groups=(1, 1, 2, 3), channels=(1, 2))


@st.composite
def axes_options(draw: st.DrawFn, transposed: bool, ranges: Ranges = Ranges()) -> dict[str, Any]:  # noqa: B008
    """Kernel size, stride, dilation, padding, output_padding, a valid input size and the output size it gives."""
    kernel = [draw(st.sampled_from(ranges.kernel)) for _ in range(2)]
    stride = [draw(st.sampled_from(ranges.stride)) for _ in range(2)]
    dilation = [draw(st.sampled_from(ranges.dilation)) for _ in range(2)]
    if draw(st.booleans()):
        stride[1], dilation[1] = stride[0], dilation[0]
    extent = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    form = draw(st.sampled_from(("int", "pair", "sides", "sides", "SAME", "same", "VALID", "valid")))
    if form == "int":
        amount = draw(st.integers(0, 3))
        sides = [[amount, amount], [amount, amount]]
    elif form == "pair":
        amounts = [draw(st.integers(0, 3)) for _ in range(2)]
        sides = [[a, a] for a in amounts]
    elif form == "sides":
        sides = [[draw(st.integers(0, ranges.padding)) for _ in range(2)] for _ in range(2)]
    else:
        sides = [[0, 0], [0, 0]]
    same = form.upper() == "SAME"
    extra = [0, 0]
    if transposed and not same and draw(st.booleans()):
        extra = [draw(st.integers(0, max(s, d) - 1)) for s, d in zip(stride, dilation, strict=True)]
    inputs, outputs = [], []
    for a in range(2):
        if transposed:
            least = 1  # the smallest input whose output has at least one row
            while not same and (least - 1) * stride[a] + extent[a] + extra[a] - sum(sides[a]) < 1:
                least += 1
            size = draw(st.integers(least, least + ranges.more[1]))
            out = size * stride[a] if same else (size - 1) * stride[a] + extent[a] + extra[a] - sum(sides[a])
        else:
            least = 1 if same else max(1, extent[a] - sum(sides[a]))
            size = draw(st.integers(least, least + ranges.more[0]))
            out = -(-size // stride[a]) if same else (size + sum(sides[a]) - extent[a]) // stride[a] + 1
        inputs.append(size)
        outputs.append(out)

    def short(values: list[int]) -> Any:
        """An int where both are equal, sometimes."""
        return values[0] if values[0] == values[1] and draw(st.booleans()) else tuple(values)

    padding: Any = form
    if form == "int":
        padding = sides[0][0]
    elif form == "pair":
        padding = (sides[0][0], sides[1][0])
    elif form == "sides":
        padding = (tuple(sides[0]), tuple(sides[1]))
    found = {
        "kernel_size": short(kernel),
        "stride": short(stride),
        "dilation": short(dilation),
        "padding": padding,
        "output_padding": short(extra),
        "taps": tuple(kernel),
        "inputs": tuple(inputs),
        "outputs": tuple(outputs),
    }
    # Parameters that have their default value are left out now and then.
    for name, default in (("stride", 1), ("dilation", 1), ("padding", 0), ("output_padding", 0)):
        if found[name] == default and draw(st.booleans()):
            del found[name]
    return found


@st.composite
def cases(
    draw: st.DrawFn,
    operator: str,
    dtypes: tuple[np.dtype, ...] = DTYPES,
    zero: str = "",
    memory: bool = True,
    ranges: Ranges = SMALL,
    guides: tuple[int, ...] = (1, 2, 3),
) -> Case:
    """A complete valid call of `operator`; `zero` names what has size 0: batch, input or output channels, guide.

    `guides` are the numbers of channels that the guide may have.
    """
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    layout = draw(st.sampled_from(("NCHW", "NHWC")))
    dtype = draw(st.sampled_from(dtypes))
    transposed = operator == "pac_conv_transpose2d" or (operator == "pac_kernel2d" and draw(st.booleans()))
    space = draw(axes_options(transposed, ranges))
    (kh, kw), inputs, outputs = space.pop("taps"), space.pop("inputs"), space.pop("outputs")
    if not transposed:
        space.pop("output_padding", None)

    batch = 0 if zero == "batch" else draw(st.integers(1, 2))
    guide_channels = 0 if zero == "guide" else draw(st.sampled_from(guides))
    arrays: dict[str, Any] = {}
    options: dict[str, Any] = dict(space)
    channel_wise = operator in ("pac_kernel2d", "pac_pool2d") and draw(st.booleans())

    channels = 0
    if operator != "pac_kernel2d":
        groups = 1 if zero == "input" else draw(st.sampled_from(ranges.groups))
        channels = 0 if zero == "input" else groups * draw(st.sampled_from(ranges.channels))
        arrays["input"] = normal(rng, (batch, channels, *inputs), dtype)
    if operator in ("pac_conv2d", "pac_conv_transpose2d"):
        options.pop("kernel_size")
        shared = zero != "output" and draw(st.integers(0, 3)) == 0
        if shared:
            out_channels = channels
            shape = (1, 1, kh, kw)
            options["shared_filters"] = True
        else:
            out_channels = 0 if zero == "output" else groups * draw(st.sampled_from(ranges.channels))
            shape = (
                (out_channels, channels // groups, kh, kw)
                if operator == "pac_conv2d"
                else (channels, out_channels // groups, kh, kw)
            )
            if groups > 1 or draw(st.booleans()):
                options["groups"] = groups
        arrays["weight"] = normal(rng, shape, dtype)
        arrays["bias"] = normal(rng, (out_channels,), dtype) if draw(st.booleans()) else None

    guide_dtype = FLOAT32 if dtype.itemsize == 2 and draw(st.booleans()) else dtype
    if operator == "pac_kernel2d":
        guide_dtype = dtype
        options["transposed"] = transposed
    use_kernel = operator != "pac_kernel2d" and zero != "guide" and draw(st.integers(0, 3)) == 0
    arrays["guide"] = None
    if use_kernel:
        kernel_channels = channels if channel_wise else 1  # its shape says so: the option belongs to the guide
        arrays["kernel"] = normal(rng, (batch, kernel_channels, kh, kw, *outputs), guide_dtype)
    else:
        if operator == "pac_pool2d" and channel_wise:
            guide_channels = channels
        size = outputs if transposed else inputs
        # 0.6 keeps exp(-d^2/2) of three channels away from 0.
        arrays["guide"] = normal(rng, (batch, guide_channels, *size), guide_dtype, 0.6)
        if channel_wise:
            options["channel_wise"] = True
        name = "normalize" if operator == "pac_kernel2d" else "normalize_kernel"
        if draw(st.booleans()):
            options[name] = draw(st.booleans())
        if draw(st.booleans()):
            options["asymmetric"] = draw(st.booleans())
        if draw(st.booleans()):
            options["kernel_type"] = "inv"
            shape = draw(st.sampled_from(((), (1,), (guide_channels,)) if channel_wise else ((), (1,))))
            if shape == (0,):
                shape = ()
            arrays["inv_alpha"] = np.abs(normal(rng, shape, np.float64)).astype(guide_dtype)
            arrays["inv_lambda"] = (0.4 + rng.random(shape)).astype(guide_dtype)
            # Negative powers reach 600 where tap and centre agree, and their gradients more than float16 holds.
            if guide_dtype.itemsize > 2 and draw(st.booleans()):
                arrays["inv_lambda"] = (-arrays["inv_lambda"].astype(np.float64)).astype(guide_dtype)
        elif draw(st.booleans()):
            options["kernel_type"] = "gaussian"
        if draw(st.integers(0, 2)) == 0:
            shape = draw(st.sampled_from(((3, 3), (1, 3), (5, 1), (1, 1), (3, 5))))
            arrays["smooth_kernel"] = normal(rng, shape, guide_dtype, 0.5)
        if draw(st.booleans()):
            share = draw(st.sampled_from((0.0, 0.3, 0.7, 0.7, 1.0)))
            options["mask"] = rng.random((batch, 1, *inputs)) < share

    place(draw, arrays, options, layout, memory)
    return Case(operator, arrays, options, dtype, seed)


def place(draw: st.DrawFn, arrays: dict[str, Any], options: dict[str, Any], layout: str, memory: bool) -> None:
    """Bring all arrays of a call into a layout and, with `memory`, into drawn forms of memory."""
    if layout == "NHWC" or draw(st.booleans()):
        options["layout"] = layout
    for store in (arrays, options):
        for name, value in store.items():
            if isinstance(value, np.ndarray):
                form = draw(st.sampled_from(MEMORY)) if memory else "contiguous"
                store[name] = in_memory(to_layout(name, value, layout), form)


@st.composite
def convolutions(
    draw: st.DrawFn,
    operator: str,
    dtypes: tuple[np.dtype, ...] = DTYPES,
    zero: str = "",
    memory: bool = True,
    ranges: Ranges = Ranges(),  # noqa: B008
) -> Case:
    """A complete valid call of a plain convolution; `zero` names what has size 0: batch, input or output channels."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    layout = draw(st.sampled_from(("NCHW", "NHWC")))
    dtype = draw(st.sampled_from(dtypes))
    transposed = operator == "conv_transpose2d"
    options = draw(axes_options(transposed, ranges))
    kernel, size = options.pop("taps"), options.pop("inputs")
    options.pop("kernel_size"), options.pop("outputs")
    if not transposed:
        options.pop("output_padding", None)
    groups = draw(st.sampled_from(ranges.groups))
    # One channel a group makes it depthwise, and more outputs than one a channel multiplier.
    inputs = 0 if zero == "input" else groups * draw(st.sampled_from(ranges.channels))
    outputs = 0 if zero == "output" else groups * draw(st.sampled_from(ranges.channels))
    if groups > 1 or draw(st.booleans()):
        options["groups"] = groups
    shape = (inputs, outputs // groups) if transposed else (outputs, inputs // groups)
    arrays = {
        "input": normal(rng, (0 if zero == "batch" else draw(st.integers(1, 3)), inputs, *size), dtype),
        "weight": normal(rng, (*shape, *kernel), dtype),
        "bias": normal(rng, (outputs,), dtype) if draw(st.booleans()) else None,
    }
    place(draw, arrays, options, layout, memory)
    return Case(operator, arrays, options, dtype, seed)
