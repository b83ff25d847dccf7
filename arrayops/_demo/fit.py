"""Fit of the scales and the filter by gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayops._demo.data import Flags, Floats, Scene, lattice_extent, sample
from arrayops._demo.interpolation import bilinear
from arrayops._demo.model import Gradients, Upsampler, gradients, guide_features, initial_upsampler

SCALE_RATE = 0.15
WEIGHT_RATE = 0.03


class Adam:
    """The Adam optimiser (Kingma and Ba, 2015) for one array.

    Parameters
    ----------
    rate : float
        Learning rate.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._mean: Floats | float = 0.0
        self._square: Floats | float = 0.0
        self._steps = 0

    def step(self, gradient: Floats, decay: float = 1.0) -> Floats:
        """Return the update to add to the array.

        Parameters
        ----------
        gradient : ndarray of float32
            Gradient of the loss.
        decay : float
            Factor on the learning rate.

        Returns
        -------
        ndarray of float32
            The update.
        """
        self._steps += 1
        self._mean = 0.9 * self._mean + 0.1 * gradient
        self._square = 0.999 * self._square + 0.001 * gradient**2
        mean = self._mean / (1 - 0.9**self._steps)
        square = self._square / (1 - 0.999**self._steps)
        step: Floats = -self.rate * decay * mean / (np.sqrt(square) + 1e-8)
        return step


def fit(
    scene: Scene,
    factor: int,
    *,
    iterations: int,
    seed: int,
    report: Callable[[float], None] | None = None,
) -> Upsampler:
    """Fit the guided upsampler to the left part of the image.

    Each step draws a random offset of the sampling lattice, so that the fit uses many different samples and does
    not adapt to a single lattice.

    Parameters
    ----------
    scene : Scene
        The photo and its disparity; only columns left of ``fit_stop`` are read.
    factor : int
        Upsampling factor.
    iterations : int
        Number of steps.
    seed : int
        Random seed of the offsets.
    report : callable, optional
        Called with the loss after each step.

    Returns
    -------
    Upsampler
        The fitted scales and filter.
    """
    random = np.random.default_rng([seed, factor])
    left = (slice(None), slice(0, scene.fit_stop))
    disparity, measured = scene.disparity[left], scene.measured[left]
    features = guide_features(scene.photo[:, :, : scene.fit_stop], factor)
    upsampler = initial_upsampler(factor)
    scale_steps, weight_steps = Adam(SCALE_RATE), Adam(WEIGHT_RATE)
    for iteration in range(iterations):
        step_gradients = _gradients_at_offset(
            upsampler, disparity, measured, features, factor, random.integers(factor, size=2)
        )
        decay = _decay(iteration / iterations)
        upsampler.log_scales += scale_steps.step(step_gradients.log_scales, decay)
        upsampler.weight += weight_steps.step(symmetrized(step_gradients.weight), decay)
        # Project onto nonnegative filters, so that the result stays a weighted mean and the fit cannot diverge.
        np.maximum(upsampler.weight, 0, out=upsampler.weight)
        if report is not None:
            report(step_gradients.loss)
    return upsampler


def symmetrized(weight: Floats) -> Floats:
    """Mean of the filter over flips and transposition.

    This constraint leaves about an eighth of the parameters, which reduces overfitting with the large filters and few
    samples of large factors.

    Parameters
    ----------
    weight : ndarray of float32, shape (1, 1, k, k)
        A filter or its gradient.

    Returns
    -------
    ndarray of float32, shape (1, 1, k, k)
        The mean.
    """
    weight = (weight + weight.swapaxes(-1, -2)) / 2
    weight = (weight + weight[..., ::-1, :]) / 2
    return (weight + weight[..., ::-1]) / 2


def _gradients_at_offset(
    upsampler: Upsampler,
    disparity: Floats,
    measured: Flags,
    features: Floats,
    factor: int,
    offset: NDArray[np.integer[Any]],
) -> Gradients:
    window = tuple(
        slice(int(start), int(start) + lattice_extent(length, factor, int(start)))
        for start, length in zip(offset, disparity.shape, strict=True)
    )
    target, valid = disparity[window], measured[window]
    samples = sample(target, valid, factor)
    return gradients(upsampler, samples, features[:, *window], bilinear(samples, factor), factor, target, valid)


def _decay(progress: float) -> float:
    """Learning rate schedule: 1 for the first half, then cosine decay to 0."""
    return 1.0 if progress < 0.5 else 0.5 * (1 + math.cos(2 * math.pi * (progress - 0.5)))
