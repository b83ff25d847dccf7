"""PacConv2D, PacConv2DTranspose and PacPooling2D: values, gradients, own kernels, masks, and the portable form."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import arrayops as ao
from layer_cases import CASES
from strategies import examples

NHWC = {"layout": "NHWC"}
# JAX compiles every operation for every shape.
DRAWN = 12 if os.environ.get("KERAS_BACKEND") == "jax" else 60


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


IMAGE, GUIDE = normal(0, 2, 9, 12, 4), normal(1, 2, 9, 12, 3)
VALID = np.random.default_rng(2).random((2, 9, 12, 1)) > 0.4


class TestValues:
    """Those of the functions on NumPy arrays."""

    @pytest.mark.parametrize("stride", [1, 2])
    @pytest.mark.parametrize("padding", ["same", "valid"])
    def test_convolution(self, layers: Any, numpy: Any, stride: int, padding: str) -> None:
        layer = layers.PacConv2D(6, 3, stride, padding, groups=2, bias_initializer="normal", normalize_kernel=True)
        found = numpy(layer([IMAGE, GUIDE]))
        kernel, bias = layer.get_weights()
        wanted = ao.pac_conv2d(
            *(IMAGE, GUIDE, kernel, bias), stride=stride, padding=padding, groups=2, normalize_kernel=True, **NHWC
        )
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)

    def test_options_of_the_kernel(self, layers: Any, numpy: Any) -> None:
        smooth = [[0.0, 0.25, 0.0], [0.25, 0.0, 0.25], [0.0, 0.25, 0.0]]
        layer = layers.PacConv2D(
            *(6, 3), kernel_type="inv", inv_alpha=0.3, inv_lambda=-0.7, asymmetric=True, smooth_kernel=smooth
        )
        found = numpy(layer([IMAGE, GUIDE]))
        weights = {weight.name: value for weight, value in zip(layer.weights, layer.get_weights(), strict=True)}
        assert list(weights) == ["kernel", "bias", "inv_alpha", "inv_lambda"]
        inv = {name: weights[name] for name in ("inv_alpha", "inv_lambda")}
        assert {name: float(value) for name, value in inv.items()} == pytest.approx(
            {"inv_alpha": 0.3, "inv_lambda": -0.7}
        )
        wanted = ao.pac_conv2d(
            *(IMAGE, GUIDE, weights["kernel"], weights["bias"]),
            kernel_type="inv",
            asymmetric=True,
            smooth_kernel=np.float32(smooth),
            **inv,
            **NHWC,
        )
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)

    def test_the_input_is_its_own_guide(self, layers: Any, numpy: Any) -> None:
        for layer in (layers.PacConv2D(5, 3), layers.PacPooling2D(3)):
            np.testing.assert_array_equal(numpy(layer(IMAGE)), numpy(layer([IMAGE, IMAGE])))

    @pytest.mark.parametrize("padding", ["same", "valid"])
    @pytest.mark.parametrize(("kernel_size", "stride"), [(4, 2), (3, 2), (5, 2), (2, 3), (3, 1)])
    def test_transposed_with_a_constant_guide(
        self, keras: Any, layers: Any, numpy: Any, kernel_size: int, stride: int, padding: str
    ) -> None:
        """It is Keras' transposed convolution, by the weights of that."""
        plain = keras.layers.Conv2DTranspose(
            5, kernel_size, stride, padding, bias_initializer="normal", data_format="channels_last"
        )
        wanted = numpy(plain(IMAGE))
        layer = layers.PacConv2DTranspose(5, kernel_size, stride, padding)
        guide = np.ones((*wanted.shape[:3], 3), np.float32)
        layer.build([IMAGE.shape, guide.shape])
        layer.set_weights(plain.get_weights())
        np.testing.assert_allclose(inside(numpy(layer([IMAGE, guide]))), inside(wanted), rtol=1e-5, atol=3e-6)

    def test_transposed(self, layers: Any, numpy: Any) -> None:
        layer = layers.PacConv2DTranspose(5, 4, 2, "same", bias_initializer="normal")
        guide = normal(3, 2, 18, 24, 3)
        found = numpy(layer([IMAGE, guide]))
        kernel, bias = layer.get_weights()
        assert kernel.shape == (4, 4, 5, 4)
        wanted = ao.pac_conv_transpose2d(IMAGE, guide, kernel, bias, stride=2, padding="SAME", **NHWC)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)

    def test_pooling(self, keras: Any, layers: Any, numpy: Any) -> None:
        found = numpy(layers.PacPooling2D(3, 2, "same")([IMAGE, GUIDE]))
        wanted = ao.pac_pool2d(IMAGE, GUIDE, 3, stride=2, padding="SAME", normalize_kernel=True, **NHWC)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
        # With a constant guide, Keras' mean over the pixels within the image.
        for padding in ("same", "valid"):
            mean = keras.layers.AveragePooling2D((2, 3), None, padding, data_format="channels_last")
            found = numpy(layers.PacPooling2D((2, 3), None, padding)([IMAGE, np.ones_like(GUIDE)]))
            np.testing.assert_allclose(found, numpy(mean(IMAGE)), rtol=1e-5, atol=1e-6)


