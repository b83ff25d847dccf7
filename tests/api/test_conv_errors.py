"""Bad input of the convolutions: one exact message each, the same from an operator and its _backward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayops as ao


def f32(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


GOOD: dict[str, dict[str, Any]] = {
    "conv2d": {"input": f32(1, 4, 6, 8), "weight": f32(6, 2, 3, 3), "groups": 2},
    "conv_transpose2d": {"input": f32(1, 4, 6, 8), "weight": f32(4, 3, 3, 3), "groups": 2},
}
OUTPUT = {"conv2d": (1, 6, 4, 6), "conv_transpose2d": (1, 6, 8, 10)}
PAIR = "expected an integer or a pair of them"

# Operator, what is changed in its good call, error, message after "<operator>: ".
BAD: dict[str, tuple[str, dict[str, Any], type[Exception], str]] = {
    "input rank": ("conv2d", {"input": f32(4, 6, 8)}, ValueError, "input is (4, 6, 8), expected 4 axes (N, C, H, W)"),
    "input dtype": (
        "conv2d",
        {"input": np.ones((1, 4, 6, 8), np.int32)},
        TypeError,
        "input is int32, expected float16, bfloat16, float32 or float64",
    ),
    "input is None": ("conv2d", {"input": None}, TypeError, "input is None, expected an array"),
    "input is a list": (
        "conv2d",
        {"input": [1.0]},
        TypeError,
        "input is list, expected an array of NumPy, CuPy, PyTorch, JAX, TensorFlow or another library with DLPack",
    ),
    "weight rank": (
        "conv2d",
        {"weight": f32(6, 2, 3)},
        ValueError,
        "weight is (6, 2, 3), expected 4 axes (O, I, kh, kw)",
    ),
    "weight rank transposed": (
        "conv_transpose2d",
        {"weight": f32(3)},
        ValueError,
        "weight is (3,), expected 4 axes (I, O, kh, kw)",
    ),
    "weight dtype": (
        "conv2d",
        {"weight": np.ones((6, 2, 3, 3))},
        TypeError,
        "weight is float64, expected float32 as the input",
    ),
    "weight channels": (
        "conv2d",
        {"weight": f32(6, 3, 3, 3)},
        ValueError,
        "weight is (6, 3, 3, 3), expected 2 input channels for an input of 4 channels in 2 groups",
    ),
    "weight channels NHWC": (
        "conv2d",
        {"input": f32(1, 6, 8, 4), "weight": f32(3, 3, 4, 6), "layout": "NHWC"},
        ValueError,
        "weight is (3, 3, 4, 6), expected 2 input channels for an input of 4 channels in 2 groups",
    ),
    "weight channels transposed": (
        "conv_transpose2d",
        {"weight": f32(2, 3, 3, 3)},
        ValueError,
        "weight is (2, 3, 3, 3), expected 4 input channels for an input of 4 channels in 2 groups",
    ),
    "groups do not divide the input": (
        "conv2d",
        {"groups": 3},
        ValueError,
        "groups is 3, expected a divisor of the input's 4 channels",
    ),
    "groups do not divide the output": (
        "conv2d",
        {"weight": f32(5, 2, 3, 3)},
        ValueError,
        "groups is 2, expected a divisor of the weight's 5 output channels",
    ),
    "groups 0": ("conv2d", {"groups": 0}, ValueError, "groups is 0, expected at least 1"),
    "groups 1.0": ("conv2d", {"groups": 1.0}, TypeError, "groups is 1.0, expected an integer"),
    "no taps": (
        "conv2d",
        {"weight": f32(6, 2, 0, 3)},
        ValueError,
        "weight is (6, 2, 0, 3), expected a filter of at least 1 x 1",
    ),
    "bias shape": ("conv2d", {"bias": f32(4)}, ValueError, "bias is (4,), expected (6,) for the output channels"),
    "bias shape transposed": (
        "conv_transpose2d",
        {"bias": f32(3)},
        ValueError,
        "bias is (3,), expected (6,) for the output channels",
    ),
    "bias dtype": ("conv2d", {"bias": np.ones(6)}, TypeError, "bias is float64, expected float32 as the input"),
    "stride 0": ("conv2d", {"stride": 0}, ValueError, "stride is 0, expected at least 1"),
    "stride of three": ("conv2d", {"stride": (1, 1, 1)}, ValueError, f"stride is (1, 1, 1), {PAIR}"),
    "dilation -1": ("conv_transpose2d", {"dilation": -1}, ValueError, "dilation is -1, expected at least 1"),
    "padding -1": ("conv2d", {"padding": -1}, ValueError, "padding is -1, expected at least 0"),
    "padding word": (
        "conv2d",
        {"padding": "FULL"},
        ValueError,
        "padding is 'FULL', expected 'SAME', 'VALID' or numbers",
    ),
    "layout": (
        "conv2d",
        {"layout": "CHWN"},
        ValueError,
        "layout is 'CHWN', expected 'NCHW', 'NHWC', 'channels_first', 'channels_last' or None",
    ),
    "filter too large": (
        "conv2d",
        {"dilation": 4},
        ValueError,
        "filter height is 9 (size 3, dilation 4), expected at most 6, the size of the padded input",
    ),
    "output_padding": (
        "conv_transpose2d",
        {"output_padding": 1},
        ValueError,
        "output_padding is 1, expected less than the larger of stride 1 and dilation 1",
    ),
    "output_padding with SAME": (
        "conv_transpose2d",
        {"output_padding": 1, "stride": 2, "padding": "SAME"},
        ValueError,
        "output_padding is 1, expected 0 with padding 'SAME'",
    ),
    "nothing left": (
        "conv_transpose2d",
        {"padding": 4},
        ValueError,
        "output height is 0 (input 6, filter 3, stride 1, padding 4 and 4), expected at least 1",
    ),
}


def arguments(operator: str, changes: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    everything = {"bias": None, **GOOD[operator], **changes}
    return [everything.pop(name) for name in ("input", "weight", "bias")], everything


@pytest.mark.parametrize("operator", GOOD)
def test_the_call_that_all_bad_ones_start_from_is_good(operator: str) -> None:
    positional, keywords = arguments(operator, {})
    result = getattr(ao, operator)(*positional, **keywords)
    assert result.shape == OUTPUT[operator]
    getattr(ao, operator + "_backward")(result, *positional, **keywords)


@pytest.mark.parametrize("name", BAD)
def test_message(name: str) -> None:
    operator, changes, error, message = BAD[name]
    positional, keywords = arguments(operator, changes)
    with pytest.raises(error) as caught:
        getattr(ao, operator)(*positional, **keywords)
    assert str(caught.value) == f"{operator}: {message}"
    with pytest.raises(error) as caught:
        getattr(ao, operator + "_backward")(f32(*OUTPUT[operator]), *positional, **keywords)
    assert str(caught.value) == f"{operator}_backward: {message}"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"needs": ["guide"]}, ValueError, "needs has 'guide', expected names among ('input', 'weight', 'bias')"),
        ({"needs": 3}, TypeError, "needs is 3, expected names among ('input', 'weight', 'bias')"),
        (
            {"grad_output": f32(1, 6, 4, 5)},
            ValueError,
            "grad_output is (1, 6, 4, 5), expected (1, 6, 4, 6) as the output",
        ),
        (
            {"grad_output": np.ones((1, 6, 4, 6))},
            TypeError,
            "grad_output is float64, expected float32 as the output",
        ),
    ],
)
def test_messages_of_the_backward(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    positional, keywords = arguments("conv2d", {})
    grad = changes.pop("grad_output", f32(1, 6, 4, 6))
    with pytest.raises(error) as caught:
        ao.conv2d_backward(grad, *positional, **keywords, **changes)
    assert str(caught.value) == f"conv2d_backward: {message}"
