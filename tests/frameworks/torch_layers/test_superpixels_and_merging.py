"""SuperpixelPool2d, SuperpixelUnpool2d and MergeFeatureMaps beside loops and torch's own functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from torch_layer_cases import CASES

REDUCTIONS = {"mean": np.mean, "sum": np.sum, "max": np.max, "min": np.min, "var": np.var}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("number", [None, 11])
def test_pool(torch: Any, layers: Any, reduction: str, number: int | None) -> None:
    random = np.random.default_rng(0)
    features, labels = random.standard_normal((2, 5, 9, 8)), random.integers(0, 9, (2, 9, 8))
    labels[1] //= 2
    labels[0, 0, 0] = 8
    layer = layers.SuperpixelPool2d(number, reduction, ignore_label=3, empty=-7)
    found = layer(torch.from_numpy(features), torch.from_numpy(labels))
    expected = np.full((2, 5, number or 9), -7.0)
    for n in range(2):
        for s in set(labels[n].ravel()) - {3}:
            expected[n, :, s] = REDUCTIONS[reduction](features[n][:, labels[n] == s], axis=1)
    assert found.dtype is torch.float64
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_unpool(torch: Any, layers: Any) -> None:
    pooled, labels = CASES["superpixel unpool"].tensors()
    layer = layers.SuperpixelUnpool2d(ignore_label=3, fill=5)
    expected = np.zeros((2, 4, 7, 9), np.float32)
    for n, y, x in np.ndindex(2, 7, 9):
        label = int(labels[n, y, x])
        expected[n, :, y, x] = 5 if label == 3 else pooled[n, :, label].numpy()
    np.testing.assert_array_equal(layer(pooled, labels).numpy(), expected)


def test_labels_out_of_range(torch: Any, layers: Any) -> None:
    features, labels = CASES["superpixel pool"].tensors()
    with pytest.raises(ValueError, match="segment_mean: labels"):
        layers.SuperpixelPool2d(4)(features, labels)
    found = layers.SuperpixelPool2d(4, check=False)(features, labels)
    torch.testing.assert_close(found, layers.SuperpixelPool2d(8)(features, labels)[:, :, :4])


def test_number_is_needed_in_a_graph(torch: Any, layers: Any) -> None:
    layer, arguments = layers.SuperpixelPool2d(), CASES["superpixel pool"].tensors()
    message = "num_segments is None"
    if torch.__version__.startswith("2.7."):
        # Which tells no more than the class of such an error.
        message += r"|raised exception ExceptionVariable\(<class 'ValueError'>\)"
    with pytest.raises(Exception, match=message):
        torch.compile(layer, fullgraph=True, backend="eager")(*arguments)


@pytest.mark.parametrize("how", ["concat", "add", "mean", "max"])
def test_merge(torch: Any, layers: Any, how: str) -> None:
    maps = [torch.randn(2, 3, 9, 7), torch.randn(2, 3, 4, 5), torch.randn(2, 3, 11, 2)]
    found = layers.MergeFeatureMaps(how)(maps)
    resized = [torch.nn.functional.interpolate(each, (11, 7), mode="bilinear") for each in maps]
    expected = {
        "concat": lambda: torch.cat(resized, 1),
        "add": lambda: sum(resized),
        "mean": lambda: torch.stack(resized).mean(0),
        "max": lambda: torch.stack(resized).amax(0),
    }[how]()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_merge_takes_all_options(torch: Any, layers: Any) -> None:
    maps = [torch.randn(2, 3, 9, 7), torch.randn(2, 3, 4, 5)]
    layer = layers.MergeFeatureMaps("concat", 6, mode="bicubic", coordinates="align_corners")
    resized = [torch.nn.functional.interpolate(each, (6, 6), mode="bicubic", align_corners=True) for each in maps]
    torch.testing.assert_close(layer(maps), torch.cat(resized, 1), rtol=1e-5, atol=1e-5)
    layer = layers.MergeFeatureMaps("concat", "smallest", antialias=True)
    resized = [torch.nn.functional.interpolate(each, (4, 5), mode="bilinear", antialias=True) for each in maps]
    torch.testing.assert_close(layer(maps), torch.cat(resized, 1), rtol=1e-5, atol=1e-5)
    flat = layers.MergeFeatureMaps("flat", (10, 9))(maps)
    expected = torch.zeros(2, 3, 90)
    expected[:, :, :63], expected[:, :, 63:83] = (each.flatten(2) for each in maps)
    torch.testing.assert_close(flat, expected.view(2, 3, 10, 9), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("SuperpixelPool2d", {"n_superpixels": 0}, "n_superpixels is 0, expected at least 1"),
        ("SuperpixelPool2d", {"reduction": "median"}, "reduction is 'median', expected 'mean' or 'sum'"),
        ("SuperpixelPool2d", {"empty": None}, "empty is None, expected a number"),
        ("SuperpixelPool2d", {"ignore_label": 1.5}, "ignore_label is 1.5, expected"),
        ("SuperpixelUnpool2d", {"fill": "0"}, "fill is '0', expected a number"),
        ("SuperpixelUnpool2d", {"check": 1}, "check is 1, expected"),
        ("MergeFeatureMaps", {"how": "sum"}, "how is 'sum', expected 'concat'"),
        ("MergeFeatureMaps", {"size": "same"}, "size is 'same', expected"),
        ("MergeFeatureMaps", {"mode": "linear"}, "mode is 'linear', expected"),
    ],
)
def test_bad_arguments(layers: Any, name: str, arguments: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{name}: {message}"):
        getattr(layers, name)(**arguments)