def inside(image: np.ndarray) -> np.ndarray:
    """Without the margin, where the window of a constant guide meets the zeros around it."""
    return image[:, 4:-4, 4:-4]


class TestOwnKernels:
    """``kernel=`` in a call."""

    def test_values(self, layers: Any, numpy: Any) -> None:
        kernel = normal(4, 2, 9, 12, 3, 3, 1)
        layer = layers.PacConv2D(6, 3, padding="same")
        found = numpy(layer(IMAGE, kernel=kernel))
        wanted = ao.pac_conv2d(IMAGE, None, *layer.get_weights(), kernel=kernel, padding="SAME", **NHWC)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
        pooled = numpy(layers.PacPooling2D(3, 1, "same")(IMAGE, kernel=kernel))
        wanted = ao.pac_pool2d(IMAGE, None, 3, kernel=kernel, padding="SAME", **NHWC)
        np.testing.assert_allclose(pooled, wanted, rtol=1e-6, atol=1e-6)

    def test_transposed(self, keras: Any, layers: Any, numpy: Any) -> None:
        guide = normal(3, 2, 18, 24, 3)
        window = {"stride": 2, "padding": "SAME", **NHWC}
        kernel = ao.pac_kernel2d(guide, 4, transposed=True, **window)
        layer = layers.PacConv2DTranspose(5, 4, 2, "same")
        found = numpy(layer(IMAGE, kernel=kernel))
        np.testing.assert_allclose(found, numpy(layer([IMAGE, guide])), rtol=1e-5, atol=1e-6)
        image, own = keras.Input((9, 12, 4)), keras.Input(kernel.shape[1:])
        model = keras.Model([image, own], layers.PacConv2DTranspose(5, 4, 2, "same")(image, kernel=own))
        assert model.output_shape == (None, 18, 24, 5)
        model.set_weights(layer.get_weights())
        np.testing.assert_array_equal(numpy(model([IMAGE, kernel])), found)
        with pytest.raises(ValueError, match=r"PacConv2DTranspose: got 1 input, expected \[x, guide\]"):
            layer(IMAGE)

    @pytest.mark.parametrize("implementation", ["auto", "portable"])
    def test_in_a_model(self, keras: Any, layers: Any, numpy: Any, implementation: str, tmp_path: Any) -> None:
        """One kernel, of a function on symbolic tensors, for two layers; gradients reach what it was computed from."""
        image, guide = keras.Input((None, None, 4)), keras.Input((None, None, 3))
        features = keras.layers.Dense(2, name="embedding")(guide)
        kernel = ao.pac_kernel2d(features, 3, padding=1, **NHWC)
        assert kernel.shape == (None, None, None, 3, 3, 1)
        options = {"padding": "same", "implementation": implementation}
        hidden = layers.PacConv2D(6, 3, activation="relu", **options)(image, kernel=kernel)
        model = keras.Model([image, guide], layers.PacConv2D(2, 3, **options)(hidden, kernel=kernel))
        found = numpy(model([IMAGE, GUIDE]))
        embed, shift, first, first_bias, second, second_bias = model.get_weights()
        given = {"kernel": ao.pac_kernel2d(GUIDE @ embed + shift, 3, padding=1, **NHWC), "padding": 1, **NHWC}
        relu = np.maximum(ao.pac_conv2d(IMAGE, None, first, first_bias, **given), 0)
        wanted = ao.pac_conv2d(relu, None, second, second_bias, **given)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
        model.save(tmp_path / "model.keras")
        np.testing.assert_array_equal(numpy(keras.saving.load_model(tmp_path / "model.keras")([IMAGE, GUIDE])), found)
        model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False)
        before = model.get_weights()
        model.train_on_batch([IMAGE, GUIDE], np.zeros(found.shape, np.float32))
        changed = [(old != new).any() for old, new in zip(before, model.get_weights(), strict=True)]
        # A shift of all guide features changes no difference.
        assert [*changed[:1], *changed[2:]] == [True] * 5

    def test_a_guide_beside_it_is_refused(self, keras: Any, layers: Any) -> None:
        kernel = normal(4, 2, 9, 12, 3, 3, 1)
        with pytest.raises(ValueError, match="guide and kernel are both given, expected exactly one of them"):
            layers.PacConv2D(6, 3, padding="same")([IMAGE, GUIDE], kernel=kernel)


