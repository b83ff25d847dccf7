"""Every family on tensors that go the way of those on a GPU: kernels on the emulator, all memory from torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import arrayops as ao

pytest.importorskip("cupy", reason="CuPy is not installed")

import cuda_device
from torch_on_host import as_on_gpus

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


IMAGE, GUIDE, WEIGHT, GRAD = normal(2, 8, 7, 9), normal(2, 3, 7, 9), normal(4, 4, 3, 3), normal(2, 4, 7, 9)
DENSE, MASK = normal(4, 8, 3, 3), RNG.random((2, 1, 7, 9)) < 0.7
LABELS = RNG.integers(0, 5, (2, 7, 9))
POOLED, SMALL = normal(2, 8, 6), normal(2, 3, 4, 5)

Call = Callable[..., Any]
CALLS: dict[str, tuple[Call, tuple[np.ndarray, ...]]] = {
    "conv2d": (lambda *arrays: ao.conv2d(*arrays, groups=2, padding=1), (IMAGE, WEIGHT)),
    "conv2d_backward": (lambda *arrays: ao.conv2d_backward(*arrays, groups=2, padding=1), (GRAD, IMAGE, WEIGHT)),
    "pac_conv2d": (lambda *arrays, mask: ao.pac_conv2d(*arrays, padding=1, mask=mask), (IMAGE, GUIDE, DENSE, MASK)),
    "pac_conv2d_backward": (lambda *arrays: ao.pac_conv2d_backward(*arrays, padding=1), (GRAD, IMAGE, GUIDE, DENSE)),
    "pac_kernel2d": (lambda guide: ao.pac_kernel2d(guide, 3, padding=1, normalize=True), (GUIDE,)),
    "segment_reduce": (
        lambda *arrays: ao.segment_reduce(*arrays, ("mean", "max", "var", "count"), 6),
        (IMAGE, LABELS),
    ),
    "segment_mean": (ao.segment_mean, (IMAGE, LABELS)),
    "segment_max_backward": (lambda *arrays: ao.segment_max_backward(*arrays, 6), (POOLED, IMAGE, LABELS)),
    "segment_unpool": (ao.segment_unpool, (POOLED, LABELS)),
    "resize2d": (lambda image: ao.resize2d(image, (5, 11)), (IMAGE,)),
    "merge_feature_maps": (lambda *maps: ao.merge_feature_maps(maps, how="concat"), (IMAGE, SMALL)),
    "merge_feature_maps_backward": (
        lambda grad, *maps: ao.merge_feature_maps_backward(grad, maps, how="add"),
        (GUIDE, GUIDE, SMALL),
    ),
}


@pytest.fixture(autouse=True)
def emulated() -> Iterator[None]:
    with cuda_device.emulated(), as_on_gpus():
        yield


def flat(result: Any) -> list[Any]:
    if isinstance(result, (tuple, list)):
        return [value for each in result for value in flat(each)]
    return [] if result is None else [result]


def run(name: str, arrays: list[Any]) -> list[Any]:
    call, _ = CALLS[name]
    return flat(call(*arrays[:-1], mask=arrays[-1]) if name == "pac_conv2d" else call(*arrays))


def tensors(torch: Any, name: str, dtype: str, order: str) -> list[Any]:
    found = []
    for array in CALLS[name][1]:
        tensor = torch.from_numpy(array.copy())
        if tensor.is_floating_point():
            tensor = tensor.to(getattr(torch, dtype))
        if order == "last axis first" and tensor.ndim > 1:
            tensor = tensor.movedim(-1, 0).contiguous().movedim(0, -1)
        found.append(tensor)
    return found


@pytest.mark.parametrize("order", ["contiguous", "last axis first"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", CALLS)
def test_values_and_memory(torch: Any, name: str, dtype: str, order: str) -> None:
    given = tensors(torch, name, dtype, order)
    kept = [tensor.clone() for tensor in given]
    with cuda_device.allocations() as pieces:
        got = run(name, given)
    assert not pieces, "memory that is not torch's"
    assert all(torch.equal(now, before) for now, before in zip(given, kept, strict=True)), "an input was written to"
    want = run(name, [tensor.double().numpy() if tensor.is_floating_point() else tensor.numpy() for tensor in given])
    places = {tensor.untyped_storage().data_ptr() for tensor in given}
    for result, expected in zip(got, want, strict=True):
        assert type(result) is torch.Tensor
        assert tuple(result.shape) == expected.shape
        assert result.is_contiguous()
        assert not result._is_view()
        assert result.untyped_storage().data_ptr() not in places
        places.add(result.untyped_storage().data_ptr())
        if expected.dtype != np.float64:
            assert result.numpy().dtype == expected.dtype
            np.testing.assert_array_equal(result.numpy(), expected)
            continue
        assert result.dtype is getattr(torch, dtype)
        error = np.linalg.norm(result.double().numpy() - expected)
        assert error <= (1e-5 if dtype == "float32" else 3e-2) * np.linalg.norm(expected)
