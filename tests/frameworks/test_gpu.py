"""Arrays of frameworks on a real GPU: values, device, stream, memory, gradients, CUDA graphs. ``pytest -m gpu``"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from arrayops._ops import OPS
from backend_recorder import Recorder
from differentiable_calls import DifferentiableCall
from torch_layer_cases import CASES as TORCH_LAYERS
from torch_layer_cases import TorchLayerCase

pytest.importorskip("cupy", reason="CuPy is not installed")

import cuda_device

pytestmark = pytest.mark.gpu

if reason := cuda_device.why_no_gpu():
    pytest.skip(reason, allow_module_level=True)

RNG = np.random.default_rng(0)
IMAGE, GUIDE = (RNG.standard_normal((2, channels, 13, 18)).astype(np.float32) for channels in (8, 3))
WEIGHT = RNG.standard_normal((4, 8, 3, 3)).astype(np.float32)
GRAD = RNG.standard_normal((2, 4, 13, 18)).astype(np.float32)
SMALL, POOLED = (RNG.standard_normal(shape).astype(np.float32) for shape in ((2, 8, 6, 9), (2, 8, 7)))
LABELS = RNG.integers(0, 7, (2, 13, 18))

Call = Callable[..., Any]
CALLS: dict[str, tuple[Call, tuple[np.ndarray, ...]]] = {
    "conv2d": (lambda *arrays: ao.conv2d(*arrays, padding=1, layout="NCHW"), (IMAGE, WEIGHT)),
    "pac_conv2d": (
        lambda *arrays: ao.pac_conv2d(*arrays, padding=1, normalize_kernel=True, layout="NCHW"),
        (IMAGE, GUIDE, WEIGHT),
    ),
    "pac_conv2d_backward": (
        lambda *arrays: ao.pac_conv2d_backward(*arrays, padding=1, layout="NCHW"),
        (GRAD, IMAGE, GUIDE, WEIGHT),
    ),
    "segment_mean": (lambda *arrays: ao.segment_mean(*arrays, 7, ignore_label=3, layout="NCHW"), (IMAGE, LABELS)),
    "segment_reduce": (
        lambda *arrays: ao.segment_reduce(*arrays, ("sum", "max", "var"), 7, layout="NCHW"),
        (IMAGE, LABELS),
    ),
    "segment_mean_backward": (
        lambda *arrays: ao.segment_mean_backward(*arrays, 7, layout="NCHW"),
        (POOLED, IMAGE, LABELS),
    ),
    "segment_var_backward": (
        lambda *arrays: ao.segment_var_backward(*arrays, 7, layout="NCHW"),
        (POOLED, IMAGE, LABELS),
    ),
    "segment_unpool": (
        lambda *arrays: ao.segment_unpool(*arrays, fill=2, ignore_label=3, layout="NCHW"),
        (POOLED, LABELS),
    ),
    "resize2d": (lambda image: ao.resize2d(image, (20, 11), layout="NCHW"), (IMAGE,)),
    "merge_feature_maps": (lambda *maps: ao.merge_feature_maps(maps, layout="NCHW"), (SMALL, IMAGE)),
    "merge_feature_maps_backward": (
        lambda grad, *maps: ao.merge_feature_maps_backward(grad, maps, how="mean", layout="NCHW"),
        (IMAGE, SMALL, IMAGE),
    ),
}
every_call = pytest.mark.parametrize("name", CALLS)

GRADIENTS = {
    name: DifferentiableCall.of(OPS[name], {**call, "layout": "NCHW"}, ())
    for name, call in {
        "pac_conv2d": {"input": IMAGE, "guide": GUIDE, "weight": WEIGHT, "padding": 1},
        "segment_max": {"features": IMAGE, "labels": LABELS, "num_segments": 7},
        "merge_feature_maps": {"maps": [SMALL, IMAGE], "how": "mean"},
    }.items()
}
every_gradient = pytest.mark.parametrize("call", GRADIENTS.values(), ids=GRADIENTS)


@pytest.fixture
def torch(torch: Any) -> Any:
    if not torch.cuda.is_available():
        pytest.skip("PyTorch has no GPU here")
    return torch


@pytest.fixture
def jax(jax: Any) -> Any:
    if jax.default_backend() != "gpu":
        pytest.skip("JAX has no GPU here")
    return jax


@pytest.fixture
def tf(tf: Any) -> Any:
    if not tf.config.list_physical_devices("GPU"):
        pytest.skip("TensorFlow has no GPU here")
    return tf


def flat(result: Any) -> list[Any]:
    if isinstance(result, (tuple, list)):
        return [value for each in result for value in flat(each)]
    return [] if result is None else [result]


def check(name: str, found: list[np.ndarray], tolerance: float = 1e-5) -> None:
    """Against the CPU."""
    call, arrays = CALLS[name]
    assert_near(found, flat(call(*arrays)), tolerance)


def assert_near(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray], tolerance: float = 1e-5) -> None:
    for got, want in zip(found, wanted, strict=True):
        assert got.shape == want.shape
        error = np.linalg.norm(got.astype(np.float64) - want) / np.linalg.norm(want)
        assert error <= tolerance, error


def assert_calls_on_gpu(recorder: Recorder) -> None:
    """The backends were called, with arrays on the GPU."""
    calls = recorder.calls()
    assert calls
    assert all(type(each).__module__.startswith("cupy") for call in calls for each in call.arrays if each is not None)


def on_torch(torch: Any, name: str) -> list[Any]:
    return [torch.from_numpy(array).to("cuda") for array in CALLS[name][1]]


@every_call
@pytest.mark.parametrize("order", ["contiguous_format", "channels_last"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_torch(torch: Any, name: str, order: str, dtype: str) -> None:
    tensors = [
        tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor for tensor in on_torch(torch, name)
    ]
    tensors = [tensor.to(memory_format=getattr(torch, order)) if tensor.ndim == 4 else tensor for tensor in tensors]
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


def to_torch(torch: Any, array: np.ndarray, order: str = "contiguous_format") -> Any:
    tensor = torch.from_numpy(array).to("cuda")
    return tensor.contiguous(memory_format=getattr(torch, order)) if tensor.ndim == 4 else tensor


@every_gradient
@pytest.mark.parametrize("order", ["contiguous_format", "channels_last"])
def test_torch_gradients(torch: Any, call: DifferentiableCall, order: str) -> None:
    """On a stream behind what it already holds, where autograd runs the backward as well; formats are kept."""
    function = call.function(lambda array: to_torch(torch, array, order))
    cotangents = call.cotangents()
    given = [to_torch(torch, array, order) for array in (*call.arrays, *cotangents)]
    late = [torch.zeros_like(tensor) for tensor in given]
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        for target, tensor in zip(late, given, strict=True):
            target.copy_(tensor)
        leaves = [tensor.requires_grad_() for tensor in late[: len(call.arrays)]]
        outputs = function(*leaves)
        gradients = torch.autograd.grad(outputs, leaves, late[len(leaves) :])
    stream.synchronize()
    assert_near([gradient.cpu().numpy() for gradient in gradients], call.gradients(cotangents))
    images = [gradient for name, gradient in zip(call.names, gradients, strict=True) if name != "weight"]
    for result in (*outputs, *images):
        if result.ndim == 4:
            assert result.is_contiguous(memory_format=getattr(torch, order))


@pytest.mark.filterwarnings("ignore")  # of the compiler, about itself and the GPU
def test_torch_compile(torch: Any) -> None:
    call = GRADIENTS["pac_conv2d"]
    cotangents = call.cotangents()
    function = call.function(lambda array: to_torch(torch, array))
    leaves = [to_torch(torch, array).requires_grad_() for array in call.arrays]
    outputs = torch.compile(function, fullgraph=True)(*leaves)
    gradients = torch.autograd.grad(outputs, leaves, [to_torch(torch, each) for each in cotangents])
    assert_near([outputs[0].detach().cpu().numpy()], call.function(np.asarray)(*call.arrays))
    assert_near([gradient.cpu().numpy() for gradient in gradients], call.gradients(cotangents))


def test_torch_autocast(torch: Any) -> None:
    call = GRADIENTS["pac_conv2d"]
    cotangents = call.cotangents()
    leaves = [to_torch(torch, array).requires_grad_() for array in call.arrays]
    with torch.autocast("cuda", torch.float16):
        [output] = call.function(lambda array: to_torch(torch, array))(*leaves)
    assert output.dtype == torch.float16
    gradients = torch.autograd.grad(output, leaves, to_torch(torch, cotangents[0]).half())
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    assert_near([gradient.cpu().numpy() for gradient in gradients], call.gradients(cotangents), 1e-2)


def test_torch_vmap(torch: Any) -> None:
    """Also of gradients, of which that of the weight is a loop."""
    call = GRADIENTS["pac_conv2d"]
    cotangents, factors = call.cotangents(), (1, -2)
    image, *others = (to_torch(torch, array) for array in call.arrays)
    images = torch.stack([image * factor for factor in factors])
    loss = call.loss(lambda array: to_torch(torch, array))
    gradient = torch.func.grad(loss, argnums=(0, 1, 2))
    [mapped] = torch.func.vmap(call.function(lambda array: to_torch(torch, array)), (0, None, None))(images, *others)
    gradients = torch.func.vmap(gradient, (0, None, None))(images, *others)
    for i, factor in enumerate(factors):
        arrays = (IMAGE * factor, *call.arrays[1:])
        assert_near([mapped[i].cpu().numpy()], call.function(np.asarray)(*arrays))
        assert_near([each[i].cpu().numpy() for each in gradients], call.gradients(cotangents, arrays))


@pytest.mark.parametrize("case", TORCH_LAYERS.values(), ids=TORCH_LAYERS)
def test_torch_layer(torch: Any, recorder: Recorder, case: TorchLayerCase, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved to the GPU and back, with gradients, and under autocast."""
    # The CRF has convolutions of torch.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    layer = case.layer()
    moved = layer_results(torch, case, copy.deepcopy(layer).cuda(), "cuda")
    assert_calls_on_gpu(recorder)
    wanted = layer_results(torch, case, layer, "cpu")
    layer.cuda()
    assert all(each.device.type == "cuda" for each in (*moved, *layer.state_dict().values()))
    assert_near([each.cpu().numpy() for each in moved], [each.numpy() for each in wanted])
    with torch.autocast("cuda", torch.float16):
        half = layer_results(torch, case, layer, "cuda")
    assert all(each.dtype == torch.float32 for each in half[1:])
    assert_near([each.float().cpu().numpy() for each in half[:1]], [each.numpy() for each in wanted[:1]], 2e-2)
    back = layer_results(torch, case, layer.cpu(), "cpu")
    assert_near([each.numpy() for each in back], [each.numpy() for each in wanted])


