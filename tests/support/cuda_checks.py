"""What a call on a device has to give: the values, shapes, dtypes and fields of the float64 oracle."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from typing import Any

import numpy as np

import merge_cases
import segment_cases
from case import GRADIENTS, Case
from cuda_device import Device
from oracles import conv, merge, pac_torch, segment
from strategies import CONVOLUTIONS, FLOAT32, in_memory
from tolerances import assert_close

# Each entry of these is one sum over every output and tap, whose terms cancel.
PARAMETERS = ("inv_alpha", "inv_lambda", "smooth_kernel")


ORDERS = ("fifo", "lifo", "random")
# By whether channels are adjacent in memory, which a kernel may be compiled for.
FORMS = (("contiguous", "offset"), ("fortran", "every other", "negative strides"))


def orders_and_forms(calls: Iterable[Any]) -> list[tuple[Any, str, str]]:
    """Each call with the forms of memory of one kind, kinds and orders of threads in turn."""
    orders = cycle(ORDERS)
    return [(call, next(orders), memory) for call, forms in zip(calls, cycle(FORMS), strict=False) for memory in forms]


def oracle(case: Case) -> Any:
    kind = conv.Call if case.operator in CONVOLUTIONS else pac_torch.Call
    return kind(case.operator, case.arrays, case.options)


def forward(device: Device, case: Case) -> tuple[np.ndarray, np.ndarray | None]:
    """Output and output mask, with the dtype of the input."""
    result = case.call(device)
    output, output_mask = result, None
    if case.options.get("mask") is not None:
        assert result._fields == ("output", "output_mask")
        output, output_mask = result
        assert output_mask.dtype == np.bool_
    assert output.dtype == case.dtype
    return output, output_mask


def backward(device: Device, case: Case, grad: np.ndarray, **extra: Any) -> Any:
    """The named tuple of gradients: those of the arrays that the call has, or of `needs`."""
    got = case.backward(device, grad, **extra)
    assert got._fields == GRADIENTS[case.operator]
    for name in got._fields:
        value, gradient = case.arrays.get(name), getattr(got, name)
        if value is None or name not in extra.get("needs", got._fields):
            assert gradient is None, name
        else:
            assert gradient.dtype == value.dtype, name
            assert gradient.shape == value.shape, name
    return got


def check_forward(device: Device, case: Case, relative_to_terms: bool = False) -> np.ndarray:
    """The output, after a comparison with the oracle's."""
    call = oracle(case)
    output, output_mask = forward(device, case)
    if output_mask is not None:
        np.testing.assert_array_equal(output_mask, call.filled())
    magnitude = call.forward_magnitude() if relative_to_terms else None
    assert_close(output, call.forward(), case.dtype, magnitude, repr(case))
    return output


def check_backward(
    device: Device, case: Case, *, relative_to_terms: bool = False, memory: str = "contiguous", **extra: Any
) -> Any:
    """Gradients, after a comparison with the oracle's. `memory` is the form of the output's gradient."""
    call = oracle(case)
    grad = case.grad(call.forward().shape)
    want, magnitude = call.backward(grad), call.backward_magnitude(grad)
    got = backward(device, case, in_memory(grad, memory), **extra)
    for name in case.present:
        if getattr(got, name) is None:
            continue
        dtype = case.arrays[name].dtype
        terms = magnitude[name] if relative_to_terms or (name in PARAMETERS and dtype == FLOAT32) else None
        assert_close(getattr(got, name), want[name], dtype, terms, f"{name} of {case!r}")
    return got


def check(device: Device, case: Case, relative_to_terms: bool = False) -> None:
    check_forward(device, case, relative_to_terms)
    check_backward(device, case, relative_to_terms=relative_to_terms)


def in_form(case: Case, memory: str) -> Case:
    """The same call with every array in this form of memory."""
    case = case.replace(**{k: in_memory(v, memory) for k, v in case.arrays.items() if v is not None})
    case.options = {k: in_memory(v, memory) if isinstance(v, np.ndarray) else v for k, v in case.options.items()}
    return case


