"""torch.compile, torch.export and torch's other tracers, for every differentiable operator."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from arrayops._ops import OPS
from differentiable_calls import CALLS, DifferentiableCall
from layouts import CALLS_IN_NCHW, nhwc_call
from new_process import in_new_process

# Parts of torch that torch itself deprecates; the process of `test_first_call_of_a_process` has no other filter.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
]
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def leaves(torch: Any, call: DifferentiableCall) -> list[Any]:
    return [torch.from_numpy(array.copy()).requires_grad_() for array in call.arrays]


@pytest.fixture(autouse=True)
def fresh_dynamo(torch: Any) -> Any:
    import torch._dynamo.testing

    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@every_call
def test_opcheck(torch: Any, call: DifferentiableCall) -> None:
    """The library operators of forward and backward: schema, autograd, fake results, AOT autograd."""
    from arrayops._frameworks.torch import library

    recorded: list[tuple[str, tuple[Any, ...]]] = []

    class Recording(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function.namespace == "arrayops":
                recorded.append((function._opname, args))
            return function(*args, **(kwargs or {}))

    tensors = leaves(torch, call)
    with Recording():
        outputs = call.function(torch.from_numpy)(*tensors)
        torch.autograd.grad([output.sum() for output in outputs], tensors)
    assert [name for name, _ in recorded] == [call.op.name, call.op.backward.name]
    for name, args in recorded:
        for recording in (False, True):
            given = torch.utils._pytree.tree_map_only(
                torch.Tensor,
                lambda each, yes=recording: each.detach().requires_grad_(yes and each.is_floating_point()),
                args,
            )
            tests = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
            if recording and name == call.op.backward.name:
                # The last one differentiates, and not all operators have second derivatives.
                tests = tests[:-1]
            results = torch.library.opcheck(library.HANDLES[name], given, test_utils=tests)
            assert set(results.values()) == {"SUCCESS"}


@every_call
def test_compiled_with_inductor(torch: Any, call: DifferentiableCall) -> None:
    function, cotangents = call.function(torch.from_numpy), [torch.from_numpy(each) for each in call.cotangents()]
    compiled = torch.compile(function, fullgraph=True)
    tensors, others = leaves(torch, call), leaves(torch, call)
    outputs, expected = compiled(*tensors), function(*others)
    gradients = torch.autograd.grad(outputs, tensors, cotangents)
    wanted = torch.autograd.grad(expected, others, cotangents)
    for result, want in zip((*outputs, *gradients), (*expected, *wanted), strict=True):
        torch.testing.assert_close(result, want, rtol=0, atol=0)
        assert result.stride() == want.stride()


class TestDynamicShapes:
    """At most three compilations over five shapes, among them a batch of one image."""

    SHAPES = ((2, 3, 8, 9), (3, 3, 12, 10), (1, 3, 9, 9), (4, 3, 16, 5), (2, 3, 7, 21))

    @pytest.mark.parametrize(
        "function",
        [
            lambda x, w, labels: ao.pac_conv2d(x, x[:, :1], w, padding="SAME", stride=2),
            lambda x, w, labels: ao.pac_pool2d(x, x, 3, padding=1, normalize_kernel=True),
            lambda x, w, labels: ao.pac_kernel2d(x, 3),
            lambda x, w, labels: ao.conv2d(x, w, padding=1),
            lambda x, w, labels: ao.conv_transpose2d(x, w.transpose(0, 1), stride=2),
            lambda x, w, labels: ao.pac_conv_transpose2d(
                x, ao.resize2d(x, (2 * x.shape[2], 2 * x.shape[3])), w.transpose(0, 1), stride=2, padding="SAME"
            ),
            lambda x, w, labels: ao.resize2d(x, (2 * x.shape[2], x.shape[3] + 1)),
            lambda x, w, labels: ao.resize2d(x, scale=1.5),
            lambda x, w, labels: ao.merge_feature_maps([x, ao.resize2d(x, scale=0.5)]),
            lambda x, w, labels: ao.segment_mean(x, labels, 5),
            lambda x, w, labels: ao.segment_max(x, labels, x.shape[3]),
            lambda x, w, labels: ao.segment_reduce(x, labels, ("mean", "max", "count"), 6)[1],
            lambda x, w, labels: ao.segment_unpool(x.flatten(2)[:, :, :5], labels),
        ],
        ids=lambda function: "",
    )
    @pytest.mark.parametrize("memory_format", ["contiguous_format", "channels_last"])
    def test_compilations(self, torch: Any, function: Any, memory_format: str) -> None:
        counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
        compiled = torch.compile(function, backend=counter, fullgraph=True, dynamic=True)
        w = torch.rand(4, 3, 3, 3)
        for shape in self.SHAPES:
            x = torch.rand(shape).contiguous(memory_format=getattr(torch, memory_format)).requires_grad_()
            labels = torch.randint(0, 5, (shape[0], *shape[2:]))
            result, expected = compiled(x, w, labels), function(x, w, labels)
            torch.testing.assert_close(result, expected)
            assert result.stride() == expected.stride()
            [gradient] = torch.autograd.grad(result.sum(), x)
            [wanted] = torch.autograd.grad(expected.sum(), x)
            torch.testing.assert_close(gradient, wanted)
            assert gradient.stride() == wanted.stride()
        assert counter.frame_count <= 3

    def test_changing_integers(self, torch: Any) -> None:
        """Paddings, sizes and numbers of segments become symbolic, as they do for torch's own operators."""
        x, w, labels = torch.rand(1, 2, 8, 8), torch.rand(3, 2, 3, 3), torch.zeros(1, 8, 8, dtype=torch.int64)
        functions = (
            lambda n: ao.conv2d(x, w, padding=n),
            lambda n: ao.resize2d(x, (n + 1, 5)),
            lambda n: ao.segment_sum(x, labels, n + 1),
        )
        for function in functions:
            counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
            compiled = torch.compile(function, backend=counter, fullgraph=True)
            for n in (1, 2, 3, 4, 5):
                torch.testing.assert_close(compiled(n), function(n))
            assert counter.frame_count <= 3