def layer_results(torch: Any, case: TorchLayerCase, layer: Any, device: str) -> list[Any]:
    """The output, and those gradients to floating-point inputs and parameters that there are."""
    inputs = [each.to(device) for each in case.tensors()]
    inputs = [each.requires_grad_() if each.is_floating_point() else each for each in inputs]
    output = case.call(layer, inputs)
    sources = [each for each in (*inputs, *layer.parameters()) if each.requires_grad]
    cotangent = torch.linspace(-1, 1, output.numel(), device=device).view(output.shape).to(output.dtype)
    gradients = torch.autograd.grad(output, sources, cotangent, allow_unused=True)
    return [output.detach(), *(gradient for gradient in gradients if gradient is not None)]


@pytest.mark.filterwarnings("ignore")  # of the compiler, about itself and the GPU
def test_torch_layers_compiled(torch: Any) -> None:
    """A training step of a network of two layers, compiled."""
    conv, crf = TORCH_LAYERS["conv"].layer(out_channels=4, padding=1).cuda(), TORCH_LAYERS["crf"].layer().cuda()
    image, guide = (each.cuda() for each in TORCH_LAYERS["crf"].tensors())
    parameters = [each for module in (conv, crf.messengers) for each in module.parameters() if each.requires_grad]

    def scores(image: Any, guide: Any) -> Any:
        return crf(torch.relu(conv(image, guide)), guide)

    results = []
    for function in (scores, torch.compile(scores, fullgraph=True)):
        output = function(image, guide)
        gradients = torch.autograd.grad(output.square().mean(), parameters)
        results.append([each.detach().cpu().numpy() for each in (output, *gradients)])
    assert_near(results[1], results[0])


