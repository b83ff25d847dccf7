"""Calls in tf.function: shapes, what is run, what is refused; test_tensorflow_gradients.py has the gradients."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from backend_recorder import Recorder
from differentiable_calls import FIRST_CALLS, DifferentiableCall
from operator_oracles import LABELS, SEGMENTS, normal

X, W = normal(0, 2, 5, 6, 3), normal(1, 3, 3, 3, 4)


def conv(x: Any, w: Any) -> Any:
    return ao.conv2d(x, w, padding=1, layout="NHWC")


def operations(function: Any, *arguments: Any) -> list[str]:
    return [each.type for each in function.get_concrete_function(*arguments).graph.get_operations()]


class TestShapes:
    @pytest.mark.parametrize("call", FIRST_CALLS.values(), ids=FIRST_CALLS)
    def test_none_in_each_place(self, tf: Any, call: DifferentiableCall) -> None:
        """Shapes in the graph are right, and complete if all sizes are known; test_unknown_sizes.py has every case."""
        results, arrays = call.all_results(tf.constant), [tf.constant(each) for each in call.arrays]
        expected = [result.shape for result in results(*arrays)]
        for place in [None, *[(i, axis) for i, array in enumerate(arrays) for axis in range(array.shape.rank)]]:
            signature = [
                tf.TensorSpec([None if (i, axis) == place else size for axis, size in enumerate(x.shape)], x.dtype)
                for i, x in enumerate(arrays)
            ]
            graph = tf.function(results, input_signature=signature).get_concrete_function()
            found = graph.output_shapes if isinstance(graph.output_shapes, (tuple, list)) else [graph.output_shapes]
            for shape, full in zip(found, expected, strict=True):
                assert shape.rank == full.rank
                assert shape.is_compatible_with(full)
                if place is None:
                    assert shape == full

    def test_layers_that_need_a_shape_follow(self, tf: Any, keras: Any) -> None:
        class Network(keras.Model):
            def __init__(self) -> None:
                super().__init__()
                self.dense = keras.layers.Dense(2)

            def call(self, x: Any) -> Any:
                return self.dense(ao.resize2d(x, 3, layout="NHWC"))

        network = Network()
        function = tf.function(network, input_signature=[tf.TensorSpec([None, None, None, 3])])
        assert function.get_concrete_function().output_shapes.as_list() == [None, 3, 3, 2]

    def test_unknown_number_of_axes(self, tf: Any) -> None:
        function = tf.function(lambda x: ao.resize2d(x, 3, layout="NHWC"), input_signature=[tf.TensorSpec(None)])
        message = (
            "resize2d: input has an unknown number of axes, expected a known one: set it with "
            "tf.ensure_shape(input, [None, ...])"
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            function(tf.ones((1, 2, 2, 1)))

    def test_mismatch_that_shows_when_it_is_traced(self, tf: Any) -> None:
        function = tf.function(conv)
        with pytest.raises(ValueError, match=r"conv2d: weight is \(3, 3, 5, 4\), expected 3 input channels"):
            function(tf.constant(X), tf.ones((3, 3, 5, 4), tf.float64))

    def test_mismatch_that_shows_when_it_is_run(self, tf: Any) -> None:
        function = tf.function(conv, input_signature=[tf.TensorSpec([None] * 4), tf.TensorSpec([None] * 4)])
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"conv2d: weight is \(3, 3, 5, 4\), expected 3 input"):
            function(tf.ones((1, 5, 5, 3)), tf.ones((3, 3, 5, 4)))

    def test_wrong_dtype(self, tf: Any) -> None:
        with pytest.raises(TypeError, match="conv2d: weight is float32, expected float64 as the input"):
            tf.function(conv)(tf.constant(X), tf.ones((3, 3, 3, 4)))

    def test_empty_batch(self, tf: Any) -> None:
        function = tf.function(conv, input_signature=[tf.TensorSpec([None] * 4, "float64")] * 2)
        result = function(tf.constant(X[:0]), tf.constant(W))
        assert result.shape == (0, 5, 6, 4)


class TestTracing:
    @pytest.mark.parametrize("autograph", [True, False])
    def test_result(self, tf: Any, autograph: bool) -> None:
        result = tf.function(conv, autograph=autograph)(tf.constant(X), tf.constant(W))
        assert (result.dtype, result.shape) == (tf.float64, (2, 5, 6, 4))
        np.testing.assert_array_equal(result, ao.conv2d(X, W, padding=1, layout="NHWC"))

    def test_nothing_runs_while_a_function_is_traced(self, tf: Any, recorder: Recorder) -> None:
        """Not even on concrete tensors, which are constants in the graph."""
        x, w = tf.constant(X), tf.constant(W)
        function = tf.function(lambda: conv(x, w))
        assert "PyFuncStateless" in operations(function)
        assert recorder.calls() == []
        np.testing.assert_array_equal(function(), conv(X, W))

    def test_result_that_is_not_used(self, tf: Any, recorder: Recorder) -> None:
        @tf.function
        def function(x: Any, w: Any) -> Any:
            conv(x, w)
            return x + 1

        function(tf.constant(X), tf.constant(W))
        assert recorder.calls() == []

    def test_retracing_leaves_nothing(self, tf: Any) -> None:
        """Neither a callback nor a gradient, nor the graph itself."""
        from tensorflow.python.framework import ops
        from tensorflow.python.ops import script_ops

        def graph_of_a_trace(size: int) -> Any:
            @tf.function
            def step(x: Any, w: Any) -> Any:
                with tf.GradientTape() as tape:
                    tape.watch(w)
                    loss = tf.reduce_sum(ao.pac_conv2d(x, x, w, layout="NHWC"))
                return tape.gradient(loss, w)

            arrays = tf.ones((1, size, size, 2)), tf.ones((3, 3, 2, 2))
            step(*arrays)
            return weakref.ref(step.get_concrete_function(*arrays).graph)

        graphs = [graph_of_a_trace(size) for size in (3, 4)]
        counts = script_ops._py_funcs.size(), len(ops.gradient_registry.list())
        graphs += [graph_of_a_trace(size) for size in range(5, 25)]
        assert (script_ops._py_funcs.size(), len(ops.gradient_registry.list())) == counts
        gc.collect()
        assert sum(graph() is not None for graph in graphs) <= 1

    def test_equal_calls_are_one(self, tf: Any, recorder: Recorder) -> None:
        """TensorFlow sees that stateless operations of the same name and inputs are the same."""

        @tf.function
        def function(x: Any, w: Any) -> Any:
            return conv(x, w) + conv(x, w)

        result = function(tf.constant(X), tf.constant(W))
        assert recorder.names() == ["conv2d"]
        np.testing.assert_array_equal(result, 2 * conv(X, W))


def jitted(tf: Any, function: Callable[..., Any]) -> Any:
    return tf.function(function, jit_compile=True)


def nested_in_jitted(tf: Any, function: Callable[..., Any]) -> Any:
    return jitted(tf, lambda *arrays: tf.function(tf.function(function))(*arrays))


@pytest.mark.parametrize("compiled", [jitted, nested_in_jitted])
def test_xla_is_refused_when_traced(tf: Any, compiled: Callable[..., Any]) -> None:
    function = compiled(tf, conv)
    with pytest.raises(NotImplementedError) as error:
        function.get_concrete_function(tf.constant(X), tf.constant(W))
    assert (
        "conv2d: called in a function that XLA compiles, which cannot call Python, expected jit_compile=False, in "
        "tf.function or in compile() of a Keras model"
    ) in str(error.value)


def test_version_of_tensorflow_without_the_private_names(tf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its import goes on, eager calls work, and a call in a graph says why it cannot."""
    from arrayops._frameworks import saved_programs

    monkeypatch.setattr(saved_programs, "extended", [])
    for script_ops in (
        SimpleNamespace(ops=SimpleNamespace(gradient_registry=SimpleNamespace(_registry={}))),
        SimpleNamespace(_py_funcs={}, ops=SimpleNamespace(gradient_registry=SimpleNamespace(_registry={}))),
    ):
        saved_programs.extend(script_ops)
    assert saved_programs.extended == []
    assert conv(tf.constant(X), tf.constant(W)).shape == (2, 5, 6, 4)
    message = (
        f"conv2d: called in a tf.function, which is not provided with TensorFlow {tf.__version__}, expected an eager"
    )
    with pytest.raises(NotImplementedError, match=re.escape(message)):
        tf.function(conv)(tf.constant(X), tf.constant(W))


