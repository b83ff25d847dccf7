"""GradientTape and what belongs to it, for every differentiable operator; oracles are NumPy's backward and TensorFlow.

``eager`` runs everything at once; in a ``function`` the tape is within a tf.function whose arguments have no known
size; ``outside`` is such a function, and the tape is around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from backend_recorder import Recorder
from differentiable_calls import CALLS, FIRST_CALLS, DifferentiableCall
from operator_oracles import LABELS, MASK, PAC, SEGMENTS, WEIGHT, normal
from toy_op import FLOATS

MODES = "eager", "function", "outside"
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
first_calls = pytest.mark.parametrize("call", FIRST_CALLS.values(), ids=FIRST_CALLS)
every_mode = pytest.mark.parametrize("mode", MODES)

X, W = normal(0, 2, 5, 6, 3), normal(1, 3, 3, 3, 4)
GUIDE = normal(2, 2, 5, 6, 2) / 2


def of_unknown_sizes(tf: Any, function: Callable[..., Any], arrays: Any) -> Callable[..., Any]:
    """``function`` as a tf.function that knows the number of axes of its arguments, and no size."""
    return tf.function(function, input_signature=[tf.TensorSpec([None] * np.ndim(x), x.dtype) for x in arrays])


def differentiate(tf: Any, mode: str, function: Callable[..., Any], arrays: Any, wanted: Any = None) -> list[Any]:
    """Gradients of ``function``, a number, by the ``wanted`` arrays, which alone are watched; by default by all."""
    numbers = range(len(arrays)) if wanted is None else wanted
    inner = of_unknown_sizes(tf, function, arrays) if mode == "outside" else function

    def gradients(*values: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            sources = [values[i] for i in numbers]
            tape.watch(sources)
            result = inner(*values)
        return tape.gradient(result, sources)

    return (of_unknown_sizes(tf, gradients, arrays) if mode == "function" else gradients)(*arrays)


def loss_of(tf: Any, call: DifferentiableCall) -> Callable[..., Any]:
    """A function whose gradients are those of the call with its cotangents."""
    function, cotangents = call.function(tf.constant), [tf.constant(each) for each in call.cotangents()]
    return lambda *values: tf.add_n([tf.reduce_sum(y * g) for y, g in zip(function(*values), cotangents, strict=True)])


def constants(tf: Any, call: DifferentiableCall) -> list[Any]:
    return [tf.constant(array) for array in call.arrays]


def assert_equal(found: Any, expected: Any) -> None:
    assert len(found) == len(expected)
    for value, wanted in zip(found, expected, strict=True):
        assert value.dtype == wanted.dtype
        np.testing.assert_array_equal(value, wanted)


@every_mode
@every_call
def test_gradients_equal_backward(tf: Any, call: DifferentiableCall, mode: str) -> None:
    found = differentiate(tf, mode, loss_of(tf, call), constants(tf, call))
    assert all(tf.is_tensor(each) for each in found)
    assert_equal(found, call.gradients(call.cotangents()))


@first_calls
def test_results_in_a_function_are_those_of_eager_calls(tf: Any, call: DifferentiableCall) -> None:
    """All of them, masks and counts too."""
    results, arrays = call.all_results(tf.constant), constants(tf, call)
    assert_equal(of_unknown_sizes(tf, results, arrays)(*arrays), results(*arrays))


@pytest.mark.parametrize("dtype", FLOATS)
@every_mode
def test_dtypes(tf: Any, mode: str, dtype: str) -> None:
    arrays = [tf.cast(array, dtype) for array in (X, GUIDE, W)]

    def loss(x: Any, guide: Any, weight: Any) -> Any:
        return tf.reduce_sum(ao.pac_conv2d(x, guide, weight, padding=1, layout="NHWC"))

    ones = np.ones((2, 5, 6, 4), arrays[0].numpy().dtype)
    expected = ao.pac_conv2d_backward(ones, *[array.numpy() for array in arrays], padding=1, layout="NHWC")
    assert_equal(differentiate(tf, mode, loss, arrays), expected[:3])


@every_mode
def test_a_mask_and_labels_have_no_gradient(tf: Any, mode: str) -> None:
    def pooled(x: Any, guide: Any, mask: Any, features: Any, labels: Any) -> Any:
        output, output_mask = ao.pac_pool2d(x, guide, 2, mask=mask, layout="NCHW")
        means = ao.segment_mean(features, labels, 5, layout="NCHW")
        return tf.reduce_sum(output * tf.cast(output_mask, output.dtype)) + tf.reduce_sum(means)

    arrays = [tf.constant(each) for each in (PAC["input"], PAC["guide"], MASK, SEGMENTS["features"], LABELS)]
    found = differentiate(tf, mode, pooled, arrays, [0, 1, 3])
    output, mask = ao.pac_pool2d(PAC["input"], PAC["guide"], 2, mask=MASK)
    cotangent = np.broadcast_to(mask, output.shape).astype(output.dtype)
    expected = ao.pac_pool2d_backward(cotangent, PAC["input"], PAC["guide"], 2, mask=MASK)
    ones = np.ones((2, 2, 5))
    means = ao.segment_mean_backward(ones, SEGMENTS["features"], LABELS, 5)
    assert_equal(found, [expected.input, expected.guide, means.features])


class TestWantedGradients:
    """Backward calls by the gradients that they compute."""

    @pytest.mark.parametrize("mode", ["eager", "function"])
    @first_calls
    def test_of_one_argument(self, tf: Any, recorder: Recorder, call: DifferentiableCall, mode: str) -> None:
        loss, arrays = loss_of(tf, call), constants(tf, call)
        recorder.calls()
        for name in dict.fromkeys(call.names):
            numbers = [i for i, each in enumerate(call.names) if each == name]
            differentiate(tf, mode, loss, arrays, numbers)
            assert recorder.needs() == [{name}]

    def test_weight_alone_in_a_function_runs_one_call(self, tf: Any, recorder: Recorder) -> None:
        """The loss is a sum and the shape of the result is known, so that not even the forward is needed."""

        @tf.function
        def gradient(x: Any, guide: Any, weight: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(weight)
                loss = tf.reduce_sum(ao.pac_conv2d(x, guide, weight, layout="NHWC"))
            return tape.gradient(loss, weight)

        gradient(*[tf.constant(each) for each in (X, GUIDE, W)])
        [call] = recorder.calls()
        assert (call.name, set(call.parameters.needs)) == ("pac_conv2d_backward", {"weight"})

    def test_of_a_function_within_a_function(self, tf: Any, recorder: Recorder) -> None:
        """Where TensorFlow does not tell which gradients are used, what a tape watched is apart from the rest."""
        inner = tf.function(lambda x, weight: ao.conv2d(x, weight, layout="NHWC"))

        @tf.function
        def step(x: Any, weight: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(weight)
                loss = tf.reduce_sum(inner(x, weight) ** 2)
            return tape.gradient(loss, weight)

        step(tf.constant(X), tf.constant(W))
        assert recorder.needs() in ([{"weight"}], [{"input", "weight"}])

    def test_tape_around_a_function(self, tf: Any, recorder: Recorder) -> None:
        def loss(x: Any, guide: Any, weight: Any) -> Any:
            return tf.reduce_sum(ao.pac_conv2d(x, guide, weight, layout="NHWC"))

        differentiate(tf, "outside", loss, [tf.constant(each) for each in (X, GUIDE, W)], [2])
        needs = recorder.needs()
        assert len(needs) <= 2
        assert set().union(*needs) == {"input", "guide", "weight"}

    @every_mode
    def test_what_the_forward_saves_is_used(self, tf: Any, recorder: Recorder, mode: str) -> None:
        def loss(features: Any) -> Any:
            return tf.reduce_sum(ao.segment_max(features, tf.constant(LABELS), 5, layout="NCHW"))

        differentiate(tf, mode, loss, [tf.constant(SEGMENTS["features"])])
        (backward,) = [call for call in recorder.calls() if call.name == "segment_max_backward"]
        # A tape outside of a function is not seen while it is traced: nothing is saved, and the backward searches.
        assert len(backward.arrays) == (3 if mode == "outside" else 4)

    def test_nothing_is_saved_without_a_tape(self, tf: Any, recorder: Recorder) -> None:
        ao.segment_max(tf.constant(SEGMENTS["features"]), tf.constant(LABELS), 5, layout="NCHW")
        [call] = recorder.calls()
        assert not call.parameters.save
        assert len(call.results) == 1


class TestTapes:
    def test_stop_gradient_and_stop_recording(self, tf: Any) -> None:
        x, weight = tf.constant(X), tf.constant(W)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            stopped = ao.conv2d(tf.stop_gradient(x), weight, layout="NHWC")
            with tape.stop_recording():
                silent = ao.conv2d(x, weight, layout="NHWC")
        assert tape.gradient(stopped, x) is None
        assert tape.gradient(silent, x) is None

    @pytest.mark.parametrize("in_function", [False, True])
    def test_persistent_and_nested(self, tf: Any, in_function: bool) -> None:
        def gradients(x: Any, weight: Any) -> Any:
            with tf.GradientTape(persistent=True) as outer:
                outer.watch(x)
                with tf.GradientTape() as inner:
                    inner.watch(weight)
                    y = ao.conv2d(x, weight, layout="NHWC")
                by_weight = inner.gradient(y, weight)
                twice = 2 * y
            return outer.gradient(y, x), outer.gradient(twice, x), by_weight

        x, weight = tf.constant(X), tf.constant(W)
        by_x, doubled, by_weight = (tf.function(gradients) if in_function else gradients)(x, weight)
        expected = ao.conv2d_backward(np.ones((2, 3, 4, 4)), X, W, layout="NHWC")
        assert_equal([by_x, doubled, by_weight], [expected.input, 2 * expected.input, expected.weight])

    @pytest.mark.parametrize("in_function", [False, True])
    @pytest.mark.parametrize("pfor", [False, True])
    @pytest.mark.filterwarnings("ignore")
    def test_jacobian(self, tf: Any, in_function: bool, pfor: bool) -> None:
        """Vectorised or not, it calls the backward once for each result."""

        def jacobian(x: Any, guide: Any, weight: Any) -> Any:
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(x)
                y = ao.pac_conv2d(x, guide, weight, layout="NHWC")
            return tape.jacobian(y, x, experimental_use_pfor=pfor)

        arrays = X[:1, :4, :3], GUIDE[:1, :4, :3], W[:, :, :, :2]
        found = (tf.function(jacobian) if in_function else jacobian)(*[tf.constant(each) for each in arrays])
        assert found.shape == (1, 2, 1, 2, 1, 4, 3, 3)
        for i, j in np.ndindex(2, 2):
            one_hot = np.zeros((1, 2, 1, 2))
            one_hot[0, i, 0, j] = 1
            expected = ao.pac_conv2d_backward(one_hot, *arrays, layout="NHWC", needs=["input"]).input
            np.testing.assert_array_equal(found[0, i, 0, j], expected)

    @every_mode
    def test_gradient_of_selected_rows(self, tf: Any, mode: str) -> None:
        """The cotangent of tf.gather is no tensor but IndexedSlices."""

        def loss(x: Any) -> Any:
            return tf.reduce_sum(tf.gather(ao.resize2d(x, 3, layout="NHWC"), [1, 1]))

        (found,) = differentiate(tf, mode, loss, [tf.constant(X)])
        cotangent = np.zeros((2, 3, 3, 3))
        cotangent[1] = 2
        assert_equal([found], ao.resize2d_backward(cotangent, X, 3, layout="NHWC"))

    @every_mode
    def test_results_that_are_not_used(self, tf: Any, mode: str) -> None:
        def loss(features: Any) -> Any:
            results = ao.segment_reduce(features, tf.constant(LABELS), ("mean", "count", "max"), 5, layout="NCHW")
            return tf.reduce_sum(results[2])

        (found,) = differentiate(tf, mode, loss, [tf.constant(SEGMENTS["features"])])
        expected = ao.segment_max_backward(np.ones((2, 2, 5)), SEGMENTS["features"], LABELS, 5)
        np.testing.assert_array_equal(found, expected.features)

    @every_mode
    def test_one_array_as_several_arguments(self, tf: Any, mode: str) -> None:
        def loss(x: Any) -> Any:
            return tf.reduce_sum(ao.pac_conv2d(x, x, tf.constant(W), layout="NHWC"))

        (found,) = differentiate(tf, mode, loss, [tf.constant(X)])
        expected = ao.pac_conv2d_backward(np.ones((2, 3, 4, 4)), X, X, W, layout="NHWC")
        np.testing.assert_allclose(found, expected.input + expected.guide, rtol=1e-14, atol=1e-14)

    def test_saved_results_that_the_caller_asks_for(self, tf: Any) -> None:
        features = tf.constant(SEGMENTS["features"])
        with tf.GradientTape() as tape:
            tape.watch(features)
            output, saved = ao.segment_max(features, tf.constant(LABELS), 5, layout="NCHW", return_saved=True)
        grad = tf.ones_like(output)
        by_tape = tape.gradient(output, features, grad)
        by_hand = ao.segment_max_backward(grad, features, tf.constant(LABELS), 5, layout="NCHW", saved=saved)
        np.testing.assert_array_equal(by_tape, by_hand.features)

    def test_recompute_grad(self, tf: Any) -> None:
        weight = tf.Variable(W)
        block = tf.recompute_grad(lambda x: tf.tanh(ao.conv2d(x, weight, padding=1, layout="NHWC")))
        found = []
        for function in (block, lambda x: tf.tanh(tf.nn.conv2d(x, weight, 1, "SAME"))):
            x = tf.constant(X)
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_sum(function(x) ** 2)
            found.append(tape.gradient(loss, [x, weight]))
        for ours, own in zip(*found, strict=True):
            np.testing.assert_allclose(ours, own, rtol=1e-10, atol=1e-12)

    @pytest.mark.parametrize("in_function", [False, True])
    def test_forward_accumulator_where_linear(self, tf: Any, in_function: bool) -> None:
        tangent = tf.constant(normal(8, *X.shape))

        def product(x: Any) -> Any:
            with tf.autodiff.ForwardAccumulator(x, tangent) as accumulator:
                y = ao.conv2d(x, tf.constant(W), layout="NHWC")
            return accumulator.jvp(y)

        found = (tf.function(product) if in_function else product)(tf.constant(X))
        np.testing.assert_array_equal(found, ao.conv2d(tangent, tf.constant(W), layout="NHWC"))

    def test_forward_accumulator_elsewhere(self, tf: Any) -> None:
        guide = tf.constant(GUIDE)
        with (
            tf.autodiff.ForwardAccumulator(guide, guide),
            pytest.raises(NotImplementedError, match=r"^pac_conv2d_backward: the derivative of the gradient of guide"),
        ):
            ao.pac_conv2d(tf.constant(X), guide, tf.constant(W), layout="NHWC")


class TestVariables:
    """Gradients reach the variables, and only those that are trainable."""

    @pytest.mark.parametrize("in_function", [False, True])
    @pytest.mark.parametrize("name", ["tf.Variable", "keras.Variable"])
    def test_gradients(self, tf: Any, keras: Any, recorder: Recorder, name: str, in_function: bool) -> None:
        made = tf.Variable if name == "tf.Variable" else keras.Variable
        x, weight, bias = made(X, dtype="float64", trainable=False), made(W, dtype="float64"), made(np.zeros(4))
        sources = [getattr(each, "value", each) if name == "keras.Variable" else each for each in (weight, bias)]

        def step() -> Any:
            with tf.GradientTape() as tape:
                y = ao.conv2d(x, weight, bias, layout="NHWC")
            return tape.gradient(y, sources)

        found = (tf.function(step) if in_function else step)()
        assert recorder.needs() == [{"weight", "bias"}]
        expected = ao.conv2d_backward(np.ones((2, 3, 4, 4)), X, W, np.zeros(4), layout="NHWC")
        np.testing.assert_array_equal(found[0], expected.weight)
        np.testing.assert_array_equal(found[1], expected.bias)

    def test_training(self, tf: Any) -> None:
        """Gradient descent by the hand of an optimizer ends where the same with TensorFlow's own convolution ends."""
        trained = []
        for conv in (
            lambda x, w: ao.conv2d(x, w, padding="SAME", layout="NHWC"),
            lambda x, w: tf.nn.conv2d(x, w, 1, "SAME"),
        ):
            weight = tf.Variable(W / 9)

            @tf.function
            def step(x: Any, target: Any, conv: Any = conv, weight: Any = weight) -> Any:
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean((tf.nn.relu(conv(x, weight)) - target) ** 2)
                weight.assign_sub(0.1 * tape.gradient(loss, weight))
                return loss

            losses = [float(step(tf.constant(X), tf.constant(normal(5, 2, 5, 6, 4)))) for _ in range(5)]
            assert losses[-1] < losses[0]
            trained.append(weight.numpy())
        np.testing.assert_allclose(*trained, rtol=1e-9, atol=1e-12)


