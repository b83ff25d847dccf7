"""Accuracy on the held-out part of the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arrayops._demo.data import Floats, Samples, Scene, lattice_extent, sample
from arrayops._demo.extras import load
from arrayops._demo.interpolation import bilinear, nearest
from arrayops._demo.model import Upsampler, guide_features, upsample


@dataclass(frozen=True)
class Evaluation:
    """Results of all methods at one factor.

    Attributes
    ----------
    factor : int
        Upsampling factor.
    samples : Samples
        The low-resolution input, for the whole image.
    maps : dict
        Upsampled disparity of the whole image, by method: nearest, bilinear, PAC.
    rmse : dict
        Root mean squared error in pixels of disparity, by method, over the same pixels: all measured pixels of
        the evaluated columns.
    pixels : int
        Number of these pixels.
    scales : ndarray of float32, shape (5,)
        Fitted scales of the guide.
    """

    factor: int
    samples: Samples
    maps: dict[str, Floats]
    rmse: dict[str, float]
    pixels: int
    scales: Floats


def evaluate(scene: Scene, factor: int, upsampler: Upsampler) -> Evaluation:
    """Upsample the whole image with every method, and compute the errors on the evaluated columns.

    Parameters
    ----------
    scene : Scene
        The photo and its disparity.
    factor : int
        Upsampling factor.
    upsampler : Upsampler
        The fitted scales and filter.

    Returns
    -------
    Evaluation
        Results and errors.
    """
    height, width = (lattice_extent(length, factor) for length in scene.disparity.shape)
    target, measured = scene.disparity[:height, :width], scene.measured[:height, :width]
    samples = sample(target, measured, factor)
    smooth = bilinear(samples, factor)
    features = guide_features(scene.photo, factor)[:, :height, :width]
    maps = {
        "nearest": nearest(samples, factor),
        "bilinear": smooth,
        "PAC": upsample(upsampler, samples, features, smooth, factor),
    }
    evaluated = measured.copy()
    evaluated[:, : scene.evaluation_start] = False
    errors = {name: rmse(result[evaluated], target[evaluated]) for name, result in maps.items()}
    return Evaluation(factor, samples, maps, errors, int(evaluated.sum()), upsampler.scales)


def rmse(result: Floats, target: Floats) -> float:
    """Root mean squared error.

    Parameters
    ----------
    result, target : ndarray of float32
        Arrays of the same shape.

    Returns
    -------
    float
        The error, accumulated in float64.
    """
    return float(np.sqrt(np.mean(np.square(result - target, dtype=np.float64))))


def table(evaluations: Sequence[Evaluation]) -> Any:
    """Table of errors.

    Parameters
    ----------
    evaluations : sequence of Evaluation
        One row each.

    Returns
    -------
    rich.table.Table
        Table for a rich console.
    """
    result = load("rich.table").Table(
        title="RMSE in pixels of disparity, on held-out columns",
        caption="lower is better; the same samples and pixels for all methods",
    )
    for column in ("factor", "samples", "pixels", "nearest", "bilinear", "PAC", "PAC vs bilinear"):
        result.add_column(column, justify="right")
    for evaluation in evaluations:
        errors = evaluation.rmse
        change = errors["PAC"] / errors["bilinear"] - 1 if errors["bilinear"] else 0.0
        height, width = evaluation.samples.disparity.shape
        result.add_row(
            str(evaluation.factor),
            f"{width} x {height}",
            f"{evaluation.pixels:,}",
            f"{errors['nearest']:.3f}",
            f"{errors['bilinear']:.3f}",
            f"{errors['PAC']:.3f}",
            f"[{'green' if change < 0 else 'red'}]{change:+.1%}[/]",
        )
    return result
