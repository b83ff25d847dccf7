"""What torch expects of any layer: dtypes and devices, autocast, compilation, copies, files, worker processes."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest

from new_process import in_new_process
from torch_layer_cases import CASES, TorchLayerCase

# Parts of torch that torch itself deprecates.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
]
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def leaves(torch: Any, tensors: list[Any], dtype: Any = None) -> list[Any]:
    """Copies of the tensors; floating-point ones get gradients."""
    return [
        tensor.to(dtype or tensor.dtype).clone().requires_grad_() if tensor.is_floating_point() else tensor
        for tensor in tensors
    ]


def gradients(torch: Any, case: TorchLayerCase, layer: Any, tensors: list[Any], call: Any = None) -> list[Any]:
    """The output, and its gradients to inputs and parameters, None for those that it does not depend on."""
    output = case.call(layer if call is None else call, tensors)
    sources = [each for each in (*tensors, *layer.parameters()) if each.requires_grad]
    cotangent = torch.linspace(-1, 1, output.numel(), dtype=output.dtype, device=output.device).view(output.shape)
    return [output, *torch.autograd.grad(output, sources, cotangent, allow_unused=True)]


def assert_near(torch: Any, results: list[Any], expected: list[Any], tolerance: float) -> None:
    """Relative to the norm of each tensor."""
    assert len(results) == len(expected)
    for result, want in zip(results, expected, strict=True):
        assert (result is None) == (want is None)
        if result is not None:
            assert result.shape == want.shape
            difference = (result.double().cpu() - want.double().cpu()).norm()
            assert difference <= tolerance * (want.double().norm() + 1e-3)


@every_case
def test_float32(torch: Any, layers: Any, case: TorchLayerCase) -> None:
    """Output and gradients in float32 beside those of the same layer in float64."""
    layer = case.layer()
    results = gradients(torch, case, layer, leaves(torch, case.tensors()))
    assert all(each is None or each.dtype is torch.float32 for each in results)
    exact = copy.deepcopy(layer).double()
    expected = gradients(torch, case, exact, leaves(torch, case.tensors(), torch.float64))
    assert all(each is None or each.dtype is torch.float64 for each in expected)
    assert_near(torch, results, expected, 2e-5)


@every_case
@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2e-2), ("bfloat16", 1e-1)])
class TestHalfPrecision:
    def test_converted(self, torch: Any, layers: Any, case: TorchLayerCase, dtype: str, tolerance: float) -> None:
        layer, half = case.layer(), getattr(torch, dtype)
        converted = copy.deepcopy(layer).to(half)
        assert {each.dtype for each in (*converted.parameters(), *converted.buffers())} <= {half}
        results = gradients(torch, case, converted, leaves(torch, case.tensors(), half))
        assert all(each is None or each.dtype is half for each in results)
        expected = gradients(torch, case, layer, leaves(torch, case.tensors()))
        assert_near(torch, results[:1], expected[:1], tolerance)

    def test_autocast(self, torch: Any, layers: Any, case: TorchLayerCase, dtype: str, tolerance: float) -> None:
        """Parameters stay, and get gradients, in float32."""
        layer = case.layer()
        with torch.autocast("cpu", getattr(torch, dtype)):
            results = gradients(torch, case, layer, leaves(torch, case.tensors()))
        assert all(each is None or each.dtype is torch.float32 for each in results[1:])
        expected = gradients(torch, case, layer, leaves(torch, case.tensors()))
        assert_near(torch, results[:1], expected[:1], tolerance)


@pytest.mark.parametrize("kernel_type", ["gaussian", "inv_1_-1"])
def test_guides_stay_float32(torch: Any, layers: Any, kernel_type: str) -> None:
    """Differences of 1 between values of some 1000, which half precision does not know."""
    image = torch.randn(1, 4, 9, 9)
    guide = 1000 + torch.arange(9.0).expand(1, 1, 9, 9)
    layer = layers.PacConv2d(4, 4, 3, kernel_type=kernel_type)
    expected = layer(image, guide)
    with torch.autocast("cpu", torch.bfloat16):
        automatic = layer(image, guide)
        kernel, _ = layer.compute_kernel(guide)
        shared = layer(image, None, kernel)
    assert kernel.dtype is torch.float32
    converted = copy.deepcopy(layer).bfloat16()(image.bfloat16(), guide)
    for found in (automatic, shared, converted):
        assert found.dtype is torch.bfloat16
        assert_near(torch, [found], [expected], 1e-2)
    with torch.autocast("cpu", torch.bfloat16):
        # A guide that other layers computed in half precision, and parameters beside it.
        half = layer(image, (guide - 1000).bfloat16())
    assert_near(torch, [half], [layer(image, guide - 1000)], 2e-2)


def test_blur_with_unknown_sizes(torch: Any, layers: Any) -> None:
    """Compiled graphs serve sizes with any remainder: torch makes eight at most, and then raises an error."""
    torch._dynamo.reset()
    crf = layers.PacCRF(3, 1, pairwise_kernels={"blur": 4})
    compiled = torch.compile(crf, fullgraph=True, dynamic=True, backend="aot_eager")
    for rows in range(8, 12):
        for columns in range(9, 13):
            unary, guide = torch.randn(1, 3, rows, columns), torch.randn(1, 2, rows, columns)
            torch.testing.assert_close(compiled(unary, guide), crf(unary, guide), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in CASES if name != "crf"])
# Of comparisons of shapes.
@pytest.mark.filterwarnings("ignore:Converting a tensor to a Python boolean")
def test_traced_by_jit(torch: Any, layers: Any, name: str) -> None:
    case = CASES[name]
    layer, tensors = case.layer(), case.tensors()
    arguments = (tensors,) if case.as_list else tuple(tensors)
    program = torch.jit.trace(layer, arguments)
    torch.testing.assert_close(program(*arguments), layer(*arguments))


@every_case
def test_constructed_in_the_context_of_another_device(torch: Any, layers: Any, case: TorchLayerCase) -> None:
    if not list(case.layer().state_dict()):
        pytest.skip("the layer has no parameters")
    with torch.device("meta"):
        assert {each.device.type for each in case.layer().state_dict().values()} == {"meta"}
        layer = case.layer(device="cpu")
    assert case.call(layer, case.tensors()).shape == case.call(case.layer(), case.tensors()).shape


@every_case
def test_constructed_with_device_and_dtype(torch: Any, layers: Any, case: TorchLayerCase) -> None:
    if not list(case.layer().state_dict()):
        pytest.skip("the layer has no parameters")
    layer = case.layer(dtype=torch.float64)
    assert {each.dtype for each in layer.state_dict().values()} == {torch.float64}
    on_meta = case.layer(device="meta")
    assert {each.device.type for each in on_meta.state_dict().values()} == {"meta"}
    on_meta.to_empty(device="cpu").load_state_dict(case.layer().state_dict())
    assert_near(
        torch,
        [case.call(on_meta, case.tensors())],
        [case.call(on_meta.double(), [each.double() if each.is_floating_point() else each for each in case.tensors()])],
        2e-5,
    )


@every_case
def test_meta_tensors_give_shapes(torch: Any, layers: Any, case: TorchLayerCase) -> None:
    layer = case.layer()
    output = case.call(layer.to("meta"), [tensor.to("meta") for tensor in case.tensors()])
    assert output.device.type == "meta"
    assert output.shape == case.call(case.layer(), case.tensors()).shape


@every_case
def test_channels_last(torch: Any, layers: Any, case: TorchLayerCase) -> None:
    layer = case.layer()
    expected = gradients(torch, case, layer, leaves(torch, case.tensors()))
    images = [
        each.to(memory_format=torch.channels_last) if each.ndim == 4 else each for each in leaves(torch, case.tensors())
    ]
    images = [each.detach().requires_grad_(each.requires_grad) for each in images]
    results = gradients(torch, case, layer.to(memory_format=torch.channels_last), images)
    assert_near(torch, results, expected, 1e-5)


@every_case
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled(torch: Any, layers: Any, case: TorchLayerCase, dynamic: bool) -> None:
    """One graph, with static and with dynamic shapes, forward and backward."""
    torch._dynamo.reset()
    layer = case.layer()
    compiled = torch.compile(layer, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    results = gradients(torch, case, layer, leaves(torch, case.tensors()), compiled)
    expected = gradients(torch, case, layer, leaves(torch, case.tensors()))
    assert_near(torch, results, expected, 1e-6)


def test_compiled_with_mask_and_kernel(torch: Any, layers: Any) -> None:
    torch._dynamo.reset()
    layer = layers.PacConv2d(4, 6, 3, padding=1)
    image, guide = CASES["conv"].tensors()
    mask = torch.rand(2, 1, *image.shape[2:]) > 0.3
    compiled = torch.compile(lambda x, f, m: layer(x, f, mask=m), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(tuple(compiled(image, guide, mask)), tuple(layer(image, guide, mask=mask)))

    def shared(x: Any, f: Any) -> Any:
        kernel, _ = layer.compute_kernel(f)
        return layer(x, None, kernel) + layer(2 * x, None, kernel)

    compiled = torch.compile(shared, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(image, guide), layer(image, guide) + layer(2 * image, guide))
    message = "expected a bool mask in a compiled program: pass mask > 0"
    if torch.__version__.startswith("2.7."):
        # Which tells no more than the class of such an error.
        message += r"|raised exception ExceptionVariable\(<class 'TypeError'>\)"
    with pytest.raises(Exception, match=message):
        torch.compile(lambda x, f, m: layer(x, f, mask=m), fullgraph=True)(image, guide, mask.float())


def test_compiled_with_inductor(torch: Any, layers: Any) -> None:
    torch._dynamo.reset()
    network = torch.nn.ModuleList([layers.PacConv2d(4, 6, 3, padding=1), CASES["crf"].layer(channels=6)])

    def scores(x: Any, f: Any) -> Any:
        return network[1](torch.relu(network[0](x, f)), f)

    image, guide = leaves(torch, CASES["crf"].tensors())
    found = torch.compile(scores, fullgraph=True)(image, guide)
    torch.testing.assert_close(found, scores(image, guide), rtol=1e-5, atol=1e-5)


@every_case
def test_exported(torch: Any, layers: Any, case: TorchLayerCase) -> None:
    layer, tensors = case.layer(), case.tensors()
    arguments = (tensors,) if case.as_list else tuple(tensors)
    file = io.BytesIO()
    torch.export.save(torch.export.export(layer, arguments), file)
    file.seek(0)
    program = torch.export.load(file)
    torch.testing.assert_close(program.module()(*arguments), layer(*arguments))


def pickled(torch: Any, layer: Any) -> Any:
    return pickle.loads(pickle.dumps(layer))


def saved(torch: Any, layer: Any) -> Any:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def copied(torch: Any, layer: Any) -> Any:
    return copy.deepcopy(layer)


def loaded(torch: Any, layer: Any) -> Any:
    """A new layer with a state dict from a file."""
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    case = next(case for case in CASES.values() if repr(case.layer()) == repr(layer))
    other = case.layer()
    done = other.load_state_dict(torch.load(file))
    assert not done.missing_keys
    assert not done.unexpected_keys
    return other


@every_case
@pytest.mark.parametrize("how", [pickled, saved, copied, loaded])
def test_copies(torch: Any, layers: Any, case: TorchLayerCase, how: Any) -> None:
    """A copy gives the same results, and is independent."""
    layer = case.layer()
    expected = case.call(layer, case.tensors()).detach().clone()
    other = how(torch, layer)
    assert type(other) is type(layer)
    assert repr(other) == repr(layer)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(1)
    torch.testing.assert_close(case.call(other, case.tensors()), expected, rtol=0, atol=0)


@every_case
def test_state_dicts_are_strict(torch: Any, layers: Any, case: TorchLayerCase) -> None:
    state = case.layer().state_dict()
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\) in state_dict: \"other\""):
        case.layer().load_state_dict({**state, "other": torch.zeros(())})
    for name, tensor in state.items():
        with pytest.raises(RuntimeError, match="Missing key"):
            case.layer().load_state_dict({key: value for key, value in state.items() if key != name})
        with pytest.raises(RuntimeError, match="size mismatch"):
            case.layer().load_state_dict({**state, name: tensor.new_zeros((2, 3, *tensor.shape))})


@every_case
def test_repr_is_a_call_of_the_constructor(torch: Any, layers: Any, case: TorchLayerCase) -> None:
    layer = case.layer()
    text = repr(layer)
    if case.name.startswith("PacCRF"):
        assert text.startswith(f"{case.name}(\n")
        assert "PacConv2d(4, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), bias=False" in text
    else:
        again = eval(text, {case.name: getattr(layers, case.name)})
        assert repr(again) == text
        shapes = [{name: tensor.shape for name, tensor in each.state_dict().items()} for each in (layer, again)]
        assert shapes[0] == shapes[1]


@every_case
def test_functional_call(torch: Any, layers: Any, case: TorchLayerCase) -> None:
    """Parameters of a caller, and per-sample gradients by `torch.func`."""
    layer, tensors = case.layer(), case.tensors()
    state = {name: 2 * tensor for name, tensor in layer.state_dict().items()}
    arguments = (tensors,) if case.as_list else tuple(tensors)
    found = torch.func.functional_call(layer, state, arguments)
    changed = case.layer()
    changed.load_state_dict(state)
    torch.testing.assert_close(found, case.call(changed, tensors))


@every_case
def test_trains(torch: Any, layers: Any, case: TorchLayerCase) -> None:
    """Steps of gradient descent on the parameters, or on the input, lower a loss."""
    layer, tensors = case.layer(), leaves(torch, case.tensors())
    parameters = list(layer.parameters()) or tensors[:1]
    target = case.call(layer, tensors).detach() * 0.5
    optimizer = torch.optim.SGD(parameters, 1e-2)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = (case.call(layer, tensors) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_workers_of_a_data_loader(torch: Any, method: str) -> None:
    """In a process of its own: JAX, which other tests import, warns of forks."""
    printed = in_new_process(
        """
        import sys
        import torch
        from torch_layer_cases import Features

        features = Features()
        here = [features[index] for index in range(4)]
        options = {"num_workers": 2, "multiprocessing_context": sys.argv[1], "timeout": 120}
        for wanted, [found] in zip(here, torch.utils.data.DataLoader(features, **options), strict=True):
            torch.testing.assert_close(found, wanted)
        # And again in this process, after the workers have ended.
        torch.testing.assert_close(features[0], here[0])
        print("equal")
        """,
        method,
    )
    assert printed == "equal\n"


def test_numbers_of_numpy_are_arguments(torch: Any, layers: Any) -> None:
    layer = layers.PacConv2d(np.int64(4), np.int64(6), np.int32(3), padding=np.int64(1))
    assert repr(layer) == "PacConv2d(4, 6, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))"
