"""GroupedConv2D and GroupedConv2DTranspose: weights and results are those of Keras' own layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import arrayops as ao

SIZE = 10, 11


def images(channels: int = 4) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((2, *SIZE, channels)).astype(np.float32)


def convolutions() -> Iterator[tuple[int, int, str, int]]:
    """Kernel size, stride, padding, dilation."""
    for kernel_size in range(1, 6):
        for stride in (1, 2, 3):
            for padding in ("same", "valid"):
                for dilation in (1, 2) if stride == 1 else (1,):
                    yield kernel_size, stride, padding, dilation


def compare(keras: Any, numpy: Any, ours: Any, theirs: Any, image: np.ndarray) -> None:
    """The layers exchange weights in both directions, through lists and by the names of files, and are then equal."""
    wanted = numpy(theirs(image))
    assert ours(image).shape == wanted.shape
    assert (
        tuple(ours.compute_output_shape(image.shape)) == wanted.shape == tuple(theirs.compute_output_shape(image.shape))
    )
    assert [(weight.name, weight.shape) for weight in ours.weights] == [
        (weight.name, weight.shape) for weight in theirs.weights
    ]
    ours.set_weights(theirs.get_weights())
    np.testing.assert_allclose(numpy(ours(image)), wanted, rtol=1e-5, atol=3e-6)
    theirs.set_weights(ours.get_weights())


@pytest.mark.parametrize(("kernel_size", "stride", "padding", "dilation"), list(convolutions()))
class TestAsKeras:
    def test_convolution(
        self, keras: Any, layers: Any, numpy: Any, kernel_size: int, stride: int, padding: str, dilation: int
    ) -> None:
        options = {"strides": stride, "padding": padding, "dilation_rate": dilation, "data_format": "channels_last"}
        for groups in (1, 2):
            theirs = keras.layers.Conv2D(6, kernel_size, groups=groups, bias_initializer="normal", **options)
            ours = layers.GroupedConv2D(6, kernel_size, groups=groups, **options)
            compare(keras, numpy, ours, theirs, images())

    # Of Keras on PyTorch, about combinations that it once computed wrongly.
    @pytest.mark.filterwarnings("ignore:You might experience inconsistencies across backends:UserWarning")
    @pytest.mark.filterwarnings("ignore:Torch backend requires output_padding:UserWarning")
    def test_transposed(
        self, keras: Any, layers: Any, numpy: Any, kernel_size: int, stride: int, padding: str, dilation: int
    ) -> None:
        options = {"strides": stride, "padding": padding, "dilation_rate": dilation, "data_format": "channels_last"}
        for output_padding in (None, *range(stride)):
            if keras.backend.backend() == "tensorflow" and not supported_by_tensorflow(
                kernel_size, padding, dilation, output_padding
            ):
                continue
            theirs = keras.layers.Conv2DTranspose(
                6, kernel_size, output_padding=output_padding, bias_initializer="normal", **options
            )
            ours = layers.GroupedConv2DTranspose(6, kernel_size, output_padding=output_padding, **options)
            compare(keras, numpy, ours, theirs, images())


def supported_by_tensorflow(kernel_size: int, padding: str, dilation: int, output_padding: int | None) -> bool:
    """Whether TensorFlow computes the transposed convolution of Keras on a CPU; the other backends compute all."""
    without_output = padding == "same" and output_padding == 0 and kernel_size % 2 == 0
    return dilation == 1 and not without_output


def test_strides_with_dilation(layers: Any, numpy: Any) -> None:
    layer = layers.GroupedConv2D(6, (3, 2), strides=(2, 3), dilation_rate=(2, 1), padding="same", groups=2)
    image = images()
    found = numpy(layer(image))
    kernel, bias = layer.get_weights()
    wanted = ao.conv2d(image, kernel, bias, stride=(2, 3), dilation=(2, 1), padding="SAME", groups=2, layout="NHWC")
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_groups_of_the_transposed_form(keras: Any, layers: Any, numpy: Any) -> None:
    """As Keras' layer on the channels of each group."""
    layer = layers.GroupedConv2DTranspose(6, 3, strides=2, groups=2, padding="same", bias_initializer="normal")
    image = images()
    found = numpy(layer(image))
    kernel, bias = layer.get_weights()
    assert kernel.shape == (3, 3, 3, 4)
    parts = []
    for group in range(2):
        part = keras.layers.Conv2DTranspose(3, 3, strides=2, padding="same")
        part.build((2, *SIZE, 2))
        part.set_weights([kernel[..., 2 * group : 2 * group + 2], bias[3 * group : 3 * group + 3]])
        parts.append(numpy(part(image[..., 2 * group : 2 * group + 2])))
    np.testing.assert_allclose(found, np.concatenate(parts, -1), rtol=1e-5, atol=3e-6)


def test_training_as_keras(keras: Any, layers: Any, numpy: Any) -> None:
    """With penalties, constraints and activations: the same weights after some steps."""
    options: dict[str, Any] = {
        "activation": "relu",
        "kernel_regularizer": "l2",
        "bias_regularizer": "l1",
        "activity_regularizer": "l2",
        "kernel_constraint": "unit_norm",
        "bias_constraint": "non_neg",
        "bias_initializer": "ones",
    }
    image = images()
    models = []
    for convolution, transposed in (
        (keras.layers.Conv2D, keras.layers.Conv2DTranspose),
        (layers.GroupedConv2D, layers.GroupedConv2DTranspose),
    ):
        model = keras.Sequential(
            [keras.Input((*SIZE, 4)), convolution(6, 3, groups=2, **options), transposed(3, 3, strides=2, **options)]
        )
        if models:
            model.set_weights(models[0].get_weights())
        model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=False)
        models.append(model)
    target = np.random.default_rng(2).standard_normal(models[0].output_shape[1:]).astype(np.float32)[None].repeat(2, 0)
    losses = [[model.train_on_batch(image, target) for _ in range(3)] for model in models]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    for ours, theirs in zip(models[1].get_weights(), models[0].get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_frozen_layers_are_not_trained(keras: Any, layers: Any) -> None:
    model = keras.Sequential(
        [keras.Input((*SIZE, 4)), layers.GroupedConv2D(4, 3, trainable=False), layers.GroupedConv2D(2, 3)]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
    before = model.get_weights()
    model.train_on_batch(images(), np.zeros((2, 6, 7, 2), np.float32))
    changed = [(old != new).any() for old, new in zip(before, model.get_weights(), strict=True)]
    assert changed == [False, False, True, True]
