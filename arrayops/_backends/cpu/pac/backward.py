"""Gradients of one call of a pixel-adaptive operator."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arrayops._backends.cpu.conv.channel_sums import channel_sums
from arrayops._backends.cpu.engine.work import Work
from arrayops._backends.cpu.pac.call import Call
from arrayops._backends.cpu.pac.geometry import kernel_strides
from arrayops._backends.cpu.pac.gradient import FoundGradients, WantedGradients, gradient, rounding
from arrayops._backends.cpu.pac.weight_gradient import weight_gradient
from arrayops._backends.cpu.window.arrays import Array, image_strides
from arrayops._backends.numpy.layouts import channels_first, grouped_weight, shared_filter
from arrayops._backends.numpy.memory import as_result, empty, store, zeros
from arrayops._ops.pac import PacParameters

OPTIONS = ("inv_alpha", "inv_lambda", "smooth_kernel")
"""The last three arrays of every operator, which shape its adaptive kernel."""


@dataclass
class PacGradients:
    """Gradients of a call, None for those that are not made; those of the last three arrays are ``options``."""

    input: Array | None = None
    guide: Array | None = None
    weight: Array | None = None
    bias: Array | None = None
    kernel: Array | None = None
    options: tuple[Array | None, ...] = (None, None, None)


def backward(
    call: Call,
    p: PacParameters,
    grad: Array,
    needs: frozenset[str],
    *,
    samples: Array | None = None,
    guide: Array | None = None,
    weight: Array | None = None,
    bias: Array | None = None,
    kernel: Array | None = None,
    options: Sequence[Array | None],
) -> PacGradients:
    """The gradients that are needed, from that of the output, or of the adaptive kernel."""
    geometry, operands = call.geometry, call.operands
    found, work = PacGradients(), Work()
    wanted_options = [name in needs and option is not None for name, option in zip(OPTIONS, options, strict=True)]
    rows, columns = geometry.axes
    empty_call = geometry.images * rows.output * columns.output == 0
    # Sums, and where they are rounded to.
    added: dict[str, Array] = {}
    if samples is not None and "input" in needs:
        added["input"] = zeros(samples.shape, geometry.accumulator)
    if guide is not None and ("guide" in needs or any(wanted_options)):
        added["guide"] = zeros(guide.shape, geometry.accumulator)
    if kernel is not None and "kernel" in needs:
        found.kernel = zeros(kernel.shape, kernel.dtype)
    shared = weight is not None and "weight" in needs and p.filters == "shared"
    if weight is not None and "weight" in needs:
        found.weight = empty(weight.shape, weight.dtype)
    sums = None
    if added or found.kernel is not None or shared:
        wanted = WantedGradients(
            input=image_strides(added["input"], p.layout) if "input" in added else None,
            guide=image_strides(added["guide"], p.layout) if "guide" in added else None,
            kernel=None if found.kernel is None else kernel_strides(found.kernel, p.layout),
            kernel_wide=geometry.kernel_wide,
            sums=shared or any(wanted_options),
        )
        if geometry.every_tap:
            wanted = wanted._replace(kernel=geometry.kernel)
        plan = gradient(geometry, wanted)
        if wanted.sums:
            sums = np.zeros(plan.sum_count)
        if not empty_call:
            arrays = FoundGradients(added.get("input"), added.get("guide"), found.kernel, sums)
            work.add(plan.tasks(operands, grad, arrays), plan.workspace, 2 * geometry.nanoseconds)
        for name, like in (("input", samples), ("guide", guide)):
            if name in added and name in needs and like is not None:
                setattr(found, name, _rounded(work, added[name], like.dtype))
        if sums is not None:
            values = sums[plan.alphas], sums[plan.lambdas], sums[plan.smooth]
    if found.weight is not None and not shared:
        target = grouped_weight(found.weight, p.layout, p.transposed, p.groups)
        if empty_call or target.size == 0:
            target[...] = np.zeros((), target.dtype)
        else:
            weights = weight_gradient(geometry)
            work.add(weights.tasks(operands, grad, target), weights.workspace, geometry.nanoseconds)
    if bias is not None and "bias" in needs:
        found.bias = empty(bias.shape, bias.dtype)
        if grad.size == 0:
            found.bias[...] = np.zeros((), bias.dtype)
        else:
            work.add(channel_sums(channels_first(grad, p.layout), found.bias), 0, grad.size / 4)
    work.run()
    if sums is not None:
        if shared and found.weight is not None:
            store(
                shared_filter(found.weight, p.layout, p.transposed),
                sums[plan.filter].reshape(rows.kernel, columns.kernel),
            )
        found.options = tuple(
            as_result(total.sum() if like.size == 1 else total, like) if wants and like is not None else None
            for wants, total, like in zip(wanted_options, (values[0], values[1], values[2]), options, strict=True)
        )
    return found


def _rounded(work: Work, sums: Array, dtype: "np.dtype[Any]") -> Array:
    """Sums in the dtype of the result, once the work is done."""
    if sums.dtype == dtype:
        return sums
    result = empty(sums.shape, dtype)
    if result.size:
        work.add([rounding(sums, result)], 0, sums.size)
    return result
