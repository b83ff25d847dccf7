"""The registry of oracles: for every operator, small calls and a float64 function that computes their results.

`check_operator` runs an operator on an engine, forward and backward, and compares values, shapes and dtypes. Gradients
are compared with central finite differences of the oracle, so that a new operator needs no oracle of its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import arrayops as ao
from arrayops._core.op import Op
from oracles import conv, merge, pac, segment
from tolerances import FINITE_DIFFERENCE, STEP, assert_close, norm

Call = dict[str, Any]


class Registered(NamedTuple):
    """An oracle, which takes the keywords of the public function, and the calls that are checked.

    Together the calls have every differentiable array of the operator, and every result.
    """

    oracle: Callable[..., Any]
    calls: tuple[Call, ...]


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


MASK = normal(9, 1, 1, 3, 4) > -0.5
INVERSE = {
    "kernel_type": "inv",
    "inv_alpha": np.array(0.3),
    "inv_lambda": np.array(-0.7),
    "smooth_kernel": np.full((1, 3), 0.3),
}
PAC = {"input": normal(0, 1, 2, 3, 4), "guide": normal(1, 1, 2, 3, 4) / 2}
WEIGHT = {"weight": normal(2, 3, 2, 3, 2), "bias": normal(3, 3), "padding": 1}
TRANSPOSED = {"weight": normal(2, 2, 3, 3, 2), "bias": normal(3, 3), "stride": 2, "padding": 1}
LARGE_GUIDE = normal(1, 1, 2, 5, 6) / 2
POOLED = {"kernel_size": (3, 2), "padding": 1}
LABELS = np.array([[[0, 1, 1], [3, 0, 1]], [[2, 2, 0], [0, 3, 3]]])
SEGMENTS = {"features": normal(4, 2, 2, 2, 3), "labels": LABELS, "num_segments": 5}
REDUCTIONS = "mean", "sum", "max", "min", "var", "count"
MAPS = [normal(5, 1, 2, 4, 3), normal(6, 1, 3, 2, 5)]


def reduction(name: str) -> Registered:
    return Registered(
        lambda **call: segment.reduce(name, **call),
        (SEGMENTS, {**SEGMENTS, "features": normal(4, 2, 2, 3, 2), "ignore_label": 1, "layout": "NHWC"}),
    )


ORACLES: dict[str, Registered] = {
    "pac_kernel2d": Registered(
        pac.pac_kernel2d,
        (
            {"guide": PAC["guide"], **POOLED, **INVERSE},
            {"guide": PAC["guide"], **POOLED, "mask": MASK, "normalize": True},
        ),
    ),
    "pac_conv2d": Registered(
        pac.pac_conv2d,
        (
            {**PAC, **WEIGHT, **INVERSE},
            {**PAC, **WEIGHT, "mask": MASK, "normalize_kernel": True},
            {**PAC, **WEIGHT, "guide": None, "kernel": normal(7, 1, 1, 3, 2, 3, 5)},
        ),
    ),
    "pac_conv_transpose2d": Registered(
        pac.pac_conv_transpose2d,
        (
            {**PAC, **TRANSPOSED, **INVERSE, "guide": LARGE_GUIDE},
            {**PAC, **TRANSPOSED, "mask": MASK, "guide": LARGE_GUIDE},
            {**PAC, **TRANSPOSED, "guide": None, "kernel": normal(7, 1, 1, 3, 2, 5, 6)},
        ),
    ),
    "pac_pool2d": Registered(
        pac.pac_pool2d,
        (
            {**PAC, **POOLED, **INVERSE},
            {**PAC, **POOLED, "mask": MASK, "normalize_kernel": True},
            {**PAC, **POOLED, "guide": None, "kernel": normal(7, 1, 1, 3, 2, 3, 5)},
        ),
    ),
    "conv2d": Registered(
        conv.conv2d, ({"input": PAC["input"], **WEIGHT}, {"input": PAC["input"], **WEIGHT, "stride": 2})
    ),
    "conv_transpose2d": Registered(conv.conv_transpose2d, ({"input": PAC["input"], **TRANSPOSED},)),
    **{f"segment_{name}": reduction(name) for name in ("mean", "sum", "max", "min", "var")},
    "segment_count": Registered(segment.segment_count, ({"labels": LABELS, "num_segments": 5},)),
    "segment_reduce": Registered(
        lambda reductions, **call: tuple(segment.reduce(name, **call) for name in reductions),
        ({**SEGMENTS, "reductions": REDUCTIONS},),
    ),
    "segment_unpool": Registered(
        segment.segment_unpool, ({"pooled": normal(8, 2, 3, 4), "labels": LABELS, "ignore_label": 2},)
    ),
    "resize2d": Registered(merge.resize2d, ({"input": MAPS[0], "size": (6, 5)}, {"input": MAPS[1], "scale": 0.5})),
    "merge_feature_maps": Registered(
        merge.merge_feature_maps, ({"maps": MAPS}, {"maps": [MAPS[0], MAPS[0][:, :, 1:]], "how": "add"})
    ),
}


def check_operator(op: Op, engine: Any = ao) -> None:
    """Compare ``op`` on an engine, whose attributes are the public functions, with its registered oracle."""
    assert op.name in ORACLES, f"{op.name} has no oracle: register one in {__name__}"
    oracle, calls = ORACLES[op.name]
    names = {name for call in calls for name, value in call.items() if value is not None}
    assert set(op.differentiable) <= names, f"{op.name}: no call has {set(op.differentiable) - names}"
    results = 0
    for call in calls:
        got, want = as_tuple(getattr(engine, op.name)(**call)), as_tuple(oracle(**call))
        assert len(got) == len(want)
        results = max(results, len(got))
        for result, wanted in zip(got, want, strict=True):
            assert result.dtype == wanted.dtype
            assert_close(result, wanted, np.float64, what=op.name)
        if op.differentiable:
            check_gradients(op, engine, oracle, call, want)
    assert results == len(op.outputs), f"{op.name}: no call has all of {op.outputs}"


def check_gradients(op: Op, engine: Any, oracle: Callable[..., Any], call: Call, outputs: tuple[Any, ...]) -> None:
    """Compare all gradients of one call with finite differences of the oracle."""
    differentiable = len(op.differentiable_outputs)
    grads = [normal(20 + i, *output.shape) for i, output in enumerate(outputs[:differentiable])]
    several = differentiable > 1
    # Of several outputs, those without a gradient are passed as None.
    given: Any = (*grads, *(None,) * (len(outputs) - differentiable)) if several else grads[0]
    got = getattr(engine, op.backward.name)(given, **call)
    assert got._fields == op.differentiable
    for name in op.differentiable:
        if call.get(name) is None:
            assert getattr(got, name) is None, name
            continue
        gradients, arrays = as_tuple(getattr(got, name)), as_tuple(call[name])
        for number, (gradient, array) in enumerate(zip(gradients, arrays, strict=True)):
            assert (gradient.dtype, gradient.shape) == (array.dtype, array.shape)

            def loss(changed: np.ndarray, name: str = name, number: int = number) -> float:
                value = call[name]
                value = [*value[:number], changed, *value[number + 1 :]] if isinstance(value, list) else changed
                results = as_tuple(oracle(**{**call, name: value}))
                return sum(float((g * y).sum()) for g, y in zip(grads, results, strict=False))

            wanted = finite_differences(loss, array)
            error = norm(gradient - wanted)
            assert error <= FINITE_DIFFERENCE * max(norm(wanted), 1), f"{name} of {op.name}: error {error:.3e}"


def finite_differences(loss: Callable[[np.ndarray], float], array: np.ndarray) -> np.ndarray:
    result = np.empty(array.shape)
    for index in np.ndindex(*array.shape):
        step = np.zeros(array.shape)
        step[index] = STEP
        result[index] = (loss(array + step) - loss(array - step)) / (2 * STEP)
    return result


def as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)
