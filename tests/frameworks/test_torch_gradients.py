"""Gradients in PyTorch: every differentiable operator, against finite differences and the ``_backward`` functions."""

from typing import Any

import numpy as np
import pytest

import arrayops as ao
from backend_recorder import Recorder
from differentiable_calls import CALLS, DifferentiableCall
from operator_oracles import as_tuple
from toy_op import Backend

every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def leaves(torch: Any, call: DifferentiableCall, names: Any = None) -> list[Any]:
    """Its differentiable arrays as tensors, of which those of the given names require a gradient."""
    return [
        torch.from_numpy(array.copy()).requires_grad_(names is None or name in names)
        for name, array in zip(call.names, call.arrays, strict=True)
    ]


@every_call
def test_gradcheck(torch: Any, call: DifferentiableCall) -> None:
    assert torch.autograd.gradcheck(call.function(torch.from_numpy), leaves(torch, call))


@every_call
def test_gradients_equal_the_backward_functions(torch: Any, call: DifferentiableCall) -> None:
    tensors, cotangents = leaves(torch, call), call.cotangents()
    outputs = call.function(torch.from_numpy)(*tensors)
    gradients = torch.autograd.grad(outputs, tensors, [torch.from_numpy(each) for each in cotangents])
    for gradient, expected in zip(gradients, call.gradients(cotangents), strict=True):
        assert not gradient.requires_grad
        np.testing.assert_array_equal(gradient, expected)


@every_call
def test_results_have_the_bits_of_numpy(torch: Any, call: DifferentiableCall) -> None:
    expected = call.differentiable(as_tuple(getattr(ao, call.op.name)(**call.call)))
    function = call.function(torch.from_numpy)
    for names in ((), None):
        for result, want in zip(function(*leaves(torch, call, names)), expected, strict=True):
            assert type(result) is torch.Tensor
            assert result.requires_grad == (names is None)
            np.testing.assert_array_equal(result.detach(), want)


@every_call
def test_only_wanted_gradients_are_computed(torch: Any, call: DifferentiableCall, recorder: Recorder) -> None:
    for name in dict.fromkeys(call.names):
        tensors = leaves(torch, call, {name})
        sum(output.sum() for output in call.function(torch.from_numpy)(*tensors)).backward()
        assert recorder.needs() == [{name}]
        for own, tensor in zip(call.names, tensors, strict=True):
            assert (tensor.grad is not None) == (own == name)


