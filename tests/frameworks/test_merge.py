"""Merging arrays of every framework, and what the frameworks' own resizing does alike and differently."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayops as ao

RNG = np.random.default_rng
SIZES = (((7, 5), (12, 9)), ((12, 9), (5, 4)), ((5, 9), (11, 3)), ((1, 6), (4, 1)))


def image(size: tuple[int, int]) -> np.ndarray:
    """NHWC, of 3 channels."""
    return RNG(0).standard_normal((2, *size, 3)).astype(np.float32)


def close(got: Any, want: Any) -> bool:
    want = np.asarray(want)
    assert got.shape == want.shape
    return bool(np.linalg.norm(got - want) <= 4e-6 * np.linalg.norm(want))


@pytest.mark.parametrize(("size", "target"), SIZES)
@pytest.mark.parametrize("antialias", [False, True])
def test_tensorflow_bilinear(tf: Any, size: tuple[int, int], target: tuple[int, int], antialias: bool) -> None:
    x = image(size)
    want = tf.image.resize(x, target, "bilinear", antialias=antialias)
    assert close(ao.resize2d(x, target, antialias=antialias, layout="NHWC"), want)


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_tensorflow_nearest(tf: Any, size: tuple[int, int], target: tuple[int, int]) -> None:
    x = image(size)
    options: dict[str, Any] = {"mode": "nearest", "layout": "NHWC"}
    assert close(ao.resize2d(x, target, **options), tf.image.resize(x, target, "nearest"))
    for coordinates, corners in (("asymmetric", False), ("align_corners", True)):
        want = tf.compat.v1.image.resize_nearest_neighbor(x, target, align_corners=corners)
        assert close(ao.resize2d(x, target, coordinates=coordinates, **options), want)


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_tensorflow_one_bilinear(tf: Any, size: tuple[int, int], target: tuple[int, int]) -> None:
    x = image(size)
    for coordinates, corners in (("asymmetric", False), ("align_corners", True)):
        want = tf.compat.v1.image.resize_bilinear(x, target, align_corners=corners)
        assert close(ao.resize2d(x, target, coordinates=coordinates, layout="NHWC"), want)


def test_bicubic_of_tensorflow_and_jax_is_another(tf: Any, jax: Any) -> None:
    """Both have a = -0.5 and leave out what lies beyond the border, as is done here when antialiased."""
    x = image((12, 12))
    for target in ((19, 30), (5, 5)):
        mine = ao.resize2d(x, target, mode="bicubic", layout="NHWC")
        wide = ao.resize2d(x, target, mode="bicubic", antialias=True, layout="NHWC")
        shape = (2, *target, 3)
        assert close(wide, tf.image.resize(x, target, "bicubic", antialias=True))
        assert close(wide, jax.image.resize(x, shape, "cubic"))
        plain = tf.image.resize(x, target, "bicubic"), jax.image.resize(x, shape, "cubic", antialias=False)
        assert not any(close(mine, theirs) for theirs in plain)
        if target[0] > 12:
            assert close(wide, plain[1])
            # TensorFlow takes its weights from a table of 1024 places between samples.
            np.testing.assert_allclose(wide, plain[0], atol=4e-3)
            assert not close(wide, plain[0])


def test_area_of_tensorflow_weighs_samples_that_are_covered_in_part(tf: Any) -> None:
    x = image((12, 12))
    options: dict[str, Any] = {"mode": "area", "layout": "NHWC"}
    assert close(ao.resize2d(x, (4, 3), **options), tf.image.resize(x, (4, 3), "area"))
    assert not close(ao.resize2d(x, (5, 5), **options), tf.image.resize(x, (5, 5), "area"))


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_jax(jax: Any, size: tuple[int, int], target: tuple[int, int]) -> None:
    """Its linear is antialiased where nothing else is said."""
    x = image(size)
    shape = (2, *target, 3)
    assert close(ao.resize2d(x, target, layout="NHWC"), jax.image.resize(x, shape, "linear", antialias=False))
    wide = ao.resize2d(x, target, antialias=True, layout="NHWC")
    assert close(wide, jax.image.resize(x, shape, "linear"))
    assert close(ao.resize2d(x, target, mode="nearest", layout="NHWC"), jax.image.resize(x, shape, "nearest"))
    grad = RNG(1).standard_normal(shape).astype(np.float32)
    want = jax.vjp(lambda a: jax.image.resize(a, shape, "linear"), x)[1](grad)[0]
    assert close(ao.resize2d_backward(grad, x, target, antialias=True, layout="NHWC").input, want)


@pytest.mark.parametrize("framework", ["torch", "jax", "tf"])
@pytest.mark.parametrize("how", ["concat", "max", "flat"])
def test_arrays_of_each_framework(request: pytest.FixtureRequest, framework: str, how: Any) -> None:
    module = request.getfixturevalue(framework)
    make = {"torch": "from_numpy", "jax": "numpy.asarray", "tf": "constant"}[framework]
    function: Any = module
    for part in make.split("."):
        function = getattr(function, part)
    maps = [RNG(i).standard_normal((2, 4, *size)).astype(np.float32) for i, size in enumerate(((6, 7), (3, 9)))]
    keywords: dict[str, Any] = {"how": how, "size": (8, 9), "layout": "NCHW"}
    want = ao.merge_feature_maps(maps, **keywords)
    theirs = [function(x) for x in maps]
    output = ao.merge_feature_maps(theirs, **keywords)
    assert type(output) is type(theirs[0])
    assert np.asarray(output).tobytes() == want.tobytes()
    found = ao.merge_feature_maps_backward(output, tuple(theirs), **keywords).maps
    assert isinstance(found, list)
    for got, expected in zip(found, ao.merge_feature_maps_backward(want, maps, **keywords).maps or [], strict=True):
        assert type(got) is type(theirs[0])
        assert np.asarray(got).tobytes() == expected.tobytes()
    one = ao.resize2d(theirs[0], scale=2, layout="NCHW")
    assert type(one) is type(theirs[0])
    assert np.asarray(one).tobytes() == ao.resize2d(maps[0], scale=2).tobytes()


def test_bfloat16_tensors(torch: Any) -> None:
    maps = [torch.randn(2, 4, 6, 7, dtype=torch.bfloat16), torch.randn(2, 4, 3, 9, dtype=torch.bfloat16)]
    for how in ("concat", "add", "flat"):
        keywords: dict[str, Any] = {"how": how, "size": (8, 9)}
        got = ao.merge_feature_maps(maps, **keywords)
        want = ao.merge_feature_maps([x.float() for x in maps], **keywords)
        assert got.dtype == torch.bfloat16
        assert torch.equal(got, want.bfloat16())


def test_mixed_frameworks_are_refused(torch: Any) -> None:
    x = np.ones((1, 1, 2, 2), np.float32)
    with pytest.raises(TypeError, match=r"^merge_feature_maps: maps\[1\] is an array of PyTorch, expected NumPy"):
        ao.merge_feature_maps([x, torch.from_numpy(x)])
