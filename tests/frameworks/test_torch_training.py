"""What training in PyTorch needs beyond gradients: autocast, several processes, checkpoints, threads, copies."""

import copy
import io
import os
import pickle
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from arrayops._ops import OPS
from differentiable_calls import CALLS, DifferentiableCall

every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
SUPPORT = Path(__file__).resolve().parents[1] / "support"


class TestAutocast:
    @pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
    @every_call
    def test_arguments_are_cast(self, torch: Any, call: DifferentiableCall, dtype: str) -> None:
        """Results and float32 gradients are those of a call with the casts written out."""
        half = getattr(torch, dtype)

        def converted(array: np.ndarray) -> Any:
            tensor = torch.from_numpy(array)
            return tensor.float() if tensor.is_floating_point() else tensor

        def cast(array: np.ndarray) -> Any:
            tensor = converted(array)
            return tensor.to(half) if tensor.is_floating_point() else tensor

        # Guides and their kind stay float32.
        precise = {spec.argument for spec in call.op.arrays if spec.stays_float32}
        automatic, manual = ([converted(array).requires_grad_() for array in call.arrays] for _ in range(2))
        with torch.autocast("cpu", half):
            outputs = call.function(converted)(*automatic)
        expected = call.function(cast)(
            *[leaf if name in precise else leaf.to(half) for name, leaf in zip(call.names, manual, strict=True)]
        )
        gradients = torch.autograd.grad([output.float().sum() for output in outputs], automatic)
        wanted = torch.autograd.grad([output.float().sum() for output in expected], manual)
        for result, want in zip(outputs, expected, strict=True):
            assert result.dtype == (torch.float32 if call.op.arrays[0].stays_float32 else half)
            torch.testing.assert_close(result, want, rtol=0, atol=0, equal_nan=True)
        for gradient, want in zip(gradients, wanted, strict=True):
            assert gradient.dtype == torch.float32
            torch.testing.assert_close(gradient, want, rtol=0, atol=0, equal_nan=True)

    def test_same_dtypes_as_of_the_convolution_of_torch(self, torch: Any) -> None:
        for input, weight in (
            ("float32", "float32"),
            ("bfloat16", "float32"),
            ("float16", "bfloat16"),
            ("float64",) * 2,
        ):
            x = torch.rand(1, 2, 5, 5, dtype=getattr(torch, input), requires_grad=True)
            w = torch.rand(3, 2, 3, 3, dtype=getattr(torch, weight), requires_grad=True)
            with torch.autocast("cpu", torch.bfloat16):
                ours, theirs = ao.conv2d(x, w), torch.nn.functional.conv2d(x, w)
                # Also a backward call within autocast uses the dtypes of its forward.
                gradients = torch.autograd.grad(ours.sum(), (x, w))
            assert ours.dtype == theirs.dtype
            assert [gradient.dtype for gradient in gradients] == [x.dtype, w.dtype]

    def test_mixed_dtypes_without_autocast(self, torch: Any) -> None:
        x, w = torch.rand(1, 2, 5, 5, dtype=torch.bfloat16), torch.rand(3, 2, 3, 3)
        message = r"^conv2d: weight is float32, expected bfloat16 as the input$"
        with torch.autocast("cpu", torch.bfloat16, enabled=False), pytest.raises(TypeError, match=message):
            ao.conv2d(x, w)
        with pytest.raises(TypeError, match=message):
            ao.conv2d(x, w)

    def test_of_another_device(self, torch: Any) -> None:
        torch.set_autocast_enabled("cuda", True)
        try:
            assert ao.conv2d(torch.rand(1, 1, 3, 3), torch.rand(1, 1, 2, 2)).dtype == torch.float32
        finally:
            torch.set_autocast_enabled("cuda", False)

    def test_backward_functions_do_not_cast(self, torch: Any) -> None:
        x, w, g = torch.rand(1, 2, 5, 5), torch.rand(3, 2, 3, 3), torch.rand(1, 3, 3, 3)
        with torch.autocast("cpu", torch.bfloat16):
            gradients = ao.conv2d_backward(g, x, w)
        assert gradients.weight.dtype == torch.float32

    def test_second_derivatives_within_autocast(self, torch: Any) -> None:
        x, w = torch.rand(1, 2, 5, 5, requires_grad=True), torch.rand(3, 2, 3, 3, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16):
            [gradient] = torch.autograd.grad(ao.conv2d(x, w).float().sum(), x, create_graph=True)
            [second] = torch.autograd.grad(gradient.pow(2).sum(), w)
        assert second.dtype == torch.float32
        [reference] = torch.autograd.grad(
            torch.autograd.grad(torch.nn.functional.conv2d(x, w).sum(), x, create_graph=True)[0].pow(2).sum(), w
        )
        torch.testing.assert_close(second, reference, rtol=0.05, atol=0.05)

    def test_compiled_and_exported(self, torch: Any) -> None:
        x, w = torch.rand(1, 2, 5, 5), torch.rand(3, 2, 3, 3, requires_grad=True)

        class Module(torch.nn.Module):
            def forward(self, x: Any, w: Any) -> Any:
                with torch.autocast("cpu", torch.bfloat16):
                    return ao.conv2d(x, w)

        expected = Module()(x, w)
        compiled = torch.compile(Module(), fullgraph=True, backend="aot_eager")(x, w)
        assert compiled.dtype == torch.bfloat16
        torch.testing.assert_close(compiled, expected, rtol=0, atol=0)
        compiled.float().sum().backward()
        assert w.grad.dtype == torch.float32
        exported = torch.export.export(Module(), (x, w.detach())).module()
        torch.testing.assert_close(exported(x, w.detach()), expected, rtol=0, atol=0)


