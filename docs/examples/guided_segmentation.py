"""How do I put a pixel-adaptive convolution into my Keras network, and how do I use my own similarity measure for it?

The task is to segment the foreground of a photo at full resolution, from noisy scores at 1/8 of its resolution. The
photo is the left one of a stereo pair whose disparity is known, so that the true foreground is what is near the camera.
Networks of three 5 x 5 convolutions are trained on crops of the left half and tested on the right half:

- ``Conv2D`` convolves the scores and the photo, joined as channels;
- ``PacConv2D`` convolves the scores, guided by the photo: ``PacConv2D(...)([x, guide])``;
- ``PacConv2D``, own similarity, convolves the scores with a kernel that a layer of this script computes from the photo
  by functions of ``keras.ops``: ``PacConv2D(...)(x, kernel=kernel)``.

The first has the most weights. The second is also built with one ``arrayops.pac_kernel2d`` for all of its layers, which
gives the same outputs. The figure shows the wrong pixels of each network on the right half of the photo: those that are
guided by it follow its edges, and have fewer.

Run: ``python docs/examples/guided_segmentation.py --figure guided_segmentation.png``
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import arrayops as ao
from arrayops.layers.keras import PacConv2D

Array = np.ndarray[Any, Any]
BLOCK = 8
"""Height and width, in pixels, of what a score is given for."""
NOISE = 0.3
FOREGROUND = 32
"""Disparity from which a pixel belongs to the foreground, in pixels."""
KERNEL_SIZE, DILATION = 5, 2
GUIDE_SCALE = 12.0
"""A distance of 1/12 in Lab colours, which are scaled to a lightness of 1, becomes a guide distance of 1."""
TOLERANCE = 1e-5


class Scene(NamedTuple):
    """A photo in Lab colours (H, W, 3), its foreground (H, W), and where that is known (H, W)."""

    photo: Array
    foreground: Array
    known: Array

    def part(self, rows: slice, columns: slice) -> "Scene":
        return Scene(*(array[rows, columns] for array in self))


class Samples(NamedTuple):
    """Arrays of N images: scores (N, H/8, W/8, 1), photos (N, H, W, 3), targets (N, H, W, 1), weights (N, H, W)."""

    scores: Array
    photos: Array
    targets: Array
    weights: Array


class LearnedSimilarity(keras.layers.Layer):
    """Similarity of a pixel to its neighbours, by the L1 distance of learned features: (N, H, W, kh, kw, 1).

    It is a softmax over the neighbours, as in attention, times their number: its mean is then 1, so that the
    convolution that it is passed to starts with outputs of the usual size.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden = keras.layers.Conv2D(8, 3, padding="same", activation="relu")
        self.features = keras.layers.Conv2D(4, 1)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.hidden.build(input_shape)
        self.features.build((*input_shape[:-1], self.hidden.filters))

    def call(self, photo: Any) -> Any:
        features = self.features(self.hidden(GUIDE_SCALE * photo))
        batch, height, width, _ = ops.shape(features)
        margin = KERNEL_SIZE // 2 * DILATION
        padded = ops.pad(features, [(0, 0), (margin, margin), (margin, margin), (0, 0)])
        offsets = range(0, KERNEL_SIZE * DILATION, DILATION)
        distances = [
            ops.sum(ops.abs(padded[:, top : top + height, left : left + width] - features), axis=-1)
            for top in offsets
            for left in offsets
        ]
        similarity = len(distances) * ops.softmax(-ops.stack(distances, axis=-1), axis=-1)
        return ops.reshape(similarity, (batch, height, width, KERNEL_SIZE, KERNEL_SIZE, 1))


def layer_arguments(width: int) -> list[dict[str, Any]]:
    """Arguments of the three convolutions of a network, the first two with ``width`` filters."""
    shared = {"kernel_size": KERNEL_SIZE, "dilation_rate": DILATION, "padding": "same"}
    filters = (width, "relu"), (width, "relu"), (1, "sigmoid")
    return [{"filters": number, "activation": activation, **shared} for number, activation in filters]