class TestLabels:
    """Their values are not known while a function is traced."""

    def test_out_of_range(self, tf: Any) -> None:
        function = tf.function(lambda x, labels: ao.segment_sum(x, labels, 3, layout="NCHW"))
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"segment_sum: labels\[0, 1, 0\] is 3, expected 0 to 2"
        ):
            function(tf.constant(SEGMENTS["features"]), tf.constant(LABELS))

    def test_number_of_segments_is_needed(self, tf: Any) -> None:
        function = tf.function(lambda x, labels: ao.segment_sum(x, labels, layout="NCHW"))
        message = (
            "segment_sum: num_segments is None, expected an integer: the labels have no values inside a compiled, "
            "traced or transformed function, pass num_segments="
        )
        with pytest.raises(ValueError, match=re.escape(message)):
            function(tf.constant(SEGMENTS["features"]), tf.constant(LABELS))

    def test_number_of_segments_of_concrete_labels(self, tf: Any) -> None:
        labels = tf.constant(LABELS)
        function = tf.function(lambda x: ao.segment_sum(x, labels, layout="NCHW"))
        assert function.get_concrete_function(tf.constant(SEGMENTS["features"])).output_shapes == (2, 2, 4)

    def test_number_of_segments_of_a_variable(self, tf: Any) -> None:
        labels = tf.Variable(LABELS)
        assert ao.segment_sum(tf.constant(SEGMENTS["features"]), labels, layout="NCHW").shape == (2, 2, 4)
        with pytest.raises(ValueError, match="segment_sum: num_segments is None"):
            tf.function(lambda x: ao.segment_sum(x, labels, layout="NCHW"))(tf.constant(SEGMENTS["features"]))