LINEAR = {name: call.by(*call.linear_names) for name, call in CALLS.items() if call.linear_names}
NOT_LINEAR = {
    f"{id}-{name}": call.by(name)
    for id, call in FIRST_CALLS.items()
    for name in dict.fromkeys(call.names)
    if name not in call.linear_names
}


def gradient_of_gradients(tf: Any, call: DifferentiableCall, arrays: Any) -> Callable[..., Any]:
    """The sum of the squares of all gradients of a call, as a function of its arrays."""
    # The square makes the cotangent depend on the arrays, too.
    loss = loss_of(tf, call)

    def squares(*values: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(values)
            result = loss(*values) ** 2 / 8
        return tf.add_n([tf.reduce_sum(each**2) for each in tape.gradient(result, values)])

    return squares


@every_mode
@pytest.mark.parametrize("call", LINEAR.values(), ids=LINEAR)
def test_second_derivatives_where_linear(tf: Any, call: DifferentiableCall, mode: str) -> None:
    """Along a random direction they are the differences of first derivatives."""
    arrays = constants(tf, call)
    function = gradient_of_gradients(tf, call, arrays)
    found = differentiate(tf, mode, function, arrays)
    directions = [tf.constant(normal(60 + i, *array.shape)) for i, array in enumerate(arrays)]
    along = sum(float(tf.reduce_sum(a * b)) for a, b in zip(found, directions, strict=True))
    step = 1e-5
    ahead, behind = (
        float(function(*[array + sign * step * each for array, each in zip(arrays, directions, strict=True)]))
        for sign in (1, -1)
    )
    np.testing.assert_allclose(along, (ahead - behind) / (2 * step), rtol=1e-6)


class TestSecondDerivativesElsewhere:
    """They are an error where they are computed, and not where TensorFlow builds what nobody asked for."""

    @every_mode
    @pytest.mark.parametrize("call", NOT_LINEAR.values(), ids=NOT_LINEAR)
    def test_refused(self, tf: Any, call: DifferentiableCall, mode: str) -> None:
        arrays = constants(tf, call)
        message = f"{call.op.backward.name}: the derivative of the gradient of .* is not provided"
        with pytest.raises((NotImplementedError, tf.errors.UnimplementedError), match=message):
            differentiate(tf, mode, gradient_of_gradients(tf, call, arrays), arrays)

    def test_first_derivatives_under_nested_tapes(self, tf: Any) -> None:
        function = tf.function(lambda x: ao.pac_conv2d(x, x, tf.constant(W), layout="NHWC"))
        x = tf.constant(X)
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = function(x)
            found = inner.gradient(y, x)
        expected = ao.pac_conv2d_backward(np.ones((2, 3, 4, 4)), X, X, W, layout="NHWC")
        np.testing.assert_allclose(found, expected.input + expected.guide, rtol=1e-14, atol=1e-14)
        with pytest.raises(
            tf.errors.UnimplementedError, match="the derivative of the gradient of guide is not provided"
        ):
            outer.gradient(found, x)


@every_mode
def test_gradient_penalty_beside_a_watched_guide(tf: Any, mode: str) -> None:
    """The gradients of input and guide come from one call, and only that of the input is differentiated.

    TensorFlow passes zeros for the other: that this second derivative does not exist must not matter.
    """

    def penalty(x: Any, guide: Any, weight: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, guide])
            y = ao.pac_conv2d(x, guide, weight, layout="NHWC")
        by_x, by_guide = tape.gradient(y, [x, guide])
        return tf.reduce_sum(by_x**2) + tf.reduce_sum(tf.stop_gradient(by_guide))

    arrays = [tf.constant(each) for each in (X, GUIDE, W)]
    by_guide, by_weight = differentiate(tf, mode, penalty, arrays, [1, 2])
    # The penalty is |B(g)|^2 of a backward B, which is linear: its gradient is that of the forward of 2 B(g).
    ones = np.ones((2, 3, 4, 4))
    by_x = ao.pac_conv2d_backward(ones, X, GUIDE, W, layout="NHWC", needs=["input"]).input
    expected = ao.pac_conv2d_backward(ones, 2 * by_x, GUIDE, W, layout="NHWC")
    np.testing.assert_allclose(by_guide, expected.guide, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(by_weight, expected.weight, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("in_function", [False, True])
def test_third_derivative_equals_that_of_tensorflow(tf: Any, in_function: bool) -> None:
    found = []
    for conv in (lambda x, w: ao.conv2d(x, w, stride=2, layout="NHWC"), lambda x, w: tf.nn.conv2d(x, w, 2, "VALID")):

        def third(x: Any, w: Any, conv: Any = conv) -> Any:
            with tf.GradientTape() as tape_of_third:
                tape_of_third.watch(w)
                with tf.GradientTape() as tape_of_second:
                    tape_of_second.watch(w)
                    with tf.GradientTape() as tape_of_first:
                        tape_of_first.watch(x)
                        first = tf.reduce_sum(conv(x, w) ** 3)
                    second = tf.reduce_sum(tape_of_first.gradient(first, x) ** 2)
                result = tf.reduce_sum(tape_of_second.gradient(second, w) ** 2)
            return tape_of_third.gradient(result, w)

        found.append((tf.function(third) if in_function else third)(tf.constant(X), tf.constant(W)))
    np.testing.assert_allclose(*found, rtol=1e-9)


def test_dense_matrix_of_a_second_derivative(tf: Any) -> None:
    """A resizing is a matrix A: the derivative of |A^T v|^2 by v is 2 A A^T v."""
    matrix = np.stack([ao.resize2d(unit.reshape(1, 1, 2, 3), (3, 4)).ravel() for unit in np.eye(6)], axis=1)
    v = tf.constant(normal(3, 1, 3, 4, 1))
    x = tf.zeros((1, 2, 3, 1), tf.float64)
    with tf.GradientTape() as outer:
        outer.watch(v)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = ao.resize2d(x, (3, 4), layout="NHWC")
        squares = tf.reduce_sum(inner.gradient(y, x, v) ** 2)
    expected = 2 * matrix @ (matrix.T @ v.numpy().ravel())
    np.testing.assert_allclose(outer.gradient(squares, v).numpy().ravel(), expected, rtol=1e-12)


def test_many_arguments_by_name(tf: Any) -> None:
    """Each gradient arrives at its own argument."""
    call = {**PAC, **WEIGHT, "kernel_type": "inv", "inv_alpha": np.array(0.3), "inv_lambda": np.array(-0.7)}
    names = "input", "guide", "weight", "bias", "inv_alpha", "inv_lambda"
    tensors = {name: tf.constant(call[name]) for name in names}
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        y = ao.pac_conv2d(**tensors, padding=1, kernel_type="inv", layout="NCHW")
    found = tape.gradient(y, tensors)
    expected = ao.pac_conv2d_backward(np.ones(y.shape), **call)
    for name in names:
        np.testing.assert_array_equal(found[name], getattr(expected, name))
