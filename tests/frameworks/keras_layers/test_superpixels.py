"""SuperpixelPooling and SuperpixelUnpooling: values, masks of superpixels without pixels, and maps of wrong dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayops as ao

FEATURES = np.random.default_rng(0).standard_normal((3, 8, 9, 5)).astype(np.float32)
# The images have four, seven and two superpixels; one number is left out.
LABELS = np.stack([np.arange(72).reshape(8, 9) * count // 72 for count in (4, 7, 2)]).astype(np.int32)
LABELS[1][LABELS[1] == 3] = 4
NUMBER = 9


def loop(reduce: Any, image: int) -> np.ndarray:
    """The reduction of each superpixel of an image that has pixels."""
    pixels = FEATURES[image].astype(np.float64)
    return np.stack([reduce(pixels[LABELS[image] == label], axis=0) for label in np.unique(LABELS[image])])


REDUCTIONS = {"mean": np.mean, "sum": np.sum, "max": np.max, "min": np.min, "var": np.var}


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_values(layers: Any, numpy: Any, reduction: str) -> None:
    found = numpy(layers.SuperpixelPooling(NUMBER, reduction, empty=-7)([FEATURES, LABELS]))
    for image in range(3):
        there = np.unique(LABELS[image])
        np.testing.assert_allclose(found[image, there], loop(REDUCTIONS[reduction], image), rtol=1e-5, atol=1e-6)
        assert (np.delete(found[image], there, axis=0) == -7).all()


def test_mask_of_those_that_have_pixels(keras: Any, layers: Any, numpy: Any) -> None:
    """Keras' own pooling over superpixels leaves the others out, in eager calls and in models."""
    wanted = np.stack([loop(np.mean, image).mean(axis=0) for image in range(3)])
    pooled = layers.SuperpixelPooling(NUMBER)([FEATURES, LABELS])
    found = keras.layers.GlobalAveragePooling1D()(pooled)
    np.testing.assert_allclose(numpy(found), wanted, rtol=1e-5, atol=1e-6)

    for data_format, features in (("channels_last", FEATURES), ("channels_first", np.moveaxis(FEATURES, -1, 1))):
        inputs = [keras.Input(features.shape[1:]), keras.Input(LABELS.shape[1:], dtype="int32")]
        pooled = layers.SuperpixelPooling(NUMBER, data_format=data_format)(inputs)
        mean = keras.layers.GlobalAveragePooling1D(data_format=data_format)(pooled)
        np.testing.assert_allclose(numpy(keras.Model(inputs, mean)([features, LABELS])), wanted, rtol=1e-5, atol=1e-6)


def test_mask_excludes_the_ignored(layers: Any, numpy: Any) -> None:
    layer = layers.SuperpixelPooling(NUMBER, ignore_label=0)
    mask = numpy(layer.compute_mask([FEATURES, LABELS]))
    wanted = [[label in np.setdiff1d(LABELS[image], 0) for label in range(NUMBER)] for image in range(3)]
    np.testing.assert_array_equal(mask, wanted)


def test_back_to_pixels(keras: Any, layers: Any, numpy: Any) -> None:
    """A network that scores superpixels, and gives the scores to pixels; no warning of the mask that ends there."""
    inputs = [keras.Input((None, None, 5)), keras.Input((None, None), dtype="int32")]
    pooled = layers.SuperpixelPooling(NUMBER)(inputs)
    scores = keras.layers.Dense(2)(pooled)
    model = keras.Model(inputs, layers.SuperpixelUnpooling()([scores, inputs[1]]))
    assert model.output_shape == (None, None, None, 2)
    found = numpy(model([FEATURES, LABELS]))
    weight, bias = model.get_weights()
    means = ao.segment_mean(FEATURES, LABELS, NUMBER, layout="NHWC")
    wanted = ao.segment_unpool(means @ weight + bias, LABELS, layout="NHWC")
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    losses = [model.train_on_batch([FEATURES, LABELS], np.zeros_like(found)) for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
@pytest.mark.parametrize("name", ["SuperpixelPooling", "SuperpixelUnpooling"])
def test_float_maps_are_refused(keras: Any, layers: Any, name: str, policy: str) -> None:
    """In half precision, the label 2049 would have become 2048."""
    layer = layers.SuperpixelPooling(3, dtype=policy) if name == "SuperpixelPooling" else layers.SuperpixelUnpooling()
    features = FEATURES if name == "SuperpixelPooling" else FEATURES[:, 0]
    message = f"{name}: the superpixel map is float.*, expected an integer dtype: .*dtype='int32'"
    with pytest.raises(TypeError, match=message):
        layer([keras.Input(features.shape[1:]), keras.Input((8, 9))])
    with pytest.raises(TypeError, match=message):
        layer([features, LABELS.astype(np.float32)])


# JAX has no int64 unless it is configured for it.
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype int64:UserWarning")
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64"])
def test_integer_maps(keras: Any, layers: Any, numpy: Any, dtype: str) -> None:
    layer = layers.SuperpixelPooling(NUMBER)
    wanted = numpy(layer([FEATURES, LABELS]))
    inputs = [keras.Input(FEATURES.shape[1:]), keras.Input(LABELS.shape[1:], dtype=dtype)]
    model = keras.Model(inputs, layer(inputs))
    np.testing.assert_array_equal(numpy(model.predict([FEATURES, LABELS.astype(dtype)], verbose=0)), wanted)


def test_labels_out_of_range(layers: Any) -> None:
    # JAX' errors of a callback have no common type.
    with pytest.raises(Exception, match=r"segment_mean: labels\[1, .*\] is 5, expected 0 to 4"):
        layers.SuperpixelPooling(5)([FEATURES, LABELS])
    layers.SuperpixelPooling(5, check=False)([FEATURES, LABELS])


class TestUnknownNumber:
    def test_eager(self, keras: Any, layers: Any, numpy: Any) -> None:
        found = layers.SuperpixelPooling()([FEATURES, LABELS])
        assert tuple(found.shape) == (3, 7, 5)
        mean = keras.layers.GlobalAveragePooling1D()(found)
        wanted = np.stack([loop(np.mean, image).mean(axis=0) for image in range(3)])
        np.testing.assert_allclose(numpy(mean), wanted, rtol=1e-5, atol=1e-6)

    def test_model(self, keras: Any, layers: Any, numpy: Any) -> None:
        inputs = [keras.Input((8, 9, 5)), keras.Input((8, 9), dtype="int32")]
        pooled = layers.SuperpixelPooling()(inputs)
        assert pooled.shape == (None, None, 5)
        model = keras.Model(inputs, pooled)
        assert numpy(model([FEATURES, LABELS])).shape == (3, 7, 5)
        if keras.backend.backend() == "torch":
            assert model.predict([FEATURES, LABELS], verbose=0).shape == (3, 7, 5)
            return
        with pytest.raises(ValueError, match="SuperpixelPooling: n_superpixels is None, expected a number: the super"):
            model.predict([FEATURES, LABELS], verbose=0)
