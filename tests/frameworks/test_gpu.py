"""Arrays of frameworks on a real GPU: values, device, stream, memory, and CUDA graphs. ``pytest -m gpu``"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import arrayops as ao

pytest.importorskip("cupy", reason="CuPy is not installed")

import cuda_device

pytestmark = pytest.mark.gpu

if reason := cuda_device.why_no_gpu():
    pytest.skip(reason, allow_module_level=True)

RNG = np.random.default_rng(0)
IMAGE, GUIDE = (RNG.standard_normal((2, channels, 13, 18)).astype(np.float32) for channels in (8, 3))
WEIGHT = RNG.standard_normal((4, 8, 3, 3)).astype(np.float32)
GRAD = RNG.standard_normal((2, 4, 13, 18)).astype(np.float32)

Call = Callable[..., Any]
CALLS: dict[str, tuple[Call, tuple[np.ndarray, ...]]] = {
    "conv2d": (lambda *arrays: ao.conv2d(*arrays, padding=1), (IMAGE, WEIGHT)),
    "pac_conv2d": (lambda *arrays: ao.pac_conv2d(*arrays, padding=1, normalize_kernel=True), (IMAGE, GUIDE, WEIGHT)),
    "pac_conv2d_backward": (lambda *arrays: ao.pac_conv2d_backward(*arrays, padding=1), (GRAD, IMAGE, GUIDE, WEIGHT)),
}
every_call = pytest.mark.parametrize("name", CALLS)


def flat(result: Any) -> list[Any]:
    return [value for value in (result if isinstance(result, tuple) else (result,)) if value is not None]


def check(name: str, found: list[np.ndarray], tolerance: float = 1e-5) -> None:
    """Against the CPU."""
    call, arrays = CALLS[name]
    for got, want in zip(found, flat(call(*arrays)), strict=True):
        assert got.shape == want.shape
        error = np.linalg.norm(got.astype(np.float64) - want) / np.linalg.norm(want)
        assert error <= tolerance, error


def on_torch(torch: Any, name: str, **how: Any) -> list[Any]:
    return [torch.from_numpy(array).to("cuda", **how) for array in CALLS[name][1]]


@every_call
@pytest.mark.parametrize("order", ["contiguous_format", "channels_last"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_torch(torch: Any, name: str, order: str, dtype: str) -> None:
    tensors = on_torch(torch, name, dtype=getattr(torch, dtype))
    tensors = [tensor.to(memory_format=getattr(torch, order)) for tensor in tensors]
    results = flat(CALLS[name][0](*tensors))
    assert all(result.device == tensors[0].device and result.dtype == tensors[0].dtype for result in results)
    check(name, [result.float().cpu().numpy() for result in results], 1e-5 if dtype == "float32" else 3e-2)


@every_call
def test_torch_stream_and_memory(torch: Any, name: str) -> None:
    """Work goes to torch's current stream, behind what it already holds, and results are memory of torch."""
    tensors = on_torch(torch, name)
    call = CALLS[name][0]
    call(*tensors)
    torch.cuda.synchronize()
    stream, before = torch.cuda.Stream(), torch.cuda.memory_allocated()
    with torch.cuda.stream(stream):
        late = [torch.empty_like(tensor) for tensor in tensors]
        torch.cuda._sleep(50_000_000)
        for target, tensor in zip(late, tensors, strict=True):
            target.copy_(tensor)
        results = flat(call(*late))
    assert not stream.query(), "the call waited for the GPU"
    stream.synchronize()
    check(name, [result.cpu().numpy() for result in results])
    held = sum(tensor.nbytes for tensor in (*late, *results))
    assert held <= torch.cuda.memory_allocated() - before <= held + 512 * (len(late) + len(results))


@every_call
def test_torch_graph(torch: Any, name: str) -> None:
    """A recorded call runs again on what its inputs hold by then."""
    tensors = on_torch(torch, name)
    call = CALLS[name][0]
    call(*tensors)
    kept = [tensor.clone() for tensor in tensors]
    for tensor in tensors:
        tensor.zero_()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = flat(call(*tensors))
    for tensor, value in zip(tensors, kept, strict=True):
        tensor.copy_(value)
    graph.replay()
    torch.cuda.synchronize()
    check(name, [result.cpu().numpy() for result in results])


@every_call
def test_cupy_graph(name: str) -> None:
    import cupy

    call, arrays = CALLS[name]
    given = [cupy.asarray(array) for array in arrays]
    call(*given)
    # A stream that does not block waits for nothing on the default stream, the arguments' upload included.
    cupy.cuda.Device().synchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        results = flat(call(*given))
        graph = stream.end_capture()
        graph.launch(stream)
    stream.synchronize()
    check(name, [cupy.asnumpy(result) for result in results])


@every_call
def test_jax(jax: Any, name: str) -> None:
    call, arrays = CALLS[name]
    given = [jax.device_put(array, jax.devices("gpu")[0]) for array in arrays]
    for _ in range(20):
        # Arguments are dropped as soon as the call has returned, and their memory is used again.
        results = flat(call(*[array + 0 for array in given]))
        assert all(result.device == given[0].device for result in results)
        check(name, [np.asarray(result) for result in results])


@every_call
def test_tensorflow(tf: Any, name: str) -> None:
    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("TensorFlow has no GPU here")
    call, arrays = CALLS[name]
    with tf.device("/GPU:0"):
        given = [tf.constant(array) for array in arrays]
        for _ in range(20):
            results = flat(call(*[tf.identity(array) + 0 for array in given]))
            assert all(result.device == given[0].device for result in results)
            check(name, [result.numpy() for result in results])
