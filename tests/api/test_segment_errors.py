"""Bad input of the segment operators: one exact message each, the same from an operator and its _backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayops as ao
from segment_cases import INTEGERS

FEATURES = np.ones((2, 3, 4, 5), np.float32)
LABELS = np.arange(40, dtype=np.int32).reshape(2, 4, 5) % 7
FLOATS = "expected float16, bfloat16, float32 or float64"
NAMES = "expected distinct names among ('mean', 'sum', 'max', 'min', 'var', 'count')"
LIBRARIES = "expected an array of NumPy, CuPy, PyTorch, JAX, TensorFlow or another library with DLPack"

GOOD: dict[str, dict[str, Any]] = {
    **{
        f"segment_{name}": {"features": FEATURES, "labels": LABELS, "num_segments": 7}
        for name in ("mean", "sum", "max", "min", "var")
    },
    "segment_reduce": {"features": FEATURES, "labels": LABELS, "reductions": ("mean", "count"), "num_segments": 7},
    "segment_unpool": {"pooled": np.ones((2, 3, 7), np.float32), "labels": LABELS},
    "segment_count": {"labels": LABELS, "num_segments": 7},
}
POSITIONAL = {
    "segment_reduce": ("features", "labels", "reductions", "num_segments"),
    "segment_unpool": ("pooled", "labels"),
    "segment_count": ("labels", "num_segments"),
}


def changed(at: tuple[int, ...], value: int, dtype: Any = np.int32) -> np.ndarray:
    labels = LABELS.astype(dtype)
    labels[at] = value
    return labels


# Operator, what is changed in its good call, error, message after "<operator>: ".
BAD: dict[str, tuple[str, dict[str, Any], type[Exception], str]] = {
    "features rank": (
        "segment_mean",
        {"features": FEATURES[0]},
        ValueError,
        "features is (3, 4, 5), expected 4 axes (N, C, H, W), or 2 (P, C) without images",
    ),
    "features rank NHWC": (
        "segment_sum",
        {"features": FEATURES[None], "layout": "NHWC"},
        ValueError,
        "features is (1, 2, 3, 4, 5), expected 4 axes (N, H, W, C), or 2 (P, C) without images",
    ),
    "features bool": (
        "segment_max",
        {"features": FEATURES.astype(bool)},
        TypeError,
        f"features is bool, {FLOATS}",
    ),
    "mean of integers": (
        "segment_mean",
        {"features": FEATURES.astype(np.int16)},
        TypeError,
        f"features is int16, {FLOATS} for the mean of segments",
    ),
    "variance of integers": (
        "segment_reduce",
        {"features": FEATURES.astype(np.uint8), "reductions": ("max", "var")},
        TypeError,
        f"features is uint8, {FLOATS} for the var of segments",
    ),
    "features is None": ("segment_var", {"features": None}, TypeError, "features is None, expected an array"),
    "features is a list": ("segment_min", {"features": [1.0]}, TypeError, f"features is list, {LIBRARIES}"),
    "labels is None": ("segment_mean", {"labels": None}, TypeError, "labels is None, expected an array"),
    "labels is None, segments unknown": (
        "segment_mean",
        {"labels": None, "num_segments": None},
        TypeError,
        "labels is None, expected an array",
    ),
    "labels of floats": (
        "segment_mean",
        {"labels": LABELS.astype(np.float32)},
        TypeError,
        "labels is float32, expected an integer dtype",
    ),
    "labels of floats, segments unknown": (
        "segment_reduce",
        {"labels": LABELS.astype(np.float32), "num_segments": None},
        TypeError,
        "labels is float32, expected an integer dtype",
    ),
    "labels of bools": (
        "segment_unpool",
        {"labels": LABELS > 2},
        TypeError,
        "labels is bool, expected an integer dtype",
    ),
    "labels with channels": (
        "segment_mean",
        {"labels": np.broadcast_to(LABELS[:, None], FEATURES.shape)},
        ValueError,
        "labels is (2, 3, 4, 5), expected (2, 4, 5) as the pixels of the features",
    ),
    "labels in the other layout": (
        "segment_mean",
        {"layout": "NHWC"},
        ValueError,
        "labels is (2, 4, 5), expected (2, 3, 4) as the pixels of the features"
        "; all arrays fit layout='NCHW': pass layout='NCHW'",
    ),
    "labels of flat features": (
        "segment_sum",
        {"features": FEATURES[0, 0]},
        ValueError,
        "labels is (2, 4, 5), expected (4,) as the pixels of the features",
    ),
    "labels rank": (
        "segment_count",
        {"labels": LABELS[0]},
        ValueError,
        "labels is (4, 5), expected 3 axes (N, H, W), or 1 (P) without images",
    ),
    "num_segments -1": (
        "segment_mean",
        {"num_segments": -1},
        ValueError,
        "num_segments is -1, expected 0 to 2147483646",
    ),
    "num_segments 2.0": (
        "segment_max",
        {"num_segments": 2.0},
        TypeError,
        "num_segments is 2.0, expected an integer or None",
    ),
    "ignore_label": (
        "segment_mean",
        {"ignore_label": 1.5},
        TypeError,
        "ignore_label is 1.5, expected an integer or None",
    ),
    "ignore_label True": (
        "segment_unpool",
        {"ignore_label": True},
        TypeError,
        "ignore_label is True, expected an integer or None",
    ),
    "empty": ("segment_mean", {"empty": None}, TypeError, "empty is None, expected a number"),
    "empty half": (
        "segment_max",
        {"features": FEATURES.astype(np.int8), "empty": 0.5},
        ValueError,
        "empty is 0.5, expected an integer value for a result of int8",
    ),
    "empty infinite": (
        "segment_sum",
        {"features": FEATURES.astype(np.int8), "empty": float("inf")},
        ValueError,
        "empty is inf, expected an integer value for a result of int64",
    ),
    "empty beyond": (
        "segment_min",
        {"features": FEATURES.astype(np.uint8), "empty": -1},
        ValueError,
        "empty is -1, expected 0 to 255 for a result of uint8",
    ),
    "fill beyond": (
        "segment_unpool",
        {"pooled": np.ones((2, 3, 7), np.int8), "fill": 128},
        ValueError,
        "fill is 128, expected -128 to 127 for a result of int8",
    ),
    "fill bool": (
        "segment_unpool",
        {"pooled": np.ones((2, 3, 7), bool), "fill": 2},
        ValueError,
        "fill is 2, expected 0 or 1 for a result of bool",
    ),
    "check": ("segment_mean", {"check": "yes"}, TypeError, "check is 'yes', expected True, False or None"),
    "layout": (
        "segment_mean",
        {"layout": "CHW"},
        ValueError,
        "layout is 'CHW', expected 'NCHW', 'NHWC', 'channels_first', 'channels_last' or None",
    ),
    "reductions word": ("segment_reduce", {"reductions": "mean"}, TypeError, f"reductions is 'mean', {NAMES}"),
    "reductions none": ("segment_reduce", {"reductions": ()}, ValueError, f"reductions is (), {NAMES}"),
    "reductions twice": (
        "segment_reduce",
        {"reductions": ("max", "max")},
        ValueError,
        f"reductions is ('max', 'max'), {NAMES}",
    ),
    "reductions unknown": (
        "segment_reduce",
        {"reductions": ["mean", "median"]},
        ValueError,
        f"reductions is ['mean', 'median'], {NAMES}",
    ),
    "pooled rank": (
        "segment_unpool",
        {"pooled": np.ones((3, 7), np.float32)},
        ValueError,
        "pooled is (3, 7), expected 3 axes (N, C, S)",
    ),
    "pooled rank flat": (
        "segment_unpool",
        {"labels": LABELS.ravel()},
        ValueError,
        "pooled is (2, 3, 7), expected 2 axes (S, C)",
    ),
    "pooled batch": (
        "segment_unpool",
        {"pooled": np.ones((3, 7, 3), np.float32), "layout": "NHWC"},
        ValueError,
        "pooled is (3, 7, 3), expected 2 images as the labels (2, 4, 5)",
    ),
    "pooled dtype": (
        "segment_unpool",
        {"pooled": np.ones((2, 3, 7), complex)},
        TypeError,
        "pooled is complex128, expected a floating-point or integer dtype, or bool",
    ),
    "label too large": (
        "segment_mean",
        {"labels": changed((1, 2, 3), 7)},
        ValueError,
        "labels[1, 2, 3] is 7, expected 0 to 6",
    ),
    "label negative": (
        "segment_max",
        {"labels": changed((0, 0, 0), -1)},
        ValueError,
        "labels[0, 0, 0] is -1, expected 0 to 6",
    ),
    "first of several": (
        "segment_var",
        {"labels": np.where(LABELS == 5, -2, LABELS), "check": True},
        ValueError,
        "labels[0, 1, 0] is -2, expected 0 to 6",
    ),
    "beside an ignored one": (
        "segment_reduce",
        {"labels": np.where(LABELS == 5, 255, np.where(LABELS == 6, 254, LABELS)), "ignore_label": 255},
        ValueError,
        "labels[0, 1, 1] is 254, expected 0 to 6 or the ignore_label 255",
    ),
    "beyond 64 bits signed": (
        "segment_count",
        {"labels": changed((1, 3, 4), 2**64 - 1, np.uint64)},
        ValueError,
        "labels[1, 3, 4] is 18446744073709551615, expected 0 to 6",
    ),
    "unpool": (
        "segment_unpool",
        {"labels": changed((1, 3, 4), 100)},
        ValueError,
        "labels[1, 3, 4] is 100, expected 0 to 6",
    ),
    "no segments": (
        "segment_mean",
        {"num_segments": 0},
        ValueError,
        "labels[0, 0, 0] is 0, expected no label, for 0 segments",
    ),
    "negative, segments unknown": (
        "segment_mean",
        {"labels": changed((0, 1, 2), -3), "num_segments": None},
        ValueError,
        "labels[0, 1, 2] is -3, expected 0 to 6",
    ),
    "far too large, segments unknown": (
        "segment_mean",
        {"labels": changed((0, 1, 2), 2**40, np.int64), "num_segments": None},
        ValueError,
        "num_segments is 1099511627777, expected 0 to 2147483646",
    ),
}


def arguments(operator: str, changes: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    everything = {**GOOD[operator], **changes}
    names = POSITIONAL.get(operator, ("features", "labels", "num_segments"))
    return [everything.pop(name, None) for name in names], everything


def gradient(operator: str) -> Any:
    if operator == "segment_unpool":
        return FEATURES
    grad = np.ones((2, 3, 7), np.float32)
    return (grad, None) if operator == "segment_reduce" else grad


@pytest.mark.parametrize("operator", GOOD)
def test_the_call_that_all_bad_ones_start_from_is_good(operator: str) -> None:
    positional, keywords = arguments(operator, {})
    getattr(ao, operator)(*positional, **keywords)
    if operator != "segment_count":
        getattr(ao, operator + "_backward")(gradient(operator), *positional, **keywords)


@pytest.mark.parametrize("name", BAD)
def test_message(name: str) -> None:
    operator, changes, error, message = BAD[name]
    positional, keywords = arguments(operator, changes)
    with pytest.raises(error) as caught:
        getattr(ao, operator)(*positional, **keywords)
    assert str(caught.value) == f"{operator}: {message}"
    if operator == "segment_count":
        return
    grad = gradient(operator)
    if operator == "segment_reduce" and "reductions" in changes and name != "variance of integers":
        grad = (None,) * len(changes["reductions"])
    if changes.get("num_segments") == 0:
        grad = grad[..., :0]
    with pytest.raises(error) as caught:
        getattr(ao, operator + "_backward")(grad, *positional, **keywords)
    assert str(caught.value) == f"{operator}_backward: {message}"


@pytest.mark.parametrize(
    ("operator", "changes", "error", "message"),
    [
        ("segment_mean", {"needs": ["labels"]}, ValueError, "needs has 'labels', expected names among ('features',)"),
        ("segment_unpool", {"needs": 3}, TypeError, "needs is 3, expected names among ('pooled',)"),
        (
            "segment_mean",
            {"grad_output": np.ones((2, 7, 3), np.float32)},
            ValueError,
            "grad_output is (2, 7, 3), expected (2, 3, 7) as the output"
            "; grad_output fits layout='NHWC': transpose it by (0, 2, 1), "
            "or pass all arrays in that order with layout='NHWC'",
        ),
        (
            "segment_mean",
            {"grad_output": np.ones((2, 3, 7))},
            TypeError,
            "grad_output is float64, expected float32 as the output",
        ),
        ("segment_mean", {"grad_output": None}, TypeError, "grad_output is None, expected an array"),
        (
            "segment_reduce",
            {"grad_output": (np.ones((2, 3, 6), np.float32), None)},
            ValueError,
            "grad_mean is (2, 3, 6), expected (2, 3, 7) as the mean",
        ),
        (
            "segment_reduce",
            {"grad_output": (np.ones((2, 3, 7), np.float32),)},
            ValueError,
            "grad_output is a sequence of 1, expected a tuple with one gradient for each of ('mean', 'count')",
        ),
        (
            "segment_reduce",
            {"grad_output": np.ones((2, 3, 7), np.float32)},
            ValueError,
            "grad_output is ndarray, expected a tuple with one gradient for each of ('mean', 'count')",
        ),
        (
            "segment_reduce",
            {"grad_output": (None, np.ones((2, 7)))},
            ValueError,
            "grad_output has a gradient of the count, expected None: counts are not differentiable",
        ),
    ],
)
def test_messages_of_the_backward(operator: str, changes: dict[str, Any], error: type[Exception], message: str) -> None:
    positional, keywords = arguments(operator, {})
    given = dict(changes)
    grad = given.pop("grad_output", gradient(operator))
    with pytest.raises(error) as caught:
        getattr(ao, operator + "_backward")(grad, *positional, **keywords, **given)
    assert str(caught.value) == f"{operator}_backward: {message}"


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_check_false_leaves_out_what_names_no_segment(dtype: np.dtype) -> None:
    """The largest and smallest labels a dtype has, far beyond the segments on either side."""
    limits = np.iinfo(dtype)
    labels = np.array([0, limits.max, 1, limits.min if limits.min else limits.max, 1], dtype)
    features = np.array([[1.0], [np.nan], [2.0], [np.nan], [4.0]], np.float32)
    assert ao.segment_sum(features, labels, 2, check=False).tolist() == [[1], [6]]
    assert ao.segment_count(labels, 2, check=False).tolist() == [1, 2]
    assert ao.segment_max(features, labels, 2, check=False).tolist() == [[1], [4]]
    assert ao.segment_var(features, labels, 2, check=False).tolist() == [[0], [1]]
    spread = ao.segment_unpool(np.array([[5], [6]], np.int32), labels, fill=-1, check=False)
    assert spread[:, 0].tolist() == [5, -1, 6, -1, 6]
    grad = ao.segment_mean_backward(np.ones((2, 1), np.float32), features, labels, 2, check=False).features
    assert grad[:, 0].tolist() == [1, 0, 0.5, 0, 0.5]
    for check in (None, True):
        with pytest.raises(ValueError, match=rf"^segment_sum: labels\[1\] is {limits.max}, expected 0 to 1$"):
            ao.segment_sum(features, labels, 2, check=check)
