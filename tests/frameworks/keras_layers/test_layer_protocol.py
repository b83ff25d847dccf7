"""What Keras expects of any layer: configurations, shapes, files, policies, and all kinds of models."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layer_cases import BATCH, CASES, LayerCase

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every_format = pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])


def first_or_list(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else values


def inputs_of(keras: Any, case: LayerCase, data_format: str = "channels_last", unknown: bool = False) -> list[Any]:
    found = []
    for shape, array in zip(case.shapes_in(data_format), case.arrays(data_format), strict=True):
        channels = len(shape) - 1 if data_format == "channels_last" else 1
        sizes = [size if axis == channels and len(shape) == 4 else None for axis, size in enumerate(shape)]
        if not unknown or (len(shape) != 4 and array.dtype != np.int32):
            sizes = [None, *shape[1:]]
        elif array.dtype == np.int32:
            sizes = [None] * len(shape)
        found.append(keras.Input(tuple(sizes[1:]), dtype=str(array.dtype)))
    return found


def model_of(keras: Any, case: LayerCase, data_format: str = "channels_last", **changes: Any) -> Any:
    inputs = inputs_of(keras, case, data_format)
    return keras.Model(inputs, case.layer(data_format, **changes)(first_or_list(inputs)))


@every_case
@every_format
class TestShapes:
    def test_output_shape(self, keras: Any, layers: Any, case: LayerCase, data_format: str) -> None:
        layer, arrays = case.layer(data_format), case.arrays(data_format)
        shape = layer.compute_output_shape(first_or_list(case.shapes_in(data_format)))
        assert not layer.built
        output = layer(first_or_list([keras.ops.convert_to_tensor(array) for array in arrays]))
        assert tuple(output.shape) == shape
        assert keras.backend.standardize_dtype(output.dtype) == "float32"

    def test_unknown_sizes(self, keras: Any, layers: Any, case: LayerCase, data_format: str) -> None:
        """Symbolic shapes are never wrong, and the batch and the channels are as in the output."""
        inputs, arrays = inputs_of(keras, case, data_format, unknown=True), case.arrays(data_format)
        symbolic = case.layer(data_format)(first_or_list(inputs))
        output = keras.Model(inputs, symbolic)(arrays)
        assert len(output.shape) == len(symbolic.shape)
        assert all(known in (None, size) for known, size in zip(symbolic.shape, output.shape, strict=True))
        assert symbolic.shape[0] is None
        channels = -1 if data_format == "channels_last" else 1
        assert symbolic.shape[channels] == output.shape[channels]


@every_case
class TestConfigurations:
    def test_are_complete(self, keras: Any, layers: Any, case: LayerCase) -> None:
        layer = case.layer(name="some_name", trainable=False)
        config = layer.get_config()
        copied = type(layer).from_config(config)
        assert copied.get_config() == config
        for name in (*case.arguments, "data_format", "name", "trainable", "dtype"):
            assert name in config

    def test_serialization(self, keras: Any, layers: Any, case: LayerCase) -> None:
        layer = case.layer()
        text = json.dumps(keras.saving.serialize_keras_object(layer))
        copied = keras.saving.deserialize_keras_object(json.loads(text))
        assert type(copied) is type(layer)
        assert json.dumps(keras.saving.serialize_keras_object(copied)) == text

    def test_registered_name(self, keras: Any, layers: Any, case: LayerCase) -> None:
        """Files hold it, so it stays."""
        assert keras.saving.get_registered_name(type(case.layer())) == f"arrayops>{case.name}"


@every_case
@every_format
def test_saved_models(keras: Any, layers: Any, numpy: Any, case: LayerCase, data_format: str, tmp_path: Path) -> None:
    model, arrays = model_of(keras, case, data_format), case.arrays(data_format)
    wanted = numpy(model(arrays))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(numpy(loaded(arrays)), wanted)
    model.save_weights(tmp_path / "model.weights.h5")
    cloned = keras.models.clone_model(model)
    cloned.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(numpy(cloned(arrays)), wanted)


@every_case
def test_formats_agree(keras: Any, layers: Any, numpy: Any, case: LayerCase) -> None:
    """The same weights, and results that differ by their axes alone."""
    last, first = (model_of(keras, case, data_format) for data_format in ("channels_last", "channels_first"))
    first.set_weights(last.get_weights())
    wanted = np.moveaxis(numpy(last(case.arrays())), -1, 1)
    np.testing.assert_allclose(numpy(first(case.arrays("channels_first"))), wanted, rtol=2e-5, atol=2e-6)


def test_default_format_is_that_of_keras(keras: Any, layers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
    layer = layers.GroupedConv2D(4, 3)
    assert layer.data_format == layer.get_config()["data_format"] == "channels_first"


@every_case
def test_summary(keras: Any, layers: Any, case: LayerCase) -> None:
    lines: list[str] = []
    model_of(keras, case).summary(print_fn=lines.append, line_length=150)
    assert case.name in "\n".join(lines)


class TestModels:
    """All kinds of models of Keras give the same results and gradients."""

    def test_sequential(self, keras: Any, layers: Any, numpy: Any) -> None:
        model = keras.Sequential(
            [
                layers.GroupedConv2D(8, 3, groups=2, activation="relu"),
                layers.PacConv2D(4, 3, padding="same"),
                layers.PacPooling2D(2),
                layers.GroupedConv2DTranspose(3, 2, strides=2),
            ]
        )
        image = np.ones((BATCH, 10, 12, 4), np.float32)
        assert tuple(model(image).shape) == (BATCH, 8, 10, 3)
        assert len(model.weights) == 6
        copied = keras.models.clone_model(model)
        copied.build(image.shape)
        copied.set_weights(model.get_weights())
        np.testing.assert_array_equal(numpy(copied(image)), numpy(model(image)))

    def test_subclass(self, keras: Any, layers: Any, numpy: Any) -> None:
        import arrayops as ao

        class Own(keras.layers.Layer):
            """A layer of a user with a variable, without a rule for shapes."""

            def build(self, shape: Any) -> None:
                self.filters = self.add_weight(shape=(3, 3, 4, 2), initializer="glorot_uniform", name="filters")

            def call(self, image: Any) -> Any:
                return ao.conv2d(image, self.filters, padding=1, layout="NHWC")

        class Network(keras.Model):
            def __init__(self) -> None:
                super().__init__()
                self.adapted, self.own = layers.PacConv2D(4, 3, padding="same"), Own()

            def call(self, inputs: Any) -> Any:
                image, guide = inputs
                return ao.resize2d(self.own(self.adapted([image, guide])), scale=2, layout="NHWC")

        case = CASES["pac"]
        model, arrays = Network(), case.arrays()
        target = np.zeros((BATCH, 18, 24, 2), np.float32)
        model.compile(keras.optimizers.SGD(0.1), "mse")
        losses = [model.train_on_batch(arrays, target) for _ in range(3)]
        assert losses[0] > losses[1] > losses[2]
        inputs = inputs_of(keras, case)
        functional = keras.Model(inputs, Own()(layers.PacConv2D(4, 3, padding="same")(inputs)))
        functional.set_weights(model.get_weights())
        doubled = ao.resize2d(numpy(functional(arrays)), scale=2, layout="NHWC")
        np.testing.assert_allclose(numpy(model(arrays)), doubled, rtol=1e-5, atol=1e-6)

    def test_time_distributed(self, keras: Any, layers: Any, numpy: Any) -> None:
        layer = layers.GroupedConv2D(6, 3, groups=2)
        frames = np.random.default_rng(0).standard_normal((2, 3, *CASES["conv"].shapes[0])).astype(np.float32)
        found = numpy(keras.layers.TimeDistributed(layer)(frames))
        wanted = np.stack([numpy(layer(frames[:, i])) for i in range(3)], 1)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)


# Keras adds penalties and losses of different dtypes, which TensorFlow refuses.
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("name", [name for name in CASES if "kernel_regularizer" not in CASES[name].arguments])
def test_dtype_policies(keras: Any, layers: Any, numpy: Any, name: str, policy: str) -> None:
    """Inputs are cast, labels are not, and results are near those of float32."""
    case = CASES[name]
    if policy == "float64" and keras.backend.backend() == "jax":
        pytest.skip("JAX has no float64 unless it is configured for it")
    reference = model_of(keras, case)
    model = model_of(keras, case, dtype=policy)
    model.set_weights(reference.get_weights())
    arrays = case.arrays()
    output = model(arrays)
    compute_dtype = keras.DTypePolicy(policy).compute_dtype
    assert keras.backend.standardize_dtype(output.dtype) == compute_dtype
    assert keras.backend.standardize_dtype(model.outputs[0].dtype) == compute_dtype
    tolerance = {"float16": 1e-2, "bfloat16": 8e-2, "float64": 1e-5}[compute_dtype]
    wanted = numpy(reference(arrays)).astype(np.float64)
    found = numpy(keras.ops.cast(output, "float32")).astype(np.float64)
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()
    if not model.trainable_weights or not policy.startswith("mixed"):
        return
    model.compile(keras.optimizers.SGD(1e-2), "mse", jit_compile=False)
    before = model.get_weights()
    assert np.isfinite(model.train_on_batch(arrays, np.zeros(found.shape, np.float32)))
    assert any((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("GroupedConv2D", {"filters": 0, "kernel_size": 3}, "GroupedConv2D: filters is 0, expected at least 1"),
        (
            "GroupedConv2D",
            {"filters": 6, "kernel_size": 3, "groups": 4},
            "GroupedConv2D: filters is 6, expected a multiple of groups, which is 4",
        ),
        (
            "GroupedConv2D",
            {"filters": 6, "kernel_size": (3, 3, 3)},
            r"GroupedConv2D: kernel_size is \(3, 3, 3\), expected an integer or a pair of them",
        ),
        (
            "GroupedConv2D",
            {"filters": 6, "kernel_size": 3, "padding": "causal"},
            "GroupedConv2D: padding is 'causal', expected 'valid' or 'same'",
        ),
        (
            "GroupedConv2D",
            {"filters": 6, "kernel_size": 3, "data_format": "NHWC"},
            "GroupedConv2D: data_format is 'NHWC', expected 'channels_last' or 'channels_first'",
        ),
        (
            "GroupedConv2DTranspose",
            {"filters": 6, "kernel_size": 3, "strides": 2, "output_padding": 2},
            r"GroupedConv2DTranspose: output_padding is 2, expected less than strides, which is \(2, 2\)",
        ),
        (
            "PacConv2D",
            {"filters": 6, "kernel_size": 3, "kernel_type": "inv", "inv_alpha": 1.0},
            "PacConv2D: inv_lambda is None, expected a number with kernel_type 'inv'",
        ),
        (
            "PacPooling2D",
            {"inv_alpha": 1.0},
            "PacPooling2D: inv_alpha is 1.0, expected None with kernel_type 'gaussian'",
        ),
        (
            "PacConv2DTranspose",
            {"filters": 6, "kernel_size": 3, "implementation": "portable"},
            "PacConv2DTranspose: implementation is 'portable', expected 'auto'",
        ),
        *(
            (
                "PacPooling2D",
                {"smooth_kernel": value},
                "PacPooling2D: smooth_kernel is .*, expected an odd number of rows",
            )
            for value in ([], 3.0, [[1, 2]], [[1], [2]], [[1, 2, 3], [1], [1, 2, 3]])
        ),
        (
            "SuperpixelPooling",
            {"n_superpixels": 3, "reduction": "median"},
            "SuperpixelPooling: reduction is 'median', expected 'mean' or 'sum' or 'max' or 'min' or 'var'",
        ),
        ("MergeFeatureMaps", {"how": "stack"}, "MergeFeatureMaps: how is 'stack', expected"),
        ("MergeFeatureMaps", {"size": "largest", "mode": "cubic"}, "MergeFeatureMaps: mode is 'cubic', expected"),
    ],
)
def test_invalid_arguments(layers: Any, name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(layers, name)(**arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "shapes", "message"),
    [
        ("GroupedConv2D", {"filters": 6, "kernel_size": 3}, [(8, 8)], "GroupedConv2D: input is"),
        (
            "GroupedConv2D",
            {"filters": 6, "kernel_size": 3},
            [(8, 8, None)],
            r"GroupedConv2D: input is \(None, 8, 8, None\), expected four axes, N H W C, with a known number",
        ),
        (
            "GroupedConv2D",
            {"filters": 6, "kernel_size": 3, "groups": 3},
            [(8, 8, 4)],
            "groups is 3, expected a divisor of the input's 4 channels",
        ),
        ("GroupedConv2D", {"filters": 6, "kernel_size": 3}, [(8, 8, 4)] * 2, "GroupedConv2D: got 2 inputs, expected x"),
        ("GroupedConv2D", {"filters": 6, "kernel_size": 9}, [(8, 8, 4)], "filter height is 9 .* expected at most 8"),
        ("PacConv2D", {"filters": 6, "kernel_size": 3}, [(8, 8, 4)] * 3, r"got 3 inputs, expected x or \[x, guide\]"),
        (
            "PacConv2D",
            {"filters": 6, "kernel_size": 3},
            [(8, 8, 4), (4, 4, 3)],
            r"guide is \(None, 4, 4, 3\), expected height and width \(8, 8\)",
        ),
        ("PacConv2DTranspose", {"filters": 6, "kernel_size": 3}, [(8, 8, 4)], r"got 1 input, expected \[x, guide\]"),
        (
            "PacConv2D",
            {"filters": 6, "kernel_size": 3, "shared_filters": True},
            [(8, 8, 4)],
            "PacConv2D: filters is 6, expected 4, the channels of the input, with shared_filters",
        ),
        (
            "SuperpixelPooling",
            {"n_superpixels": 3},
            [(8, 8, 4)],
            r"got 1 input, expected \[features, superpixel_map\]",
        ),
        ("MergeFeatureMaps", {"how": "add"}, [(8, 8, 4), (8, 8, 5)], "expected 4 channels"),
    ],
)
def test_shapes_that_do_not_fit(
    keras: Any, layers: Any, name: str, arguments: dict[str, Any], shapes: list[Any], message: str
) -> None:
    """Refused when the model is made."""
    layer = getattr(layers, name)(**arguments)
    with pytest.raises(ValueError, match=message):
        layer(first_or_list([keras.Input(shape) for shape in shapes]))


def test_another_number_of_channels(keras: Any, layers: Any) -> None:
    """A layer that has a kernel refuses it when a model is made, as Keras' own layers do."""
    for layer in (layers.GroupedConv2D(4, 3), layers.PacConv2D(4, 3), layers.GroupedConv2DTranspose(4, 3)):
        layer(keras.Input((8, 8, 4)))
        with pytest.raises(ValueError, match="expected 6 input channels for an input of 6 channels"):
            layer(keras.Input((8, 8, 6)))


