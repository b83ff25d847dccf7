"""Initial weights beside their formulas, written as loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest


def message_filter(rows: int, columns: int) -> np.ndarray:
    """A Gaussian of deviation size / 4 along each axis, with a mean of 1 before its centre is set to 0."""
    values = np.zeros((rows, columns))
    for i in range(rows):
        for j in range(columns):
            distance = ((i - rows // 2) / (rows / 4)) ** 2 + ((j - columns // 2) / (columns / 4)) ** 2
            values[i, j] = math.exp(-distance / 2)
    values *= rows * columns / values.sum()
    values[rows // 2, columns // 2] = 0
    return values


@pytest.mark.parametrize("kind", ["PacConv2d", "PacConvTranspose2d"])
@pytest.mark.parametrize("shared", [False, True])
def test_uniform(torch: Any, layers: Any, kind: str, shared: bool) -> None:
    """Every value within the bound, and spread over all of it."""
    outputs = 30 if shared else 40
    layer = getattr(layers, kind)(30, outputs, (31, 33), shared_filters=shared)
    bound = 1 / math.sqrt(30 * 31 * 33) * (30 if shared else 1)
    for parameter, least in ((layer.weight, 0.97), (layer.bias, 0.7)):
        values = parameter.detach().numpy()
        assert np.abs(values).max() <= bound
        assert values.max() > least * bound
        assert values.min() < -least * bound
    values = layer.weight.detach().numpy()
    assert abs(values.std() * math.sqrt(3) / bound - 1) < 0.05


def test_uniform_with_groups_is_that_of_torch(torch: Any, layers: Any) -> None:
    torch.manual_seed(1)
    ours = layers.PacConv2d(6, 4, 3, groups=2)
    torch.manual_seed(1)
    theirs = torch.nn.Conv2d(6, 4, 3, groups=2)
    torch.testing.assert_close(ours.weight, theirs.weight)


@pytest.mark.parametrize("size", [(3, 3), (5, 5), (11, 11), (1, 1), (3, 7)])
@pytest.mark.parametrize("kind", ["PacConv2d", "PacConvTranspose2d"])
def test_crf(torch: Any, layers: Any, size: tuple[int, int], kind: str) -> None:
    layer = getattr(layers, kind)(3, 3, size, filler="crf", dtype=torch.float64)
    expected = np.zeros((3, 3, *size))
    for o in range(3):
        for c in range(3):
            if o != c:
                expected[o, c] = message_filter(*size)
    np.testing.assert_allclose(layer.weight.detach().numpy(), expected, rtol=1e-12, atol=0)
    assert not layer.bias.any()
    perturbed = getattr(layers, kind)(3, 3, size, filler="crf_perturbed", dtype=torch.float64)
    difference = np.abs(perturbed.weight.detach().numpy() - expected)
    assert 0.0004 < difference.max() <= 0.0005
    shared = getattr(layers, kind)(3, 3, size, filler="crf", shared_filters=True, dtype=torch.float64)
    np.testing.assert_allclose(shared.weight.detach().numpy()[0, 0], message_filter(*size), rtol=1e-12)


def test_crf_of_one_class_has_no_messages(torch: Any, layers: Any) -> None:
    assert not layers.PacConv2d(1, 1, 3, filler="crf").weight.any()
    assert layers.PacConv2d(1, 1, 3, filler="crf", shared_filters=True).weight.any()


@pytest.mark.parametrize("filler", ["pool", "crf_pool"])
def test_pool(torch: Any, layers: Any, filler: str) -> None:
    layer = layers.PacConv2d(3, 3, (3, 3), filler=filler, shared_filters=True)
    expected = np.ones((1, 1, 3, 3), np.float32)
    if filler == "crf_pool":
        expected[0, 0, 1, 1] = 0
    np.testing.assert_array_equal(layer.weight.numpy(), expected)
    assert not layer.weight.requires_grad
    assert [name for name, _ in layer.named_parameters()] == ["bias"]


def test_linear_by_numbers(torch: Any, layers: Any) -> None:
    for normalize, axis in ((False, [0, 0.5, 1, 0.5, 0]), (True, [0, 1, 3, 1, 0])):
        layer = layers.PacConvTranspose2d(2, 2, 5, stride=2, filler="linear", normalize_kernel=normalize)
        weight = layer.weight.detach().numpy()
        np.testing.assert_allclose(weight[0, 0], np.outer(axis, axis), rtol=1e-6)
        np.testing.assert_array_equal(weight[1, 1], weight[0, 0])
        np.testing.assert_array_equal(weight[0, 1], 0)
    layer = layers.PacConvTranspose2d(2, 2, (3, 7), stride=(1, 3), filler="linear", shared_filters=True)
    expected = np.outer([0, 1, 0], [0, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(layer.weight.detach().numpy()[0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("size", "stride"), [(3, 2), (5, 2), (5, 3), (7, 4), (7, 3), (1, 1), (9, 2)])
def test_linear_interpolates(torch: Any, layers: Any, size: int, stride: int, normalize: bool) -> None:
    """With a constant guide: the values of a linear ramp, and of the input at multiples of the stride."""
    layer = layers.PacConvTranspose2d(
        2,
        2,
        size,
        stride=stride,
        padding=size // 2,
        filler="linear",
        normalize_kernel=normalize,
        dtype=torch.float64,
    )
    n = 8
    ramp = torch.arange(n, dtype=torch.float64)
    image = torch.stack([ramp[:, None] + 2 * ramp, torch.randn(n, n, dtype=torch.float64)])[None]
    out = (n - 1) * stride + 1
    output = layer(image, torch.zeros(1, 1, out, out, dtype=torch.float64)).detach()
    fine = torch.arange(out, dtype=torch.float64) / stride
    # Windows that are wider than the tent count taps outside the image, which the normalisation leaves out.
    inner = slice(size, out - size)
    torch.testing.assert_close(output[0, 0, inner, inner], (fine[:, None] + 2 * fine)[inner, inner])
    torch.testing.assert_close(output[0, 1, inner, inner], bilinear(image[0, 1], stride)[inner, inner])


def bilinear(image: Any, stride: int) -> Any:
    """Interpolation between the pixels of an image, whose corners stay."""
    import torch

    size = [(extent - 1) * stride + 1 for extent in image.shape]
    return torch.nn.functional.interpolate(image[None, None], size, mode="bilinear", align_corners=True)[0, 0]