class TestSecondDerivatives:
    @every_call
    def test_gradgradcheck(self, torch: Any, call: DifferentiableCall) -> None:
        """For each linear array alone, and for all together with the mixed derivatives."""
        linear = call.linear_names
        if not linear:
            pytest.skip("not linear in any array: see test_refused")
        function = call.function(torch.from_numpy)
        for names in {*((name,) for name in linear), linear}:
            assert torch.autograd.gradgradcheck(function, leaves(torch, call, names))

    @every_call
    def test_gradient_penalty_reaches_arrays_that_are_not_linear(self, torch: Any, call: DifferentiableCall) -> None:
        """Derivatives of the gradient of a linear array by all other arrays."""
        function = call.function(torch.from_numpy)
        for name in call.linear_names:
            fixed = [i for i, own in enumerate(call.names) if own == name]

            def gradients(*tensors: Any, fixed: list[int] = fixed) -> Any:
                outputs = function(*tensors)
                wanted = [tensors[i] for i in fixed]
                cotangents = [torch.linspace(-1, 2, y.numel(), dtype=y.dtype).reshape(y.shape) for y in outputs]
                return torch.autograd.grad(outputs, wanted, cotangents, create_graph=True, materialize_grads=True)

            others = set(call.names) - {name}
            tensors = leaves(torch, call)
            if others and any(each.requires_grad for each in gradients(*tensors)):
                assert torch.autograd.gradcheck(
                    lambda *given, kept=tensors, others=others, run=gradients: run(
                        *[new if own in others else old for own, old, new in zip(call.names, kept, given, strict=True)]
                    ),
                    leaves(torch, call, others),
                )

    @every_call
    def test_refused(self, torch: Any, call: DifferentiableCall) -> None:
        refused = [name for name in dict.fromkeys(call.names) if name not in call.linear_names]
        for name in refused:
            tensors = leaves(torch, call, {name})
            wanted = [tensor for tensor in tensors if tensor.requires_grad]
            outputs = call.function(torch.from_numpy)(*tensors)
            gradients = torch.autograd.grad(sum((y * y).sum() for y in outputs), wanted, create_graph=True)
            with pytest.raises(NotImplementedError) as error:
                torch.autograd.grad(sum((g * g).sum() for g in gradients), wanted)
            assert str(error.value).startswith(f"{call.op.backward.name}: the derivative of the gradient of ")
            assert f"arrayops.{call.op.name} is not linear" in str(error.value)

    def test_graph_of_a_gradient_without_second_derivatives_may_be_built(self, torch: Any) -> None:
        guide = torch.ones(1, 1, 3, 3, requires_grad=True)
        [gradient] = torch.autograd.grad(ao.pac_kernel2d(guide, 2).sum(), guide, create_graph=True)
        assert gradient.requires_grad

    def test_third_derivative(self, torch: Any) -> None:
        random = np.random.default_rng(3)
        x, w = (torch.from_numpy(random.standard_normal(shape) / 4) for shape in ((1, 2, 5, 4), (3, 2, 2, 3)))

        def third(convolution: Any) -> Any:
            value = x.clone().requires_grad_()
            [first] = torch.autograd.grad(convolution(value, w).pow(4).sum(), value, create_graph=True)
            [second] = torch.autograd.grad(first.pow(2).sum(), value, create_graph=True)
            return torch.autograd.grad(second.pow(2).sum(), value)[0]

        torch.testing.assert_close(third(ao.conv2d), third(torch.nn.functional.conv2d))


