"""Networks of Keras with the layers and functions of arrayops, and the losses of their training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Network(NamedTuple):
    """A functional model with random weights, and what it is trained with."""

    model: Any
    inputs: list[np.ndarray]
    target: np.ndarray


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def superpixel_maps() -> np.ndarray:
    """Maps of three and five superpixels."""
    return np.stack([np.arange(144).reshape(12, 12) * count // 144 for count in (3, 5)]).astype(np.int32)


def guided() -> Network:
    """Encoder and decoder guided by a photo, with own kernels of a function and masks."""
    import keras

    import arrayops as ao
    from arrayops.layers import keras as layers

    features, photo = keras.Input((None, None, 4)), keras.Input((None, None, 3))
    valid = keras.Input((None, None, 1), dtype="bool")
    hidden, _ = layers.PacConv2D(6, 3, padding="same", activation="relu")([features, photo], valid=valid)
    pooled = layers.PacPooling2D(2)([hidden, photo])
    raised = layers.PacConv2DTranspose(4, 4, strides=2, padding="same", activation="relu")([pooled, photo])
    kernel = ao.pac_kernel2d(photo, 3, padding=1, normalize=True, layout="NHWC")
    output = layers.PacConv2D(2, 3, padding="same")(raised, kernel=kernel)
    arrays = [normal(1, 2, 12, 12, 4), normal(2, 2, 12, 12, 3), normal(3, 2, 12, 12, 1) > -1]
    return Network(keras.Model([features, photo, valid], output), arrays, normal(4, 2, 12, 12, 2))


def grouped() -> Network:
    """A block of ResNeXt."""
    import keras

    from arrayops.layers import keras as layers

    image = keras.Input((None, None, 8))
    hidden = keras.layers.Conv2D(16, 1, activation="relu", data_format="channels_last")(image)
    hidden = layers.GroupedConv2D(16, 3, padding="same", groups=4, activation="relu", kernel_regularizer="l2")(hidden)
    hidden = keras.layers.Conv2D(8, 1, data_format="channels_last")(hidden)
    output = layers.GroupedConv2DTranspose(4, 5, strides=2, groups=2)(keras.layers.add([image, hidden]))
    return Network(keras.Model([image], output), [normal(5, 2, 6, 6, 8)], normal(6, 2, 15, 15, 4))


def superpixels() -> Network:
    """Scores of images from scores of their superpixels."""
    import keras

    from arrayops.layers import keras as layers

    features, labels = keras.Input((None, None, 4)), keras.Input((None, None), dtype="int32")
    pooled = layers.SuperpixelPooling(7)([features, labels])
    pixels = layers.SuperpixelUnpooling()([keras.layers.Dense(3)(pooled), labels])
    again = layers.SuperpixelPooling(7, "max")([pixels, labels])
    scores = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling1D()(again))
    return Network(
        keras.Model([features, labels], scores), [normal(7, 2, 12, 12, 4), superpixel_maps()], normal(8, 2, 2)
    )


def merged() -> Network:
    """Maps of three sizes, merged by a layer and by functions."""
    import keras

    import arrayops as ao
    from arrayops.layers import keras as layers

    early, late = keras.Input((None, None, 4)), keras.Input((None, None, 4))
    hidden = layers.MergeFeatureMaps("mean", mode="bicubic")([early, late])
    hidden = layers.GroupedConv2D(4, 3, padding="same", groups=2)(hidden)
    half = ao.resize2d(hidden, scale=0.5, antialias=True, layout="NHWC")
    output = ao.merge_feature_maps([half, late, early], how="concat", size=(7, 8), layout="NHWC")
    return Network(
        keras.Model([early, late], output), [normal(9, 2, 9, 11, 4), normal(10, 2, 4, 5, 4)], normal(11, 2, 7, 8, 12)
    )


NETWORKS: dict[str, Callable[[], Network]] = {
    "guided": guided,
    "grouped": grouped,
    "superpixels": superpixels,
    "merged": merged,
}


def with_weights(network: Network) -> Network:
    """The network with weights that depend on their shapes alone."""
    shapes = [weight.shape for weight in network.model.weights]
    network.model.set_weights([0.3 * normal(100 + i, *shape) for i, shape in enumerate(shapes)])
    return network


def losses(network: Network) -> list[float]:
    """Losses of the steps of `fit`, each of the whole data."""
    import keras

    model, inputs, target = with_weights(network)
    model.compile(keras.optimizers.SGD(0.05), "mse")
    history = model.fit(inputs, target, batch_size=2, epochs=5, shuffle=False, verbose=0)
    return [float(loss) for loss in history.history["loss"]]
