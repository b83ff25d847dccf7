"""Segment operators on arrays of every framework, and beside the frameworks' own segment functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import arrayops as ao

NAMES = ("mean", "sum", "max", "min", "var", "count")
FRAMEWORKS = {"torch": "from_numpy", "jax": "numpy.asarray", "tf": "constant"}


def arrays(seed: int = 0, dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((2, 5, 13, 11)).astype(dtype), rng.integers(0, 9, (2, 13, 11)).astype(np.int32)


def maker(request: pytest.FixtureRequest, framework: str) -> Any:
    function: Any = request.getfixturevalue(framework)
    for part in FRAMEWORKS[framework].split("."):
        function = getattr(function, part)
    return function


@pytest.mark.parametrize("given", [True, False], ids=["num_segments", "found"])
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_arrays_of_each_framework(request: pytest.FixtureRequest, framework: str, given: bool) -> None:
    make = maker(request, framework)
    features, labels = arrays()
    segments = 9 if given else None
    theirs = make(features), make(labels)
    want = ao.segment_reduce(features, labels, NAMES, segments, ignore_label=4)
    got = ao.segment_reduce(*theirs, NAMES, segments, ignore_label=4, layout="NCHW")
    for name, mine, other in zip(NAMES, got, want, strict=True):
        assert type(mine) is type(theirs[0]), name
        assert mine.device == theirs[0].device, name
        # JAX holds integers in 32 bits.
        exact = np.asarray(mine) if name != "count" else np.asarray(mine).astype(np.int64)
        assert (exact.dtype, exact.shape) == (other.dtype, other.shape), name
        assert exact.tobytes() == other.tobytes(), name
    grads = [None if name == "count" else make(other) for name, other in zip(NAMES, want, strict=True)]
    found = ao.segment_reduce_backward(tuple(grads), *theirs, NAMES, segments, ignore_label=4, layout="NCHW").features
    plain = [None if name == "count" else other for name, other in zip(NAMES, want, strict=True)]
    expected = ao.segment_reduce_backward(tuple(plain), features, labels, NAMES, segments, ignore_label=4).features
    assert type(found) is type(theirs[0])
    assert np.asarray(found).tobytes() == expected.tobytes()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_single_operators_and_unpooling(request: pytest.FixtureRequest, framework: str) -> None:
    make = maker(request, framework)
    features, labels = arrays(1)
    theirs, own = make(features), make(labels)
    mean = ao.segment_mean(theirs, own, layout="NCHW")
    spread = ao.segment_unpool(mean, own, layout="NCHW")
    assert type(spread) is type(theirs)
    want = ao.segment_mean(features, labels)
    assert np.asarray(spread).tobytes() == ao.segment_unpool(want, labels).tobytes()
    grad = ao.segment_unpool_backward(theirs, mean, own, layout="NCHW").pooled
    assert np.asarray(grad).tobytes() == ao.segment_unpool_backward(features, want, labels).pooled.tobytes()
    count = ao.segment_count(own)
    assert type(count) is type(theirs)
    assert np.asarray(count).tolist() == ao.segment_count(labels).tolist()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_saved_positions(request: pytest.FixtureRequest, framework: str) -> None:
    make = maker(request, framework)
    features, labels = arrays(1)
    theirs, own = make(features), make(labels)
    output, saved = ao.segment_max(theirs, own, 9, return_saved=True, layout="NCHW")
    assert type(saved) is type(theirs)
    # JAX holds integers in 32 bits.
    assert np.asarray(saved).dtype == (np.int32 if framework == "jax" else np.int64)
    want = ao.segment_max(features, labels, 9, return_saved=True).saved
    np.testing.assert_array_equal(np.asarray(saved), want)
    recomputed = ao.segment_max_backward(output, theirs, own, 9, layout="NCHW").features
    found = ao.segment_max_backward(output, theirs, own, 9, saved=saved, layout="NCHW").features
    assert type(found) is type(theirs)
    assert np.asarray(found).tobytes() == np.asarray(recomputed).tobytes()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_saved_results_of_several_reductions(request: pytest.FixtureRequest, framework: str) -> None:
    """They have the bits of NumPy's also where the framework has no 64-bit numbers."""
    make = maker(request, framework)
    features, labels = arrays(1)
    names = ("var", "max", "mean")
    outputs, saved = ao.segment_reduce(make(features), make(labels), names, 9, return_saved=True, layout="NCHW")
    got = ao.segment_reduce_backward(
        outputs, make(features), make(labels), names, 9, saved=saved, layout="NCHW"
    ).features
    plain = ao.segment_reduce(features, labels, names, 9)
    want = ao.segment_reduce_backward(plain, features, labels, names, 9).features
    assert np.asarray(got).tobytes() == want.tobytes()


