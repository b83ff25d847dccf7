"""Tensors in channels_last: read without a conversion, results in channels_last, values equal to rounding."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arrayops as ao
from backend_recorder import Recorder
from differentiable_calls import CALLS, DifferentiableCall
from operator_oracles import as_tuple
from toy_op import address

NCHW_CALLS = {name: call for name, call in CALLS.items() if call.call.get("layout", "NCHW") == "NCHW"}
every_call = pytest.mark.parametrize("call", NCHW_CALLS.values(), ids=NCHW_CALLS)


def channels_last(torch: Any, array: np.ndarray) -> Any:
    tensor = torch.from_numpy(array)
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def is_image(tensor: Any) -> bool:
    return tensor.dim() == 4


@every_call
def test_results_and_gradients(torch: Any, call: DifferentiableCall, recorder: Recorder) -> None:
    cotangents = call.cotangents()
    expected = call.differentiable(as_tuple(getattr(ao, call.op.name)(**call.call)))
    wanted = call.gradients(cotangents)
    recorder.calls()
    leaves = [channels_last(torch, array).requires_grad_() for array in call.arrays]
    # The pooled features of segment_unpool have three axes.
    format_known = any(map(is_image, leaves))
    outputs = call.function(lambda array: channels_last(torch, array))(*leaves)
    given = [channels_last(torch, each) for each in cotangents]
    gradients = torch.autograd.grad(outputs, leaves, given)
    for results, wants in ((outputs, expected), (gradients, wanted)):
        for result, want in zip(results, wants, strict=True):
            np.testing.assert_allclose(result.detach(), want, rtol=1e-11, atol=1e-11)
            if format_known and is_image(result) and result.shape[1] > 1 and result.shape != leaves_weight(call):
                assert result.is_contiguous(memory_format=torch.channels_last)
    if format_known:
        assert recorder.layouts() == [(call.op.name, "NHWC"), (call.op.backward.name, "NHWC")]


def leaves_weight(call: DifferentiableCall) -> Any:
    weight = call.call.get("weight")
    return None if weight is None else weight.shape


def test_read_in_place(torch: Any, recorder: Recorder) -> None:
    x = torch.rand(2, 3, 5, 4).contiguous(memory_format=torch.channels_last)
    result = ao.resize2d(x, (7, 6))
    [call] = recorder.calls()
    assert call.arrays[0].flags.c_contiguous
    assert (address(call.arrays[0]), address(call.results[0])) == (x.data_ptr(), result.data_ptr())


@st.composite
def strided(draw: Any) -> tuple[list[int], list[int]]:
    """A shape with many axes of size 1, and an order of its axes in memory."""
    shape = draw(st.lists(st.integers(1, 3), min_size=4, max_size=4))
    return shape, draw(st.permutations(range(4)))


@given(strided(), strided())
@settings(max_examples=200, deadline=None)
def test_ambiguous_strides_are_decided_as_by_torch(torch: Any, x: Any, w: Any) -> None:
    """Tensors with axes of size 1 may be both; for the convolution of torch its own rule decides."""

    def tensor(shape: list[int], order: list[int]) -> Any:
        inverse = [order.index(axis) for axis in range(4)]
        return torch.rand([shape[axis] for axis in order]).permute(inverse)

    size = min(*x[0][2:], w[0][2])
    image, weight = tensor(*x), tensor([w[0][0], x[0][1], size, size], w[1])
    ours, theirs = ao.conv2d(image, weight), torch.nn.functional.conv2d(image, weight)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    if torch.__version__ >= (2, 13):
        assert ours.stride() == theirs.stride()
    else:
        # In torch 2.7 the rule that Python code sees decides some images of one channel otherwise than the convolution.
        assert ours.is_contiguous() or ours.is_contiguous(memory_format=torch.channels_last)


def test_sliced_images_count_as_well(torch: Any) -> None:
    x = torch.rand(2, 5, 6, 4).permute(0, 3, 1, 2)[:, :3, 1:]
    result = ao.conv2d(x, torch.rand(2, 3, 3, 3))
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_without_the_private_rule_of_torch(torch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of torch in which it is gone: strides that are not ambiguous are told by public methods."""
    from arrayops._frameworks.torch import memory_format, private

    monkeypatch.setattr(memory_format, "suggest_memory_format", private._suggested_format)
    x, w = torch.rand(2, 3, 6, 5), torch.rand(4, 3, 3, 3)
    assert ao.conv2d(x, w).is_contiguous()
    result = ao.conv2d(x.contiguous(memory_format=torch.channels_last), w)
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result, ao.conv2d(x, w))


def test_no_format_without_the_nchw_layout(torch: Any, recorder: Recorder) -> None:
    x = torch.rand(2, 4, 5, 3).contiguous(memory_format=torch.channels_last)
    ao.conv2d(x, torch.rand(3, 3, 3, 2), layout="NHWC")
    assert recorder.layouts() == [("conv2d", "NHWC")]


def test_model_in_channels_last_trains(torch: Any) -> None:
    """Gradients of parameters are accumulated whatever their strides."""
    weight = torch.nn.Parameter(torch.rand(3, 2, 3, 3).contiguous(memory_format=torch.channels_last))
    x = torch.rand(2, 2, 5, 5).contiguous(memory_format=torch.channels_last)
    for _ in range(2):
        ao.conv2d(x, weight).sum().backward()
    other = weight.detach().clone().requires_grad_()
    torch.nn.functional.conv2d(x, other).sum().backward()
    torch.testing.assert_close(weight.grad, 2 * other.grad)
    assert weight.grad.stride() == weight.stride()
