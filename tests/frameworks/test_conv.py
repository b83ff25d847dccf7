"""Convolutions on arrays of every framework, and beside the frameworks' own over random configurations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayops as ao

RNG = np.random.default_rng


def random_configuration(seed: int) -> dict[str, Any]:
    """NHWC arrays and keywords for a convolution in groups with SAME, VALID or any zeros around."""
    rng = RNG(seed)
    groups = int(rng.choice([1, 2, 4]))
    inner, each = (int(value) for value in rng.integers(1, 4, 2))
    kernel, stride, dilation = ([int(value) for value in rng.integers(1, top, 2)] for top in (5, 4, 3))
    size = [int(rng.integers(1, 9)) + (k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
    padding = rng.choice(["SAME", "VALID", "sides"])
    sides: Any = [[int(value) for value in pair] for pair in rng.integers(0, 4, (2, 2))]
    return {
        "input": rng.standard_normal((2, *size, groups * inner)),
        "weight": rng.standard_normal((*kernel, inner, groups * each)),
        "keywords": {
            "groups": groups,
            "stride": tuple(stride),
            "dilation": tuple(dilation),
            "padding": sides if padding == "sides" else str(padding),
            "layout": "NHWC",
        },
    }


@pytest.mark.parametrize("seed", range(60))
def test_equals_jax_with_feature_group_count(jax: Any, seed: int) -> None:
    made = random_configuration(seed)
    keywords = made["keywords"]

    def theirs(input: Any, weight: Any) -> Any:
        return jax.lax.conv_general_dilated(
            input,
            weight,
            keywords["stride"],
            keywords["padding"],
            rhs_dilation=keywords["dilation"],
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=keywords["groups"],
            precision="highest",
        )

    arrays = [made[name].astype(np.float32) for name in ("input", "weight")]
    want, pullback = jax.vjp(theirs, *map(jax.numpy.asarray, arrays))
    got = ao.conv2d(*arrays, **keywords)
    grad = RNG(seed + 1).standard_normal(want.shape).astype(np.float32)
    close(got, want)
    for mine, other in zip(ao.conv2d_backward(grad, *arrays, **keywords), pullback(grad), strict=False):
        close(mine, other)


@pytest.mark.parametrize("seed", range(40))
def test_equals_tensorflow(tf: Any, seed: int) -> None:
    """SAME and VALID, with stride or dilation: TensorFlow refuses both at once."""
    made = random_configuration(seed)
    keywords = {**made["keywords"], "padding": ("SAME", "VALID")[seed % 2]}
    keywords["dilation" if seed % 3 else "stride"] = (1, 1)
    arrays = [made[name].astype(np.float32) for name in ("input", "weight")]
    tensors = [tf.constant(array) for array in arrays]

    def theirs(input: Any, weight: Any) -> Any:
        return tf.nn.convolution(
            input,
            weight,
            strides=keywords["stride"],
            padding=keywords["padding"],
            dilations=keywords["dilation"],
        )

    want = theirs(*tensors)
    close(ao.conv2d(*arrays, **keywords), want)
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        # Group by group: whether TensorFlow has gradients of grouped convolutions depends on the processor.
        groups = keywords["groups"]
        parts = zip(tf.split(tensors[0], groups, axis=3), tf.split(tensors[1], groups, axis=3), strict=True)
        joined = tf.concat([theirs(*part) for part in parts], axis=3)
    close(joined, want)
    grad = RNG(seed + 1).standard_normal(want.shape).astype(np.float32)
    gradients = tape.gradient(joined, tensors, output_gradients=tf.constant(grad))
    for mine, other in zip(ao.conv2d_backward(grad, *arrays, **keywords), gradients, strict=False):
        close(mine, other)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_transposed_same_equals_tensorflow(tf: Any, stride: int, size: int) -> None:
    rng = RNG(stride)
    x, weight = rng.standard_normal((2, 5, 4, 6)), rng.standard_normal((size, size, 3, 6))
    want = tf.nn.conv2d_transpose(x, weight, (2, 5 * stride, 4 * stride, 3), stride, "SAME")
    close(ao.conv_transpose2d(x, weight, stride=stride, padding="SAME", layout="NHWC"), want, 1e-12)


def close(got: Any, want: Any, relative: float = 4e-6) -> None:
    want = np.asarray(want)
    assert got.shape == want.shape
    assert np.linalg.norm(got - want) <= relative * np.linalg.norm(want) + 1e-30


@pytest.mark.parametrize("framework", ["torch", "jax", "tf"])
def test_arrays_of_each_framework(request: pytest.FixtureRequest, framework: str) -> None:
    module = request.getfixturevalue(framework)
    make = {"torch": "from_numpy", "jax": "numpy.asarray", "tf": "constant"}[framework]
    function: Any = module
    for part in make.split("."):
        function = getattr(function, part)
    rng = RNG(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((2, 4, 6, 7), (6, 2, 3, 3), (6,))]
    grad = rng.standard_normal((2, 6, 4, 5)).astype(np.float32)
    theirs = [function(array) for array in arrays]
    keywords: dict[str, Any] = {"groups": 2, "layout": "NCHW"}
    output = ao.conv2d(*theirs, **keywords)
    assert type(output) is type(theirs[0])
    assert np.asarray(output).tobytes() == ao.conv2d(*arrays, **keywords).tobytes()
    found = ao.conv2d_backward(function(grad), *theirs, **keywords)
    for got, want in zip(found, ao.conv2d_backward(grad, *arrays, **keywords), strict=True):
        assert type(got) is type(theirs[0])
        assert np.asarray(got).tobytes() == want.tobytes()