class TestGraph:
    def test_no_graph_without_gradients(self, torch: Any, toy: Backend) -> None:
        tensor = torch.ones(3, requires_grad=True)
        for context in (torch.no_grad, torch.inference_mode):
            with context():
                result = toy.scaled(tensor)
            assert torch.equal(result, torch.full((3,), 2.0))
            assert not result.requires_grad
        assert not toy.scaled(tensor.detach()).requires_grad
        assert type(toy.scaled(torch.nn.Parameter(torch.ones(3), requires_grad=False))) is torch.Tensor

    def test_operator_of_a_test(self, torch: Any, toy: Backend) -> None:
        """Also an operator that is not among `OPS` is recorded."""
        result = toy.scaled(torch.ones(3, requires_grad=True))
        assert result.requires_grad
        assert type(result.grad_fn).__name__ == "OperatorNodeBackward"

    def test_input_changed_in_place_before_backward(self, torch: Any) -> None:
        x = torch.ones(1, 1, 3, 3)
        w = torch.ones(1, 1, 2, 2, requires_grad=True)
        output = ao.conv2d(x, w)
        x.mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            output.sum().backward()

    def test_backward_twice(self, torch: Any) -> None:
        w = torch.ones(1, 1, 2, 2, requires_grad=True)
        output = ao.conv2d(torch.ones(1, 1, 3, 3), w).sum()
        output.backward(retain_graph=True)
        output.backward()
        assert torch.equal(w.grad, torch.full((1, 1, 2, 2), 8.0))
        with pytest.raises(RuntimeError, match="a second time"):
            output.backward()

    def test_output_without_a_gradient(self, torch: Any) -> None:
        """Of several outputs, those that a loss does not use get no gradient and cost none."""
        features = torch.rand(1, 2, 3, 3, requires_grad=True)
        labels = torch.zeros(1, 3, 3, dtype=torch.int64)
        mean, largest, count = ao.segment_reduce(features, labels, ("mean", "max", "count"), 1)
        assert (mean.requires_grad, largest.requires_grad, count.requires_grad) == (True, True, False)
        largest.sum().backward()
        expected = ao.segment_max_backward(np.ones((1, 2, 1), np.float32), features.detach().numpy(), labels.numpy(), 1)
        np.testing.assert_array_equal(features.grad, expected.features)

    def test_saved_positions_reach_the_backward(self, torch: Any, recorder: Recorder) -> None:
        features = torch.rand(1, 2, 4, 4, requires_grad=True)
        ao.segment_max(features, torch.zeros(1, 4, 4, dtype=torch.int64), 2).sum().backward()
        seen = [
            (call.name, [None if array is None else array.dtype.kind for array in call.arrays])
            for call in recorder.calls()
        ]
        assert seen == [("segment_max", ["f", "i"]), ("segment_max_backward", ["f", "f", "i", "i"])]

    def test_saved_positions_that_the_caller_asked_for(self, torch: Any) -> None:
        features, labels = torch.rand(3, 2, 4, 4), torch.randint(0, 2, (3, 4, 4))
        expected = ao.segment_max(features.numpy(), labels.numpy(), 2, return_saved=True)

        def function(features: Any, labels: Any) -> Any:
            return ao.segment_max(features, labels, 2, return_saved=True)

        leaf = features.clone().requires_grad_()
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        mapped = torch.func.vmap(lambda x, i: tuple(function(x[None], i[None])))(features, labels)
        for output, saved in (
            function(features, labels),
            function(leaf, labels),
            compiled(leaf, labels),
            [each.flatten(0, 1) for each in mapped],
        ):
            np.testing.assert_array_equal(output.detach(), expected.output)
            np.testing.assert_array_equal(saved, expected.saved)
            assert saved.dtype == torch.int64
        function(leaf, labels).output.sum().backward()
        gradients = ao.segment_max_backward(torch.ones(3, 2, 2), features, labels, 2, saved=saved)
        assert torch.equal(leaf.grad, gradients.features)

    def test_labels_and_masks_have_no_gradient(self, torch: Any) -> None:
        x = torch.rand(1, 1, 3, 3, requires_grad=True)
        output, output_mask = ao.pac_conv2d(
            x, x.detach(), torch.ones(1, 1, 2, 2), mask=torch.ones(1, 1, 3, 3, dtype=torch.bool)
        )
        assert output.requires_grad
        assert not output_mask.requires_grad

    def test_backward_function_is_differentiable_itself(self, torch: Any) -> None:
        x, w, g = (
            torch.from_numpy(np.random.default_rng(i).standard_normal(shape)).requires_grad_()
            for i, shape in enumerate(((1, 2, 4, 4), (3, 2, 2, 2), (1, 3, 3, 3)))
        )
        assert torch.autograd.gradcheck(lambda g, x, w: ao.conv2d_backward(g, x, w)[:2], (g, x, w))


# torch's forward mode loads parts of torch that torch deprecates.
@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning")
class TestUnprovided:
    def test_forward_mode(self, torch: Any) -> None:
        x, w = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2)
        message = r"^conv2d: forward-mode differentiation \(jvp, jacfwd, hessian, dual tensors\) is not provided"
        with pytest.raises(NotImplementedError, match=message):
            torch.func.jvp(lambda x: ao.conv2d(x, w), (x,), (x,))
        with pytest.raises(NotImplementedError, match=message):
            torch.func.hessian(lambda x: ao.conv2d(x, w).sum())(x)
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, x)
            with pytest.raises(NotImplementedError, match=message):
                ao.conv2d(dual, w)
            assert torch.equal(ao.conv2d(x, w), torch.full((1, 1, 2, 2), 4.0))

    def test_forward_mode_compiled(self, torch: Any) -> None:
        w = torch.ones(1, 1, 2, 2)

        @torch.compile(backend="eager")
        def function(x: Any) -> Any:
            return torch.func.jvp(lambda x: ao.conv2d(x, w), (x,), (x,))

        with pytest.raises(Exception, match="forward-mode differentiation"):
            function(torch.ones(1, 1, 3, 3))

    def test_batched_gradients_of_the_older_vmap(self, torch: Any) -> None:
        x = torch.ones(1, 1, 3, 3, requires_grad=True)
        output = ao.conv2d(x, torch.ones(1, 1, 2, 2))
        with pytest.raises(NotImplementedError, match=r"^conv2d_backward: .*is_grads_batched"):
            torch.autograd.grad(output, x, torch.ones(5, *output.shape), is_grads_batched=True)