FIRST_CALL = """
import sys, warnings
warnings.simplefilter("error", UserWarning)
import arrayops as ao
import numpy, torch

functions = {
    "pac": lambda x, w, i: ao.pac_conv2d(x, x, w, mask=x[:, :1] > 0.5, padding=1)[0],
    "segment": lambda x, w, i: ao.segment_reduce(x, i, ("max", "mean"), 4)[0],
    "merge": lambda x, w, i: ao.merge_feature_maps([x, x[:, :, ::2]]),
}
function = functions[sys.argv[1]]
x = torch.rand(2, 3, 6, 6, requires_grad=True)
w = torch.rand(4, 3, 3, 3, requires_grad=True)
i = torch.randint(0, 4, (2, 6, 6))
result = torch.compile(function, fullgraph=True)(x, w, i)
result.sum().backward()
compiled, x.grad, w.grad = (x.grad, w.grad), None, None
expected = function(x, w, i)
expected.sum().backward()
assert torch.equal(result, expected)
assert torch.equal(compiled[0], x.grad)
assert w.grad is None or torch.equal(compiled[1], w.grad)
print("equal")
"""


@pytest.mark.parametrize("family", ["pac", "segment", "merge"])
def test_first_call_of_a_process(torch: Any, family: str) -> None:
    """No array of torch has been seen before: the adapter is imported while Dynamo traces. No warning is raised."""
    assert in_new_process(FIRST_CALL, family) == "equal\n"


