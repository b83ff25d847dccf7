"""Initial weights of the pixel-adaptive convolutions."""

import math
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Filler = Literal["uniform", "linear", "crf", "crf_perturbed", "pool", "crf_pool"]
FILLERS = get_args(Filler)
CONSTANT = ("pool", "crf_pool")
"""Fillers of weights that are not trained."""
PERTURBATION = 0.0005
"""Bound of the random numbers that perturbed weights differ by, so that classes are not trained alike."""
Float64 = NDArray[np.float64]


@torch.no_grad()
def fill(
    weight: Tensor,
    bias: Tensor | None,
    filler: str,
    *,
    in_channels: int,
    stride: tuple[int, int],
    normalize: bool,
    shared: bool,
) -> None:
    """Set weight and bias in place; ``in_channels`` is that of a group, a ``shared`` filter serves all channels."""
    rows, columns = weight.shape[2:]
    if filler == "uniform":
        bound = 1 / math.sqrt(max(in_channels * rows * columns, 1)) * (in_channels if shared else 1)
        for parameter in (weight, bias):
            if parameter is not None:
                parameter.uniform_(-bound, bound)
        return
    if filler == "linear":
        taps = np.outer(tent(rows, stride[0], normalize), tent(columns, stride[1], normalize))
    elif filler in CONSTANT:
        taps = np.ones((rows, columns))
    else:
        taps = np.outer(gaussian(rows), gaussian(columns))
    if filler not in ("linear", "pool"):
        taps[rows // 2, columns // 2] = 0
    if not shared:
        between_channels = np.eye(in_channels) if filler == "linear" else potts(in_channels)
        taps = between_channels[:, :, None, None] * taps
    assign(weight, taps)
    if filler == "crf_perturbed":
        perturb(weight)
    if bias is not None:
        bias.zero_()


def tent(size: int, stride: int, normalize: bool) -> Float64:
    """One axis of the filter with which a transposed convolution of ``stride`` interpolates linearly; ``size`` is odd.

    With ``normalize``, it makes up for the division by the number of taps that read input pixels.
    """
    taps = np.arange(size)
    weights: Float64 = np.maximum(1 - np.abs(taps - size // 2) / stride, 0)
    # An output pixel whose input pixel is under tap j has other input pixels under the taps j - stride, j + stride, ...
    return weights * ((size - taps - 1) // stride + taps // stride + 1) if normalize else weights


def gaussian(size: int) -> Float64:
    """A Gaussian (size,) with a standard deviation of size / 4 and a mean of 1; ``size`` is odd."""
    values: Float64 = np.exp(-0.5 * ((np.arange(size) - size // 2) / (size / 4)) ** 2)
    values *= size / values.sum()
    return values


def potts(channels: int) -> Float64:
    """The compatibility of classes in a Potts model: 1 between different ones."""
    return 1 - np.eye(channels)


def assign(tensor: Tensor, values: Float64) -> None:
    """Set a tensor of any dtype and device in place, also where another device is the default."""
    with torch.no_grad():
        tensor.copy_(torch.from_numpy(values))


def perturb(weight: Tensor) -> None:
    """Add small random numbers in place."""
    with torch.no_grad():
        weight.add_(torch.empty_like(weight).uniform_(-PERTURBATION, PERTURBATION))
