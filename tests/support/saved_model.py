"""A program of TensorFlow with operators of every family, and what it computes, also in another process.

It is imported without arrayops, which only making the program imports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

VARIABLES = {
    "weight": (3, 3, 2, 3),
    "bias": (3,),
    "filters": (3, 3, 8, 2),
    "filter_bias": (2,),
    "more_filters": (2, 3, 2, 2),
}
"""Shapes of the variables of the program."""

Arrays = Mapping[str, "np.ndarray[Any, Any]"]


def arguments() -> Arrays:
    """Arguments of the program, and cotangents of its results."""
    random = np.random.default_rng(3)
    image, guide = (random.standard_normal((2, 6, 7, channels)) for channels in (2, 3))
    labels = random.integers(0, 4, (2, 6, 7)).astype(np.int32)
    grad, grad_linear = random.standard_normal((2, 6, 7, 2)), random.standard_normal((2, 3, 3, 2))
    return {"image": image, "guide": guide, "labels": labels, "grad": grad, "grad_linear": grad_linear}


def program(tf: Any) -> Any:
    """A tf.Module with functions of arrays whose batch, height and width are not known, and with variables."""
    import arrayops as ao

    images = tf.TensorSpec((None, None, None, 2), tf.float64), tf.TensorSpec((None, None, None, 3), tf.float64)
    labels = tf.TensorSpec((None, None, None), tf.int32)

    class Program(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            random = np.random.default_rng(4)
            for name, shape in VARIABLES.items():
                setattr(self, name, tf.Variable(random.standard_normal(shape), name=name))

        @tf.function(input_signature=(*images, labels))
        def __call__(self, image: Any, guide: Any, labels: Any) -> Any:
            layout = {"layout": "NHWC"}
            adapted = ao.pac_conv2d(image, guide, self.weight, self.bias, padding=1, normalize_kernel=True, **layout)
            largest = ao.segment_max(adapted, labels, num_segments=5, empty=-np.inf, **layout)
            largest_of_each = ao.segment_unpool(largest, labels, **layout)
            small = ao.resize2d(adapted, scale=0.5, mode="bicubic", **layout)
            merged = ao.merge_feature_maps([largest_of_each, small, image], **layout)
            return ao.conv2d(merged, self.filters, self.filter_bias, padding=1, **layout)

        @tf.function(input_signature=images[:1])
        def linear(self, image: Any) -> Any:
            """Linear in the image and in ``more_filters``: second derivatives exist."""
            return ao.conv2d(image, self.more_filters, stride=2, padding=((0, 1), (0, 0)), layout="NHWC")

        @tf.function(input_signature=(images[0], labels))
        def step(self, image: Any, labels: Any) -> Any:
            """Gradients, whose calls are in the program themselves, and get what the calls before them saved."""
            with tf.GradientTape() as tape:
                tape.watch(image)
                features = ao.conv2d(image, self.more_filters, padding="same", layout="NHWC")
                pooled = ao.segment_reduce(features, labels, ("max", "var"), num_segments=4, layout="NHWC")
                loss = tf.reduce_sum(pooled[0] * pooled[1])
            return tape.gradient(loss, [image, self.more_filters])

    return Program()


def computed(tf: Any, program: Any, arguments: Arrays) -> dict[str, np.ndarray[Any, Any]]:
    """What the program, made or loaded, computes: results, gradients by name, derivatives of the linear function."""
    image, guide, labels, grad, grad_linear = (tf.constant(array) for array in arguments.values())
    names = ["image", "guide", *list(VARIABLES)[:-1]]
    sources = [image, guide, *(getattr(program, name) for name in names[2:])]
    with tf.GradientTape() as tape:
        tape.watch((image, guide))
        output = program(image, guide, labels)
    gradients = tape.gradient(output, sources, grad)
    with tf.GradientTape() as outer:
        outer.watch(image)
        with tf.GradientTape() as tape:
            tape.watch(image)
            linear = program.linear(image)
            loss = tf.reduce_sum(linear * linear * grad_linear)
        first = tape.gradient(loss, image)
    second = outer.gradient(first, [image, program.more_filters], image)
    step = program.step(image, labels)
    found = dict(zip(names, gradients, strict=True))
    found |= {"output": output, "linear": linear, "first": first, "second": second[0], "second_filters": second[1]}
    found |= {"step": step[0], "step_filters": step[1]}
    return {name: tensor.numpy() for name, tensor in found.items()}


def layer_class(keras: Any) -> type:
    """A layer of Keras with a call of arrayops."""
    import arrayops as ao

    @keras.saving.register_keras_serializable("saved_model")
    class Filtering(keras.Layer):  # type: ignore[misc]
        def build(self, shapes: Sequence[Any]) -> None:
            self.kernel = self.add_weight(shape=(3, 3, shapes[0][-1], 4))

        def call(self, inputs: Sequence[Any]) -> Any:
            return ao.pac_conv2d(*inputs, self.kernel, padding=1, layout="NHWC")

    return Filtering


def network(keras: Any) -> Any:
    """A model with that layer between others."""
    image, guide = keras.Input((None, None, 2)), keras.Input((None, None, 3))
    return keras.Model([image, guide], keras.layers.Dense(2)(layer_class(keras)()([image, guide])))


def computed_by_network(tf: Any, function: Any, variables: Sequence[Any], arguments: Arrays) -> Any:
    """Its output and the gradients of its loss, in float32."""
    inputs = [tf.constant(arguments[name].astype("float32")) for name in ("image", "guide")]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        output = function(inputs)
        loss = tf.reduce_sum(output * output)
    gradients = tape.gradient(loss, [*inputs, *variables])
    return {"network": output.numpy(), **{f"network_{i}": each.numpy() for i, each in enumerate(gradients)}}
