"""Calls in graphs as on machines with a GPU: operations that get eager tensors, here on the CPU."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from backend_recorder import Recorder
from differentiable_calls import FIRST_CALLS, DifferentiableCall
from operator_oracles import LABELS, normal

every_call = pytest.mark.parametrize("call", FIRST_CALLS.values(), ids=FIRST_CALLS)
Step = Callable[..., tuple[Sequence[Any], Sequence[Any]]]
"""From arrays to the results of a call and its gradients."""


@pytest.fixture(autouse=True)
def with_gpu(tf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from arrayops._frameworks.tensorflow import graph

    monkeypatch.setattr(graph, "uses_gpu", lambda: True)


@pytest.fixture
def script_ops(tf: Any) -> Any:
    from tensorflow.python.ops import script_ops

    return script_ops


def differentiating(tf: Any, call: DifferentiableCall, function: Callable[..., Any]) -> Step:
    """``function``, which computes the differentiable results of ``call``, with a tape around it."""
    cotangents = [tf.constant(each) for each in call.cotangents()]

    def step(*arrays: Any) -> tuple[Sequence[Any], Sequence[Any]]:
        with tf.GradientTape() as tape:
            for array in arrays:
                tape.watch(array)
            results = function(*arrays)
        return results, tape.gradient(results, arrays, cotangents)

    return step


def kinds(function: Any, *arrays: Any) -> set[str]:
    """The kinds of operations that call Python in the graph of a tf.function, and in the functions that it calls."""
    graph = function.get_concrete_function(*arrays).graph.as_graph_def()
    nodes = [*graph.node, *(node for each in graph.library.function for node in each.node_def)]
    return {node.op for node in nodes if "PyFunc" in node.op}


def assert_same(found: Sequence[Any], wanted: Sequence[Any]) -> None:
    for got, want in zip(found, wanted, strict=True):
        assert (got.dtype, got.shape, got.numpy().tobytes()) == (want.dtype, want.shape, want.numpy().tobytes())


@every_call
def test_equals_eager(tf: Any, script_ops: Any, call: DifferentiableCall) -> None:
    """With the tape inside the function, and around it."""
    arrays, function = [tf.constant(each) for each in call.arrays], call.function(tf.constant)
    results, gradients = differentiating(tf, call, function)(*arrays)
    for array, gradient in zip(call.gradients(call.cotangents()), gradients, strict=True):
        np.testing.assert_array_equal(gradient, array)
    graph = tf.function(function)
    inside = tf.function(differentiating(tf, call, function))
    assert kinds(graph, *arrays) == kinds(inside, *arrays) == {"EagerPyFunc"}
    for step in (inside, differentiating(tf, call, graph)):
        found, found_gradients = step(*arrays)
        assert_same(found, results)
        assert_same(found_gradients, gradients)
    assert not script_ops.tape_cache


def test_half_precision(tf: Any) -> None:
    image = tf.cast(normal(0, 1, 2, 5, 6), "bfloat16")
    wanted = ao.resize2d(image, 3, layout="NCHW")
    found = tf.function(lambda image: ao.resize2d(image, 3, layout="NCHW"))(image)
    assert found.dtype == tf.bfloat16
    np.testing.assert_array_equal(tf.cast(found, "float32"), tf.cast(wanted, "float32"))


@pytest.mark.parametrize("name", ["mean", "var", "max"])
def test_int32_labels(tf: Any, recorder: Recorder, name: str) -> None:
    """On a GPU, operations that call Python get no int32."""
    features, labels = tf.constant(normal(0, 2, 2, 2, 3)), tf.constant(LABELS, tf.int32)

    @tf.function
    def step(features: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(features)
            pooled = getattr(ao, f"segment_{name}")(features, labels, 5, layout="NCHW")
        return pooled, tape.gradient(pooled, features)

    assert kinds(step, features, labels) == {"EagerPyFunc"}
    definition = step.get_concrete_function(features, labels).graph.as_graph_def()
    types = [node.attr[side].list.type for node in definition.node if "PyFunc" in node.op for side in ("Tin", "Tout")]
    assert len(types) == 4
    assert tf.int32.as_datatype_enum not in {each for part in types for each in part}
    recorder.calls()
    pooled, gradient = step(features, labels)
    calls = recorder.calls()
    assert [call.name for call in calls] == [f"segment_{name}", f"segment_{name}_backward"]
    assert [call.arrays[-1 if i == 0 else 2].dtype for i, call in enumerate(calls)] == [np.int64] * 2
    wanted = getattr(ao, f"segment_{name}")(features.numpy(), LABELS, 5)
    np.testing.assert_array_equal(pooled, wanted)
    found = getattr(ao, f"segment_{name}_backward")(np.ones_like(wanted), features.numpy(), LABELS, 5)
    np.testing.assert_array_equal(gradient, found.features)


@pytest.mark.parametrize(("dtype", "kind"), [("int32", "PyFuncStateless"), ("uint32", "EagerPyFunc")])
def test_integer_features(tf: Any, dtype: str, kind: str) -> None:
    """TensorFlow has int32 in memory of the host, so that such a call runs there; uint32 are no bits of int32."""
    features, labels = tf.constant(np.arange(24).reshape(2, 2, 2, 3), dtype), tf.constant(LABELS, tf.int32)
    function = tf.function(lambda *arrays: ao.segment_max(*arrays, 5, empty=7, layout="NCHW"))
    assert kinds(function, features, labels) == {kind}
    found = function(features, labels)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, ao.segment_max(features.numpy(), LABELS, 5, empty=7))


def test_saved_results_of_the_caller(tf: Any) -> None:
    """They have the dtypes that they have elsewhere, and are passed to the backward by the caller."""
    features, labels = tf.constant(normal(0, 2, 2, 2, 3)), tf.constant(LABELS, tf.int32)

    names = "max", "var"

    def call(features: Any, labels: Any) -> Any:
        outputs, saved = ao.segment_reduce(features, labels, names, 5, layout="NCHW", return_saved=True)
        found = ao.segment_reduce_backward(outputs, features, labels, names, 5, layout="NCHW", saved=saved)
        return *outputs, *saved, found.features

    wanted = call(features, labels)
    assert tf.int32 in [each.dtype for each in wanted]
    assert_same(tf.function(call)(features, labels), wanted)


def test_error_of_the_backend(tf: Any) -> None:
    function = tf.function(lambda features, labels: ao.segment_mean(features, labels, 3, layout="NCHW"))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"segment_mean: labels\[0, 1, 0\] is 3, expected 0 to 2"):
        function(normal(0, 2, 2, 2, 3), LABELS)


class TestFunctionsOfOthers:
    """arrayops extends TensorFlow's table of gradients, and its look-up of functions: those of others stay."""

    def test_gradient_of_py_function(self, tf: Any, script_ops: Any) -> None:
        x = tf.constant([1.0, 2.0])
        cube = tf.function(lambda x: tf.py_function(lambda x: x**3, [x], tf.float32))

        def step(x: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = cube(x)
            return y, tape.gradient(y, x)

        for each in (step, tf.function(step)):
            y, gradient = each(x)
            np.testing.assert_array_equal(y, [1, 8])
            np.testing.assert_array_equal(gradient, [3, 12])

    @pytest.mark.parametrize("stateful", [True, False])
    def test_numpy_function_has_no_gradient(self, tf: Any, stateful: bool) -> None:
        x = tf.constant([1.0, 2.0])

        @tf.function
        def step(x: Any) -> Any:
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(x)
                y = tf.numpy_function(lambda x: x**3, [x], tf.float32, stateful=stateful)
                total = y + 2 * x
            assert tape.gradient(y, x) is None
            return y, tape.gradient(total, x)

        y, gradient = step(x)
        np.testing.assert_array_equal(y, [1, 8])
        np.testing.assert_array_equal(gradient, [2, 2])

    def test_beside_calls_of_arrayops(self, tf: Any) -> None:
        """In one graph, with one gradient through all of them."""
        image = tf.constant(normal(0, 1, 2, 4, 6))

        @tf.function
        def step(image: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(image)
                small = ao.resize2d(image, (2, 3), layout="NCHW")
                squared = tf.ensure_shape(tf.py_function(lambda x: x * x, [small], tf.float64), (1, 2, 2, 3))
                # No gradient.
                sign = tf.numpy_function(np.sign, [small], tf.float64, stateful=False)
                loss = tf.reduce_sum(ao.resize2d(squared, (4, 6), layout="NCHW") * sign[0, 0, 0, 0])
            return small, tape.gradient(loss, image)

        small, gradient = step(image)
        ones = np.ones((1, 2, 4, 6)) * np.sign(small[0, 0, 0, 0].numpy())
        [inner] = ao.resize2d_backward(ones, small.numpy(), (4, 6))
        [wanted] = ao.resize2d_backward(2 * inner * small.numpy(), image.numpy(), (2, 3))
        np.testing.assert_allclose(gradient, wanted, rtol=1e-14)
