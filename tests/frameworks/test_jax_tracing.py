"""jit, vmap and what else traces or transforms calls. The oracle is a loop of NumPy calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayops as ao
from arrayops._ops import OPS
from backend_recorder import Recorder
from differentiable_calls import FIRST_CALLS, DifferentiableCall
from operator_oracles import LABELS, ORACLES, SEGMENTS, as_tuple, normal

X, W = normal(0, 2, 3, 5, 6).astype(np.float32), normal(1, 4, 3, 3, 3).astype(np.float32)

FAILED_RUN = (RuntimeError, ValueError)
"""What JAX raises for an error in a callback: by the call, or by who waits for its results."""


first_calls = pytest.mark.parametrize("call", FIRST_CALLS.values(), ids=FIRST_CALLS)


def conv(x: Any, w: Any) -> Any:
    return ao.conv2d(x, w, padding=1)


def several(array: Any, count: int) -> Any:
    """Other values of the same shape, along a new first axis."""
    return np.stack([array * (1 + i / 4) for i in range(count)])


class TestMaps:
    """vmap of all differentiable arrays, of some, and nested."""

    @first_calls
    def test_equal_a_loop(self, jax: Any, call: DifferentiableCall) -> None:
        in_numpy, convert = call.all_results(np.asarray), jax.numpy.asarray
        first = [name == call.names[0] for name in call.names]
        batch = [several(array, 3) for array in call.arrays]
        with jax.enable_x64(True):
            mapped = jax.vmap(call.all_results(convert))
            arrays = [convert(array) for array in batch]
            got = jax.jit(mapped)(*arrays)
            # The first array is mapped by both, all others by the inner map alone.
            by_both = jax.vmap(mapped, in_axes=tuple(0 if each else None for each in first))
            twice = [convert(several(array, 2)) if each else array for array, each in zip(arrays, first, strict=True)]
            nested = jax.jit(by_both)(*twice)
        for i in range(3):
            values = [array[i] for array in batch]
            for result, wanted in zip(got, in_numpy(*values), strict=True):
                np.testing.assert_allclose(result[i], wanted, rtol=1e-12, atol=1e-12)
            for j in range(2):
                scaled = [array * (1 + j / 4) if each else array for array, each in zip(values, first, strict=True)]
                for result, wanted in zip(nested, in_numpy(*scaled), strict=True):
                    np.testing.assert_allclose(result[j, i], wanted, rtol=1e-12, atol=1e-12)

    @first_calls
    def test_of_gradients(self, jax: Any, call: DifferentiableCall) -> None:
        batch = [several(array, 2) for array in call.arrays]
        every, cotangents = tuple(range(len(batch))), call.cotangents()
        with jax.enable_x64(True):
            gradient = jax.vmap(jax.grad(call.loss(jax.numpy.asarray), every))
            got = jax.jit(gradient)(*map(jax.numpy.asarray, batch))
        for i in range(2):
            wanted = call.gradients(cotangents, [array[i] for array in batch])
            for result, expected in zip(got, wanted, strict=True):
                np.testing.assert_allclose(result[i], expected, rtol=1e-12, atol=1e-12)

    def test_of_labels(self, jax: Any) -> None:
        labels = np.stack([LABELS, LABELS[::-1]])
        features = SEGMENTS["features"].astype(np.float32)
        got = jax.vmap(lambda labels: ao.segment_mean(jax.numpy.asarray(features), labels, 5))(labels)
        for result, each in zip(got, labels, strict=True):
            np.testing.assert_array_equal(result, ao.segment_mean(features, each, 5))

    def test_other_axes(self, jax: Any) -> None:
        x = np.moveaxis(np.stack([X, 2 * X]), 0, 2)
        got = jax.vmap(conv, in_axes=(2, None), out_axes=-1)(jax.numpy.asarray(x), jax.numpy.asarray(W))
        np.testing.assert_array_equal(got[..., 1], ao.conv2d(2 * X, W, padding=1))

    def test_of_nothing(self, jax: Any) -> None:
        assert jax.vmap(conv, (0, None))(jax.numpy.ones((0, *X.shape)), jax.numpy.asarray(W)).shape == (0, 2, 4, 5, 6)
        x = jax.numpy.ones((3, 0, *X.shape[1:]))
        assert jax.vmap(conv, (0, None))(x, jax.numpy.asarray(W)).shape == (3, 0, 4, 5, 6)


class TestFolding:
    """A map over the batch is one call with a larger batch; other maps are a loop."""

    def shapes(self, jax: Any, recorder: Recorder, function: Any, *arrays: Any) -> list[Any]:
        recorder.calls()
        jax.block_until_ready(jax.jit(function)(*map(jax.numpy.asarray, arrays)))
        return [tuple(array.shape for array in call.arrays if array is not None) for call in recorder.calls()]

    def test_of_the_batch(self, jax: Any, recorder: Recorder) -> None:
        x = np.stack([X] * 64)
        assert self.shapes(jax, recorder, jax.vmap(conv, (0, None)), x, W) == [((128, *X.shape[1:]), W.shape)]

    def test_nested(self, jax: Any, recorder: Recorder) -> None:
        nested = jax.vmap(jax.vmap(conv, (0, None)), (1, None))
        assert self.shapes(jax, recorder, nested, np.ones((4, 5, *X.shape)), W) == [((40, *X.shape[1:]), W.shape)]

    def test_of_other_arrays(self, jax: Any, recorder: Recorder) -> None:
        one = (X.shape, W.shape)
        assert self.shapes(jax, recorder, jax.vmap(conv), np.stack([X] * 3), np.stack([W] * 3)) == [one] * 3
        assert self.shapes(jax, recorder, jax.vmap(conv, (None, 0)), X, np.stack([W] * 3)) == [one] * 3

    @pytest.mark.parametrize("x_axis", [0, 1])
    def test_in_part(self, jax: Any, recorder: Recorder, x_axis: int) -> None:
        """Of two maps, that of the input is folded, and that of the weight is a loop."""
        axes = [(0, None), (None, 0)]
        both = jax.vmap(jax.vmap(conv, axes[x_axis]), axes[1 - x_axis])
        x, w = np.stack([X] * 4), np.stack([W] * 3)
        assert self.shapes(jax, recorder, both, x, w) == [((8, *X.shape[1:]), W.shape)] * 3

    def test_of_gradients(self, jax: Any, recorder: Recorder) -> None:
        """The gradient of the input has the batch; that of a weight does not, as it is a sum over it."""
        x = np.stack([X] * 4)
        for argnum, calls in ((0, 1), (1, 4)):
            grad = jax.grad(lambda x, w: conv(x, w).sum(), argnum)
            assert len(self.shapes(jax, recorder, jax.vmap(grad, (0, None)), x, W)) == calls

    def test_arrays_that_are_the_same_for_all(self, jax: Any, recorder: Recorder) -> None:
        """A guide has the batch, too, and is repeated."""
        shapes = self.shapes(
            jax,
            recorder,
            jax.vmap(lambda x, guide, w: ao.pac_conv2d(x, guide, w, padding=1), (0, None, None)),
            np.stack([X] * 4),
            X[:, :2],
            W,
        )
        assert shapes == [((8, *X.shape[1:]), (8, 2, 5, 6), W.shape)]

    def test_without_a_batch(self, jax: Any, recorder: Recorder) -> None:
        """Features of (P, C) have none."""
        features, labels = np.ones((3, 6, 2), np.float32), np.zeros((3, 6), np.int32)
        of_one = jax.vmap(lambda features, labels: ao.segment_mean(features, labels, 2))
        assert len(self.shapes(jax, recorder, of_one, features, labels)) == 3


class TestTraces:
    def test_one_trace_in_five_calls(self, jax: Any) -> None:
        traced = []

        @jax.jit
        def grad(x: Any, w: Any) -> Any:
            traced.append(1)
            return jax.grad(lambda w: conv(x, w).sum())(w)

        for i in range(5):
            np.testing.assert_allclose(
                grad(X + i, W), ao.conv2d_backward(np.ones_like(conv(X, W)), X + i, W, padding=1)[1]
            )
        assert traced == [1]

    def test_repeated_eager_maps_compile_once(self, jax: Any) -> None:
        """JAX compiles again if it gets another function to call."""
        from arrayops._frameworks.jax.callback import _callback

        x, w = jax.numpy.stack([X, X]), jax.numpy.asarray(W)
        first = jax.vmap(conv, (0, None))(x, w)
        before = _callback.cache_info()
        np.testing.assert_array_equal(jax.vmap(conv, (0, None))(x, w), first)
        after = _callback.cache_info()
        assert (after.hits - before.hits, after.misses) == (1, before.misses)

    def test_abstract_evaluation(self, jax: Any, recorder: Recorder) -> None:
        x, w = (jax.ShapeDtypeStruct(array.shape, array.dtype) for array in (X, W))
        result = jax.eval_shape(conv, x, w)
        assert (result.shape, result.dtype) == ((2, 4, 5, 6), np.float32)
        assert "buffer_callback" in str(jax.make_jaxpr(conv)(x, w))
        assert recorder.names() == []

    def test_compiled_ahead_of_time(self, jax: Any) -> None:
        compiled = jax.jit(conv).lower(jax.ShapeDtypeStruct(X.shape, X.dtype), jax.numpy.asarray(W)).compile()
        np.testing.assert_array_equal(compiled(X, W), ao.conv2d(X, W, padding=1))

    def test_donation(self, jax: Any) -> None:
        x = jax.numpy.asarray(X)
        step = jax.jit(lambda x: x - ao.resize2d(x, (5, 6)), donate_argnums=0)
        np.testing.assert_array_equal(step(x), np.zeros_like(X))
        assert x.is_deleted()

    def test_constants(self, jax: Any) -> None:
        w = jax.numpy.asarray(W)
        np.testing.assert_array_equal(jax.jit(lambda x: conv(x, w))(X), conv(X, W))
        result = jax.jit(lambda x: x + conv(jax.numpy.asarray(X), w))(jax.numpy.zeros((2, 4, 5, 6)))
        np.testing.assert_array_equal(result, conv(X, W))

    def test_bits_of_bfloat16(self, jax: Any) -> None:
        x, w = (jax.numpy.asarray(array, "bfloat16") for array in (X, W))
        eager = conv(x, w)
        for result in (jax.jit(conv)(x, w), jax.jit(jax.vmap(conv, (0, None)))(x[None], w)[0]):
            assert result.dtype == eager.dtype
            np.testing.assert_array_equal(result.view("uint16"), eager.view("uint16"))
        gradients = [
            f(lambda x, w: conv(x, w).sum(), (0, 1))(x, w) for f in (jax.grad, lambda *a: jax.jit(jax.grad(*a)))
        ]
        for eager, jitted in zip(*gradients, strict=True):
            np.testing.assert_array_equal(eager.view("uint16"), jitted.view("uint16"))

    def test_control_flow(self, jax: Any) -> None:
        x, w = jax.numpy.asarray(X), jax.numpy.asarray(W)
        for result in (
            jax.jit(lambda x: jax.lax.cond(x.sum() > 1e9, lambda x: conv(x, w) * 0, lambda x: conv(x, w), x))(x),
            jax.lax.map(lambda x: conv(x, w), x[None])[0],
        ):
            np.testing.assert_array_equal(result, conv(X, W))


def is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (isinstance(value, list) and isinstance(value[0], np.ndarray))


@pytest.mark.parametrize("name", OPS)
def test_without_x64(jax: Any, name: str) -> None:
    """float32 as NumPy's float32; integers have 32 bits."""
    call = {
        key: jax.tree.map(lambda array: array.astype(np.float32) if array.dtype.kind == "f" else array, value)
        if is_array(value)
        else value
        for key, value in ORACLES[name].calls[0].items()
    }
    arrays = {key: value for key, value in call.items() if is_array(value)}
    others = {key: value for key, value in call.items() if key not in arrays}
    results = jax.jit(lambda arrays: as_tuple(getattr(ao, name)(**arrays, **others)))(arrays)
    for result, wanted in zip(results, as_tuple(getattr(ao, name)(**call)), strict=True):
        assert result.dtype == str(wanted.dtype).replace("int64", "int32")
        np.testing.assert_array_equal(result, wanted)


