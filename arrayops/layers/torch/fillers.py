"""Initial weights of the pixel-adaptive convolutions."""

import math
from typing import Literal

import torch
from torch import Tensor

Filler = Literal["uniform", "linear", "crf", "crf_perturbed", "pool", "crf_pool"]
FILLERS = ("uniform", "linear", "crf", "crf_perturbed", "pool", "crf_pool")
CONSTANT = ("pool", "crf_pool")
"""Fillers of weights that are not trained."""
PERTURBATION = 0.0005
"""Bound of the random numbers that perturbed weights differ by, so that classes are not trained alike."""


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
        # That of torch.nn.Conv2d; for a shared filter, times the number of channels.
        bound = 1 / math.sqrt(max(in_channels * rows * columns, 1)) * (in_channels if shared else 1)
        for parameter in (weight, bias):
            if parameter is not None:
                parameter.uniform_(-bound, bound)
        return
    if filler == "linear":
        taps = tent(rows, stride[0], normalize)[:, None] * tent(columns, stride[1], normalize)
    elif filler in CONSTANT:
        taps = torch.ones(rows, columns)
    else:
        taps = gaussian(rows)
    if filler not in ("linear", "pool"):
        taps[rows // 2, columns // 2] = 0
    if not shared:
        between_channels = torch.eye(in_channels) if filler == "linear" else potts(in_channels)
        taps = between_channels[:, :, None, None] * taps
    weight.copy_(taps)
    if filler == "crf_perturbed":
        perturb(weight)
    if bias is not None:
        bias.zero_()


def tent(size: int, stride: int, normalize: bool) -> Tensor:
    """One axis of the filter with which a transposed convolution of ``stride`` interpolates linearly; ``size`` is odd.

    With ``normalize``, it makes up for the division by the number of taps that read input pixels.
    """
    taps = torch.arange(size)
    weights = (1 - (taps - size // 2).abs().double() / stride).clamp(min=0)
    # An output pixel whose input pixel is under tap j has other input pixels under the taps j - stride, j + stride, ...
    return weights * ((size - taps - 1) // stride + taps // stride + 1) if normalize else weights


def gaussian(size: int) -> Tensor:
    """A Gaussian filter (size, size) with a standard deviation of size / 4 and a mean of 1; ``size`` is odd."""
    distances = torch.arange(size).double() - size // 2
    axis = torch.exp(-0.5 * (distances / (size / 4)) ** 2)
    return axis[:, None] * axis * (size / axis.sum()) ** 2


def potts(channels: int) -> Tensor:
    """The compatibility of classes in a Potts model: 1 between different ones."""
    return 1 - torch.eye(channels)


@torch.no_grad()
def perturb(weight: Tensor) -> None:
    """Add small random numbers in place."""
    weight.add_(torch.empty_like(weight).uniform_(-PERTURBATION, PERTURBATION))