def plain(scores: Any, photo: Any) -> Any:
    x = keras.layers.Concatenate()([scores, photo])
    for arguments in layer_arguments(8):
        x = keras.layers.Conv2D(**arguments)(x)
    return x


def guided(scores: Any, photo: Any) -> Any:
    x, guide = scores, GUIDE_SCALE * photo
    for arguments in layer_arguments(9):
        x = PacConv2D(**arguments)([x, guide])
    return x


def guided_with_shared_kernel(scores: Any, photo: Any) -> Any:
    """The network of `guided`, whose layers all have the same window, and so the same adaptive kernel."""
    x, guide = scores, GUIDE_SCALE * photo
    kernel = ao.pac_kernel2d(guide, KERNEL_SIZE, dilation=DILATION, padding="SAME", layout="NHWC")
    for arguments in layer_arguments(9):
        x = PacConv2D(**arguments)(x, kernel=kernel)
    return x


def with_own_similarity(scores: Any, photo: Any) -> Any:
    x, kernel = scores, LearnedSimilarity()(photo)
    for arguments in layer_arguments(8):
        x = PacConv2D(**arguments)(x, kernel=kernel)
    return x


def build(convolutions: Callable[[Any, Any], Any]) -> keras.Model:
    """A model that maps scores and a photo of any size to the probability of foreground."""
    scores, photo = keras.Input((None, None, 1)), keras.Input((None, None, 3))
    upsampled = keras.layers.UpSampling2D(BLOCK, interpolation="bilinear")(scores)
    return keras.Model([scores, photo], convolutions(upsampled, photo))


NETWORKS = {
    "Conv2D": plain,
    "PacConv2D": guided,
    "PacConv2D, own similarity": with_own_similarity,
}


def load_scene() -> Scene:
    """The motorcycle of scikit-image, with sizes that are multiples of 16; the floor in front of it is left out."""
    from skimage import color, data

    photo, _, disparity = data.stereo_motorcycle()
    photo, disparity = photo[48:352, :736], disparity[48:352, :736]
    known = np.isfinite(disparity)
    foreground = np.where(known, disparity, 0) > FOREGROUND
    return Scene((color.rgb2lab(photo) / 100).astype(np.float32), foreground, known)


def block_scores(scene: Scene, random: np.random.Generator) -> Array:
    """For each block of 8 x 8 pixels, the fraction of foreground, with noise."""
    height, width = scene.known.shape
    shape = height // BLOCK, BLOCK, width // BLOCK, BLOCK
    foreground = (scene.foreground & scene.known).reshape(shape).sum(axis=(1, 3))
    fraction = foreground / np.maximum(scene.known.reshape(shape).sum(axis=(1, 3)), 1)
    return (fraction + NOISE * random.standard_normal(fraction.shape)).astype(np.float32)[..., None]


def samples(scenes: list[Scene], random: np.random.Generator) -> Samples:
    """Inputs and targets of scenes of one size; pixels whose disparity is not known have a weight of 0."""
    scores = np.stack([block_scores(scene, random) for scene in scenes])
    photos, foreground, known = (np.stack(arrays) for arrays in zip(*scenes, strict=True))
    return Samples(scores, photos, foreground[..., None].astype(np.float32), known.astype(np.float32))


def crops(scene: Scene, size: int, count: int, random: np.random.Generator) -> list[Scene]:
    """Square crops at random positions, every other one mirrored."""
    height, width = scene.known.shape
    found = []
    for index in range(count):
        top, left = (int(random.integers(limit - size + 1)) for limit in (height, width))
        crop = scene.part(slice(top, top + size), slice(left, left + size))
        found.append(crop.part(slice(None), slice(None, None, -1)) if index % 2 else crop)
    return found


def train(model: keras.Model, data: Samples, batch: int, on_step: Callable[[], None]) -> None:
    """Train a model on every sample once."""
    model.compile(keras.optimizers.Adam(1e-2), "binary_crossentropy")
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: on_step())
    inputs = [data.scores, data.photos]
    model.fit(inputs, data.targets, sample_weight=data.weights, batch_size=batch, verbose=0, callbacks=[callback])


def predict(model: keras.Model, data: Samples) -> Array:
    """Probabilities (H, W) of the first sample."""
    return ops.convert_to_numpy(model([data.scores[:1], data.photos[:1]]))[0, ..., 0]