class TestCompiled:
    def test_backend_is_not_compiled(self, torch: Any) -> None:
        """Dynamo never sees the frames below a call, also if the caller is not compiled as one graph."""
        graphs: list[list[str]] = []

        def backend(module: Any, inputs: Any) -> Any:
            graphs.append([str(node.target) for node in module.graph.nodes if node.op == "call_function"])
            return module

        @torch.compile(backend=backend)
        def function(x: Any, w: Any) -> Any:
            y = ao.conv2d(x * 2, w)
            torch._dynamo.graph_break()
            return ao.conv2d(y, w) + 1

        x, w = torch.rand(1, 2, 6, 6), torch.rand(2, 2, 3, 3)
        torch.testing.assert_close(function(x, w), ao.conv2d(ao.conv2d(x * 2, w), w) + 1)
        names = [name for graph in graphs for name in graph]
        assert len(graphs) == 2
        assert sum("arrayops" in name or "conv2d" in name for name in names) == 2

    def test_numbers_that_are_equal_but_not_the_same(self, torch: Any) -> None:
        features, labels = torch.ones(1, 1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)
        for empty in (0.0, -0.0, 1, float("nan"), float("-inf")):
            torch._dynamo.reset()  # 0.0 and -0.0 are equal to its guards.
            compiled = torch.compile(lambda x, e=empty: ao.segment_mean(x, labels, 2, empty=e), backend="aot_eager")
            result = compiled(features).numpy()[0, 0]
            np.testing.assert_array_equal(result, [1, empty])
            assert np.signbit(result[1]) == np.signbit(empty)
        largest = 2**64 - 1
        with torch._subclasses.fake_tensor.FakeTensorMode():
            fake = torch.empty(1, 2, 2, dtype=torch.uint64)
            assert ao.segment_count(fake, 3, ignore_label=largest).shape == (1, 3)

    def test_errors_keep_their_text(self, torch: Any) -> None:
        labels = torch.full((1, 4, 4), 9)
        compiled = torch.compile(lambda x: ao.segment_mean(x, labels, 5), fullgraph=True, backend="aot_eager")
        with pytest.raises(ValueError, match=r"^segment_mean: labels\[0, 0, 0\] is 9, expected 0 to 4"):
            compiled(torch.rand(1, 2, 4, 4))
        with pytest.raises(Exception, match=r"conv2d: weight is .*expected 2 input channels"):
            torch.compile(ao.conv2d, fullgraph=True, backend="aot_eager")(
                torch.rand(1, 2, 4, 4), torch.rand(3, 5, 2, 2)
            )

    @pytest.mark.parametrize(
        ("weight", "layout", "kind", "message"),
        [
            ("tensor", "HWC", "ValueError", "conv2d: layout is 'HWC', expected 'NCHW', 'NHWC', 'channels_first'"),
            ("none", None, "TypeError", "conv2d: weight is None, expected an array"),
            ("numpy", None, "TypeError", "conv2d: weight is .*ndarray"),
        ],
    )
    def test_errors_raised_while_dynamo_traces(
        self, torch: Any, weight: str, layout: Any, kind: str, message: str
    ) -> None:
        """The messages are not in lines of the traced function, which torch shows."""
        x = torch.rand(1, 2, 4, 4)
        array = {"tensor": x, "none": None, "numpy": np.ones((1, 2, 2, 2), np.float32)}[weight]
        if torch.__version__.startswith("2.7."):
            # Which tells no more than the class of such an error.
            message = rf"{message}|raised exception ExceptionVariable\(<class '{kind}'>\)"
        torch._dynamo.reset()
        with pytest.raises(Exception, match=message):
            torch.compile(lambda x: ao.conv2d(x, array, layout=layout), fullgraph=True, backend="aot_eager")(x)

    def test_number_of_segments_is_needed(self, torch: Any) -> None:
        labels = torch.zeros((1, 4, 4), dtype=torch.int64)
        message = "segment_mean: num_segments is None, expected an integer"
        if torch.__version__.startswith("2.7."):
            message += r"|raised exception ExceptionVariable\(<class 'ValueError'>\)"
        with pytest.raises(Exception, match=message):
            torch.compile(lambda x: ao.segment_mean(x, labels), fullgraph=True)(torch.rand(1, 2, 4, 4))

    @pytest.mark.parametrize("call", CALLS_IN_NCHW.values(), ids=CALLS_IN_NCHW)
    def test_names_of_layouts(self, torch: Any, call: DifferentiableCall) -> None:
        last = DifferentiableCall.of(call.op, {**nhwc_call(call.op, call.call), "layout": "channels_last"}, ())
        function, tensors = last.all_results(torch.from_numpy), [torch.from_numpy(array) for array in last.arrays]
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        for got, want in zip(compiled(*tensors), function(*tensors), strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)

    @pytest.mark.parametrize("dynamic", [False, True])
    def test_errors_about_the_other_layout(self, torch: Any, dynamic: bool) -> None:
        compiled = torch.compile(lambda x, w: ao.conv2d(x, w), fullgraph=True, backend="aot_eager", dynamic=dynamic)
        message = r"conv2d: weight is .* in 1 group; all arrays fit layout=\W+NHWC\W+: pass layout=\W+NHWC"
        with pytest.raises(Exception, match=message):
            compiled(torch.rand(1, 8, 9, 4), torch.rand(3, 3, 4, 6))

    def test_second_derivatives_that_are_not_provided(self, torch: Any) -> None:
        @torch.compile(fullgraph=True, backend="aot_eager")
        def function(x: Any) -> Any:
            return torch.func.grad(lambda x: torch.func.grad(lambda g: ao.pac_kernel2d(g, 2).sum())(x).pow(2).sum())(x)

        with pytest.raises(Exception, match="pac_kernel2d_backward: the derivative of the gradient of guide is not"):
            function(torch.rand(1, 1, 3, 3))

    def test_transformations_inside(self, torch: Any) -> None:
        w = torch.rand(2, 2, 3, 3)

        def function(x: Any) -> Any:
            gradient = torch.func.vmap(torch.func.grad(lambda x: ao.conv2d(x[None], w).pow(2).sum()))(x)
            return gradient + torch.func.grad(lambda x: ao.conv2d(x, w).pow(3).sum())(x)

        x = torch.rand(3, 2, 5, 5)
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), function(x))

    def test_with_and_without_gradients(self, torch: Any) -> None:
        w = torch.rand(2, 2, 3, 3)
        compiled = torch.compile(lambda x: ao.conv2d(x, w), fullgraph=True, backend="aot_eager")
        x = torch.rand(1, 2, 5, 5, requires_grad=True)
        assert compiled(x).requires_grad
        with torch.no_grad():
            assert not compiled(x).requires_grad
        with torch.inference_mode():
            assert torch.equal(compiled(x), ao.conv2d(x, w))