def test_subclass_with_another_argument(keras: Any, layers: Any, numpy: Any) -> None:
    class Scaled(layers.PacConv2D):  # type: ignore[misc]
        def call(self, inputs: Any, training: bool = False, scale: float = 1.0) -> Any:
            return scale * super().call(inputs)

    image, layer = keras.Input((8, 9, 4)), Scaled(3, 3)
    model = keras.Model(image, layer(image, scale=2.0))
    array = np.ones((2, 8, 9, 4), np.float32)
    np.testing.assert_allclose(numpy(model(array)), 2 * numpy(layer(array)), rtol=1e-6)


def test_configurations_share_nothing_with_the_layer(layers: Any) -> None:
    layer = layers.PacConv2D(4, 3, smooth_kernel=[[0.25, 0.5, 0.25]])
    layer.get_config()["smooth_kernel"][0][0] = 9.0
    assert layer.get_config()["smooth_kernel"] == [[0.25, 0.5, 0.25]]


def test_numbers_of_numpy(layers: Any) -> None:
    size = np.int64(5)
    assert layers.MergeFeatureMaps(size=size).get_config()["size"] == (5, 5)
    assert layers.GroupedConv2D(size, size).get_config()["kernel_size"] == (5, 5)


@every_case
def test_no_warning(keras: Any, layers: Any, case: LayerCase) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model_of(keras, case)(case.arrays())
