"""torch.func: grad, vjp, vmap and their compositions, for every differentiable operator."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from backend_recorder import Recorder
from differentiable_calls import CALLS, DifferentiableCall
from toy_op import Backend

every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
BATCH = 3


def tensors(torch: Any, call: DifferentiableCall) -> tuple[Any, ...]:
    return tuple(torch.from_numpy(array) for array in call.arrays)


def loss(function: Callable[..., tuple[Any, ...]]) -> Callable[..., Any]:
    return lambda *values: sum((result * result).sum() for result in function(*values))


def batches(torch: Any, call: DifferentiableCall) -> tuple[Any, ...]:
    """Several different values of each array, along a new first axis."""
    return tuple(torch.stack([array * (1 + i / 5) + i / 7 for i in range(BATCH)]) for array in tensors(torch, call))


@every_call
def test_grad_and_vjp(torch: Any, call: DifferentiableCall) -> None:
    function, values = call.function(torch.from_numpy), tensors(torch, call)
    cotangents = call.cotangents()
    outputs, pullback = torch.func.vjp(function, *values)
    assert len(outputs) == len(cotangents)
    for gradient, expected in zip(
        pullback(tuple(map(torch.from_numpy, cotangents))), call.gradients(cotangents), strict=True
    ):
        np.testing.assert_array_equal(gradient, expected)
    leaves = [value.clone().requires_grad_() for value in values]
    loss(function)(*leaves).backward()
    every = tuple(range(len(values)))
    for gradient, leaf in zip(torch.func.grad(loss(function), argnums=every)(*values), leaves, strict=True):
        torch.testing.assert_close(gradient, leaf.grad, rtol=0, atol=0)


@every_call
def test_vmap_over_each_array_and_over_all(torch: Any, call: DifferentiableCall) -> None:
    function, values, several = call.function(torch.from_numpy), tensors(torch, call), batches(torch, call)
    for chosen in [*({i} for i in range(len(values))), set(range(len(values)))]:
        given = [several[i] if i in chosen else value for i, value in enumerate(values)]
        dims = tuple(0 if i in chosen else None for i in range(len(values)))
        results = torch.func.vmap(function, in_dims=dims)(*given)
        rows = [function(*[each[k] if i in chosen else each for i, each in enumerate(given)]) for k in range(BATCH)]
        for result, expected in zip(results, zip(*rows, strict=True), strict=True):
            torch.testing.assert_close(result, torch.stack(expected), rtol=1e-12, atol=1e-12)


@every_call
def test_vmap_over_other_axes_and_nested(torch: Any, call: DifferentiableCall) -> None:
    function, several = call.function(torch.from_numpy), batches(torch, call)
    last = [each.movedim(0, -1) for each in several]
    expected = torch.func.vmap(function)(*several)
    for result, want in zip(torch.func.vmap(function, in_dims=-1, out_dims=1)(*last), expected, strict=True):
        torch.testing.assert_close(result.movedim(1, 0), want, rtol=1e-12, atol=1e-12)
    twice = [torch.stack([each, each * 0.5]) for each in several]
    for result, *rows in zip(
        torch.func.vmap(torch.func.vmap(function))(*twice),
        *(torch.func.vmap(function)(*[each[i] for each in twice]) for i in (0, 1)),
        strict=True,
    ):
        torch.testing.assert_close(result, torch.stack(rows), rtol=1e-12, atol=1e-12)


@every_call
def test_gradients_of_each_sample(torch: Any, call: DifferentiableCall) -> None:
    """vmap of grad, as per-sample gradients are computed."""
    function, values, several = call.function(torch.from_numpy), tensors(torch, call), batches(torch, call)
    every = tuple(range(len(values)))
    gradient = torch.func.grad(loss(function), argnums=every)
    dims = tuple(None if name in ("weight", "bias") else 0 for name in call.names)
    given = [value if dim is None else each for value, each, dim in zip(values, several, dims, strict=True)]
    results = torch.func.vmap(gradient, in_dims=dims)(*given)
    rows = [
        gradient(*[each if dim is None else each[k] for each, dim in zip(given, dims, strict=True)])
        for k in range(BATCH)
    ]
    for result, expected in zip(results, zip(*rows, strict=True), strict=True):
        torch.testing.assert_close(result, torch.stack(expected), rtol=1e-11, atol=1e-11)


class TestFolding:
    """vmap over images is one call with a larger batch."""

    def test_one_call(self, torch: Any, recorder: Recorder) -> None:
        x, w = torch.rand(64, 1, 3, 8, 8), torch.rand(4, 3, 3, 3)
        result = torch.func.vmap(lambda x: ao.conv2d(x, w))(x)
        assert recorder.names() == ["conv2d"]
        torch.testing.assert_close(result, torch.nn.functional.conv2d(x[:, 0], w)[:, None])

    def test_arrays_without_the_mapped_axis_are_repeated(self, torch: Any, recorder: Recorder) -> None:
        x, guide, w = torch.rand(5, 2, 3, 8, 8), torch.rand(2, 2, 8, 8), torch.rand(4, 3, 3, 3)
        result = torch.func.vmap(lambda x: ao.pac_conv2d(x, guide, w))(x)
        assert recorder.names() == ["pac_conv2d"]
        for own, each in zip(result, x, strict=True):
            torch.testing.assert_close(own, ao.pac_conv2d(each, guide, w))

    def test_gradients_by_images(self, torch: Any, recorder: Recorder) -> None:
        x, w = torch.rand(8, 1, 3, 8, 8), torch.rand(4, 3, 3, 3)
        torch.func.vmap(torch.func.grad(lambda x: ao.conv2d(x, w).sum()))(x)
        assert recorder.names() == ["conv2d", "conv2d_backward"]

    def test_one_call_a_slice_where_there_is_no_batch(self, torch: Any, recorder: Recorder) -> None:
        features, labels = torch.rand(4, 10, 3), torch.zeros(10, dtype=torch.int64)
        result = torch.func.vmap(lambda x: ao.segment_mean(x, labels, 1))(features)
        assert recorder.names() == ["segment_mean"] * 4
        torch.testing.assert_close(result[:, 0], features.mean(1))

    @pytest.mark.parametrize("shape", [(3, 0, 2, 4, 4), (3, 1, 0, 4, 4)])
    def test_empty(self, torch: Any, shape: tuple[int, ...]) -> None:
        x, w = torch.rand(shape), torch.rand(4, shape[2], 3, 3)
        result = torch.func.vmap(lambda x: ao.conv2d(x, w))(x)
        assert result.shape == (*shape[:2], 4, 2, 2)
        mean = torch.func.vmap(lambda x: ao.segment_mean(x, torch.zeros(shape[1], 4, 4, dtype=torch.int64), 3))(x)
        assert mean.shape == (*shape[:3], 3)


Composition = Callable[..., Any]
"""``(convolution, torch.func, x, w) -> tensor``."""


def grad_of_grad(f: Any, func: Any, x: Any, w: Any) -> Any:
    return func.grad(lambda x: func.grad(lambda x: f(x, w).pow(3).sum())(x).pow(2).sum())(x)


def mixed_grad_of_grad(f: Any, func: Any, x: Any, w: Any) -> Any:
    return func.grad(lambda w: func.grad(lambda x: f(x, w).pow(3).sum())(x).pow(2).sum())(w)


def jacrev(f: Any, func: Any, x: Any, w: Any) -> Any:
    return func.jacrev(lambda x: f(x, w))(x)


def jacrev_of_jacrev(f: Any, func: Any, x: Any, w: Any) -> Any:
    return func.jacrev(func.jacrev(lambda w: f(x, w).pow(2).sum()))(w)


def gradient_of_each_sample(f: Any, func: Any, x: Any, w: Any) -> Any:
    return func.vmap(func.grad(lambda w, x: f(x[None], w).pow(2).sum()), in_dims=(None, 0))(w, x)


def grad_of_vmap_of_vjp(f: Any, func: Any, x: Any, w: Any) -> Any:
    def penalty(w: Any) -> Any:
        def pulled_back(x: Any) -> Any:
            output, pullback = func.vjp(lambda x: f(x[None], w).sin(), x)
            return pullback(output)[0]

        return func.vmap(pulled_back)(x).pow(2).sum()

    return func.grad(penalty)(w)


def vmap_over_weights(f: Any, func: Any, x: Any, w: Any) -> Any:
    several = w.unsqueeze(2).expand(-1, -1, 4, -1, -1) * w[0, 0].reshape(4, 1, 1)
    return func.vmap(lambda w: f(x, w), in_dims=2, out_dims=1)(several)


COMPOSITIONS = (
    grad_of_grad,
    mixed_grad_of_grad,
    jacrev,
    jacrev_of_jacrev,
    gradient_of_each_sample,
    grad_of_vmap_of_vjp,
    vmap_over_weights,
)


class TestAgainstConvolutionOfTorch:
    """Compositions whose errors would be silent: the values are compared, not only that they are finite."""

    @pytest.fixture
    def arrays(self, torch: Any) -> tuple[Any, Any]:
        random = np.random.default_rng(1)
        return tuple(torch.from_numpy(random.standard_normal(shape) / 3) for shape in ((2, 3, 5, 4), (2, 3, 2, 2)))

    @pytest.mark.parametrize("composition", COMPOSITIONS)
    def test_equal(self, torch: Any, arrays: tuple[Any, Any], composition: Composition) -> None:
        ours = composition(ao.conv2d, torch.func, *arrays)
        theirs = composition(torch.nn.functional.conv2d, torch.func, *arrays)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
        assert ours.abs().sum() > 0


class TestOtherTransformations:
    def test_pullback_after_its_level_within_another(self, torch: Any) -> None:
        x, w = torch.rand(1, 2, 4, 4), torch.rand(3, 2, 2, 2)
        cotangents = torch.rand(5, 1, 3, 3, 3)
        ours, theirs = (torch.func.vjp(lambda x, f=f: f(x, w), x)[1] for f in (ao.conv2d, torch.nn.functional.conv2d))
        torch.testing.assert_close(torch.func.vmap(ours)(cotangents)[0], torch.func.vmap(theirs)(cotangents)[0])
        ours, theirs = (
            torch.func.grad(lambda g, pullback=pullback: pullback(g)[0].pow(2).sum())(cotangents[0])
            for pullback in (ours, theirs)
        )
        torch.testing.assert_close(ours, theirs)

    def test_functionalize(self, torch: Any) -> None:
        x, w = torch.rand(1, 2, 4, 4), torch.rand(3, 2, 2, 2)
        result = torch.func.functionalize(lambda x: ao.conv2d(x, w) + 1)(x)
        torch.testing.assert_close(result, ao.conv2d(x, w) + 1, rtol=0, atol=0)

    def test_without_gradients_inside(self, torch: Any) -> None:
        x, w = torch.rand(1, 2, 4, 4), torch.rand(3, 2, 2, 2)

        def function(x: Any) -> Any:
            with torch.no_grad():
                fixed = ao.conv2d(x, w)
            return (fixed * x[:, :1, :3, :3]).sum()

        expected = torch.zeros_like(x)
        expected[:, :1, :3, :3] = ao.conv2d(x, w).sum(1, keepdim=True)
        torch.testing.assert_close(torch.func.grad(function)(x), expected)

    def test_arrays_that_are_missing_or_of_another_framework(self, torch: Any) -> None:
        x = torch.rand(2, 1, 1, 4, 4)
        for weight, message in (
            (None, "conv2d: weight is None, expected an array"),
            (np.ones((1, 1, 2, 2), np.float32), "conv2d: weight is an array of NumPy, expected PyTorch as for input"),
            ([1.0], "conv2d: weight is list, expected an array of NumPy"),
        ):
            with pytest.raises(TypeError, match=f"^{message}"):
                torch.func.vmap(lambda x, weight=weight: ao.conv2d(x, weight))(x)

    def test_functional_call_and_stack(self, torch: Any) -> None:
        """An ensemble of modules, as the tutorial of torch.func has it."""

        class Module(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.weight = torch.nn.Parameter(torch.rand(2, 1, 3, 3))

            def forward(self, x: Any) -> Any:
                return ao.conv2d(x, self.weight)

        modules = [Module() for _ in range(3)]
        parameters, buffers = torch.func.stack_module_state(modules)
        x = torch.rand(1, 1, 4, 4)
        result = torch.func.vmap(lambda p, b: torch.func.functional_call(modules[0], (p, b), (x,)))(parameters, buffers)
        torch.testing.assert_close(result, torch.stack([module(x) for module in modules]))

    def test_number_of_segments_must_be_given(self, torch: Any) -> None:
        features, labels = torch.rand(2, 1, 2, 4, 4), torch.zeros(2, 1, 4, 4, dtype=torch.int64)
        message = (
            r"^segment_mean: num_segments is None, expected an integer: the labels have no values inside a compiled, "
            r"traced or transformed function, pass num_segments=$"
        )
        with pytest.raises(ValueError, match=message):
            torch.func.vmap(ao.segment_mean)(features, labels)
        assert torch.func.vmap(lambda x, i: ao.segment_mean(x, i, 1))(features, labels).shape == (2, 1, 2, 1)
        with pytest.raises(ValueError, match="num_segments is None"):
            torch.func.vmap(ao.segment_count)(labels)
        # Labels that are not mapped over have values.
        assert torch.func.vmap(lambda x: ao.segment_mean(x, labels[0]))(features).shape == (2, 1, 2, 1)

    def test_operator_of_a_test(self, torch: Any, toy: Backend) -> None:
        """An operator that is not among `OPS` gets its library operator when it is called."""
        tensor = torch.rand(2, 3)
        torch.testing.assert_close(torch.func.vmap(toy.scaled)(tensor), tensor * 2)
