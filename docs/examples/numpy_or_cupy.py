"""Does a program in NumPy run on a GPU if its arrays are CuPy arrays?

Yes: all functions of arrayops take both, and return what they got. This program denoises a photo in three steps, with
functions of three families, and trains the last of them with its `_backward` function. ``--cupy`` replaces NumPy by
CuPy; nothing else changes.

1. SLIC divides the noisy photo into superpixels; `segment_mean` and `segment_unpool` give each pixel the mean colour of
   its superpixel.
2. `pac_pool2d`, with the result of step 1 as its guide, averages those pixels of a window that have similar guides: a
   joint bilateral filter.
3. `pac_conv2d`, with the result of step 2 as its guide, is such a filter with trainable weights instead of an average.
   They and the scales of the guide are trained by gradient descent on another photo, with `pac_conv2d_backward`.

The figure shows that each step raises the PSNR, and what the training adds to step 3: the same filter before the
training is a joint bilateral filter.

Run: ``python docs/examples/numpy_or_cupy.py --figure numpy_or_cupy.png``, on a GPU with ``--cupy``
"""

import argparse
import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import arrayops as ao

Array = Any
"""An array of NumPy or CuPy."""
NOISE, WINDOW = 0.1, 7
FIRST_SCALE, SECOND_SCALE = 6, 12
"""Scales of the guides of steps 2 and 3: a colour difference of 1/6 becomes a guide distance of 1."""
OPTIONS = {"padding": WINDOW // 2, "normalize_kernel": True}


def noisy_photo(name: str, size: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A part of a photo and the same with noise, (1, 3, size, size), and superpixels of the latter, (1, size, size)."""
    from skimage import data, segmentation

    photo = getattr(data, name)()
    top, left = (photo.shape[0] - size) // 10, (photo.shape[1] - size) // 2
    clean = photo[top : top + size, left : left + size].astype(np.float32) / 255
    noisy = clean + NOISE * np.random.default_rng(seed).standard_normal(clean.shape, np.float32)
    labels = segmentation.slic(noisy, size * size // 20, compactness=5, sigma=1.5, start_label=0)
    return *(np.ascontiguousarray(each.transpose(2, 0, 1)[None]) for each in (clean, noisy)), labels[None]


def superpixel_means(photo: Array, labels: Array) -> Array:
    """The photo with each pixel replaced by the mean of its superpixel."""
    return ao.segment_unpool(ao.segment_mean(photo, labels), labels)


def joint_bilateral(photo: Array, guide: Array) -> Array:
    """The photo averaged over the pixels of a window that have similar guides."""
    return ao.pac_pool2d(photo, FIRST_SCALE * guide, WINDOW, **OPTIONS)


class AdaptiveFilter:
    """A pixel-adaptive convolution with trainable weights and guide scales, initially a joint bilateral filter."""

    def __init__(self, xp: Any) -> None:
        self.weight = xp.zeros((3, 3, WINDOW, WINDOW), xp.float32)
        self.weight[xp.arange(3), xp.arange(3)] = 1
        self.scale = xp.full((1, 3, 1, 1), SECOND_SCALE, xp.float32)

    def __call__(self, photo: Array, guide: Array) -> Array:
        return ao.pac_conv2d(photo, self.scale * guide, self.weight, **OPTIONS)

    def gradients(self, grad: Array, photo: Array, guide: Array) -> dict[str, Array]:
        """Gradients of the weight and the scale, from that of the output."""
        needs = "weight", "guide"
        found = ao.pac_conv2d_backward(grad, photo, self.scale * guide, self.weight, **OPTIONS, needs=needs)
        return {"weight": found.weight, "scale": (found.guide * guide).sum(axis=(0, 2, 3), keepdims=True)}


def train(filtered: AdaptiveFilter, photo: Array, guide: Array, clean: Array, steps: int, console: Console) -> None:
    """Gradient descent with momentum on the mean squared error."""
    rates = {"weight": 100, "scale": 3000}
    velocity = {name: 0 * getattr(filtered, name) for name in rates}
    for _ in track(range(steps), "training", console=console):
        error = filtered(photo, guide) - clean
        for name, gradient in filtered.gradients(2 * error / error.size, photo, guide).items():
            velocity[name] = 0.9 * velocity[name] - rates[name] * gradient
            setattr(filtered, name, getattr(filtered, name) + velocity[name])


def psnr(image: Array, clean: Array) -> float:
    """Peak signal-to-noise ratio in dB, for a peak value of 1."""
    return -10 * math.log10(float(((image - clean) ** 2).mean()))


def draw(path: Path, claim: str, images: dict[str, np.ndarray]) -> None:
    """Plot six images (H, W, 3)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(11, 8), constrained_layout=True)
    figure.suptitle(claim, fontsize=14, fontweight="bold")
    for axis, (title, image) in zip(axes.flat, images.items(), strict=True):
        axis.imshow(np.clip(image, 0, 1))
        axis.set_title(title, fontweight="bold" if "trained" in title.split() else None)
        axis.set_axis_off()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Denoising of a photo with NumPy or CuPy arrays.")
    parser.add_argument("--cupy", action="store_true", help="compute on the GPU, with CuPy arrays")
    parser.add_argument("--size", type=int, default=192, help="height and width of the photos (default 192)")
    parser.add_argument("--steps", type=int, default=60, help="training steps (default 60)")
    parser.add_argument("--figure", type=Path, default=Path("numpy_or_cupy.png"), help="path of the figure")
    arguments = parser.parse_args()

    xp = importlib.import_module("cupy" if arguments.cupy else "numpy")
    console = Console(width=100)
    clean, noisy, labels = map(xp.asarray, noisy_photo("coffee", arguments.size, seed=0))
    filtered = AdaptiveFilter(xp)
    train(filtered, noisy, joint_bilateral(noisy, superpixel_means(noisy, labels)), clean, arguments.steps, console)

    clean, noisy, labels = map(xp.asarray, noisy_photo("astronaut", arguments.size, seed=1))
    means = superpixel_means(noisy, labels)
    guide = joint_bilateral(noisy, means)
    images = {
        "with noise": noisy,
        "1. superpixel means": means,
        "2. joint bilateral": guide,
        "3. filter, untrained": AdaptiveFilter(xp)(noisy, guide),
        "3. filter, trained": filtered(noisy, guide),
    }
    scores = {name: psnr(image, clean) for name, image in images.items()}
    table = Table(title=f"denoising with {xp.__name__}")
    table.add_column("image")
    table.add_column("PSNR dB", justify="right")
    for name, score in scores.items():
        table.add_row(name, f"{score:.2f}")
    console.print(table)
    noise, first, second, untrained, trained = scores.values()
    if not noise < first < second < trained or untrained >= trained:
        raise SystemExit(f"a step or the training does not raise the PSNR: {scores}")
    claim = f"Each step raises the PSNR: {noise:.1f} dB, then {first:.1f}, {second:.1f} and {trained:.1f} dB"
    console.print(claim)
    panels = {f"{name}, {scores[name]:.1f} dB": image for name, image in images.items()} | {"photo": clean}
    to_numpy = xp.asnumpy if arguments.cupy else xp.asarray
    draw(arguments.figure, claim, {title: to_numpy(x)[0].transpose(1, 2, 0) for title, x in panels.items()})
    console.print(f"figure: {arguments.figure}")


if __name__ == "__main__":
    main()
