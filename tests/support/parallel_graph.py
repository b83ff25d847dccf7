"""A graph of TensorFlow in which calls run at the same time, and a dataset, for one process or another."""

from __future__ import annotations

from typing import Any

import numpy as np

import arrayops as ao

BRANCHES, SIZE = 8, 48


def arrays() -> tuple[np.ndarray[Any, Any], ...]:
    """Image, guide, weight and labels: large enough for calls to use several threads."""
    random = np.random.default_rng(7)
    image, guide, weight = (
        random.standard_normal(shape).astype("float32")
        for shape in ((2, SIZE, SIZE, 16), (2, SIZE, SIZE, 3), (3, 3, 16, 16))
    )
    return image, guide, weight, random.integers(0, 9, (2, SIZE, SIZE))


def branch(number: int, image: Any, guide: Any, weight: Any, labels: Any) -> Any:
    """One of several calls, each with another dilation."""
    adapted = ao.pac_conv2d(image, guide, weight, padding="same", dilation=number + 1, layout="NHWC")
    return ao.segment_mean(adapted, labels, 9, layout="NHWC")


def differentiated(tf: Any, arrays: Any, numbers: range = range(BRANCHES)) -> tuple[list[Any], list[Any]]:
    """Results of branches, and for each its gradients by image, guide and weight; at the same time in a graph."""
    *sources, labels = arrays
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(sources)
        results = [branch(i, *sources, labels) for i in numbers]
    return results, [tape.gradient(result, sources) for result in results]


def mapped(tf: Any, arrays: Any, count: int = 6) -> list[Any]:
    """Elements of a dataset that are computed four at a time."""
    image, guide, weight, labels = arrays

    def element(number: Any) -> Any:
        scaled = image * tf.cast(number, image.dtype)
        adapted = ao.pac_conv2d(scaled, guide, weight, padding="same", layout="NHWC")
        return ao.segment_mean(adapted, labels, 9, layout="NHWC")

    return list(tf.data.Dataset.range(count).map(element, num_parallel_calls=4))


def computed(tf: Any) -> dict[str, np.ndarray[Any, Any]]:
    """All of this, in a tf.function and in a dataset."""
    given = [tf.constant(array) for array in arrays()]
    results, gradients = tf.function(lambda *given: differentiated(tf, given))(*given)
    found = {f"result_{i}": result for i, result in enumerate(results)}
    found |= {f"gradient_{i}_{j}": each for i, several in enumerate(gradients) for j, each in enumerate(several)}
    found |= {f"element_{i}": each for i, each in enumerate(mapped(tf, given))}
    return {name: tensor.numpy() for name, tensor in found.items()}
