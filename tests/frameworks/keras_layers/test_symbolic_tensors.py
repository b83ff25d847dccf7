"""Plain functions in functional models: every operator becomes a layer that can be saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from differentiable_calls import CALLS, DifferentiableCall
from operator_oracles import as_tuple

every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


class Model:
    """A call as a functional model of all its arrays."""

    def __init__(self, keras: Any, call: DifferentiableCall, unknown_batch: bool = False) -> None:
        self.arrays: list[np.ndarray] = []
        self.inputs: list[Any] = []

        def symbolic(array: np.ndarray) -> Any:
            array = as_input(keras, array)
            shape = (None, *array.shape[1:]) if unknown_batch and array.ndim > 2 else array.shape
            self.arrays.append(array)
            self.inputs.append(keras.Input(batch_shape=shape, dtype=str(array.dtype)))
            return self.inputs[-1]

        given = {
            name: [symbolic(each) for each in value]
            if isinstance(value, list)
            else (symbolic(value) if isinstance(value, np.ndarray) else value)
            for name, value in call.call.items()
        }
        self.results = as_tuple(getattr(ao, call.op.name)(**given))
        self.model = keras.Model(self.inputs, list(self.results))

    def outputs(self, model: Any = None) -> list[Any]:
        """What the model computes, or another one of the same inputs."""
        found = (model or self.model)(self.arrays)
        return list(found) if isinstance(found, (tuple, list)) else [found]


def as_input(keras: Any, array: np.ndarray) -> np.ndarray:
    """JAX has no float64 unless it is configured for it."""
    jax = keras.backend.backend() == "jax"
    return array.astype(array.dtype.name.replace("64", "32")) if jax else array


def computed(keras: Any, call: DifferentiableCall) -> list[np.ndarray]:
    arrays = {
        name: [as_input(keras, each) for each in value]
        if isinstance(value, list)
        else (as_input(keras, value) if isinstance(value, np.ndarray) else value)
        for name, value in call.call.items()
    }
    return list(as_tuple(getattr(ao, call.op.name)(**arrays)))


@every_call
class TestEveryOperator:
    def test_values_shapes_and_dtypes(self, keras: Any, numpy: Any, call: DifferentiableCall) -> None:
        made, wanted = Model(keras, call), computed(keras, call)
        found = made.outputs()
        for symbolic, array, expected in zip(made.results, found, wanted, strict=True):
            assert symbolic.shape == tuple(array.shape) == expected.shape
            if expected.dtype != np.int64 or keras.backend.backend() != "jax":
                assert symbolic.dtype == keras.backend.standardize_dtype(array.dtype) == expected.dtype
            np.testing.assert_allclose(numpy(array), expected, rtol=1e-5, atol=1e-6)

    def test_saved(self, keras: Any, numpy: Any, call: DifferentiableCall, tmp_path: Path) -> None:
        made = Model(keras, call)
        made.model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        for found, wanted in zip(made.outputs(loaded), made.outputs(), strict=True):
            np.testing.assert_array_equal(numpy(found), numpy(wanted))

    def test_unknown_batch(self, keras: Any, numpy: Any, call: DifferentiableCall) -> None:
        made = Model(keras, call, unknown_batch=True)
        for symbolic, array in zip(made.results, made.outputs(), strict=True):
            assert len(symbolic.shape) == len(array.shape)
            assert all(known in (None, size) for known, size in zip(symbolic.shape, array.shape, strict=True))


def test_gradients(keras: Any) -> None:
    """A network of functions around a trained layer learns."""
    image, labels = keras.Input((8, 9, 3)), keras.Input((8, 9), dtype="int32")
    features = keras.layers.Conv2D(4, 3, padding="same", data_format="channels_last")(image)
    means = ao.segment_mean(features, labels, 6, layout="NHWC")
    smooth = ao.resize2d(ao.segment_unpool(means, labels, layout="NHWC"), (16, 18), layout="NHWC")
    model = keras.Model([image, labels], ao.pac_pool2d(smooth, smooth, 3, layout="NHWC", normalize_kernel=True))
    model.compile(keras.optimizers.SGD(0.2), "mse", jit_compile=False)
    random = np.random.default_rng(0)
    arrays = [
        random.standard_normal((2, 8, 9, 3)).astype(np.float32),
        random.integers(0, 6, (2, 8, 9)).astype(np.int32),
    ]
    losses = [model.train_on_batch(arrays, np.ones((2, 14, 16, 4), np.float32)) for _ in range(4)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.9 * losses[0]


def test_default_layout(keras: Any) -> None:
    wanted = {"channels_last": (None, 16, 16, 4), "channels_first": (None, 8, 16, 8)}
    assert ao.resize2d(keras.Input((8, 8, 4)), scale=2).shape == wanted[keras.config.image_data_format()]


def test_layers_have_the_name_of_the_function(keras: Any) -> None:
    image = keras.Input((8, 8, 4))
    model = keras.Model(image, ao.resize2d(ao.resize2d(image, 4, layout="NHWC"), 6, layout="NHWC"))
    names = [layer.name for layer in model.layers[1:]]
    assert len(set(names)) == 2
    assert all(name.startswith("resize2d_") for name in names)
    assert keras.saving.get_registered_name(type(model.layers[1])) == "arrayops>OperatorCall"


def test_a_mask_of_keras_ends_without_a_warning(keras: Any) -> None:
    image = keras.Input((8, 4))
    masked = keras.layers.Masking()(image)
    labels = keras.Input((3, 3), dtype="int32")
    output = ao.segment_unpool(masked, labels, layout="NHWC")
    assert keras.Model([image, labels], output).output_shape == (None, 3, 3, 4)


class TestErrors:
    def test_shapes(self, keras: Any) -> None:
        with pytest.raises(ValueError, match=r"pac_conv2d: guide is \(None, 4, 4, 3\), expected height and width"):
            ao.pac_conv2d(
                keras.Input((8, 8, 4)), keras.Input((4, 4, 3)), keras.Input(batch_shape=(3, 3, 4, 2)), layout="NHWC"
            )

    @pytest.mark.parametrize("kind", ["variable", "tensor", "numpy"])
    def test_arrays_beside_symbolic_tensors(self, keras: Any, kind: str) -> None:
        weight: Any = np.ones((3, 3, 4, 2), np.float32)
        if kind == "variable":
            weight = keras.Variable(weight)
        elif kind == "tensor":
            weight = keras.ops.convert_to_tensor(weight)
        message = "conv2d: weight is .*, expected a KerasTensor as the other arrays are: .* of arrayops.layers.keras"
        with pytest.raises(TypeError, match=message):
            ao.conv2d(keras.Input((8, 8, 4)), weight, layout="NHWC")
        with pytest.raises(TypeError, match="weight is an array of Keras, expected NumPy as for input"):
            ao.conv2d(np.ones((1, 8, 8, 4), np.float32), keras.Input(batch_shape=(3, 3, 4, 2)), layout="NHWC")

    def test_number_of_segments(self, keras: Any) -> None:
        with pytest.raises(ValueError, match="segment_mean: num_segments is None, expected an integer"):
            ao.segment_mean(keras.Input((8, 8, 4)), keras.Input((8, 8), dtype="int32"), layout="NHWC")

    def test_not_an_array(self, keras: Any) -> None:
        with pytest.raises(TypeError, match="conv2d: weight is str, expected an array"):
            ao.conv2d(keras.Input((8, 8, 4)), "weight", layout="NHWC")
        with pytest.raises(TypeError, match="conv2d: weight is None, expected an array"):
            ao.conv2d(keras.Input((8, 8, 4)), None, layout="NHWC")
