"""MergeFeatureMaps: values of functions and of Keras' own layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayops as ao

EARLY, LATE = (
    np.random.default_rng(i).standard_normal((2, *size, 8)).astype(np.float32)
    for i, size in enumerate([(15, 15), (6, 6)])
)


def test_concatenation_is_that_of_keras(keras: Any, layers: Any, numpy: Any) -> None:
    resized = keras.layers.Resizing(15, 15, data_format="channels_last")(LATE)
    wanted = keras.layers.Concatenate()([EARLY, resized])
    np.testing.assert_allclose(numpy(layers.MergeFeatureMaps()([EARLY, LATE])), numpy(wanted), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", ["concat", "add", "mean", "max"])
@pytest.mark.parametrize("options", [{}, {"size": "smallest", "mode": "area"}, {"size": (9, 11), "mode": "bicubic"}])
def test_values(layers: Any, numpy: Any, how: str, options: dict[str, Any]) -> None:
    found = numpy(layers.MergeFeatureMaps(how, **options)([EARLY, LATE, EARLY]))
    wanted = ao.merge_feature_maps([EARLY, LATE, EARLY], how=how, layout="NHWC", **options)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


def test_flat(keras: Any, layers: Any, numpy: Any) -> None:
    inputs = [keras.Input(EARLY.shape[1:]), keras.Input(LATE.shape[1:])]
    model = keras.Model(inputs, layers.MergeFeatureMaps("flat", size=(21, 21))(inputs))
    assert model.output_shape == (None, 21, 21, 8)
    wanted = np.zeros((2, 441, 8), np.float32)
    wanted[:, :225], wanted[:, 225:261] = EARLY.reshape(2, 225, 8), LATE.reshape(2, 36, 8)
    np.testing.assert_array_equal(numpy(model([EARLY, LATE])), wanted.reshape(2, 21, 21, 8))


def test_too_small_for_flat(keras: Any, layers: Any) -> None:
    inputs = [keras.Input(EARLY.shape[1:]), keras.Input(LATE.shape[1:])]
    with pytest.raises(ValueError, match=r"225 .* at least 261"):
        layers.MergeFeatureMaps("flat", size=15)(inputs)


def test_one_map(layers: Any, numpy: Any) -> None:
    found = numpy(layers.MergeFeatureMaps(size=(30, 30))(EARLY))
    np.testing.assert_allclose(found, ao.resize2d(EARLY, 30, layout="NHWC"), rtol=1e-6, atol=1e-6)
