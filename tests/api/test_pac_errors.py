"""Bad input: one exact message each, the same from an operator and its _backward; nothing is computed before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayops as ao
from case import POSITIONAL
from optional import optional
from strategies import BFLOAT16

torch = optional("torch")

X = np.ones((1, 4, 6, 8), np.float32)
G = np.ones((1, 3, 6, 8), np.float32)
W = np.ones((5, 4, 3, 3), np.float32)
K = np.ones((1, 1, 3, 3, 4, 6), np.float32)
MASK = np.ones((1, 1, 6, 8), bool)
ALPHA = np.float32(0.5)
NHWC = {"input": X.transpose(0, 2, 3, 1), "guide": G.transpose(0, 2, 3, 1), "weight": W.transpose(2, 3, 1, 0)}

GOOD: dict[str, dict[str, Any]] = {
    "pac_kernel2d": {"guide": G, "kernel_size": 3},
    "pac_conv2d": {"input": X, "guide": G, "weight": W},
    "pac_conv_transpose2d": {
        "input": X,
        "guide": np.ones((1, 3, 8, 10), np.float32),
        "weight": W.transpose(1, 0, 2, 3),
    },
    "pac_pool2d": {"input": X, "guide": G, "kernel_size": 3},
}
OUTPUT = {
    "pac_kernel2d": (1, 1, 3, 3, 4, 6),
    "pac_conv2d": (1, 5, 4, 6),
    "pac_conv_transpose2d": (1, 5, 8, 10),
    "pac_pool2d": (1, 4, 4, 6),
}


def arguments(operator: str, changes: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    everything = {**GOOD[operator], **changes}
    positional = [everything.pop(name, None) for name in POSITIONAL[operator]]
    return positional, everything


@pytest.mark.parametrize("operator", GOOD)
def test_the_call_that_all_bad_ones_start_from_is_good(operator: str) -> None:
    positional, keywords = arguments(operator, {})
    result = getattr(ao, operator)(*positional, **keywords)
    assert result.shape == OUTPUT[operator]
    getattr(ao, operator + "_backward")(result, *positional, **keywords)


def test_the_nhwc_call_is_good() -> None:
    assert ao.pac_conv2d(**NHWC, layout="NHWC").shape == (1, 4, 6, 5)


# operator, what is changed in its good call, error, message after "<operator>: "
BAD: dict[str, tuple[str, dict[str, Any], type[Exception], str]] = {}


def bad(name: str, operator: str, changes: dict[str, Any], error: type[Exception], message: str) -> None:
    assert name not in BAD, name
    BAD[name] = operator, changes, error, message


def f32(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


# Ranks
bad("input rank", "pac_conv2d", {"input": X[0]}, ValueError, "input is (4, 6, 8), expected 4 axes (N, C, H, W)")
bad(
    "input rank NHWC",
    "pac_conv2d",
    {**NHWC, "input": X[0], "layout": "NHWC"},
    ValueError,
    "input is (4, 6, 8), expected 4 axes (N, H, W, C)",
)
bad("guide rank", "pac_conv2d", {"guide": G[0]}, ValueError, "guide is (3, 6, 8), expected 4 axes (N, C, H, W)")
bad(
    "kernel2d guide rank",
    "pac_kernel2d",
    {"guide": G[0, 0]},
    ValueError,
    "guide is (6, 8), expected 4 axes (N, C, H, W)",
)
bad("weight rank", "pac_conv2d", {"weight": W[0]}, ValueError, "weight is (4, 3, 3), expected 4 axes (O, I, kh, kw)")
bad(
    "weight rank NHWC",
    "pac_conv2d",
    {**NHWC, "weight": W[0], "layout": "NHWC"},
    ValueError,
    "weight is (4, 3, 3), expected 4 axes (kh, kw, I, O)",
)
bad(
    "weight rank transposed",
    "pac_conv_transpose2d",
    {"weight": W[0]},
    ValueError,
    "weight is (4, 3, 3), expected 4 axes (I, O, kh, kw)",
)
bad("bias rank", "pac_conv2d", {"bias": f32(1, 5)}, ValueError, "bias is (1, 5), expected (5,) for the output channels")
bad(
    "kernel rank",
    "pac_conv2d",
    {"guide": None, "kernel": f32(1, 9, 4, 6)},
    ValueError,
    "kernel is (1, 9, 4, 6), expected 6 axes (N, G, kh, kw, H, W)",
)
bad(
    "smooth rank",
    "pac_conv2d",
    {"smooth_kernel": f32(3)},
    ValueError,
    "smooth_kernel is (3,), expected 2 axes (sh, sw)",
)
bad("scalar input", "pac_pool2d", {"input": np.float32(1)}, ValueError, "input is (), expected 4 axes (N, C, H, W)")

# Channels and groups
bad(
    "weight channels",
    "pac_conv2d",
    {"weight": f32(5, 3, 3, 3)},
    ValueError,
    "weight is (5, 3, 3, 3), expected 4 input channels for an input of 4 channels in 1 group",
)
bad(
    "weight channels NHWC",
    "pac_conv2d",
    {**NHWC, "weight": f32(3, 3, 5, 4), "layout": "NHWC"},
    ValueError,
    "weight is (3, 3, 5, 4), expected 4 input channels for an input of 4 channels in 1 group",
)
bad(
    "weight channels of groups",
    "pac_conv2d",
    {"groups": 2},
    ValueError,
    "weight is (5, 4, 3, 3), expected 2 input channels for an input of 4 channels in 2 groups",
)
bad(
    "weight channels transposed",
    "pac_conv_transpose2d",
    {"weight": f32(5, 4, 3, 3)},
    ValueError,
    "weight is (5, 4, 3, 3), expected 4 input channels for an input of 4 channels in 1 group",
)
bad(
    "groups do not divide the input",
    "pac_conv2d",
    {"groups": 3},
    ValueError,
    "groups is 3, expected a divisor of the input's 4 channels",
)
bad(
    "groups do not divide the output",
    "pac_conv2d",
    {"groups": 2, "weight": f32(5, 2, 3, 3)},
    ValueError,
    "groups is 2, expected a divisor of the weight's 5 output channels",
)
bad("groups 0", "pac_conv2d", {"groups": 0}, ValueError, "groups is 0, expected at least 1")
bad("groups is a float", "pac_conv2d", {"groups": 2.0}, TypeError, "groups is 2.0, expected an integer")
bad("bias channels", "pac_conv2d", {"bias": f32(4)}, ValueError, "bias is (4,), expected (5,) for the output channels")
bad(
    "bias of shared filters",
    "pac_conv2d",
    {"weight": f32(1, 1, 3, 3), "shared_filters": True, "bias": f32(5)},
    ValueError,
    "bias is (5,), expected (4,) for the output channels",
)
bad(
    "shared filters with channels",
    "pac_conv2d",
    {"shared_filters": True},
    ValueError,
    "weight is (5, 4, 3, 3), expected one filter, 1 by 1 channels, with shared_filters",
)
bad(
    "shared filters with groups",
    "pac_conv2d",
    {"weight": f32(1, 1, 3, 3), "shared_filters": True, "groups": 2},
    ValueError,
    "groups is 2, expected 1 with shared_filters",
)
bad(
    "channel_wise guide channels",
    "pac_pool2d",
    {"channel_wise": True},
    ValueError,
    "guide is (1, 3, 6, 8), expected 4 channels as the input with channel_wise",
)

# Guide, kernel and mask sizes
bad(
    "guide size",
    "pac_conv2d",
    {"guide": f32(1, 3, 6, 7)},
    ValueError,
    "guide is (1, 3, 6, 7), expected height and width (6, 8) of the input",
)
bad(
    "guide size of pooling",
    "pac_pool2d",
    {"guide": f32(1, 3, 5, 6)},
    ValueError,
    "guide is (1, 3, 5, 6), expected height and width (6, 8) of the input",
)
bad(
    "guide size transposed",
    "pac_conv_transpose2d",
    {"guide": G},
    ValueError,
    "guide is (1, 3, 6, 8), expected height and width (8, 10) of the output",
)
bad(
    "guide in the other layout",
    "pac_conv2d",
    {"guide": NHWC["guide"]},
    ValueError,
    "guide is (1, 6, 8, 3), expected height and width (6, 8) of the input"
    "; guide fits layout='NHWC': transpose it by (0, 3, 1, 2), or pass all arrays in that order with layout='NHWC'",
)
bad(
    "guide batch",
    "pac_conv2d",
    {"guide": f32(2, 3, 6, 8)},
    ValueError,
    "guide is (2, 3, 6, 8), expected batch 1 of the input",
)
bad(
    "kernel size",
    "pac_conv2d",
    {"guide": None, "kernel": f32(1, 1, 3, 3, 6, 8)},
    ValueError,
    "kernel is (1, 1, 3, 3, 6, 8), expected (1, 1, 3, 3, 4, 6)",
)
bad(
    "kernel channels",
    "pac_conv2d",
    {"guide": None, "kernel": f32(1, 4, 3, 3, 4, 6)},
    ValueError,
    "kernel is (1, 4, 3, 3, 4, 6), expected (1, 1, 3, 3, 4, 6)",
)
bad(
    "kernel channels of pooling",
    "pac_pool2d",
    {"guide": None, "kernel": f32(1, 3, 3, 3, 4, 6)},
    ValueError,
    "kernel is (1, 3, 3, 3, 4, 6), expected (1, 1, 3, 3, 4, 6) or (1, 4, 3, 3, 4, 6)",
)
bad(
    "mask size",
    "pac_conv2d",
    {"mask": MASK[..., 1:]},
    ValueError,
    "mask is (1, 1, 6, 7), expected (1, 1, 6, 8) as the input, with one channel",
)
bad(
    "mask channels",
    "pac_conv2d",
    {"mask": np.ones((1, 4, 6, 8), bool)},
    ValueError,
    "mask is (1, 4, 6, 8), expected (1, 1, 6, 8) as the input, with one channel",
)
bad(
    "mask at the output's size",
    "pac_conv_transpose2d",
    {"mask": np.ones((1, 1, 8, 10), bool)},
    ValueError,
    "mask is (1, 1, 8, 10), expected (1, 1, 6, 8) as the input, with one channel",
)
bad(
    "mask without axis of channels",
    "pac_kernel2d",
    {"mask": MASK[0]},
    ValueError,
    "mask is (1, 6, 8), expected (1, 1, 6, 8) as the input, with one channel",
)
bad(
    "even smooth kernel",
    "pac_conv2d",
    {"smooth_kernel": f32(3, 2)},
    ValueError,
    "smooth_kernel is (3, 2), expected odd sizes",
)
bad(
    "empty smooth kernel",
    "pac_conv2d",
    {"smooth_kernel": f32(3, 0)},
    ValueError,
    "smooth_kernel is (3, 0), expected odd sizes",
)

# Guide or kernel
bad(
    "guide and kernel",
    "pac_conv2d",
    {"kernel": K},
    ValueError,
    "guide and kernel are both given, expected exactly one of them",
)
bad(
    "neither guide nor kernel",
    "pac_conv2d",
    {"guide": None},
    ValueError,
    "guide and kernel are both None, expected exactly one of them",
)
bad(
    "neither, pooling",
    "pac_pool2d",
    {"guide": None},
    ValueError,
    "guide and kernel are both None, expected exactly one of them",
)
for _name, _value in {
    "mask": MASK,
    "normalize_kernel": True,
    "asymmetric": True,
    "kernel_type": "inv",
    "inv_alpha": ALPHA,
    "inv_lambda": ALPHA,
    "smooth_kernel": f32(3, 3),
}.items():
    bad(
        f"kernel and {_name}",
        "pac_conv2d",
        {"guide": None, "kernel": K, _name: _value},
        ValueError,
        f"{_name} is set, expected the default with kernel: pass it to pac_kernel2d",
    )
bad(
    "inv without alpha",
    "pac_conv2d",
    {"kernel_type": "inv", "inv_lambda": ALPHA},
    ValueError,
    "inv_alpha is None, expected an array with kernel_type 'inv'",
)
bad(
    "inv without lambda",
    "pac_conv2d",
    {"kernel_type": "inv", "inv_alpha": ALPHA},
    ValueError,
    "inv_lambda is None, expected an array with kernel_type 'inv'",
)
bad(
    "gaussian with alpha",
    "pac_conv2d",
    {"inv_alpha": ALPHA},
    ValueError,
    "inv_alpha is given, expected None with kernel_type 'gaussian'",
)
bad(
    "alpha size",
    "pac_conv2d",
    {"kernel_type": "inv", "inv_alpha": f32(3), "inv_lambda": ALPHA},
    ValueError,
    "inv_alpha is (3,), expected () or (1,)",
)
bad(
    "lambda size, channel_wise",
    "pac_kernel2d",
    {"kernel_type": "inv", "inv_alpha": f32(3), "inv_lambda": f32(2), "channel_wise": True},
    ValueError,
    "inv_lambda is (2,), expected () or (1,) or (3,)",
)

# Parameters
bad("stride 0", "pac_conv2d", {"stride": 0}, ValueError, "stride is 0, expected at least 1")
bad("stride pair with 0", "pac_conv2d", {"stride": (1, 0)}, ValueError, "stride is (1, 0), expected at least 1")
bad(
    "stride is a float",
    "pac_conv2d",
    {"stride": 1.5},
    ValueError,
    "stride is 1.5, expected an integer or a pair of them",
)
bad(
    "stride of three",
    "pac_conv2d",
    {"stride": (1, 1, 1)},
    ValueError,
    "stride is (1, 1, 1), expected an integer or a pair of them",
)
bad(
    "stride is True",
    "pac_conv2d",
    {"stride": True},
    ValueError,
    "stride is True, expected an integer or a pair of them",
)
bad("dilation 0", "pac_pool2d", {"dilation": 0}, ValueError, "dilation is 0, expected at least 1")
bad("negative padding", "pac_conv2d", {"padding": -1}, ValueError, "padding is -1, expected at least 0")
bad(
    "negative padding on one side",
    "pac_conv2d",
    {"padding": ((0, 0), (0, -2))},
    ValueError,
    "padding is ((0, 0), (0, -2)), expected at least 0",
)
bad(
    "padding word",
    "pac_conv2d",
    {"padding": "FULL"},
    ValueError,
    "padding is 'FULL', expected 'SAME', 'VALID' or numbers",
)
bad(
    "padding of four",
    "pac_conv2d",
    {"padding": (1, 1, 1, 1)},
    ValueError,
    "padding is (1, 1, 1, 1), expected an integer, a pair (rows, columns), or ((top, bottom), (left, right))",
)
bad(
    "stride array",
    "pac_conv2d",
    {"stride": np.array([1, 2])},
    ValueError,
    "stride is array([1, 2]), expected an integer or a pair of them",
)
bad(
    "layout array",
    "pac_conv2d",
    {"layout": X},
    ValueError,
    f"layout is {X!r}, expected 'NCHW', 'NHWC', 'channels_first', 'channels_last' or None",
)
bad(
    "no kernel_size for pooling",
    "pac_pool2d",
    {"kernel_size": None},
    ValueError,
    "kernel_size is None, expected an integer or a pair of them",
)
bad("kernel_size 0", "pac_pool2d", {"kernel_size": 0}, ValueError, "kernel_size is 0, expected at least 1")
bad(
    "kernel_size None",
    "pac_kernel2d",
    {"kernel_size": None},
    ValueError,
    "kernel_size is None, expected an integer or a pair of them",
)
bad(
    "layout",
    "pac_conv2d",
    {"layout": "NCWH"},
    ValueError,
    "layout is 'NCWH', expected 'NCHW', 'NHWC', 'channels_first', 'channels_last' or None",
)
bad(
    "kernel_type",
    "pac_conv2d",
    {"kernel_type": "laplace"},
    ValueError,
    "kernel_type is 'laplace', expected 'gaussian' or 'inv'",
)
bad("asymmetric is a number", "pac_conv2d", {"asymmetric": 1}, TypeError, "asymmetric is 1, expected True or False")
bad(
    "normalize_kernel is a word",
    "pac_conv2d",
    {"normalize_kernel": "yes"},
    TypeError,
    "normalize_kernel is 'yes', expected True or False",
)
bad("normalize is None", "pac_kernel2d", {"normalize": None}, TypeError, "normalize is None, expected True or False")
bad(
    "negative output_padding",
    "pac_conv_transpose2d",
    {"output_padding": -1},
    ValueError,
    "output_padding is -1, expected at least 0",
)
bad(
    "output_padding not below the stride",
    "pac_conv_transpose2d",
    {"output_padding": 2, "stride": 2},
    ValueError,
    "output_padding is 2, expected less than the larger of stride 2 and dilation 1",
)
bad(
    "output_padding with SAME",
    "pac_conv_transpose2d",
    {"output_padding": 1, "stride": 2, "padding": "SAME"},
    ValueError,
    "output_padding is 1, expected 0 with padding 'SAME'",
)
bad(
    "filter higher than the padded input",
    "pac_conv2d",
    {"weight": f32(5, 4, 9, 3), "padding": 1},
    ValueError,
    "filter height is 9 (size 9, dilation 1), expected at most 8, the size of the padded input",
)
bad(
    "dilated filter wider than the padded input",
    "pac_pool2d",
    {"dilation": (1, 4)},
    ValueError,
    "filter width is 9 (size 3, dilation 4), expected at most 8, the size of the padded input",
)
bad(
    "filter of size 0",
    "pac_conv2d",
    {"weight": f32(5, 4, 0, 3)},
    ValueError,
    "weight is (5, 4, 0, 3), expected a filter of at least 1 x 1",
)
bad(
    "no output",
    "pac_conv_transpose2d",
    {"padding": 4},
    ValueError,
    "output height is 0 (input 6, filter 3, stride 1, padding 4 and 4), expected at least 1",
)
bad(
    "guide of no transposed size",
    "pac_kernel2d",
    {"transposed": True, "stride": 2},
    ValueError,
    "guide height is 6, expected 5 or 7, the nearest output sizes of a transposed convolution with filter 3, stride 2, "
    "padding 0 and 0 and output_padding 0",
)

# Dtypes
bad(
    "integer input",
    "pac_conv2d",
    {"input": X.astype(np.int32)},
    TypeError,
    "input is int32, expected float16, bfloat16, float32 or float64",
)
bad(
    "integer guide",
    "pac_kernel2d",
    {"guide": G.astype(np.uint8)},
    TypeError,
    "guide is uint8, expected float16, bfloat16, float32 or float64",
)
bad(
    "integer weight",
    "pac_conv2d",
    {"weight": W.astype(np.int64)},
    TypeError,
    "weight is int64, expected float32 as the input",
)
bad(
    "bool input",
    "pac_pool2d",
    {"input": X > 0},
    TypeError,
    "input is bool, expected float16, bfloat16, float32 or float64",
)
bad(
    "complex input",
    "pac_pool2d",
    {"input": X.astype(np.complex64)},
    TypeError,
    "input is complex64, expected float16, bfloat16, float32 or float64",
)
bad(
    "object input",
    "pac_pool2d",
    {"input": X.astype(object)},
    TypeError,
    "input is object, expected float16, bfloat16, float32 or float64",
)
bad(
    "other byte order",
    "pac_pool2d",
    {"input": X.astype(">f4")},
    TypeError,
    "input is >f4, expected float16, bfloat16, float32 or float64",
)
bad(
    "weight dtype",
    "pac_conv2d",
    {"weight": W.astype(np.float64)},
    TypeError,
    "weight is float64, expected float32 as the input",
)
bad(
    "weight float32 beside a half input",
    "pac_conv2d",
    {"input": X.astype(np.float16)},
    TypeError,
    "weight is float32, expected float16 as the input",
)
bad(
    "bias dtype",
    "pac_conv2d",
    {"bias": np.ones(5, np.float16)},
    TypeError,
    "bias is float16, expected float32 as the input",
)
bad(
    "guide dtype",
    "pac_conv2d",
    {"guide": G.astype(np.float64)},
    TypeError,
    "guide is float64, expected float32 for an input of float32",
)
bad(
    "guide half beside float32",
    "pac_pool2d",
    {"guide": G.astype(np.float16)},
    TypeError,
    "guide is float16, expected float32 for an input of float32",
)
bad(
    "guide of the other half type",
    "pac_pool2d",
    {"input": X.astype(np.float16), "guide": G.astype(BFLOAT16)},
    TypeError,
    "guide is bfloat16, expected float16 or float32 for an input of float16",
)
bad(
    "guide double beside half",
    "pac_pool2d",
    {"input": X.astype(BFLOAT16), "guide": G.astype(np.float64)},
    TypeError,
    "guide is float64, expected bfloat16 or float32 for an input of bfloat16",
)
bad(
    "kernel dtype",
    "pac_conv2d",
    {"guide": None, "kernel": K.astype(np.float64)},
    TypeError,
    "kernel is float64, expected float32 for an input of float32",
)
bad(
    "smooth dtype",
    "pac_conv2d",
    {"smooth_kernel": np.ones((3, 3))},
    TypeError,
    "smooth_kernel is float64, expected float32 as the guide",
)
bad(
    "alpha dtype",
    "pac_conv2d",
    {"kernel_type": "inv", "inv_alpha": np.float64(1), "inv_lambda": ALPHA},
    TypeError,
    "inv_alpha is float64, expected float32 as the guide",
)
bad(
    "mask dtype",
    "pac_conv2d",
    {"mask": MASK.astype(np.float32)},
    TypeError,
    "mask is float32, expected bool (True where the input is valid)",
)
bad(
    "mask of bytes",
    "pac_conv2d",
    {"mask": MASK.astype(np.uint8)},
    TypeError,
    "mask is uint8, expected bool (True where the input is valid)",
)

# Frameworks
KNOWN = "expected an array of NumPy, CuPy, PyTorch, JAX, TensorFlow or another library with DLPack"
bad("list", "pac_conv2d", {"input": X.tolist()}, TypeError, f"input is list, {KNOWN}")
bad(
    "Python float",
    "pac_conv2d",
    {"kernel_type": "inv", "inv_alpha": 0.5, "inv_lambda": ALPHA},
    TypeError,
    f"inv_alpha is float, {KNOWN}",
)
bad("no input", "pac_conv2d", {"input": None}, TypeError, "input is None, expected an array")
bad("no weight", "pac_conv2d", {"weight": None}, TypeError, "weight is None, expected an array")
bad("no guide", "pac_kernel2d", {"guide": None}, TypeError, "guide is None, expected an array")
bad(
    "masked array",
    "pac_pool2d",
    {"input": np.ma.masked_array(X, X > 2)},
    TypeError,
    "input is a numpy.ma.MaskedArray, expected a plain array; pass its mask as mask=",
)


@pytest.mark.parametrize("name", BAD)
def test_forward(name: str) -> None:
    operator, changes, error, message = BAD[name]
    positional, keywords = arguments(operator, changes)
    with pytest.raises(error) as caught:
        getattr(ao, operator)(*positional, **keywords)
    assert type(caught.value) is error
    assert str(caught.value) == f"{operator}: {message}"


@pytest.mark.parametrize("name", BAD)
def test_backward(name: str) -> None:
    operator, changes, error, message = BAD[name]
    positional, keywords = arguments(operator, changes)
    with pytest.raises(error) as caught:
        getattr(ao, operator + "_backward")(f32(*OUTPUT[operator]), *positional, **keywords)
    assert type(caught.value) is error
    assert str(caught.value) == f"{operator}_backward: {message}"


@pytest.mark.parametrize(
    ("operator", "name", "place"),
    [(o, n, p) for o, good in GOOD.items() for p, n in enumerate(k for k in good if k != "kernel_size") if p],
)
def test_mixed_frameworks(operator: str, name: str, place: int) -> None:
    positional, keywords = arguments(operator, {name: torch.from_numpy(GOOD[operator][name].copy())})
    with pytest.raises(TypeError) as caught:
        getattr(ao, operator)(*positional, **keywords)
    assert str(caught.value) == f"{operator}: {name} is an array of PyTorch, expected NumPy as for input"


@pytest.mark.parametrize(
    ("grad", "error", "message"),
    [
        (f32(1, 5, 4, 5), ValueError, "grad_output is (1, 5, 4, 5), expected (1, 5, 4, 6) as the output"),
        (f32(5, 4, 6), ValueError, "grad_output is (5, 4, 6), expected (1, 5, 4, 6) as the output"),
        (np.ones((1, 5, 4, 6)), TypeError, "grad_output is float64, expected float32 as the output"),
        (np.ones((1, 5, 4, 6), int), TypeError, "grad_output is int64, expected float32 as the output"),
        (None, TypeError, "grad_output is None, expected an array"),
        ([[1.0]], TypeError, f"grad_output is list, {KNOWN}"),
    ],
    ids=["shape", "rank", "dtype", "integer", "None", "list"],
)
def test_grad_output(grad: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        ao.pac_conv2d_backward(grad, X, G, W)
    assert str(caught.value) == f"pac_conv2d_backward: {message}"


FIELDS = "('input', 'guide', 'weight', 'bias', 'kernel', 'inv_alpha', 'inv_lambda', 'smooth_kernel')"


@pytest.mark.parametrize("needs", [["weight", "mask"], ("mask",), "mask"], ids=["list", "tuple", "word"])
def test_needs_of_no_field(needs: Any) -> None:
    with pytest.raises(ValueError, match="needs") as caught:
        ao.pac_conv2d_backward(f32(1, 5, 4, 6), X, G, W, needs=needs)
    assert str(caught.value) == f"pac_conv2d_backward: needs has 'mask', expected names among {FIELDS}"


def test_a_bad_call_repeated_is_bad_again() -> None:
    """Checks are remembered for shapes that were good, never for bad ones."""
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^pac_conv2d: guide is "):
            ao.pac_conv2d(X, f32(1, 3, 6, 7), W)
        ao.pac_conv2d(X, G, W)


@pytest.mark.parametrize("operator", GOOD)
@pytest.mark.parametrize("option", ["strides", "data_format", "normalise"])
def test_unknown_keywords(operator: str, option: str) -> None:
    positional, keywords = arguments(operator, {option: 1})
    with pytest.raises(TypeError, match=option):
        getattr(ao, operator)(*positional, **keywords)