class PacLayer:
    """A module of torch that holds a weight and calls a function."""

    source = """
    import torch
    import arrayops as ao

    class Layer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.rand(4, 3, 3, 3))
            self.bias = torch.nn.Parameter(torch.zeros(4))

        def forward(self, x):
            return ao.pac_conv2d(x, x[:, :1], self.weight, self.bias, padding=1)
    """


DISTRIBUTED = (
    textwrap.dedent(PacLayer.source)
    + """
import sys
rank, path = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
torch.manual_seed(0)
layer = Layer()
alone = Layer()
alone.load_state_dict(layer.state_dict())
parallel = torch.nn.parallel.DistributedDataParallel(layer)
images = torch.rand(4, 3, 7, 6)
for module, batch in ((parallel, images[2 * rank : 2 * rank + 2]), (alone, images)):
    optimizer = torch.optim.SGD(module.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        module(batch).pow(2).mean().backward()
        optimizer.step()
for own, other in zip(layer.parameters(), alone.parameters()):
    torch.testing.assert_close(own, other)
weights = [torch.empty_like(layer.weight) for _ in range(2)]
torch.distributed.all_gather(weights, layer.weight.detach())
assert torch.equal(*weights)
print(float(layer.weight.detach().sum()))
torch.distributed.destroy_process_group()
"""
)


def test_two_processes_train_as_one(torch: Any, tmp_path: Path) -> None:
    """DistributedDataParallel with gloo: both processes have the weights of training with the whole batch."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", DISTRIBUTED, str(rank), str(tmp_path / "store")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(SUPPORT), str(SUPPORT.parents[1])])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    results = [process.communicate(timeout=240) for process in processes]
    for process, (_, errors) in zip(processes, results, strict=True):
        assert process.returncode == 0, errors[-4000:]
    assert results[0][0] == results[1][0] != ""


class TestMemoryAndThreads:
    @every_call
    def test_checkpoint(self, torch: Any, call: DifferentiableCall) -> None:
        function = call.function(torch.from_numpy)
        leaves, others = ([torch.from_numpy(each.copy()).requires_grad_() for each in call.arrays] for _ in range(2))
        outputs = torch.utils.checkpoint.checkpoint(function, *leaves, use_reentrant=False)
        gradients = torch.autograd.grad([output.sum() for output in outputs], leaves)
        wanted = torch.autograd.grad([output.sum() for output in function(*others)], others)
        for gradient, want in zip(gradients, wanted, strict=True):
            assert torch.equal(gradient, want)

    def test_saved_tensor_hooks_see_the_saved_results(self, torch: Any) -> None:
        seen = []

        def pack(tensor: Any) -> Any:
            seen.append(tuple(tensor.shape))
            return tensor

        features = torch.rand(1, 2, 4, 4, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            ao.segment_max(features, torch.zeros(1, 4, 4, dtype=torch.int64), 3).sum().backward()
        assert seen == [(1, 2, 4, 4), (1, 4, 4), (1, 2, 3)]

    def test_threads(self, torch: Any) -> None:
        x, w = torch.rand(2, 3, 20, 20), torch.rand(4, 3, 3, 3)

        def train(_: int) -> Any:
            weight = w.clone().requires_grad_()
            ao.pac_conv2d(x, x, weight).pow(2).sum().backward()
            return weight.grad

        with ThreadPoolExecutor(8) as pool:
            gradients = list(pool.map(train, range(16)))
        assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)

    def test_anomaly_mode(self, torch: Any) -> None:
        w = torch.rand(1, 1, 2, 2, requires_grad=True)
        with torch.autograd.set_detect_anomaly(True, check_nan=True):
            ao.conv2d(torch.rand(1, 1, 3, 3), w).sum().backward()
        assert w.grad is not None

    def test_no_growth(self, torch: Any) -> None:
        """Nodes, saved tensors and results are freed with the graph."""
        import gc
        import weakref

        x, w = torch.rand(1, 1, 3, 3), torch.rand(1, 1, 2, 2, requires_grad=True)
        gc.collect()
        gc.disable()
        try:
            output = ao.conv2d(x, w)
            node = weakref.ref(output.grad_fn)
            kept = weakref.ref(output)
            output.sum().backward()
            del output
            assert node() is None
            assert kept() is None
        finally:
            gc.enable()


class TestCopies:
    @pytest.fixture
    def layer(self, torch: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        scope: dict[str, Any] = {"__name__": "pac_layer"}
        exec(textwrap.dedent(PacLayer.source), scope)
        module = type(sys)("pac_layer")
        module.__dict__.update(scope)
        monkeypatch.setitem(sys.modules, "pac_layer", module)
        return scope["Layer"]()

    def test_pickled_deep_copied_and_saved(self, torch: Any, layer: Any) -> None:
        x = torch.rand(1, 3, 5, 5)
        layer(x).sum().backward()
        stored = io.BytesIO()
        torch.save(layer.state_dict(), stored)
        stored.seek(0)
        loaded = type(layer)()
        loaded.load_state_dict(torch.load(stored))
        for other in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer), loaded):
            assert torch.equal(other(x), layer(x))
            other.zero_grad()
            other(x).sum().backward()
            assert torch.equal(other.weight.grad, layer.weight.grad)

    @pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
    def test_functions_are_pickled_by_name(self, op: Any) -> None:
        function = getattr(ao, op.name)
        assert pickle.loads(pickle.dumps(function)) is function
        assert copy.deepcopy(function) is function
