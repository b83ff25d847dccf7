"""The figure of the demo."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayops._demo.data import Scene
from arrayops._demo.evaluation import Evaluation
from arrayops._demo.extras import DemoError, load

# Upper limit of the error colour scale, in pixels of disparity.
ERROR_LIMIT = 10.0
DISPARITY_COLOURS = "viridis"
ERROR_COLOURS = "magma"
MISSING_COLOUR = "0.6"  # pixels without a measurement
DISPARITY_LABEL = "disparity [pixels]"
TITLES = {"bilinear": "Bilinear", "PAC": "PAC, guided by the photo"}
ROW_HEIGHT = 3.2

Limits = tuple[float, ...]
View = tuple[slice, slice]


def check_output(path: Path) -> None:
    """Raise `DemoError` if the figure cannot be saved, before any computation.

    Parameters
    ----------
    path : Path
        Path of the figure.
    """
    formats = load("matplotlib.backends.backend_agg").FigureCanvasAgg.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise DemoError(f"--output is {path}, expected one of the extensions " + ", ".join(sorted(formats)))
    if not path.parent.is_dir():
        raise DemoError(f"--output is {path}, but the directory {path.parent} does not exist")
    if path.is_dir():
        raise DemoError(f"--output is {path}, which is a directory")


def save_figure(path: Path, scene: Scene, evaluations: Sequence[Evaluation]) -> None:
    """Plot the whole image once, and its evaluated part for each factor.

    Parameters
    ----------
    path : Path
        Path of the figure; the extension determines the format.
    scene : Scene
        The photo and its disparity.
    evaluations : sequence of Evaluation
        One row each.
    """
    view = _view(scene, evaluations)
    truth = np.where(scene.measured, scene.disparity, np.nan)
    limits = tuple(np.nanpercentile(truth, (0.5, 99.5)))
    heights = (3.9, ROW_HEIGHT * len(evaluations) + 0.8)
    # Without pyplot, so without a window system and global state.
    figure = load("matplotlib.figure").Figure(figsize=(15, sum(heights)), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.04, wspace=0.01, hspace=0.0)
    top, bottom = figure.subfigures(2, 1, height_ratios=heights)
    _draw_overview(top, scene, truth, limits, view)
    _draw_results(bottom, truth, limits, view, evaluations)
    figure.savefig(path, dpi=110)


def _view(scene: Scene, evaluations: Sequence[Evaluation]) -> View:
    """Rows and columns to show: the evaluated columns, and the central rows of a view that is at most square."""
    # The sampling lattice of each factor ends before the image border; show the area that all of them cover.
    height, width = (min(sizes) for sizes in zip(*(e.maps["PAC"].shape for e in evaluations), strict=True))
    shown = min(height, width - scene.evaluation_start)
    first = (height - shown) // 2
    return slice(first, first + shown), slice(scene.evaluation_start, width)


def _draw_overview(part: Any, scene: Scene, truth: NDArray[Any], limits: Limits, view: View) -> None:
    photo = np.moveaxis(scene.photo, 0, 2)
    height, width = truth.shape
    rows, columns = view
    shape = rows.stop - rows.start, columns.stop - columns.start
    axes = part.subplots(1, 3, width_ratios=(width / height, width / height, shape[1] / shape[0]))
    _show(axes[0], photo)
    image = _show(axes[1], truth, cmap=DISPARITY_COLOURS, vmin=limits[0], vmax=limits[1])
    _show(axes[2], photo[view])
    axes[0].set_title("Photo: the guide")
    axes[1].set_title("Measured disparity (grey: not measured)")
    axes[2].set_title("Detail shown below")
    rectangle = load("matplotlib.patches").Rectangle
    corner = columns.start - 0.5, rows.start - 0.5
    for axis in axes[:2]:
        # The gap between the fitted and the evaluated part, and the detail.
        axis.axvspan(scene.fit_stop - 0.5, scene.evaluation_start - 0.5, color="white", alpha=0.6, lw=0)
        axis.add_patch(
            rectangle(corner, shape[1], shape[0], fill=False, edgecolor="white", linestyle="--", linewidth=1.5)
        )
    middle = (scene.fit_stop + scene.evaluation_start - 1) / 2
    axes[0].text(middle, 0.97 * height, "gap", va="bottom", ha="center", fontweight="bold")
    box = {"facecolor": "black", "alpha": 0.6, "edgecolor": "none", "boxstyle": "round,pad=0.25"}
    for centre, text in ((scene.fit_stop / 2, "fitted"), ((scene.evaluation_start + width) / 2, "evaluated")):
        axes[0].text(centre, 0.03 * height, text, va="top", ha="center", color="white", fontweight="bold", bbox=box)
    part.colorbar(image, ax=axes[1], label=DISPARITY_LABEL, extend="both", shrink=0.8, aspect=25)


def _draw_results(
    part: Any, truth: NDArray[Any], limits: Limits, view: View, evaluations: Sequence[Evaluation]
) -> None:
    axes = part.subplots(len(evaluations), 5, squeeze=False)
    colours = {"cmap": DISPARITY_COLOURS, "vmin": limits[0], "vmax": limits[1]}
    error_colours = {"cmap": ERROR_COLOURS, "vmin": 0.0, "vmax": ERROR_LIMIT}
    rows, columns = view
    for row, evaluation in zip(axes, evaluations, strict=True):
        factor, (low, measured) = evaluation.factor, evaluation.samples
        # Each sample is drawn as a block centred on its pixel.
        height, width = low.shape
        extent = (-factor / 2, (width - 0.5) * factor, (height - 0.5) * factor, -factor / 2)
        _show(row[0], np.where(measured, low, np.nan), extent=extent, **colours)
        row[0].set(xlim=(columns.start - 0.5, columns.stop - 0.5), ylim=(rows.stop - 0.5, rows.start - 0.5))
        row[0].set_title(f"Input: 1 of {factor} x {factor} pixels")
        row[0].set_ylabel(f"factor {factor}", fontsize=14)
        for column, method in enumerate(("bilinear", "PAC"), start=1):
            result = evaluation.maps[method][view]
            image = _show(row[column], result, **colours)
            row[column].set_title(TITLES[method])
            error_image = _show(row[column + 2], np.abs(result - truth[view]), **error_colours)
            row[column + 2].set_title(f"|error| of {method}, RMSE {evaluation.rmse[method]:.2f}")
    bar = {"location": "bottom", "shrink": 0.7, "aspect": 50, "pad": 0.01}
    part.colorbar(image, ax=axes[:, :3], label=DISPARITY_LABEL, extend="both", **bar)
    label = "absolute error [pixels of disparity]; RMSE over the whole evaluated part"
    part.colorbar(error_image, ax=axes[:, 3:], label=label, extend="max", **bar)


def _show(axis: Any, values: NDArray[Any], **options: Any) -> Any:
    image = axis.imshow(values, interpolation="nearest", **options)
    axis.set(xticks=[], yticks=[], facecolor=MISSING_COLOUR)
    return image