@every_call
def test_cupy_graph(name: str) -> None:
    """With a pool of the graph's own, where its temporaries stay: a replay leaves other arrays alone."""
    import cupy

    call, arrays = CALLS[name]
    given = [cupy.asarray(array) for array in arrays]
    call(*given)
    # The other stream waits for nothing, not even for the arrays.
    cupy.cuda.Device().synchronize()
    stream, pool = cupy.cuda.Stream(non_blocking=True), cupy.cuda.MemoryPool()
    with stream, cupy.cuda.using_allocator(pool.malloc):
        stream.begin_capture()
        results = flat(call(*given))
        graph = stream.end_capture()
    with stream:
        others = [cupy.ones(1 << size, np.uint8) for size in range(9, 21) for _ in range(8)]
        graph.launch(stream)
    stream.synchronize()
    check(name, [cupy.asnumpy(result) for result in results])
    assert all(bool((other == 1).all()) for other in others)


@every_call
def test_jax(jax: Any, name: str) -> None:
    call, arrays = CALLS[name]
    given = [jax.device_put(array, jax.devices("gpu")[0]) for array in arrays]
    for _ in range(20):
        # Arguments are dropped as soon as the call has returned, and their memory is used again.
        results = flat(call(*[array + 0 for array in given]))
        assert all(result.device == given[0].device for result in results)
        check(name, [np.asarray(result) for result in results])