class TestOtherArrays:
    def test_numpy_beside_a_symbolic_tensor(self, tf: Any) -> None:
        with pytest.raises(TypeError, match="conv2d: weight is an array of NumPy, expected TensorFlow as for input"):
            tf.function(lambda x: conv(x, W))(tf.constant(X))

    def test_missing_array(self, tf: Any) -> None:
        with pytest.raises(TypeError, match="conv2d: weight is None, expected an array"):
            tf.function(lambda x: conv(x, None))(tf.constant(X))

    def test_numpy_alone_is_computed_when_traced(self, tf: Any) -> None:
        function = tf.function(lambda x: x + conv(X, W))
        np.testing.assert_array_equal(function(tf.constant(1.0, tf.float64)), 1 + conv(X, W))


def test_py_function(tf: Any) -> None:
    """Within it tensors are eager, and TensorFlow's own tape records the call."""

    @tf.function
    def gradient(x: Any, w: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(w)
            y = tf.py_function(conv, [x, w], tf.float64)
        return y, tape.gradient(y, w)

    y, found = gradient(tf.constant(X), tf.constant(W))
    np.testing.assert_array_equal(y, conv(X, W))
    expected = ao.conv2d_backward(np.ones((2, 5, 6, 4)), X, W, padding=1, layout="NHWC")
    np.testing.assert_array_equal(found, expected.weight)


def test_keras_training_step(tf: Any, keras: Any) -> None:
    """A layer of one's own around a plain function: fit on batches of different sizes, in graph mode and eagerly."""

    class Adaptive(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.kernel = self.add_weight(name="kernel", shape=(3, 3, shape[-1], 4), initializer="glorot_uniform")

        def call(self, x: Any) -> Any:
            return ao.pac_conv2d(x, x, self.kernel, padding=1, layout="NHWC")

        def compute_output_shape(self, shape: Any) -> Any:
            return (*shape[:-1], 4)

    losses = []
    for eagerly in (False, True):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((None, None, 3))
        model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(Adaptive()(inputs)))
        model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=eagerly, jit_compile=False)
        x, y = normal(3, 6, 5, 6, 3).astype(np.float32), normal(4, 6, 4).astype(np.float32)
        history = model.fit(x, y, batch_size=4, epochs=3, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    assert losses[0][-1] < losses[0][0]
    np.testing.assert_allclose(*losses, rtol=1e-5)
