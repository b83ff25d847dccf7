"""The data: a photo, its measured disparity, and the split of the columns into a fitted and an evaluated part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayops._demo.extras import DemoError, load

Floats = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]

# Fraction of the columns, from the left, that the filter is fitted to.
FIT_FRACTION = 0.48
# Crop for quick runs: small, with edges of the motorcycle in both parts.
QUICK_CROP = (slice(100, 301), slice(220, 541))
# Minimum number of samples along each axis of the fitted and of the evaluated part.
MIN_SAMPLES = 4


@dataclass(frozen=True)
class Scene:
    """A photo with its disparity.

    Attributes
    ----------
    photo : ndarray of float32, shape (3, H, W)
        RGB, in the range 0 to 1.
    disparity : ndarray of float32, shape (H, W)
        Disparity in pixels; 0 where it was not measured.
    measured : ndarray of bool, shape (H, W)
        Where the disparity was measured.
    fit_stop : int
        Columns ``[0, fit_stop)`` are used for the fit.
    evaluation_start : int
        Columns ``[evaluation_start, W)`` are used for the evaluation.
    """

    photo: Floats
    disparity: Floats
    measured: Flags
    fit_stop: int
    evaluation_start: int


class Samples(NamedTuple):
    """A low-resolution disparity map.

    Attributes
    ----------
    disparity : ndarray of float32, shape (h, w)
        0 where it was not measured.
    measured : ndarray of bool, shape (h, w)
        Where the disparity was measured.
    """

    disparity: Floats
    measured: Flags


def load_scene(gap: int, *, quick: bool = False) -> Scene:
    """Load scikit-image's ``stereo_motorcycle`` (Middlebury 2014): the left photo and its disparity.

    Parameters
    ----------
    gap : int
        Number of unused columns between the fitted and the evaluated part.
    quick : bool
        Load only a crop.

    Returns
    -------
    Scene
        The photo and its disparity.
    """
    photo, _, disparity = load("skimage.data").stereo_motorcycle()
    if quick:
        photo, disparity = photo[QUICK_CROP], disparity[QUICK_CROP]
    # Pixels that only one of the two cameras sees have no disparity; the file stores infinity there.
    measured = np.isfinite(disparity) & (disparity > 0)
    fit_stop = round(FIT_FRACTION * disparity.shape[1])
    return Scene(
        photo=np.ascontiguousarray(np.moveaxis(photo, 2, 0), dtype=np.float32) / np.float32(255),
        disparity=np.where(measured, disparity, 0).astype(np.float32),
        measured=measured,
        fit_stop=fit_stop,
        evaluation_start=fit_stop + gap,
    )


def check_factor(scene: Scene, factor: int) -> None:
    """Raise `DemoError` if the image is too small for a factor.

    Parameters
    ----------
    scene : Scene
        The photo and its disparity.
    factor : int
        The upsampling factor.
    """
    height, width = scene.disparity.shape
    shortest = min(height, scene.fit_stop, width - scene.evaluation_start)
    # One more sample, because the fit shifts the sampling lattice by up to one sample distance.
    if shortest < (MIN_SAMPLES + 1) * factor:
        raise DemoError(f"factor {factor} is too large for an image of {height} x {width} pixels")


def lattice_extent(length: int, factor: int, offset: int = 0) -> int:
    """Count the pixels from the first to the last sample, both included.

    Parameters
    ----------
    length : int
        Pixels along the axis.
    factor : int
        Distance between samples.
    offset : int
        Position of the first sample.

    Returns
    -------
    int
        A multiple of `factor`, plus 1.
    """
    return (length - 1 - offset) // factor * factor + 1


def sample(disparity: Floats, measured: Flags, factor: int) -> Samples:
    """Low-resolution input: the disparity at every `factor`-th pixel along each axis.

    These are point samples, not area averages: an average across a depth edge is a depth that does not exist in the
    scene. Sparse depth sensors measure points as well.

    Parameters
    ----------
    disparity : ndarray of float32, shape (H, W)
        The full-resolution disparity.
    measured : ndarray of bool, shape (H, W)
        Where it was measured. A sample that falls on a pixel without a measurement is masked out.
    factor : int
        Distance between samples.

    Returns
    -------
    Samples
        The samples; sample ``(i, j)`` is pixel ``(i * factor, j * factor)``.
    """
    return Samples(
        np.ascontiguousarray(disparity[::factor, ::factor]), np.ascontiguousarray(measured[::factor, ::factor])
    )
