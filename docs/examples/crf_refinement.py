"""How much does a conditional random field improve a coarse segmentation, without any training?

A network with an output stride of 16 gives class scores for blocks of 16 x 16 pixels. Interpolated to the resolution of
the photo, they are wrong along the edges of objects. `PacCRF` is a conditional random field (CRF) whose pairwise terms
are pixel-adaptive convolutions: pixels of similar colour attract each other's classes, through two 5 x 5 filters with
dilations of 2 and 5. It runs here with its initial weights.

The photo is the left one of a stereo pair whose disparity is known, and gives the true classes: the motorcycle, the
floor, a plane in which the disparity is linear, and the background. The scores are simulated: logarithms of the
fraction of each class in a block, with noise. Compared are, from the same scores,

- bilinear interpolation, which is also the unary term of the others;
- a joint bilateral filter of the interpolated probabilities, by `pac_pool2d` with the guide and windows of the CRF;
- the CRF with a constant guide, which knows nothing of the photo, and only smooths;
- the CRF guided by the colours of the photo.

The guided CRF has far fewer wrong pixels than the interpolated scores, and the CRF with a constant guide has more: the
gain is due to the guide. The joint bilateral filter, which has no weights to train, comes close to the untrained CRF.

The figure shows the classes before and after the guided CRF, and the wrong pixels in red.

Run: ``python docs/examples/crf_refinement.py --figure crf_refinement.png``, on a GPU with ``--device cuda``
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.nn import functional

import arrayops as ao
from arrayops.layers.torch import PacCRF

CLASSES = "background", "floor", "motorcycle"
NEAR = 32
"""Disparity that a pixel of the motorcycle exceeds, in pixels."""
FLOOR_BELOW, FLOOR_ABOVE = 2.5, 1.5
"""The disparity of the floor is at most this much lower or higher than that of a plane, in pixels."""
BAND = 8
"""Pixels at most this far from a true edge are also scored by themselves."""
SMALLEST_FRACTION = 0.02
"""Smaller fractions of a block count as this, so that they have a logarithm."""
COLOUR_SCALE = 4.0
"""A distance of 4 in Lab colours, whose lightness is from 0 to 100, becomes a guide distance of 1."""
KERNEL_SIZE, DILATIONS = 5, (2, 5)
BILINEAR, BILATERAL, CONSTANT, GUIDED = METHODS = (
    "bilinear interpolation",
    "joint bilateral filter",
    "PacCRF, constant guide",
    "PacCRF, guided by the photo",
)


class Scene(NamedTuple):
    """A photo (H, W, 3), true classes (H, W), where they are known (H, W), and whether they have an edge near."""

    photo: np.ndarray
    classes: np.ndarray
    known: np.ndarray
    near_edge: np.ndarray


class Scores(NamedTuple):
    """Percentages of wrong pixels, in the photo and near edges, and of the mean intersection over union."""

    wrong: float
    wrong_near_edges: float
    mean_iou: float


def floor_disparity(disparity: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The disparity (H, W) of the plane of the floor, fitted to the lowest rows."""
    rows, columns = np.indices(disparity.shape)
    plane = np.stack([rows, columns, np.ones_like(rows)], axis=-1).astype(float)
    samples = known & (rows > 440)
    for _ in range(3):
        coefficients = np.linalg.lstsq(plane[samples], disparity[samples])[0]
        samples &= np.abs(disparity - plane @ coefficients) < FLOOR_ABOVE
    return plane @ coefficients


