"""Superpixel pooling: features are averaged over superpixels, thresholded, and mapped back to pixels.

SLIC segments a photo into superpixels. Convolutions with fixed filters compute 64 texture features at every pixel:
oriented edges at two scales, their energy, and linear combinations of those. `segment_reduce` computes mean, variance
and size of every superpixel in one pass, a threshold on the mean energy separates textured from smooth superpixels, and
`segment_unpool` maps the results back to pixels. The time is compared with a loop over segments on a crop.

Run: ``python docs/examples/superpixels.py --figure superpixels.png``
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

import arrayops as ao

Array = np.ndarray[Any, Any]
CHANNELS = 64
RELATIVE_TOLERANCE = 2e-6


class Pooled(NamedTuple):
    """Statistics of each superpixel: mean and variance (1, C, S), and number of pixels (1, S)."""

    mean: Array
    variance: Array
    count: Array


def oriented_filters(count: int, size: int) -> Array:
    """Edge filters (count, 1, size, size): derivatives of a Gaussian in ``count`` directions."""
    offsets = np.arange(size) - size // 2
    y, x = np.meshgrid(offsets, offsets, indexing="ij")
    angles = np.pi * np.arange(count) / count
    along = np.cos(angles)[:, None, None] * x + np.sin(angles)[:, None, None] * y
    filters = along * np.exp(-(x**2 + y**2) / (2 * (size / 5) ** 2))
    return (filters / np.abs(filters).sum(axis=(1, 2), keepdims=True)).astype(np.float32)[:, None]


def texture_features(photo: Array) -> Array:
    """Features (1, 64, H, W) of a photo (H, W, 3) with values from 0 to 1; the first is the energy of fine edges."""
    grey = photo.mean(axis=2)[None, None]
    fine = ao.conv2d(grey, oriented_filters(16, 5), padding="SAME")
    coarse = ao.conv2d(grey, oriented_filters(16, 11), padding="SAME")
    edges = np.abs(np.concatenate([fine, coarse], axis=1))
    # Local energy: each channel is smoothed separately.
    smooth = np.full((32, 1, 7, 7), 1 / 49, np.float32)
    energy = ao.conv2d(edges, smooth, groups=32, padding="SAME")
    mixing = np.random.default_rng(0).standard_normal((CHANNELS, 32, 1, 1)).astype(np.float32) / 6
    mixing[0] = 0
    mixing[0, :16] = 1 / 16
    return np.maximum(ao.conv2d(energy, mixing), 0)


def otsu_threshold(values: Array) -> float:
    """Otsu's threshold: minimises the variance within the two classes."""
    ordered = np.sort(values)
    sizes = np.arange(1, len(ordered))
    sums = np.cumsum(ordered)[:-1]
    gap = sums / sizes - (ordered.sum() - sums) / (len(ordered) - sizes)
    best = int(np.argmax(sizes * (len(ordered) - sizes) * gap**2))
    return float(ordered[best] + ordered[best + 1]) / 2


def naive_means(features: Array, labels: Array, segments: int) -> Array:
    """Means (1, C, S), computed one superpixel at a time."""
    return np.stack([features[0][:, labels[0] == segment].mean(axis=1) for segment in range(segments)], axis=1)[None]


def median_ms(call: Callable[[], Any], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def draw(path: Path, photo: Array, labels: Array, colour: Array, feature: Array, textured: Array) -> None:
    """Plot the photo, superpixels, their mean colours, a pooled feature, and the textured superpixels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from skimage import segmentation

    panels = (
        ("photo", photo, None),
        ("superpixels", segmentation.mark_boundaries(photo, labels), None),
        ("mean colour", colour, None),
        ("pooled feature: edge energy", feature, "magma"),
        ("textured superpixels", np.where(textured[..., None], photo, 1 - 0.25 * (1 - photo)), None),
    )
    figure, axes = pyplot.subplots(1, len(panels), figsize=(17, 3.7), constrained_layout=True)
    for axis, (title, image, colours) in zip(axes, panels, strict=True):
        axis.imshow(np.clip(image, 0, 1) if colours is None else image, cmap=colours)
        axis.set_title(title)
        axis.set_axis_off()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Texture features of a photo, pooled over superpixels.")
    parser.add_argument("--segments", type=int, default=900, help="requested number of superpixels (default 900)")
    parser.add_argument("--size", type=int, default=512, help="height and width of the photo (default 512)")
    parser.add_argument("--crop", type=int, default=128, help="height and width of the crop for timing (default 128)")
    parser.add_argument("--rounds", type=int, default=5, help="number of timed runs (default 5)")
    parser.add_argument("--figure", type=Path, default=Path("superpixels.png"), help="path of the figure")
    arguments = parser.parse_args()

    from skimage import data, segmentation, transform

    photo = transform.resize(data.astronaut(), (arguments.size, arguments.size), anti_aliasing=True).astype(np.float32)
    labels = segmentation.slic(photo, n_segments=arguments.segments, start_label=0)[None]
    features = texture_features(photo)

    pooled = Pooled(*ao.segment_reduce(features, labels, ("mean", "var", "count")))
    colour = ao.segment_unpool(ao.segment_mean(photo[None], labels, layout="NHWC"), labels, layout="NHWC")[0]
    energy = pooled.mean[:, :1]
    threshold = otsu_threshold(energy[0, 0])
    textured = ao.segment_unpool(energy > threshold, labels)[0, 0]
    energy_map = ao.segment_unpool(energy, labels)[0, 0]

    crop, crop_labels = features[..., : arguments.crop, : arguments.crop], labels[:, : arguments.crop, : arguments.crop]
    crop = np.ascontiguousarray(crop)
    # Renumber the superpixels in the crop.
    crop_labels = np.unique(crop_labels, return_inverse=True)[1].reshape(crop_labels.shape)
    segments = int(crop_labels.max()) + 1
    expected = naive_means(crop.astype(np.float64), crop_labels, segments)
    difference = float(np.linalg.norm(ao.segment_mean(crop, crop_labels) - expected) / np.linalg.norm(expected))
    if difference > RELATIVE_TOLERANCE:
        raise SystemExit(f"the relative difference from the loop over superpixels is {difference:.1e}")
    loop_ms = median_ms(lambda: naive_means(crop, crop_labels, segments), arguments.rounds)
    segment_mean_ms = median_ms(lambda: ao.segment_mean(crop, crop_labels), arguments.rounds)

    console = Console(width=100)
    count = pooled.count[0]
    console.print(
        f"{len(count)} superpixels of {count.min()} to {count.max()} pixels, {features.shape[1]} features; "
        f"{100 * textured.mean():.0f} % of the pixels are in textured superpixels (mean energy above {threshold:.4f})"
    )
    within, total = pooled.variance[0] @ (count / count.sum()), features[0].var(axis=(1, 2))
    console.print(f"variance within superpixels: {100 * within.sum() / total.sum():.0f} % of that of the image")
    table = Table(title=f"means of {segments} superpixels, {CHANNELS} x {arguments.crop} x {arguments.crop} float32")
    for column in ("method", "time ms", "relative time"):
        table.add_column(column, justify="left" if column == "method" else "right")
    table.add_row("segment_mean", f"{segment_mean_ms:.2f}", "1.0")
    table.add_row("loop over superpixels", f"{loop_ms:.2f}", f"{loop_ms / segment_mean_ms:.1f}")
    console.print(table)
    console.print(f"relative difference of the means from the loop in float64: {difference:.1e}")
    draw(arguments.figure, photo, labels[0], colour, energy_map, textured)
    console.print(f"figure: {arguments.figure}")


if __name__ == "__main__":
    main()