class TestMasks:
    """``valid=`` in a call."""

    @pytest.mark.parametrize("normalize_kernel", [False, True])
    def test_values(self, layers: Any, numpy: Any, normalize_kernel: bool) -> None:
        image = np.where(VALID, IMAGE, np.nan).astype(np.float32)
        options = {"padding": "same", "normalize_kernel": normalize_kernel}
        layer = layers.PacConv2D(6, 3, activation="relu", **options)
        output, valid = layer([image, GUIDE], valid=VALID)
        wanted = ao.pac_conv2d(image, GUIDE, *layer.get_weights(), mask=VALID, **options, **NHWC)
        np.testing.assert_allclose(numpy(output), np.maximum(wanted.output, 0), rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(numpy(valid), wanted.output_mask)
        output, valid = layers.PacPooling2D(2, **options)([image, GUIDE], valid=VALID)
        wanted = ao.pac_pool2d(image, GUIDE, 2, mask=VALID, stride=2, **options, **NHWC)
        np.testing.assert_allclose(numpy(output), wanted.output, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(numpy(valid), wanted.output_mask)

    def test_in_a_model(self, keras: Any, layers: Any, numpy: Any) -> None:
        """The second result is the mask of the next layer."""
        image, valid = keras.Input((9, 12, 4)), keras.Input((9, 12, 1), dtype="bool")
        hidden, reached = layers.PacConv2D(6, 3, padding="same")(image, valid=valid)
        output, last = layers.PacPooling2D(3)(hidden, valid=reached)
        assert (output.shape, output.dtype) == ((None, 3, 4, 6), "float32")
        assert (last.shape, last.dtype) == ((None, 3, 4, 1), "bool")
        found, mask = keras.Model([image, valid], [output, last])([IMAGE, VALID])
        assert np.isfinite(numpy(found)).all()
        assert numpy(mask).dtype == bool


class TestGradients:
    """A step of gradient descent subtracts the gradients that the functions have on NumPy arrays."""

    @pytest.mark.parametrize("implementation", ["auto", "portable"])
    def test_convolution(self, keras: Any, layers: Any, numpy: Any, implementation: str) -> None:
        image, guide = keras.Input((9, 12, 4)), keras.Input((9, 12, 3))
        scale = keras.layers.Dense(3, use_bias=False, kernel_initializer="identity")
        inv = {"kernel_type": "inv", "inv_alpha": 0.2, "inv_lambda": -0.5}
        layer = layers.PacConv2D(6, 3, strides=2, padding="same", implementation=implementation, **inv)
        output = layer([image, scale(guide)])
        model = keras.Model([image, guide], output)
        model.compile(keras.optimizers.SGD(1.0), loss="mse", jit_compile=False)
        before, target = model.get_weights(), normal(5, 2, 5, 6, 6)
        names = [weight.name for weight in model.weights[1:]]
        found = numpy(model([IMAGE, GUIDE]))
        model.train_on_batch([IMAGE, GUIDE], target)
        grad = 2 * (found - target) / found.size
        arguments = dict(zip(names, before[1:], strict=True))
        arguments["weight"] = arguments.pop("kernel")
        wanted = ao.pac_conv2d_backward(
            grad, IMAGE, GUIDE, **arguments, kernel_type="inv", stride=2, padding="SAME", **NHWC
        )
        steps = [old - new for old, new in zip(before, model.get_weights(), strict=True)]
        np.testing.assert_allclose(steps[0], np.einsum("nhwi,nhwo->io", GUIDE, wanted.guide), rtol=2e-4, atol=2e-5)
        for name, step in zip(names, steps[1:], strict=True):
            expected = getattr(wanted, "weight" if name == "kernel" else name)
            np.testing.assert_allclose(step, expected, rtol=2e-4, atol=2e-5, err_msg=name)

    def test_transposed(self, keras: Any, layers: Any, numpy: Any) -> None:
        guide = normal(6, 2, 18, 24, 3)
        image, guide_input = keras.Input((9, 12, 4)), keras.Input((18, 24, 3))
        layer = layers.PacConv2DTranspose(5, 4, 2, "same")
        model = keras.Model([image, guide_input], layer([image, guide_input]))
        model.compile(keras.optimizers.SGD(1.0), loss="mse", jit_compile=False)
        before, target = model.get_weights(), normal(7, 2, 18, 24, 5)
        found = numpy(model([IMAGE, guide]))
        model.train_on_batch([IMAGE, guide], target)
        grad = 2 * (found - target) / found.size
        wanted = ao.pac_conv_transpose2d_backward(
            grad, IMAGE, guide, *before, stride=2, padding="SAME", needs=("weight", "bias"), **NHWC
        )
        steps = [old - new for old, new in zip(before, model.get_weights(), strict=True)]
        for step, expected in zip(steps, (wanted.weight, wanted.bias), strict=True):
            np.testing.assert_allclose(step, expected, rtol=2e-4, atol=2e-6)


@st.composite
def drawn_layers(draw: st.DrawFn) -> tuple[str, dict[str, Any], bool, tuple[int, int], bool]:
    """A layer, its arguments, whether it is a pooling, the size of its input, and whether there is a mask."""
    pooling, inv = draw(st.booleans()), draw(st.booleans())
    window = st.tuples(st.integers(1, 4), st.integers(1, 4))
    arguments: dict[str, Any] = {
        "strides": draw(st.tuples(st.integers(1, 3), st.integers(1, 3))),
        "dilation_rate": draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        "padding": draw(st.sampled_from(["same", "valid"])),
        "data_format": draw(st.sampled_from(["channels_last", "channels_first"])),
        "asymmetric": draw(st.booleans()),
        "normalize_kernel": draw(st.booleans()),
        "smooth_kernel": draw(st.sampled_from([None, ((0.25, 0.5, 0.25),), ((0.5,), (0.25,), (0.25,))])),
    }
    if inv:
        arguments |= {"kernel_type": "inv", "inv_alpha": 0.2, "inv_lambda": draw(st.sampled_from([-1.0, 0.5]))}
    if pooling:
        arguments |= {"pool_size": draw(window), "channel_wise": draw(st.booleans())}
    else:
        shared = draw(st.booleans())
        arguments |= {"filters": 4 if shared else 6, "kernel_size": draw(window), "shared_filters": shared}
        arguments["groups"] = 1 if shared else draw(st.sampled_from([1, 2]))
    size = draw(st.tuples(st.integers(7, 11), st.integers(7, 11)))
    return "PacPooling2D" if pooling else "PacConv2D", arguments, pooling, size, draw(st.booleans())


class TestPortable:
    @examples(DRAWN)
    @given(drawn_layers(), st.integers(0, 2**16))
    def test_is_equal(self, keras: Any, layers: Any, numpy: Any, drawn: Any, seed: int) -> None:
        name, arguments, pooling, size, masked = drawn
        make = getattr(layers, name)
        native, portable = make(**arguments), make(**arguments, implementation="portable")
        channels = (4, 4) if pooling else (4, 3)
        arrays = [normal(seed + i, 2, *size, channels[i]) for i in range(2)]
        valid = np.random.default_rng(seed).random((2, *size, 1)) > 0.4 if masked else None
        if arguments["data_format"] == "channels_first":
            arrays = [np.moveaxis(array, -1, 1) for array in arrays]
            valid = None if valid is None else np.moveaxis(valid, -1, 1)
        shapes = [array.shape for array in arrays]
        native.build(shapes)
        portable.build(shapes)
        portable.set_weights(native.get_weights())
        wanted, found = (numpy(layer(arrays, valid=valid)) for layer in (native, portable))
        if masked:
            np.testing.assert_array_equal(found[1], wanted[1])
            found, wanted = found[0], wanted[0]
        assert found.shape == wanted.shape
        # K of "inv" is up to 100 at the centre.
        tolerance = 2e-6 * max(np.abs(wanted).max(), 1)
        assert np.abs(found - wanted).max() <= tolerance

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("masked", [False, True])
    @pytest.mark.parametrize("name", ["PacConv2D", "PacPooling2D"])
    def test_values_that_are_not_finite(self, layers: Any, numpy: Any, name: str, masked: bool, value: float) -> None:
        """In the guide: they reach what depends on them, and nothing if they are masked out."""
        guide, valid = GUIDE.copy(), np.ones_like(VALID)
        guide[0, 4, 5], valid[0, 4, 5] = value, not masked
        arguments: dict[str, Any] = {"padding": "same", "strides": 1, "normalize_kernel": True}
        arguments |= {"filters": 4, "kernel_size": 3} if name == "PacConv2D" else {"pool_size": 3}
        found = []
        for implementation in ("auto", "portable"):
            layer = getattr(layers, name)(**arguments, implementation=implementation)
            found.append(np.isfinite(numpy(layer([IMAGE, guide], valid=valid)[0])))
        np.testing.assert_array_equal(found[1], found[0])
        assert not found[0].all() or np.isinf(value)

    @pytest.mark.parametrize(
        ("inputs", "keywords"),
        [
            ([IMAGE, GUIDE[:1]], {}),
            ([IMAGE, GUIDE[:, :5]], {}),
            ([IMAGE, GUIDE], {"valid": np.ones((2, 9, 12, 4), bool)}),
            ([IMAGE, GUIDE], {"valid": np.ones((2, 9, 12, 1), np.float32)}),
            ([IMAGE], {"kernel": np.ones((2, 7, 10, 5, 5, 1), np.float32)}),
            ([IMAGE, GUIDE], {"kernel": np.ones((2, 7, 10, 3, 3, 1), np.float32)}),
            ([IMAGE[:, :2, :2], GUIDE[:, :2, :2]], {}),
        ],
    )
    def test_refuses_what_the_kernels_refuse(self, layers: Any, inputs: Any, keywords: dict[str, Any]) -> None:
        for make in (partial(layers.PacConv2D, 4, 3), partial(layers.PacPooling2D, 3, 1)):
            messages = []
            for implementation in ("auto", "portable"):
                layer = make(implementation=implementation)
                with pytest.raises((TypeError, ValueError)) as error:
                    layer(inputs, **keywords)
                messages.append(str(error.value).partition("Arguments received")[0])
            assert messages[0] == messages[1]

    def test_attribute(self, keras: Any, layers: Any) -> None:
        layer = layers.PacConv2D(4, 3)
        layer.implementation = "portable"
        assert layer.supports_jit
        assert layer.get_config()["implementation"] == "portable"
        layer.implementation = "auto"
        assert layer.supports_jit == (keras.backend.backend() != "tensorflow")
        with pytest.raises(ValueError, match="PacConv2D: implementation is 'other', expected 'auto' or 'portable'"):
            layer.implementation = "other"
        with pytest.raises(ValueError, match="PacConv2DTranspose: implementation is 'portable', expected 'auto'"):
            layers.PacConv2DTranspose(4, 3).implementation = "portable"

    def test_supports_jit(self, keras: Any, layers: Any) -> None:
        compiled = keras.backend.backend() != "tensorflow"
        for case in CASES.values():
            layer = case.layer()
            assert layer.supports_jit == (compiled or case.arguments.get("implementation") == "portable")
        call = keras.Model(image := keras.Input((4, 4, 2)), ao.resize2d(image, 8, **NHWC)).layers[-1]
        assert call.supports_jit == compiled