class TestErrors:
    def test_shapes(self, jax: Any) -> None:
        with pytest.raises(ValueError, match=r"^conv2d: ") as traced:
            jax.jit(conv)(X, W[:, :2])
        with pytest.raises(ValueError, match=r"^conv2d: ") as plain:
            conv(X, W[:, :2])
        assert str(traced.value) == str(plain.value)

    def test_dtypes(self, jax: Any) -> None:
        with pytest.raises(TypeError, match=r"^conv2d: weight is float16, expected float32"):
            jax.grad(lambda x: conv(x, jax.numpy.asarray(W, "float16")).sum())(X)

    def test_other_arrays(self, jax: Any) -> None:
        for arrays, error in (
            ((W,), "conv2d: weight is an array of NumPy, expected JAX as for input"),
            ((None,), "conv2d: weight is None, expected an array"),
            (([1.0],), "conv2d: weight is list, expected an array of NumPy, CuPy, PyTorch"),
        ):
            for transformation in (jax.jit, jax.vmap, jax.grad):
                with pytest.raises(TypeError) as raised:
                    transformation(lambda x, arrays=arrays: ao.conv2d(x, *arrays))(jax.numpy.asarray(X))
                assert str(raised.value).startswith(error)

    def test_labels_without_values(self, jax: Any) -> None:
        features, labels = jax.numpy.asarray(SEGMENTS["features"]), jax.numpy.asarray(LABELS)
        for transformed, array in (
            (jax.jit(lambda labels: ao.segment_mean(features, labels)), labels),
            (jax.vmap(lambda labels: ao.segment_mean(features, labels)), labels[None]),
        ):
            with pytest.raises(ValueError, match=r"^segment_\w+: num_segments is None, .*, pass num_segments="):
                transformed(array)
        # Labels of a function that only the features are traced in have values.
        jax.jit(lambda features: ao.segment_mean(features, labels))(features)

    def test_values(self, jax: Any) -> None:
        """The text of an error inside a compiled function is in JAX's error, and the process goes on."""
        labels = np.where(np.arange(12).reshape(2, 2, 3) == 4, 9, 0)
        call = jax.jit(lambda x, labels: ao.segment_mean(x, labels, 5))
        features = SEGMENTS["features"].astype(np.float32)
        for _ in range(2):
            with pytest.raises(FAILED_RUN, match=r"ValueError: segment_mean: labels\[0, 1, 1\] is 9, expected 0 to 4"):
                call(features, labels).block_until_ready()
            np.testing.assert_array_equal(call(features, LABELS), ao.segment_mean(features, LABELS, 5))

    def test_wide_integers(self, jax: Any) -> None:
        features = np.full((1, 1, 1, 2), 2**30, np.int32)
        total = jax.jit(lambda x: ao.segment_sum(x, jax.numpy.zeros((1, 1, 2), int), 1))
        assert total(features // 2).dtype == np.int32
        with pytest.raises(FAILED_RUN, match="OverflowError: a result is int64 with values out of range of int32"):
            total(features).block_until_ready()
        with jax.enable_x64(True):
            assert int(total(features)[0, 0, 0]) == 2**31


class TestShardMap:
    """Two devices, each with its part of the batch."""

    @pytest.fixture
    def on_devices(self, jax: Any) -> Any:
        mesh = jax.make_mesh((2,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
        spec = jax.sharding.PartitionSpec

        def wrap(function: Any, out: tuple[str, ...] = (), **options: Any) -> Any:
            specs = {"in_specs": (spec("i"), spec()), "out_specs": spec(*out)}
            return jax.jit(jax.shard_map(function, mesh=mesh, **specs, **options))

        return wrap

    def test_results(self, jax: Any, on_devices: Any, recorder: Recorder) -> None:
        result = on_devices(conv, ("i",))(X, W).block_until_ready()
        assert [call.arrays[0].shape[0] for call in recorder.calls()] == [1, 1]
        np.testing.assert_allclose(result, conv(X, W), rtol=1e-6)

    def test_gradients(self, jax: Any, on_devices: Any) -> None:
        """Of the shared weight, the sum over devices; taken inside and outside of the map."""

        def loss(x: Any, w: Any) -> Any:
            return (conv(x, w) ** 2).sum()

        wanted = jax.grad(loss, (0, 1))(*map(jax.numpy.asarray, (X, W)))
        inside = on_devices(jax.grad(loss, 1))(X, W)
        np.testing.assert_allclose(inside, wanted[1], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(on_devices(jax.grad(loss), ("i",))(X, W), wanted[0], rtol=1e-4, atol=1e-4)
        for options in ({}, {"check_vma": False}):
            total = on_devices(lambda x, w: jax.lax.psum(loss(x, w), "i"), **options)
            for got, expected in zip(jax.grad(total, (0, 1))(X, W), wanted, strict=True):
                np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)

    def test_second_derivatives(self, jax: Any, on_devices: Any) -> None:
        def loss(x: Any, w: Any) -> Any:
            return (jax.grad(lambda x: (conv(x, w) ** 2).sum())(x) ** 2).sum()

        wanted = jax.grad(loss, 1)(*map(jax.numpy.asarray, (X, W)))
        np.testing.assert_allclose(on_devices(jax.grad(loss, 1))(X, W), wanted, rtol=1e-3)
