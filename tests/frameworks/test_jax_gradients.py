"""jax.grad and what belongs to it, for every differentiable operator: the oracles are NumPy's backward and JAX."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from arrayops import _backends
from backend_recorder import Recorder
from differentiable_calls import CALLS, FIRST_CALLS, DifferentiableCall
from operator_oracles import LABELS, MASK, PAC, SEGMENTS, WEIGHT, normal
from toy_op import SCALED, Backend

X, W = normal(0, 2, 3, 5, 6), normal(1, 4, 3, 3, 3)


@pytest.fixture(autouse=True)
def wide(jax: Any) -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def assert_equal(got: Any, want: Any, jax: Any) -> None:
    leaves, structure = jax.tree.flatten(got)
    wanted, expected_structure = jax.tree.flatten(want)
    assert structure == expected_structure
    for value, expected in zip(leaves, wanted, strict=True):
        assert value.dtype == expected.dtype
        np.testing.assert_array_equal(value, expected)


every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
first_calls = pytest.mark.parametrize("call", FIRST_CALLS.values(), ids=FIRST_CALLS)


def arguments(jax: Any, call: DifferentiableCall) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """The arrays of a call, and the numbers of all of them."""
    return tuple(map(jax.numpy.asarray, call.arrays)), tuple(range(len(call.arrays)))


@every_call
def test_grad_and_jit_equal_backward(jax: Any, call: DifferentiableCall) -> None:
    values, every = arguments(jax, call)
    loss, wanted = call.loss(jax.numpy.asarray), call.gradients(call.cotangents())
    assert_equal(jax.grad(loss, every)(*values), wanted, jax)
    result, gradients = jax.jit(jax.value_and_grad(loss, every))(*values)
    np.testing.assert_allclose(result, loss(*values), rtol=1e-12)
    assert_equal(gradients, wanted, jax)


@first_calls
def test_check_grads(jax: Any, call: DifferentiableCall) -> None:
    from jax.test_util import check_grads

    values, _ = arguments(jax, call)
    loss = call.loss(jax.numpy.asarray)

    # Finite differences are taken of NumPy arrays.
    def of_numpy(*values: Any) -> Any:
        return loss(*map(jax.numpy.asarray, values))

    check_grads(of_numpy, values, order=1, modes=["rev"], eps=1e-5)


LINEAR = {name: call.by(*call.linear_names) for name, call in CALLS.items() if call.linear_names}


@pytest.mark.parametrize("call", LINEAR.values(), ids=LINEAR)
def test_second_derivatives_where_linear(jax: Any, call: DifferentiableCall) -> None:
    from jax.test_util import check_grads

    values, _ = arguments(jax, call)
    # The square makes the cotangent depend on the arrays, too.
    loss = call.loss(jax.numpy.asarray)
    check_grads(jax.jit(lambda *values: loss(*values) ** 2 / 8), values, order=2, modes=["rev"], rtol=1e-4)


NOT_LINEAR = {
    f"{id}-{name}": call.by(name)
    for id, call in CALLS.items()
    for name in dict.fromkeys(call.names)
    if name not in call.linear_names
}


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("call", NOT_LINEAR.values(), ids=NOT_LINEAR)
def test_second_derivatives_elsewhere_are_refused(jax: Any, call: DifferentiableCall, jitted: bool) -> None:
    values, every = arguments(jax, call)
    gradient = jax.grad(call.loss(jax.numpy.asarray), every)
    second = jax.grad(lambda *values: sum((each**2).sum() for each in gradient(*values)), every)
    message = f"^{call.op.backward.name}: the derivative of the gradient of .* is not "
    with pytest.raises(NotImplementedError, match=message):
        (jax.jit(second) if jitted else second)(*values)


def ours(x: Any, w: Any) -> Any:
    return ao.conv2d(x, w, padding=1, stride=2)


def of_jax(jax: Any) -> Any:
    return lambda x, w: jax.lax.conv_general_dilated(x, w, (2, 2), [(1, 1), (1, 1)])


class TestAgainstConvolutionOfJAX:
    """All orders of derivatives of a function of a convolution."""

    @pytest.mark.parametrize("argnums", [(0, 0), (0, 1), (1, 0), (1, 1)])
    def test_second_derivatives(self, jax: Any, argnums: tuple[int, int]) -> None:
        found = []
        for conv in (ours, of_jax(jax)):

            def loss(x: Any, w: Any, conv: Any = conv) -> Any:
                return jax.numpy.tanh(conv(x, w)).sum()

            found.append(jax.jit(jax.jacrev(jax.jacrev(loss, argnums[0]), argnums[1]))(X[:1, :, :3, :3], W[:2]))
        np.testing.assert_allclose(*found, rtol=1e-9, atol=1e-12)

    def test_third_derivative(self, jax: Any) -> None:
        found = []
        for conv in (ours, of_jax(jax)):

            def first(x: Any, w: Any, conv: Any = conv) -> Any:
                return (conv(x, w) ** 3).sum()

            def second(x: Any, w: Any, first: Any = first) -> Any:
                return (jax.grad(first)(x, w) ** 2).sum()

            def third(x: Any, w: Any, second: Any = second) -> Any:
                return (jax.grad(second, 1)(x, w) ** 2).sum()

            found.append(jax.jit(jax.grad(third))(X, W))
        np.testing.assert_allclose(*found, rtol=1e-9)

    def test_scan_and_checkpoint(self, jax: Any) -> None:
        weights = normal(2, 3, 3, 3, 3, 3) / 4
        found = []
        for conv in (
            lambda x, w: ao.conv2d(x, w, padding=1),
            jax.checkpoint(lambda x, w: ao.conv2d(x, w, padding=1)),
            lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), [(1, 1), (1, 1)]),
        ):

            def loss(x: Any, weights: Any, conv: Any = conv) -> Any:
                return (jax.lax.scan(lambda x, w: (jax.numpy.tanh(conv(x, w)), None), x, weights)[0] ** 2).sum()

            found.append(jax.jit(jax.value_and_grad(loss, (0, 1)))(X, weights))
        for result in found[:2]:
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), result, found[2])

    def test_checkpoint_without_jit(self, jax: Any) -> None:
        grads = [
            jax.grad(lambda x, f=f: (f(x, jax.numpy.asarray(W)) ** 2).sum())(X) for f in (jax.checkpoint(ours), ours)
        ]
        np.testing.assert_array_equal(*grads)


class TestWhatIsComputed:
    """Only requested gradients, with the results that the forward call saved."""

    @pytest.mark.parametrize("argnum", [0, 1])
    def test_needs(self, jax: Any, recorder: Recorder, argnum: int) -> None:
        name = ("input", "weight")[argnum]
        grad = jax.grad(lambda x, w: (ours(x, w) ** 2).sum(), argnum)
        batch = jax.numpy.stack([X, X]), jax.numpy.asarray(W)
        for function, arrays in (
            (grad, (X, W)),
            (jax.jit(grad), (X, W)),
            (jax.jit(jax.vmap(grad, (0, None))), batch),
            (jax.jit(jax.grad(lambda x, w: (jax.vmap(ours, (0, None))(x, w) ** 2).sum(), argnum)), batch),
        ):
            jax.block_until_ready(function(*map(jax.numpy.asarray, arrays)))
            needs = recorder.needs()
            assert needs
            assert all(each == {name} for each in needs)

    def test_unused_forward_is_dropped(self, jax: Any, recorder: Recorder) -> None:
        jax.block_until_ready(jax.jit(jax.grad(lambda w: ours(jax.numpy.asarray(X), w).sum()))(W))
        assert recorder.names() == ["conv2d_backward"]

    def test_saved_positions(self, jax: Any, recorder: Recorder) -> None:
        features, labels = jax.numpy.asarray(SEGMENTS["features"]), jax.numpy.asarray(LABELS)

        def loss(x: Any) -> Any:
            return (ao.segment_max(x, labels, 5) ** 2).sum()

        for grad in (jax.grad(loss), jax.jit(jax.grad(loss))):
            jax.block_until_ready(grad(features))
            forward, backward = recorder.calls()
            assert forward.parameters.save
            assert backward.arrays[-1].dtype.kind == "i"
        jax.block_until_ready(jax.jit(loss)(features))
        assert not recorder.calls()[0].parameters.save

    def test_unused_results(self, jax: Any, recorder: Recorder) -> None:
        """Results without a gradient get none: not zeros, which cost as much."""

        def loss(x: Any) -> Any:
            mean, _, count = ao.segment_reduce(x, jax.numpy.asarray(LABELS), ("mean", "max", "count"), 5)
            return (mean * count[:, None]).sum()

        gradient = jax.jit(jax.grad(loss))(SEGMENTS["features"])
        counts = ao.segment_count(LABELS, 5)[:, None] * np.ones((1, 2, 1))
        np.testing.assert_allclose(gradient, ao.segment_mean_backward(counts, SEGMENTS["features"], LABELS, 5)[0])
        [call] = [call for call in recorder.calls() if call.name == "segment_reduce_backward"]
        assert [array is not None for array in call.arrays[:5]] == [True, False, False, False, False]


class TestCotangents:
    def test_of_numpy(self, jax: Any) -> None:
        result, pull = jax.vjp(ours, jax.numpy.asarray(X), jax.numpy.asarray(W))
        gradient = normal(3, *result.shape)
        for found, wanted in zip(
            pull(gradient), ao.conv2d_backward(gradient, X, W, padding=1, stride=2)[:2], strict=True
        ):
            np.testing.assert_array_equal(found, wanted)

    def test_of_labels_and_masks(self, jax: Any) -> None:
        features, labels, mask = map(jax.numpy.asarray, (SEGMENTS["features"], LABELS, MASK))
        result, pull = jax.vjp(lambda x, labels: ao.segment_mean(x, labels, 5), features, labels)
        assert pull(result)[1].dtype == jax.dtypes.float0
        x, guide = (jax.numpy.asarray(PAC[name]) for name in ("input", "guide"))
        result, pull = jax.vjp(lambda x, mask: ao.pac_pool2d(x, guide, 3, padding=1, mask=mask).output, x, mask)
        assert pull(result)[1].dtype == jax.dtypes.float0

    def test_integer_features(self, jax: Any) -> None:
        features, labels = jax.numpy.ones((1, 2, 2, 3), int), jax.numpy.asarray(LABELS[:1])
        gradient = jax.grad(lambda x, scale: (ao.segment_sum(x, labels, 5) * scale).sum(), 1)(features, 2.0)
        assert float(gradient) == 12

    def test_masked_call_has_named_results(self, jax: Any) -> None:
        arrays = [jax.numpy.asarray(array) for array in (PAC["input"], PAC["guide"], WEIGHT["weight"])]
        mask = jax.numpy.asarray(MASK)
        call = jax.jit(lambda *arrays: ao.pac_conv2d(*arrays, mask=mask, padding=1))
        result, expected = call(*arrays), ao.pac_conv2d(*map(np.asarray, arrays), mask=MASK, padding=1)
        assert result._fields == expected._fields
        for found, wanted in zip(result, expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_forward_mode_raises(jax: Any) -> None:
    x, w = jax.numpy.asarray(X), jax.numpy.asarray(W)
    for transformed in (
        lambda: jax.jvp(lambda x: ours(x, w), (x,), (x,)),
        lambda: jax.jacfwd(lambda x: ours(x, w))(x),
        lambda: jax.hessian(lambda x: (ours(x, w) ** 2).sum())(x),
        lambda: jax.jit(jax.jacfwd(lambda x: ours(x, w)))(x),
    ):
        with pytest.raises(TypeError, match="can't apply forward-mode autodiff"):
            transformed()
    _, linear = jax.linearize(lambda x: ours(x, w), x)
    with pytest.raises(TypeError, match="can't apply forward-mode autodiff"):
        linear(x)


def test_zero_of_either_sign(jax: Any) -> None:
    """Parameters that compare equal are different calls."""
    pooled, labels = jax.numpy.ones((1, 2)), jax.numpy.array([0, 7])
    for fill in (0.0, -0.0, 0.0):
        result = jax.jit(lambda x, fill=fill: ao.segment_unpool(x, labels, fill=fill, check=False))(pooled)
        assert np.signbit(result[1]).all() == np.signbit(fill)


def test_operator_of_a_test(jax: Any, toy: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator that is known from its record alone."""

    def backward(arrays: tuple[Any, ...], parameters: Any) -> tuple[Any, ...]:
        assert parameters.needs == {"input"}
        return arrays[0] * parameters.forward.scale, None

    monkeypatch.setattr(_backends, "find", lambda kind, family, name: toy if name == SCALED.name else backward)
    for transformation in (jax.grad, lambda f: jax.jit(jax.grad(f)), lambda f: jax.vmap(jax.grad(f))):
        gradient = transformation(lambda x: (toy.scaled(x) ** 2).sum())(jax.numpy.arange(3.0))
        np.testing.assert_array_equal(gradient, 8 * np.arange(3.0))