class Model:
    """A module with a call of every family."""

    @staticmethod
    def build(torch: Any) -> Any:
        class Module(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                torch.manual_seed(0)
                self.weight = torch.nn.Parameter(torch.rand(4, 3, 3, 3))

            def forward(self, x: Any, labels: Any) -> Any:
                features = ao.pac_conv2d(x, x.mean(1, keepdim=True), self.weight, padding=1)
                pooled = ao.segment_max(features, labels, 4)
                merged = ao.merge_feature_maps([features, ao.segment_unpool(pooled, labels)])
                return ao.resize2d(merged, (2 * x.shape[2], 2 * x.shape[3])), ao.segment_count(labels, 4)

        return Module()


LOAD = """
import sys, numpy, torch
import arrayops.layers.torch

program = torch.export.load(sys.argv[1]).module()
data = numpy.load(sys.argv[2])
output, count = program(torch.from_numpy(data["x"]), torch.from_numpy(data["labels"]))
numpy.testing.assert_array_equal(output.detach(), data["output"])
numpy.testing.assert_array_equal(count, data["count"])
print("equal")
"""


class TestExport:
    @pytest.mark.parametrize("strict", [True, False])
    def test_saved_and_loaded_in_a_new_process(self, torch: Any, tmp_path: Path, strict: bool) -> None:
        module = Model.build(torch)
        x, labels = torch.rand(2, 3, 8, 8), torch.randint(0, 4, (2, 8, 8))
        batch, height, width = (torch.export.Dim(name, min=2) for name in ("batch", "height", "width"))
        program = torch.export.export(
            module,
            (x, labels),
            dynamic_shapes=({0: batch, 2: height, 3: width}, {0: batch, 1: height, 2: width}),
            strict=strict,
        )
        torch.export.save(program, tmp_path / "program.pt2")
        for shape in ((2, 3, 8, 8), (3, 3, 6, 11)):
            x, labels = torch.rand(shape), torch.randint(0, 4, (shape[0], *shape[2:]))
            output, count = module(x, labels)
            torch.testing.assert_close(program.module()(x, labels)[0], output, rtol=0, atol=0)
            torch.testing.assert_close(program.run_decompositions().module()(x, labels)[0], output, rtol=0, atol=0)
            arrays = {"x": x, "labels": labels, "output": output.detach(), "count": count}
            np.savez(tmp_path / "data.npz", **{name: each.numpy() for name, each in arrays.items()})
            assert in_new_process(LOAD, str(tmp_path / "program.pt2"), str(tmp_path / "data.npz")) == "equal\n"

    def test_program_of_another_version(self, torch: Any) -> None:
        import arrayops.layers.torch  # noqa: F401

        with pytest.raises(
            RuntimeError, match=r"^segment_count: the program was saved by a version of arrayops in which"
        ):
            torch.ops.arrayops.segment_count(torch.zeros(3, dtype=torch.int64), "01234567((),...,None,)", [1], [])

    def test_trained_after_export(self, torch: Any) -> None:
        module = Model.build(torch)
        x, labels = torch.rand(2, 3, 8, 8), torch.randint(0, 4, (2, 8, 8))
        exported = torch.export.export(module, (x, labels)).module()
        exported(x, labels)[0].sum().backward()
        module(x, labels)[0].sum().backward()
        torch.testing.assert_close(exported.weight.grad, module.weight.grad)


class TestOtherTracers:
    @pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
    def test_make_fx(self, torch: Any, mode: str) -> None:
        from torch.fx.experimental.proxy_tensor import make_fx

        x, w = torch.rand(2, 3, 6, 6), torch.rand(4, 3, 3, 3)

        def function(x: Any, w: Any) -> Any:
            return torch.func.grad(lambda w: ao.conv2d(x, w).pow(2).sum())(w)

        graph = make_fx(function, tracing_mode=mode)(x, w)
        assert "arrayops.conv2d_backward.default" in graph.code
        torch.testing.assert_close(graph(x + 1, w), function(x + 1, w))

    def test_jit_trace(self, torch: Any) -> None:
        w = torch.rand(4, 3, 3, 3)
        traced = torch.jit.trace(lambda x: ao.conv2d(x, w), torch.rand(2, 3, 6, 6))
        x = torch.rand(2, 3, 6, 6)
        torch.testing.assert_close(traced(x), ao.conv2d(x, w))

    @pytest.mark.parametrize("name", sorted(OPS))
    def test_fake_and_meta_tensors(self, torch: Any, name: str) -> None:
        """Without values: shapes, dtypes, strides and devices are those of the real results."""
        from torch._subclasses.fake_tensor import FakeTensorMode

        from operator_oracles import ORACLES, as_tuple

        for call in ORACLES[name].calls:
            tensors = {
                key: [torch.from_numpy(each) for each in value]
                if isinstance(value, list)
                else torch.from_numpy(value)
                if isinstance(value, np.ndarray)
                else value
                for key, value in call.items()
            }
            expected = as_tuple(getattr(ao, name)(**tensors))

            def moved(convert: Any, tensors: dict[str, Any] = tensors) -> dict[str, Any]:
                return torch.utils._pytree.tree_map_only(torch.Tensor, convert, tensors)

            with FakeTensorMode() as mode:
                fake = as_tuple(getattr(ao, name)(**moved(mode.from_tensor)))
            meta = as_tuple(getattr(ao, name)(**moved(lambda each: each.to("meta"))))
            for results, device in ((fake, "cpu"), (meta, "meta")):
                for result, want in zip(results, expected, strict=True):
                    assert (result.shape, result.dtype, result.stride()) == (want.shape, want.dtype, want.stride())
                    assert result.device.type == device

    def test_dispatch_modes_see_the_operator(self, torch: Any) -> None:
        from torch.utils.flop_counter import FlopCounterMode

        x, w = torch.rand(2, 3, 6, 6), torch.rand(4, 3, 3, 3, requires_grad=True)
        with FlopCounterMode(display=False):
            result = ao.conv2d(x, w)
            assert ao.segment_count(torch.zeros(3, dtype=torch.int64)).tolist() == [3]
        torch.testing.assert_close(result, ao.conv2d(x, w), rtol=0, atol=0)
        assert result.requires_grad

    def test_cond(self, torch: Any) -> None:
        x, w = torch.rand(2, 3, 6, 6), torch.rand(4, 3, 3, 3)

        @torch.compile(fullgraph=True, backend="aot_eager")
        def function(x: Any) -> Any:
            return torch.cond(x.sum() > 0, lambda x: ao.conv2d(x, w), lambda x: ao.conv2d(-x, w), (x,))

        torch.testing.assert_close(function(x), ao.conv2d(x, w))
        torch.testing.assert_close(function(-x), ao.conv2d(x, w))
