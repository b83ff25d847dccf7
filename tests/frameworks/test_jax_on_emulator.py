"""Every family in compiled functions of JAX, on buffers that are handled as those of a GPU: kernels on the emulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import arrayops as ao

pytest.importorskip("cupy", reason="CuPy is not installed")

import cuda_device
from jax_on_host import STREAM, BufferOnGPU, as_on_gpus

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


IMAGE, GUIDE, WEIGHT, DENSE = normal(2, 8, 7, 9), normal(2, 3, 7, 9), normal(4, 4, 3, 3), normal(4, 8, 3, 3)
MASK, LABELS = RNG.random((2, 1, 7, 9)) < 0.7, RNG.integers(0, 5, (2, 7, 9)).astype(np.int32)
POOLED, SMALL = normal(2, 8, 6), normal(2, 3, 4, 5)

CALLS: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "conv2d": (lambda *arrays: ao.conv2d(*arrays, groups=2, padding=1), (IMAGE, WEIGHT)),
    "pac_conv2d": (
        lambda *arrays: ao.pac_conv2d(*arrays[:-1], padding=1, mask=arrays[-1]),
        (IMAGE, GUIDE, DENSE, MASK),
    ),
    "segment_reduce": (
        lambda *arrays: ao.segment_reduce(*arrays, ("mean", "max", "var", "count"), 6),
        (IMAGE, LABELS),
    ),
    "segment_unpool": (ao.segment_unpool, (POOLED, LABELS)),
    "resize2d": (lambda image: ao.resize2d(image, (5, 11)), (IMAGE,)),
    "merge_feature_maps": (lambda *maps: ao.merge_feature_maps(maps, how="concat"), (IMAGE, SMALL)),
}


@pytest.fixture(autouse=True)
def streams(jax: Any) -> Iterator[list[int]]:
    # Integers are not made narrow, for which CuPy's own kernels would be needed.
    with cuda_device.emulated(), as_on_gpus() as found, jax.enable_x64(True):
        yield found


def flat(result: Any) -> list[Any]:
    return [value for each in result for value in flat(each)] if isinstance(result, tuple) else [result]


def assert_close(got: Any, want: Any, dtype: str = "float32") -> None:
    assert got.shape == want.shape
    if want.dtype.kind != "f":
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)
        return
    assert got.dtype == dtype
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert np.linalg.norm(got - want) <= (1e-5 if dtype == "float32" else 3e-2) * np.linalg.norm(want)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", CALLS)
def test_results(jax: Any, streams: list[int], name: str, dtype: str) -> None:
    call, arrays = CALLS[name]
    given = [jax.numpy.asarray(array, dtype if array.dtype.kind == "f" else array.dtype) for array in arrays]
    kept = [np.array(array) for array in given]
    got = flat(jax.block_until_ready(jax.jit(call)(*given)))
    # Only integers are copied, and masks.
    assert streams == [STREAM] * sum(result.dtype in (bool, np.int64) for result in got)
    for array, before in zip(given, kept, strict=True):
        np.testing.assert_array_equal(array, before)
    wide = [
        np.asarray(array, np.float64 if original.dtype.kind == "f" else None)
        for array, original in zip(given, arrays, strict=True)
    ]
    for result, wanted in zip(got, flat(call(*wide)), strict=True):
        assert_close(result, wanted, dtype)


@pytest.mark.parametrize("name", CALLS)
def test_gradients(jax: Any, name: str) -> None:
    call, arrays = CALLS[name]
    floats = tuple(i for i, array in enumerate(arrays) if array.dtype.kind == "f")

    def loss(*arrays: Any) -> Any:
        return sum((result**2).sum() for result in flat(call(*arrays)) if result.dtype.kind == "f")

    got = jax.block_until_ready(jax.jit(jax.grad(loss, floats))(*map(jax.numpy.asarray, arrays)))
    wide = [array.astype(np.float64) if array.dtype.kind == "f" else array for array in arrays]
    results = flat(call(*wide))
    gradients = tuple(2 * result if result.dtype.kind == "f" else None for result in results)
    backward = {
        "conv2d": lambda: ao.conv2d_backward(gradients[0], *wide, groups=2, padding=1)[:2],
        "pac_conv2d": lambda: ao.pac_conv2d_backward(gradients[0], *wide[:3], padding=1, mask=wide[3])[:3],
        "segment_reduce": lambda: ao.segment_reduce_backward(gradients, *wide, ("mean", "max", "var", "count"), 6),
        "segment_unpool": lambda: ao.segment_unpool_backward(gradients[0], *wide),
        "resize2d": lambda: ao.resize2d_backward(gradients[0], *wide, (5, 11)),
        "merge_feature_maps": lambda: ao.merge_feature_maps_backward(gradients[0], wide, how="concat").maps,
    }
    for gradient, wanted in zip(got, backward[name](), strict=True):
        assert_close(gradient, wanted)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_maps(jax: Any, streams: list[int], dtype: str) -> None:
    """Folded into the batch, and a loop."""
    call, (image, weight) = CALLS["conv2d"]
    image, weight = (np.asarray(jax.numpy.asarray(array, dtype)) for array in (image, weight))
    images, weights = np.stack([image, 2 * image]), np.stack([weight, -weight])
    for axes, copies in (((0, None), 1), ((0, 0), 2)):
        streams.clear()
        got = jax.block_until_ready(jax.jit(jax.vmap(call, axes))(images, weights if axes[1] == 0 else weight))
        assert len(streams) == copies
        for i in range(2):
            wanted = call(*(array.astype(np.float64) for array in (images[i], weights[i if axes[1] == 0 else 0])))
            assert_close(got[i], wanted, dtype)


def test_errors(jax: Any) -> None:
    labels = np.where(np.arange(126).reshape(2, 7, 9) == 12, 9, 0)
    with pytest.raises((RuntimeError, ValueError), match=r"segment_mean: labels\[0, 1, 3\] is 9, expected 0 to 5"):
        jax.jit(lambda x, labels: ao.segment_mean(x, labels, 6, check=True))(IMAGE, labels).block_until_ready()


def test_results_in_the_memory_of_other_outputs(streams: list[int]) -> None:
    """Two arrays that look like both outputs, of which the backend returns the second first."""
    from arrayops._backends.cuda.engine import memory
    from arrayops._frameworks.jax.gpu import compute_on_gpu

    outputs = [np.zeros(3, np.float32) for _ in range(2)]
    source = np.arange(3, dtype=np.float32)
    allocated = []

    def function(arrays: list[Any]) -> list[Any]:
        for value in (1, 2, 3):
            allocated.append(memory.empty((3,), np.dtype(np.float32)))
            allocated[-1].fill(value)
        return [allocated[1], allocated[0], allocated[2], arrays[0]]

    def compute(function: Any, arrays: list[Any], targets: list[Any], write: Any) -> None:
        assert [array.data.ptr for array in targets] == [output.ctypes.data for output in outputs]
        results = function(arrays)
        assert results[2].data.ptr not in [target.data.ptr for target in targets]
        write(targets, results[:2])

    compute_on_gpu(compute, function, 0, STREAM, [BufferOnGPU(source)], list(map(BufferOnGPU, outputs)), lend=True)
    np.testing.assert_array_equal(outputs, [[2, 2, 2], [1, 1, 1]])
    assert streams == [STREAM] * 2