def load_scene(stride: int) -> Scene:
    """The motorcycle of scikit-image, with sizes that are multiples of the stride."""
    from scipy import ndimage
    from skimage import data

    photo, _, disparity = data.stereo_motorcycle()
    height, width = (size // stride * stride for size in disparity.shape)
    photo, disparity = photo[:height, :width], disparity[:height, :width]
    known = np.isfinite(disparity)
    disparity = np.where(known, disparity, 0)
    above_floor = disparity - floor_disparity(disparity, known)
    floor = (above_floor > -FLOOR_BELOW) & (above_floor < FLOOR_ABOVE)
    motorcycle = (above_floor >= FLOOR_ABOVE) & (disparity > NEAR)
    classes = np.where(motorcycle, 2, np.where(floor, 1, 0))
    near_edge = np.zeros_like(known)
    for index in range(len(CLASSES)):
        distance_to_others = ndimage.distance_transform_edt(~known | (classes == index))
        near_edge |= (classes == index) & (distance_to_others <= BAND)
    return Scene(photo, classes, known, near_edge & known)


def as_image(array: np.ndarray) -> Tensor:
    """An array (H, W, C) as a float tensor (1, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)[None], dtype=np.float32))


def block_scores(scene: Scene, stride: int, noise: float, seed: int) -> Tensor:
    """Scores (1, classes, H / stride, W / stride): logarithms of the fraction of each class in a block, with noise."""
    known = as_image(scene.known[..., None])
    members = as_image(np.eye(len(CLASSES))[scene.classes]) * known
    members, known = (functional.avg_pool2d(image, stride).clamp(min=SMALLEST_FRACTION) for image in (members, known))
    random = torch.Generator().manual_seed(seed)
    return (members / known).log() + noise * torch.randn(members.shape, generator=random)


def joint_bilateral(probabilities: Tensor, guide: Tensor) -> Tensor:
    """Probabilities averaged over pixels with similar guides, with one dilation after the other."""
    for dilation in DILATIONS:
        probabilities = ao.pac_pool2d(
            probabilities, guide, KERNEL_SIZE, normalize_kernel=True, padding="SAME", dilation=dilation
        )
    return probabilities


def refine(method: str, unary: Tensor, guide: Tensor, steps: int) -> Tensor:
    """Class scores (1, classes, H, W) by one of the methods, from those of bilinear interpolation."""
    if method == BILINEAR:
        return unary
    if method == BILATERAL:
        return joint_bilateral(unary.softmax(1), guide)
    kernels = [{"kernel_size": KERNEL_SIZE, "dilation": dilation, "compat_type": "potts"} for dilation in DILATIONS]
    crf = PacCRF(len(CLASSES), steps, perturbed_init=False, pairwise_kernels=kernels).to(unary.device)
    with torch.no_grad():
        return crf(unary, guide if method == GUIDED else torch.zeros_like(guide))


def compare(classes: np.ndarray, scene: Scene) -> Scores:
    """Scores of classes (H, W); pixels whose disparity is not known do not count."""
    found, true = classes[scene.known], scene.classes[scene.known]
    wrong = found != true
    ious = [
        np.sum((found == index) & (true == index)) / np.sum((found == index) | (true == index))
        for index in range(len(CLASSES))
    ]
    return Scores(*(100 * float(np.mean(each)) for each in (wrong, wrong[scene.near_edge[scene.known]], ious)))


def draw(path: Path, scene: Scene, found: dict[str, np.ndarray], titles: dict[str, str], claim: str) -> None:
    """Plot the photo and the classes found by each method with wrong pixels in red, and a detail of each below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Rectangle

    colours = np.array([(0.80, 0.86, 0.95), (0.80, 0.90, 0.78), (0.25, 0.32, 0.45)])
    grey = 0.35 * (scene.photo.mean(axis=2, keepdims=True) / 255 - 0.5)
    panels = {"photo": scene.photo / 255}
    for method, title in titles.items():
        wrong = (found[method] != scene.classes) & scene.known
        panels[title] = np.where(wrong[..., None], (0.9, 0.05, 0.05), np.clip(colours[found[method]] + grey, 0, 1))
    rows, columns = slice(285, 445), slice(490, 728)
    figure, axes = pyplot.subplots(2, len(panels), figsize=(16, 8), constrained_layout=True)
    figure.suptitle(claim, fontsize=17, fontweight="bold")
    corner, size = (columns.start, rows.start), (columns.stop - columns.start, rows.stop - rows.start)
    for (upper, lower), (title, image) in zip(axes.T, panels.items(), strict=True):
        upper.imshow(image)
        upper.set_title(title, fontsize=13)
        upper.add_patch(Rectangle(corner, *size, fill=False, edgecolor="black", linewidth=1.5))
        lower.imshow(image[rows, columns], interpolation="nearest")
        for axis in (upper, lower):
            axis.set_axis_off()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Refinement of a coarse segmentation with PacCRF.")
    parser.add_argument("--stride", type=int, default=16, help="height and width of blocks with a score (default 16)")
    parser.add_argument("--noise", type=float, default=1.0, help="standard deviation of the noise (default 1)")
    parser.add_argument("--steps", type=int, default=10, help="mean-field steps (default 10)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise (default 0)")
    parser.add_argument("--device", default="cpu", help="device of torch, cpu or cuda (default cpu)")
    parser.add_argument("--figure", type=Path, default=Path("crf_refinement.png"), help="path of the figure")
    arguments = parser.parse_args()

    from skimage import color

    console = Console(width=100)
    scene = load_scene(arguments.stride)
    guide = (as_image(color.rgb2lab(scene.photo)) / COLOUR_SCALE).to(arguments.device)
    coarse = block_scores(scene, arguments.stride, arguments.noise, arguments.seed).to(arguments.device)
    unary = functional.interpolate(coarse, scene.classes.shape, mode="bilinear").log_softmax(1)
    found, scores = {}, {}
    for method in track(METHODS, "refinement", console=console):
        found[method] = refine(method, unary, guide, arguments.steps).argmax(1)[0].cpu().numpy()
        scores[method] = compare(found[method], scene)

    table = Table(title=f"segmentation from scores at 1/{arguments.stride} of the resolution, in %")
    table.add_column("method")
    for column in ("wrong pixels", f"within {BAND} pixels of an edge", "mean IoU"):
        table.add_column(column, justify="right")
    for method, row in scores.items():
        table.add_row(method, *(f"{score:.2f}" for score in row))
    console.print(table)
    if scores[GUIDED].wrong >= min(scores[BILINEAR].wrong, scores[CONSTANT].wrong):
        raise SystemExit(
            "the guided CRF has more wrong pixels than bilinear interpolation or than the CRF without guide"
        )
    removed = 100 * (1 - scores[GUIDED].wrong / scores[BILINEAR].wrong)
    claim = (
        f"Guided by the photo, an untrained PacCRF removes {removed:.0f} % of the wrong pixels of a coarse segmentation"
    )
    console.print(claim)
    names = {BILINEAR: f"scores at 1/{arguments.stride} of the resolution", GUIDED: "the same after PacCRF"}
    titles = {method: f"{name}: {scores[method].wrong:.1f} % wrong (red)" for method, name in names.items()}
    draw(arguments.figure, scene, found, titles, claim)
    console.print(f"figure: {arguments.figure}")


if __name__ == "__main__":
    main()
