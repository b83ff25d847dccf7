"""The guided upsampler: one transposed pixel-adaptive convolution, and its gradients.

With x the samples, m their mask, W the filter and K the adaptive kernel of the guide, the upsampled disparity is

    y = (sum K W m x + e b) / (sum K W m + e)

The two sums are the two channels of one call on ``(x, 1)`` with a shared filter. The quotient is a weighted mean of
disparities: a constant map is preserved for every guide, and a nonnegative filter cannot overshoot. b is the bilinear
result; with the small constant weight e, it dominates where K is small for all samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np

import arrayops as ao
from arrayops._demo.data import Flags, Floats, Samples
from arrayops._demo.extras import load
from arrayops._demo.interpolation import bilinear_filter

# Samples on each side of a pixel that the filter covers: with 2, each output depends on 4 x 4 samples.
REACH = 2
# Weight e of the bilinear result; the other weights sum to at most 1.
PRIOR = np.float32(0.01)
# Standard deviation, in sample distances, of the Gaussian blur of the photo: it reduces the noise of the guide at the
# sampled pixels.
BLUR = 0.08
# For red, green, blue, x and y. They are so small that the initial result is close to bilinear interpolation.
INITIAL_SCALES = (1.0, 1.0, 1.0, 0.125, 0.125)


@dataclass
class Upsampler:
    """The fitted parameters.

    Attributes
    ----------
    log_scales : ndarray of float32, shape (5,)
        Logarithms of the scales of the guide's channels. The kernel depends only on the square of a scale,
        so positive scales suffice.
    weight : ndarray of float32, shape (1, 1, k, k)
        The filter.
    """

    log_scales: Floats
    weight: Floats

    @property
    def scales(self) -> Floats:
        """Scales of the guide's channels."""
        return np.exp(self.log_scales)


class Gradients(NamedTuple):
    """Value and gradients of the loss.

    Attributes
    ----------
    loss : float
        Mean squared error over the measured pixels.
    log_scales, weight : ndarray of float32
        Gradients, in the shapes of `Upsampler`.
    """

    loss: float
    log_scales: Floats
    weight: Floats


def initial_upsampler(factor: int) -> Upsampler:
    """Initial upsampler: the bilinear filter and a guide with small scales.

    Parameters
    ----------
    factor : int
        Upsampling factor.

    Returns
    -------
    Upsampler
        New arrays.
    """
    return Upsampler(np.log(np.array(INITIAL_SCALES, np.float32)), bilinear_filter(factor, REACH)[None, None])


def guide_features(photo: Floats, factor: int) -> Floats:
    """Guide before scaling: colour, and position in units of the sample distance.

    Parameters
    ----------
    photo : ndarray of float32, shape (3, H, W)
        RGB, in the range 0 to 1.
    factor : int
        Upsampling factor.

    Returns
    -------
    ndarray of float32, shape (5, H, W)
        Red, green, blue, x, y.
    """
    sigma = BLUR * factor
    colour = load("scipy.ndimage").gaussian_filter(photo, (0, sigma, sigma))
    y, x = np.indices(photo.shape[1:], dtype=np.float32) / np.float32(factor)
    return np.concatenate([colour, x[None], y[None]])


def upsample(
    upsampler: Upsampler,
    samples: Samples,
    features: Floats,
    prior: Floats,
    factor: int,
) -> Floats:
    """Upsample a disparity map, guided by a photo.

    Parameters
    ----------
    upsampler : Upsampler
        Scales and filter.
    samples : Samples
        The low-resolution input.
    features : ndarray of float32, shape (5, H, W)
        Guide before scaling, at the resolution of the output.
    prior : ndarray of float32, shape (H, W)
        The bilinear result.
    factor : int
        Upsampling factor.

    Returns
    -------
    ndarray of float32, shape (H, W)
        The upsampled disparity.
    """
    return _Call(upsampler, samples, features, factor).forward(prior)[0]


def gradients(
    upsampler: Upsampler,
    samples: Samples,
    features: Floats,
    prior: Floats,
    factor: int,
    target: Floats,
    measured: Flags,
) -> Gradients:
    """Loss of `upsample` against the measured disparity, and its gradients.

    Parameters
    ----------
    upsampler : Upsampler
    samples : Samples
    features, prior : ndarray of float32
    factor : int
        As for `upsample`.
    target : ndarray of float32, shape (H, W)
        The full-resolution disparity.
    measured : ndarray of bool, shape (H, W)
        Where it was measured.

    Returns
    -------
    Gradients
        Mean squared error and gradients.
    """
    call = _Call(upsampler, samples, features, factor)
    result, total = call.forward(prior)
    error = np.where(measured, result - target, np.float32(0))
    count = max(int(np.count_nonzero(measured)), 1)
    # The quotient rule: with y = n / d, dy/dn = 1 / d and dy/dd = -y / d.
    grad_numerator = error * np.float32(2 / count) / total
    grads = ao.pac_conv_transpose2d_backward(
        np.stack([grad_numerator, -grad_numerator * result])[None],
        call.input,
        call.guide,
        upsampler.weight,
        mask=call.mask,
        normalize_kernel=True,
        shared_filters=True,
        stride=factor,
        padding=call.padding,
        needs=("guide", "weight"),
    )
    # guide = exp(log_scale) * features, so the chain rule multiplies by the guide itself.
    grad_guide, grad_weight = cast(Floats, grads.guide), cast(Floats, grads.weight)
    grad_log_scales: Floats = np.sum(grad_guide * call.guide, axis=(0, 2, 3), dtype=np.float64)
    loss = float(np.sum(np.square(error, dtype=np.float64)) / count)
    return Gradients(loss, grad_log_scales.astype(grad_guide.dtype), grad_weight)


class _Call:
    """The arrays of one PAC call, shared by its forward and backward."""

    def __init__(self, upsampler: Upsampler, samples: Samples, features: Floats, factor: int) -> None:
        self.input = np.stack([samples.disparity, np.ones_like(samples.disparity)])[None]
        self.mask = samples.measured[None, None]
        self.guide = (upsampler.scales[:, None, None] * features)[None]
        self.weight = upsampler.weight
        self.factor = factor
        # Half the filter size, so that the centre tap for sample (i, j) is at pixel (i * factor, j * factor).
        self.padding = upsampler.weight.shape[-1] // 2

    def forward(self, prior: Floats) -> tuple[Floats, Floats]:
        """Upsampled disparity, and the denominator of the quotient."""
        sums = ao.pac_conv_transpose2d(
            self.input,
            self.guide,
            self.weight,
            mask=self.mask,
            normalize_kernel=True,
            shared_filters=True,
            stride=self.factor,
            padding=self.padding,
        ).output[0]
        total = sums[1] + PRIOR
        return (sums[0] + PRIOR * prior) / total, total
