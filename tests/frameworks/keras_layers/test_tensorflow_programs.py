"""What only the TensorFlow backend has: XLA, LiteRT, SavedModel."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayops as ao
import keras_networks
from layer_cases import CASES, LayerCase
from new_process import in_new_process

PORTABLE = {name: case for name, case in CASES.items() if case.name in ("PacConv2D", "PacPooling2D")}
OTHERS = {name: case for name, case in CASES.items() if name not in PORTABLE}


@pytest.fixture(autouse=True)
def on_tensorflow(keras: Any) -> None:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("a test of Keras on TensorFlow")


def network(keras: Any, **options: Any) -> Any:
    """A network with both layers that have a portable form."""
    from arrayops.layers import keras as layers

    features, photo = keras.Input((None, None, 4)), keras.Input((None, None, 3))
    hidden = layers.PacConv2D(6, 5, strides=2, padding="same", activation="relu", **options)([features, photo])
    small = keras.layers.AveragePooling2D(2, padding="same", data_format="channels_last")(photo)
    output = layers.PacPooling2D(3, strides=1, padding="same", **options)([hidden, small])
    return keras.Model([features, photo], keras.layers.Dense(2)(output))


def arrays() -> list[np.ndarray]:
    return [keras_networks.normal(1, 2, 9, 12, 4), keras_networks.normal(2, 2, 9, 12, 3)]


class TestXla:
    @pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
    @pytest.mark.parametrize("case", PORTABLE.values(), ids=PORTABLE)
    def test_layers_become_portable(self, tf: Any, numpy: Any, case: LayerCase, data_format: str) -> None:
        layer = case.layer(data_format)
        given = [tf.constant(array) for array in case.arrays(data_format)]
        call = given if len(given) > 1 else given[0]
        wanted = numpy(layer(call))
        found = tf.function(layer, jit_compile=True)(call)
        np.testing.assert_allclose(numpy(found), wanted, rtol=2e-5, atol=2e-6)
        # Not outside of XLA.
        graph = tf.function(layer).get_concrete_function(call).graph
        calls = "PyFuncStateless" in {operation.type for operation in graph.get_operations()}
        assert calls == (case.arguments.get("implementation") != "portable")

    def test_gradients_within_nested_functions(self, tf: Any, keras: Any) -> None:
        model, given = network(keras), [tf.constant(array) for array in arrays()]

        def gradients(function: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(function(given) ** 2)
            return tape.gradient(loss, model.trainable_variables)

        wanted = gradients(model)
        found = tf.function(lambda: gradients(tf.function(model)), jit_compile=True)()
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=2e-4, atol=1e-6)

    @pytest.mark.parametrize("case", OTHERS.values(), ids=OTHERS)
    def test_other_layers_say_so(self, tf: Any, case: LayerCase) -> None:
        layer = case.layer()
        given = [tf.constant(array) for array in case.arrays()]
        with pytest.raises(NotImplementedError, match="called in a function that XLA compiles"):
            tf.function(layer, jit_compile=True)(given if len(given) > 1 else given[0])


class TestJitCompile:
    """The argument of ``compile``."""

    def test_auto_on_a_gpu_keeps_the_kernels(self, tf: Any, keras: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        devices = [*tf.config.list_physical_devices(), tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")]
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: devices)
        for options, compiled in (({}, False), ({"implementation": "portable"}, True)):
            model = network(keras, **options)
            model.compile("sgd", "mse")
            assert model.jit_compile is compiled
        plain = keras.Model(image := keras.Input((8, 8, 4)), ao.resize2d(image, 4, layout="NHWC"))
        plain.compile("sgd", "mse")
        assert plain.jit_compile is False

    def test_true_trains_the_same(self, tf: Any, keras: Any) -> None:
        """Keras refuses with a warning what does not support it, and trains without."""
        models = [network(keras, implementation=name) for name in ("auto", "portable")]
        losses = []
        for model in models:
            model.set_weights(models[0].get_weights() if model is models[1] else model.get_weights())
        for model, supported in zip(models, (False, True), strict=True):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=True)
            assert any("doesn't support `jit_compile=True`" in str(each.message) for each in caught) != supported
            assert model.jit_compile is supported
            target = keras_networks.normal(3, 2, 5, 6, 2)
            losses.append([model.train_on_batch(arrays(), target) for _ in range(4)])
        np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


# Of TensorFlow, about the package that its own interpreter moved to.
@pytest.mark.filterwarnings("ignore:.*(tf.lite.Interpreter is deprecated|use the LiteRT interpreter):UserWarning")
class TestLiteRT:
    @pytest.mark.parametrize("by", ["argument", "attribute"])
    def test_portable_layers_run(self, tf: Any, keras: Any, numpy: Any, by: str) -> None:
        """With sizes that are not known before they run."""
        model = network(keras, **({"implementation": "portable"} if by == "argument" else {}))
        if by == "attribute":
            for layer in model.layers:
                if hasattr(layer, "implementation"):
                    layer.implementation = "portable"
        content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
        interpreter = tf.lite.Interpreter(model_content=content)
        details = interpreter.get_input_details()
        given = {4: arrays()[0], 3: arrays()[1]}
        for each in details:
            interpreter.resize_tensor_input(each["index"], given[each["shape"][-1]].shape)
        interpreter.allocate_tensors()
        for each in details:
            interpreter.set_tensor(each["index"], given[each["shape"][-1]])
        interpreter.invoke()
        found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        np.testing.assert_allclose(found, numpy(model(arrays())), rtol=2e-5, atol=2e-6)


IN_ANOTHER_PROCESS = """
import sys
import numpy as np
import tensorflow as tf
import arrayops

folder = sys.argv[1]
with np.load(folder + "/arrays.npz") as arrays:
    served = tf.saved_model.load(folder + "/exported")
    found = served.serve([arrays[str(i)] for i in range(len(arrays.files) - 1)])
    np.testing.assert_array_equal(found, arrays["output"])
"""


@pytest.mark.parametrize("name", keras_networks.NETWORKS)
def test_exported_models(tf: Any, keras: Any, numpy: Any, name: str, tmp_path: Path) -> None:
    """``model.export``, served in a process that knows of arrayops alone."""
    model, inputs, _ = keras_networks.with_weights(keras_networks.NETWORKS[name]())
    model.export(tmp_path / "exported", verbose=False)
    given = {str(i): array for i, array in enumerate(inputs)}
    np.savez(tmp_path / "arrays.npz", **given, output=numpy(model(inputs)))
    assert in_new_process(IN_ANOTHER_PROCESS, str(tmp_path)) == ""