def test_jax_results_stay_while_jax_reads_them(jax: Any) -> None:
    """A result that is dropped while JAX's stream still reads it is not given to the next call."""
    call, arrays = CALLS["conv2d"]
    given = [jax.device_put(array, jax.devices("gpu")[0]) for array in arrays]
    other = [array * 2 for array in given]
    want, large = np.asarray(call(*given)), jax.numpy.full((8192, 8192), 1 / 8192)
    late = jax.jit(lambda found, large: found + jax.numpy.isnan((large @ large @ large).mean()))
    late(call(*given), large).block_until_ready()
    read = []
    for _ in range(8):
        read.append(late(call(*given), large))
        call(*other)
    for found in read:
        np.testing.assert_array_equal(found, want)


def to_jax(jax: Any, array: np.ndarray, dtype: str = "float32") -> Any:
    return jax.numpy.asarray(array.astype(dtype) if array.dtype.kind == "f" else array.astype(np.int32))


def after_work(jax: Any, values: Sequence[Any]) -> list[Any]:
    """Within a compiled function, the values, once the GPU has computed much else."""
    large = jax.numpy.full((4096, 4096), values[0].ravel()[0].astype("float32") / 4096)
    zero = jax.numpy.isnan((large @ large @ large).mean())
    return [value + zero.astype(value.dtype) for value in values]


# The largest of bfloat16 values is too often not alone.
@pytest.mark.parametrize(("name", "dtype"), [*((name, "float32") for name in GRADIENTS), ("pac_conv2d", "bfloat16")])
def test_jax_gradients(jax: Any, name: str, dtype: str) -> None:
    """Kernels run on XLA's stream: behind the work that gives their arguments, and before that which reads results."""
    call = GRADIENTS[name]
    cotangents = call.cotangents()
    given = [to_jax(jax, array, dtype) for array in call.arrays]
    function = jax.value_and_grad(call.loss(lambda array: to_jax(jax, array, dtype)), tuple(range(len(given))))

    @jax.jit
    def step(*values: Any) -> Any:
        loss, gradients = function(*after_work(jax, values))
        return after_work(jax, (loss, *gradients))

    for sign in (1, -1):
        arrays = (sign * call.arrays[0], *call.arrays[1:])
        loss, *gradients = step(sign * given[0], *given[1:])
        assert all(gradient.dtype == dtype and gradient.device == given[0].device for gradient in gradients)
        found = [np.asarray(gradient.astype("float32")) for gradient in gradients]
        assert_near(found, call.gradients(cotangents, arrays), 1e-5 if dtype == "float32" else 3e-2)
        if dtype == "float32":
            np.testing.assert_allclose(loss, call.loss(np.asarray)(*arrays), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_jax_vmap(jax: Any, dtype: str) -> None:
    call = GRADIENTS["pac_conv2d"]
    image, *others = (to_jax(jax, array, dtype) for array in call.arrays)
    factors = (1, -2)
    images = jax.numpy.stack([image * factor for factor in factors])
    function = call.function(lambda array: to_jax(jax, array, dtype))
    [mapped] = jax.jit(jax.vmap(function, (0, None, None)))(images, *others)
    assert mapped.dtype == dtype
    for result, factor in zip(mapped, factors, strict=True):
        wanted = call.function(np.asarray)(IMAGE * factor, *call.arrays[1:])
        assert_near([np.asarray(result.astype("float32"))], wanted, 1e-5 if dtype == "float32" else 3e-2)


def test_jax_counts_have_32_bits(jax: Any) -> None:
    found = ao.segment_count(jax.device_put(LABELS, jax.devices("gpu")[0]), 7)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, ao.segment_count(LABELS, 7))