def check_merge(device: Device, case: Case, memory: str = "contiguous") -> list[np.ndarray]:
    """Output and gradients, after a comparison with the loops. `memory` is the form of the output's gradient."""
    output = case.call(device)
    assert output.dtype == case.dtype
    assert_close(output, case.call(merge), case.dtype, merge_cases.magnitude(case, merge), repr(case))
    grad = case.grad(output.shape)
    gradients = merge_cases.gradients(case, device, in_memory(grad, memory))
    wanted = merge_cases.gradients(case, merge, grad)
    magnitude = merge_cases.gradients(case, merge, grad, magnitude=True)
    for number, (got, want, terms) in enumerate(zip(gradients, wanted, magnitude, strict=True)):
        assert got.dtype == case.dtype
        assert_close(got, want, case.dtype, terms, f"map {number} of {case!r}")
    return [output, *gradients]


def check_segments(
    device: Device, case: segment_cases.Segments, names: tuple[str, ...], memory: str = "contiguous", empty: Any = 3
) -> list[np.ndarray]:
    """Results of reductions and the gradient of all of them, after a comparison with the loops.

    One name is an operator's, several are `segment_reduce`. `memory` is the form of the gradients that come in.
    """
    dtype, options = case.features.dtype, case.options
    keywords = {"ignore_label": case.ignore_label, "layout": case.layout}
    floating = dtype.kind not in "iu"
    if len(names) > 1:
        results = list(
            device.segment_reduce(case.features, case.labels, names, case.segments, empty=empty, **case.options)
        )
    else:
        operator = getattr(device, segment_cases.OPERATORS[names[0]])
        results = [operator(case.features, case.labels, case.segments, empty=empty, **options)]
    wide = np.abs(case.features.astype(np.float64)) if floating else None
    for name, got in zip(names, results, strict=True):
        what = f"{name} of {case!r}"
        want = segment.reduce(name, case.features, case.labels, case.segments, empty=empty, **keywords)
        if name == "count" or not floating:
            assert got.tolist() == want.tolist(), what
            wanted_dtype = {"count": np.int64, "sum": np.uint64 if dtype.kind == "u" else np.int64}.get(name, dtype)
            assert got.dtype == wanted_dtype, what
            continue
        assert got.dtype == dtype
        if name in ("max", "min"):
            np.testing.assert_array_equal(got.astype(np.float64), want, err_msg=what)
            continue
        terms = wide**2 if name == "var" else wide
        sums = "mean" if name == "var" else name
        magnitude = segment.reduce(sums, terms, case.labels, case.segments, empty=empty, **keywords)
        assert_close(got, want, dtype, magnitude, what)
    if not floating or names == ("count",):
        return results

    rng = np.random.default_rng(len(names))
    shape = case.pooled_shape()
    grads = tuple(None if name == "count" else rng.standard_normal(shape).astype(dtype) for name in names)
    placed = tuple(None if grad is None else in_memory(grad, memory) for grad in grads)
    if len(names) > 1:
        found = device.segment_reduce_backward(placed, case.features, case.labels, names, case.segments, **options)
    else:
        backward_of = getattr(device, segment_cases.OPERATORS[names[0]] + "_backward")
        found = backward_of(placed[0], case.features, case.labels, case.segments, **options)
    assert found._fields == ("features",)
    got = found.features
    assert (got.dtype, got.shape) == (dtype, case.features.shape)
    given = {name: grad for name, grad in zip(names, grads, strict=True) if grad is not None}
    want = segment.backward(given, case.features, case.labels, **keywords)
    scale = sum(
        np.abs(segment.backward({name: g}, case.features, case.labels, **keywords)) for name, g in given.items()
    )
    if "var" in given:
        # The mean is subtracted from what may be as far from 0.
        scale = scale + np.abs(given["var"].astype(np.float64)).max(initial=0) * wide
    assert_close(got, want, dtype, scale, f"gradient of {names} of {case!r}")
    return [*results, got]