def test_bfloat16_of_torch(torch: Any) -> None:
    features, labels = arrays()
    half = torch.from_numpy(features).bfloat16()
    own = torch.from_numpy(labels)
    wide = half.float().numpy()
    for name in ("mean", "max", "var"):
        got = getattr(ao, f"segment_{name}")(half, own, 9)
        assert got.dtype is torch.bfloat16
        want = torch.from_numpy(getattr(ao, f"segment_{name}")(wide, labels, 9)).bfloat16()
        assert torch.equal(got, want)
        assert ao.segment_unpool(got, own).dtype is torch.bfloat16


@pytest.mark.parametrize("name", ["mean", "sum", "max", "min"])
def test_equals_tensorflow(tf: Any, name: str) -> None:
    rng = np.random.default_rng(2)
    rows, labels = rng.standard_normal((200, 3)), rng.permutation(np.arange(200) % 11)
    tensor = tf.constant(rows)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        want = getattr(tf.math, f"unsorted_segment_{name}")(tensor, labels, 11)
    grad = rng.standard_normal((11, 3))
    np.testing.assert_allclose(getattr(ao, f"segment_{name}")(rows, labels), want, rtol=1e-12, atol=1e-12)
    got = getattr(ao, f"segment_{name}_backward")(grad, rows, labels).features
    expected = tf.convert_to_tensor(tape.gradient(want, tensor, output_gradients=tf.constant(grad)))
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["sum", "max", "min"])
def test_equals_jax(jax: Any, name: str) -> None:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((200, 3)).astype(np.float32)
    labels = rng.permutation(np.arange(200) % 11)
    theirs = getattr(jax.ops, f"segment_{name}")
    want, pullback = jax.vjp(lambda x: theirs(x, labels, 11), rows)
    grad = rng.standard_normal((11, 3)).astype(np.float32)
    np.testing.assert_allclose(getattr(ao, f"segment_{name}")(rows, labels), want, rtol=1e-5, atol=1e-5)
    got = getattr(ao, f"segment_{name}_backward")(grad, rows, labels).features
    np.testing.assert_allclose(got, pullback(grad)[0], rtol=1e-6)


def test_traced_labels_need_a_number_of_segments(jax: Any) -> None:
    features, labels = arrays()
    with pytest.raises(ValueError, match=r"^segment_mean: num_segments is None, .*, pass num_segments="):
        jax.jit(lambda own: ao.segment_mean(features, own))(labels)
    with pytest.raises(TypeError, match=r"^segment_mean: labels is an array of JAX, expected NumPy as for features"):
        jax.jit(lambda own: ao.segment_mean(features, own, 9))(labels)


def test_mixed_frameworks(torch: Any) -> None:
    features, labels = arrays()
    with pytest.raises(TypeError, match=r"^segment_mean: labels is an array of NumPy, expected PyTorch as for f"):
        ao.segment_mean(torch.from_numpy(features), labels)
    with pytest.raises(TypeError, match=r"^segment_mean_backward: features is an array of NumPy, expected PyTorch"):
        ao.segment_mean_backward(torch.ones(2, 5, 9), features, labels)