def wrong_pixels(probability: Array, scene: Scene) -> Array:
    return ((probability > 0.5) != scene.foreground) & scene.known


def draw(path: Path, scene: Scene, scores: Array, wrong: dict[str, Array], title: str) -> None:
    """Plot the photo, the scores, and the wrong pixels of each network in red."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from skimage import color

    photo = color.lab2rgb(100 * scene.photo)
    grey = np.repeat(0.5 + 0.5 * photo.mean(axis=2, keepdims=True), 3, axis=2)
    panels = {"photo": photo, "scores at 1/8 of the resolution": scores}
    for name, pixels in wrong.items():
        error = 100 * pixels.sum() / scene.known.sum()
        panels[f"{name}: {error:.1f} % wrong"] = np.where(pixels[..., None], (0.85, 0, 0), grey)
    figure, axes = pyplot.subplots(1, len(panels), figsize=(19, 3.9), constrained_layout=True)
    for axis, (name, image) in zip(axes, panels.items(), strict=True):
        axis.imshow(image, cmap="gray")
        axis.set_title(name, fontsize=12)
        axis.set_axis_off()
    figure.suptitle(title, fontsize=16, fontweight="bold")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Segmentation guided by a photo, with PacConv2D.")
    parser.add_argument("--size", type=int, default=48, help="size of training crops, a multiple of 8 (default 48)")
    parser.add_argument("--batch", type=int, default=4, help="batch size (default 4)")
    parser.add_argument("--steps", type=int, default=100, help="training steps of each network (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, crops and noise (default 0)")
    parser.add_argument("--figure", type=Path, default=Path("guided_segmentation.png"), help="path of the figure")
    arguments = parser.parse_args()

    console = Console(width=100)
    random = np.random.default_rng(arguments.seed)
    scene = load_scene()
    middle = scene.known.shape[1] // 2
    left, right = scene.part(slice(None), slice(middle)), scene.part(slice(None), slice(middle, None))
    training = samples(crops(left, arguments.size, arguments.steps * arguments.batch, random), random)
    test = samples([right], random)

    models, wrong = {}, {}
    with Progress(console=console) as progress:
        for name, convolutions in NETWORKS.items():
            keras.utils.set_random_seed(arguments.seed)
            models[name] = build(convolutions)
            task = progress.add_task(name, total=arguments.steps)
            train(models[name], training, arguments.batch, lambda task=task: progress.advance(task))
            wrong[name] = wrong_pixels(predict(models[name], test), right)

    shared = build(guided_with_shared_kernel)
    shared.set_weights(models["PacConv2D"].get_weights())
    difference = float(np.abs(predict(shared, test) - predict(models["PacConv2D"], test)).max())
    if difference > TOLERANCE:
        raise SystemExit(f"a shared adaptive kernel changes the outputs by {difference:.1e}, more than rounding error")

    errors = {name: 100 * pixels.sum() / right.known.sum() for name, pixels in wrong.items()}
    weights = {name: model.count_params() for name, model in models.items()}
    table = Table(title=f"right half of the photo, Keras on {keras.backend.backend()}")
    for column in ("network", "weights", "wrong pixels %"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for name, error in errors.items():
        table.add_row(name, str(weights[name]), f"{error:.2f}")
    console.print(table)
    console.print(f"largest difference of outputs with a shared adaptive kernel: {difference:.1e}")

    if max(weights.values()) > weights["Conv2D"] or max(errors.values()) > errors["Conv2D"]:
        raise SystemExit("a network guided by the photo has more wrong pixels, or more weights, than that of Conv2D")
    pac, own = (100 * (1 - errors[name] / errors["Conv2D"]) for name in ("PacConv2D", "PacConv2D, own similarity"))
    title = f"Wrong pixels, compared with Conv2D: {pac:.0f} % fewer by PacConv2D, {own:.0f} % fewer with own similarity"
    console.print(title)
    draw(arguments.figure, right, test.scores[0, ..., 0], wrong, title)
    console.print(f"figure: {arguments.figure}")


if __name__ == "__main__":
    main()
