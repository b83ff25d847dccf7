"""Calls in the other layout, by the record of their operator."""

from __future__ import annotations

from typing import Any

import numpy as np

from arrayops._core.op import Axes, Op
from differentiable_calls import FIRST_CALLS, DifferentiableCall
from operator_oracles import Call

CALLS_IN_NCHW = {
    name: DifferentiableCall.of(
        call.op, {key: value for key, value in call.call.items() if key != "layout"}, call.linear_names
    )
    for name, call in FIRST_CALLS.items()
    if "layout" in call.call
}
"""One call of every differentiable operator that depends on the layout, without naming it."""


def nhwc(array: Any, axes: Axes | None) -> Any:
    """An NCHW array in NHWC; other arguments as they are."""
    if isinstance(array, list):
        return [nhwc(each, axes) for each in array]
    if axes is None or not isinstance(array, np.ndarray) or array.ndim != len(axes.nchw):
        return array
    return np.ascontiguousarray(array.transpose(axes.to_nhwc))


def nhwc_call(op: Op, call: Call) -> Call:
    """The keywords of a call in NCHW, with the arrays in NHWC."""
    axes = {spec.argument: spec.axes for spec in op.arrays}
    return {name: nhwc(value, axes.get(name)) for name, value in call.items()}