def test_tensorflow_labels_of_32_bits(tf: Any) -> None:
    """Which TensorFlow keeps on the host."""
    with tf.device("/GPU:0"):
        found = ao.segment_mean(tf.constant(IMAGE), tf.constant(LABELS, tf.int32), 7, ignore_label=3, layout="NCHW")
    check("segment_mean", [found.numpy()])


@every_call
def test_tensorflow(tf: Any, name: str) -> None:
    call, arrays = CALLS[name]
    with tf.device("/GPU:0"):
        given = [tf.constant(array) for array in arrays]
        for _ in range(20):
            results = flat(call(*[tf.identity(array) + 0 for array in given]))
            assert all(result.device == given[0].device for result in results)
            check(name, [result.numpy() for result in results])


@every_gradient
@pytest.mark.parametrize("taped_outside", [False, True])
def test_tensorflow_function(tf: Any, recorder: Recorder, call: DifferentiableCall, taped_outside: bool) -> None:
    """In graphs, calls get and return arrays on the GPU, and so do their gradients."""
    cotangents, function = call.cotangents(), call.function(tf.constant)
    if taped_outside:
        function = tf.function(function)

    def step(*values: Any) -> Any:
        with tf.GradientTape() as tape:
            for value in values:
                tape.watch(value)
            results = function(*values)
        return results, tape.gradient(results, values, list(map(tf.constant, cotangents)))

    if not taped_outside:
        step = tf.function(step)
    with tf.device("/GPU:0"):
        given = [tf.constant(array) for array in call.arrays]
        for sign in (1, -1):
            arrays = (sign * call.arrays[0], *call.arrays[1:])
            recorder.calls()
            results, gradients = step(sign * given[0], *given[1:])
            assert_calls_on_gpu(recorder)
            assert all(each.device == given[0].device for each in (*results, *gradients))
            assert_near([each.numpy() for each in results], call.function(np.asarray)(*arrays))
            assert_near([each.numpy() for each in gradients], call.gradients(cotangents, arrays))


@pytest.mark.parametrize("name", ["mean", "max", "var"])
def test_tensorflow_function_of_labels_of_32_bits(tf: Any, recorder: Recorder, name: str) -> None:
    """An operation that calls Python on a GPU takes no int32, which labels and what a variance saves may be."""
    features, labels = IMAGE, LABELS.astype(np.int32)
    output = getattr(ao, f"segment_{name}")(features, labels, 7, layout="NCHW")
    wanted = getattr(ao, f"segment_{name}_backward")(output, features, labels, 7, layout="NCHW")
    recorder.calls()

    @tf.function
    def step(features: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(features)
            result = getattr(ao, f"segment_{name}")(features, labels, 7, layout="NCHW")
        return result, tape.gradient(result, features, tf.identity(result))

    with tf.device("/GPU:0"):
        result, gradient = step(tf.constant(features), tf.constant(labels))
    assert_calls_on_gpu(recorder)
    assert "GPU:0" in result.device
    assert "GPU:0" in gradient.device
    assert_near([result.numpy(), gradient.numpy()], [output, wanted.features])
