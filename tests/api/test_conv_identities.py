"""What must hold between calls of the convolutions, whatever the oracle says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest

import arrayops as ao
from arrayops._backends.cpu.engine import choice
from arrayops._backends.numpy import blocks
from arrayops._backends.numpy import conv as ways
from case import Case
from conv_cases import NAMED, build, named
from oracles import conv
from strategies import CONVOLUTIONS, FLOAT32, FLOAT64
from tolerances import assert_close


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("operator", "name"), NAMED)
def test_gradients_are_adjoints(operator: str, name: str, layout: str) -> None:
    """<y, conv(x, w)> is <conv_input(y, w), x> and <conv_weight(y, x), w>."""
    case = named(operator, name, layout=layout).replace(bias=None)
    output = case.call(ao)
    grad = np.random.default_rng(5).standard_normal(output.shape)
    found = case.backward(ao, grad)
    want, size = (grad * output).sum(), (np.abs(grad) * np.abs(output)).sum()
    for field in ("input", "weight"):
        assert abs((getattr(found, field) * case.arrays[field]).sum() - want) <= 1e-12 * size, field


@pytest.mark.parametrize(("operator", "name"), NAMED)
def test_linear_in_every_array(operator: str, name: str) -> None:
    case = named(operator, name).replace(bias=None)
    rng = np.random.default_rng(1)
    for field in ("input", "weight"):
        a = case.arrays[field]
        b = rng.standard_normal(a.shape)
        parts = [case.replace(**{field: value}).call(ao) for value in (3 * a - 0.5 * b, a, b)]
        assert_close(parts[0], 3 * parts[1] - 0.5 * parts[2], FLOAT64, np.abs(parts[1]) + np.abs(parts[2]))


@pytest.mark.parametrize("operator", CONVOLUTIONS)
@pytest.mark.parametrize("groups", [2, 3, 6])
def test_groups_are_convolutions_side_by_side(operator: str, groups: int) -> None:
    case = build(operator, groups=groups, stride=2, outputs=12)
    x, weight, bias = case.arrays.values()
    inputs, outputs = np.split(x, groups, axis=1), np.split(bias, groups)
    parts = [getattr(ao, operator)(*a, stride=2) for a in zip(inputs, np.split(weight, groups), outputs, strict=True)]
    assert_close(case.call(ao), np.concatenate(parts, axis=1), FLOAT64)


def test_depthwise_filters_every_channel_alone() -> None:
    case = build("conv2d", groups=6, padding=1)
    x, weight, bias = case.arrays.values()
    for channel in range(6):
        one = slice(channel, channel + 1)
        want = ao.conv2d(np.ascontiguousarray(x[:, one]), weight[one], bias[one], padding=1)
        assert_close(case.call(ao)[:, one], want, FLOAT64)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("operator", "name"), NAMED)
def test_pac_with_a_constant_guide_is_a_convolution(operator: str, name: str, layout: str) -> None:
    """A guide of zeros, since it is 0 outside the image."""
    case = named(operator, name, layout=layout)
    output = case.call(ao)
    x, weight, bias = case.arrays.values()
    guide = np.zeros_like(output if operator == "conv_transpose2d" else x)[..., :1]
    guide = guide if layout == "NHWC" else np.zeros_like(output if operator == "conv_transpose2d" else x)[:, :1]
    arguments = x, guide, weight, bias
    assert_close(output, getattr(ao, f"pac_{operator}")(*arguments, **case.options), FLOAT64)
    grad = case.grad(output.shape)
    mine = case.backward(ao, grad)
    other = getattr(ao, f"pac_{operator}_backward")(grad, *arguments, **case.options)
    for field in mine._fields:
        assert_close(getattr(mine, field), getattr(other, field), FLOAT64, what=field)


@pytest.mark.parametrize(("operator", "name"), NAMED)
def test_nhwc_equals_nchw(operator: str, name: str) -> None:
    nchw, nhwc = (named(operator, name, layout=layout) for layout in ("NCHW", "NHWC"))
    output = nchw.call(ao)
    assert_close(nhwc.call(ao).transpose(0, 3, 1, 2), output, FLOAT64)
    grad = nchw.grad(output.shape)
    a, b = nchw.backward(ao, grad), nhwc.backward(ao, np.ascontiguousarray(grad.transpose(0, 2, 3, 1)))
    assert_close(b.input.transpose(0, 3, 1, 2), a.input, FLOAT64)
    assert_close(b.weight.transpose(3, 2, 0, 1), a.weight, FLOAT64)
    assert_close(b.bias, a.bias, FLOAT64)


@pytest.mark.parametrize("operator", CONVOLUTIONS)
def test_images_of_a_batch_are_independent(operator: str) -> None:
    case = build(operator, batch=3, groups=2)
    whole = case.call(ao)
    for n in range(3):
        one = case.replace(input=case.arrays["input"][n : n + 1])
        assert one.call(ao).tobytes() == whole[n : n + 1].tobytes()


# Shapes of several tiles, chunks, parts of the taps and steps through the groups.
LARGE: dict[str, tuple[str, dict[str, Any]]] = {
    "32 channels": ("conv2d", {"size": (70, 90), "padding": 1, "channels": 32, "outputs": 24}),
    "5x5 strided": ("conv2d", {"size": (150, 90), "padding": "SAME", "kernel_size": (5, 5), "stride": 2}),
    "narrow groups": ("conv2d", {"size": (70, 90), "padding": 1, "channels": 128, "outputs": 128, "groups": 32}),
    "wide groups": ("conv2d", {"size": (14, 14), "padding": 1, "channels": 256, "outputs": 256, "groups": 4}),
    "depthwise": ("conv2d", {"size": (70, 90), "padding": 1, "channels": 64, "outputs": 64, "groups": 64}),
    "1x1": ("conv2d", {"size": (70, 90), "kernel_size": (1, 1), "channels": 48, "outputs": 40}),
    "one long row": ("conv2d", {"size": (2, 5000), "padding": 1, "channels": 3, "outputs": 3}),
    "one wide column": ("conv2d", {"size": (5000, 1), "padding": 1, "channels": 3, "outputs": 3}),
    "filter larger than the image": ("conv2d", {"size": (3, 2), "padding": "SAME", "kernel_size": (9, 11)}),
    "21x21 dilated": (
        "conv2d",
        {"size": (50, 40), "padding": 20, "kernel_size": (21, 3), "dilation": (2, 5), "channels": 2, "outputs": 2},
    ),
    "transposed": ("conv_transpose2d", {"size": (35, 45), "stride": 2, "padding": 1, "output_padding": 1}),
    "transposed groups": (
        "conv_transpose2d",
        {"size": (35, 45), "stride": 3, "kernel_size": (5, 4), "channels": 64, "outputs": 32, "groups": 8},
    ),
    "transposed 33x33 stride 8": (
        "conv_transpose2d",
        {"size": (5, 6), "stride": 8, "padding": "SAME", "kernel_size": (33, 33), "channels": 2, "outputs": 2},
    ),
}


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", LARGE)
def test_many_blocks_equal_torch(name: str, layout: str) -> None:
    operator, options = LARGE[name]
    case = build(operator, layout=layout, dtype=FLOAT32, **options)
    output = case.call(ao)
    tensors = {key: conv.torch.from_numpy(value.astype(np.float64)) for key, value in case.arrays.items()}
    assert_close(output, conv.differentiable(operator, tensors, case.options).numpy(), FLOAT32)
    grad = case.grad(output.shape)
    want, got = conv.backward(operator, case.arrays, case.options, grad), case.backward(ao, grad)
    for field in case.present:
        assert_close(getattr(got, field), want[field], FLOAT32, what=field)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """NumPy serves, where small calls too may take several; whatever a test does to the number of threads ends with it.

    tests/cpu/compiled has the same for compiled kernels.
    """
    monkeypatch.setattr(choice, "_choice", choice.NUMPY)
    monkeypatch.setattr(ways, "SMALL", 0)
    yield
    ao.set_num_threads(None)


def every_bit(case: Case) -> list[bytes]:
    output = case.call(ao)
    return [array.tobytes() for array in (output, *case.backward(ao, case.grad(output.shape)))]


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("name", [name for name in LARGE if "33x33" not in name])
def test_same_bits_for_every_number_of_threads(name: str, layout: str, threads: None) -> None:
    operator, options = LARGE[name]
    case = build(operator, layout=layout, dtype=FLOAT32, **options)
    ao.set_num_threads(1)
    want = every_bit(case)
    for count in (2, 5, 2):
        ao.set_num_threads(count)
        assert every_bit(case) == want, count


@pytest.mark.parametrize(("size", "asked"), [((8, 8), False), ((160, 160), True)])
def test_small_calls_wake_no_thread(size: tuple[int, int], asked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_choice", choice.NUMPY)
    case = build("conv2d", FLOAT32, size=size, padding=1)
    ao.set_num_threads(2)
    try:
        with mock.patch.object(blocks.helpers, "ask", wraps=blocks.helpers.ask) as ask:
            case.backward(ao, case.grad(case.call(ao).shape))
    finally:
        ao.set_num_threads(None)
    assert ask.call_count == (2 if asked else 0)
