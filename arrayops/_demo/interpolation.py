"""Unguided methods: nearest and bilinear upsampling with missing samples.

Output pixel ``(y, x)`` is at sample coordinates ``(y / factor, x / factor)``. An axis of h samples has
``(h - 1) * factor + 1`` pixels, so that no pixel is extrapolated.
"""

from __future__ import annotations

import numpy as np

from arrayops._demo.data import Floats, Samples
from arrayops._demo.extras import load


def bilinear_filter(factor: int, reach: int = 1) -> Floats:
    """Filter for bilinear interpolation by a transposed convolution with stride `factor`.

    Parameters
    ----------
    factor : int
        Upsampling factor.
    reach : int
        Samples on each side of an output pixel that the filter covers. Bilinear interpolation requires 1; with more,
        the filter is padded with zeros.

    Returns
    -------
    ndarray of float32, shape (k, k)
        ``max(0, 1 - |t| / factor)`` along each axis, with ``k = 2 * reach * factor - 1``.
    """
    distance = np.abs(np.arange(1 - reach * factor, reach * factor))
    tent = np.maximum(0, 1 - distance / factor)
    return np.outer(tent, tent).astype(np.float32)


def nearest(samples: Samples, factor: int) -> Floats:
    """Nearest measured sample, by Euclidean distance.

    Parameters
    ----------
    samples : Samples
        The low-resolution input.
    factor : int
        Upsampling factor.

    Returns
    -------
    ndarray of float32
        The upsampled disparity; 0 if there are no measurements.
    """
    height, width = ((n - 1) * factor + 1 for n in samples.disparity.shape)
    disparity = np.zeros((height, width), np.float32)
    disparity[::factor, ::factor] = samples.disparity
    missing = np.ones((height, width), np.bool_)
    missing[::factor, ::factor] = ~samples.measured
    if missing.all():
        return disparity
    # The transform returns, for every pixel, the nearest pixel where `missing` is False.
    rows, columns = load("scipy.ndimage").distance_transform_edt(missing, return_distances=False, return_indices=True)
    result: Floats = disparity[rows, columns]
    return result


def bilinear(samples: Samples, factor: int) -> Floats:
    """Bilinear interpolation of the measured samples.

    The weights of the four samples around a pixel are renormalised over the measured ones; if all samples with nonzero
    weight are missing, the nearest measured sample is used. On this image, that is more accurate than filling
    the missing samples first.

    Parameters
    ----------
    samples : Samples
        The low-resolution input.
    factor : int
        Upsampling factor.

    Returns
    -------
    ndarray of float32
        The upsampled disparity.
    """
    rows, columns = (_interpolation_matrix(n, factor) for n in samples.disparity.shape)
    weight = rows @ samples.measured.astype(np.float64) @ columns.T
    weighted = rows @ np.where(samples.measured, samples.disparity, 0).astype(np.float64) @ columns.T
    # A weight is either 0 or at least (1 / factor) ** 2, up to rounding.
    known = weight > 0.5 / factor**2
    interpolated = weighted / np.where(known, weight, 1)
    return np.where(known, interpolated, nearest(samples, factor)).astype(np.float32)


def _interpolation_matrix(length: int, factor: int) -> Floats:
    positions = np.arange((length - 1) * factor + 1)[:, None] / factor
    matrix: Floats = np.maximum(0, 1 - np.abs(positions - np.arange(length)))
    return matrix
