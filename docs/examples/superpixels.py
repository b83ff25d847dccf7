"""How do I average CNN features over the superpixels of every image of a batch in Keras, without looping over pixels?

The images of a batch have different numbers of superpixels. `SuperpixelPooling(n)` takes the features and the
superpixel map, and gives one row of features for each of n superpixels; its Keras mask makes `GlobalAveragePooling1D`
leave out the superpixels that an image does not have. The example checks that against a loop over superpixels in NumPy,
and compares the time.

The task is weakly supervised segmentation (Kwak, Hong and Han, AAAI 2017). Each image shows one to three materials, cut
out of photos by random shapes: retina, gravel and stained tissue. A small network is trained to tell which materials an
image shows. Its scores of superpixels, mapped back to pixels by `SuperpixelUnpooling`, are a segmentation. Masks of the
materials are never used in training, and the test images come from other halves of the photos.

The figure compares the segmentations of test images with class activation maps, those of the same network without
superpixels: same layers, number of weights, images, and training steps.

Run: ``python docs/examples/superpixels.py --figure superpixels.png``
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table
from skimage import data, filters, segmentation

import arrayops as ao
from arrayops.layers.keras import SuperpixelPooling, SuperpixelUnpooling

Array = np.ndarray[Any, Any]
MATERIALS = "retina", "gravel", "tissue"
STRIDE = 4
BATCH = 16
RELATIVE_TOLERANCE = 2e-6


class Images(NamedTuple):
    """Images (N, H, W, 3), and their superpixel maps, materials of each pixel (both N, H, W), and materials (N, 3)."""

    pixels: Array
    superpixels: Array
    truth: Array
    present: Array

    def inputs(self, model: keras.Model) -> list[Array]:
        """What the model takes: the images, or the images and the superpixel maps."""
        return [self.pixels, self.superpixels][: len(model.inputs)]


def photos(test: bool) -> list[Array]:
    """A half of the photo of each material, as (H, W, 3) with values from 0 to 1."""
    retina = data.retina()[700:1150, 400:1000] if test else data.retina()[250:700, 400:1000]
    half = slice(256, 512) if test else slice(256)
    gravel = np.repeat(data.gravel()[half, :, None], 3, axis=2)
    tissue = data.immunohistochemistry()[:, half]
    return [photo.astype(np.float32) / 255 for photo in (retina, gravel, tissue)]


def compose(materials: list[Array], fewest: int, size: int, random: np.random.Generator) -> tuple[Array, Array]:
    """An image of random regions of at least ``fewest`` materials, and the material of each pixel."""
    chosen = random.choice(len(materials), random.integers(fewest, len(materials) + 1), replace=False)
    fields = [filters.gaussian(random.standard_normal((size, size)), size / 12, mode="wrap") for _ in chosen]
    truth = chosen[np.argmax(fields, axis=0)]
    image = np.zeros((size, size, 3), np.float32)
    for material in chosen:
        photo = materials[material]
        y, x = (random.integers(0, extent - size + 1) for extent in photo.shape[:2])
        patch = photo[y : y + size, x : x + size] * random.uniform(0.75, 1.25)
        image[truth == material] = np.clip(patch, 0, 1)[truth == material]
    return image, truth


def make_images(count: int, size: int, segments: int, test: bool, seed: int, console: Console) -> Images:
    """Random images with about ``segments`` superpixels each; test images show at least two materials."""
    random = np.random.default_rng(2 * seed + test)
    materials = photos(test)
    rows = []
    for _ in track(range(count), f"{'test' if test else 'training'} images, superpixels", console=console):
        image, truth = compose(materials, 2 if test else 1, size, random)
        present = np.isin(np.arange(len(materials)), truth)
        rows.append((image, segmentation.slic(image, segments, start_label=0).astype(np.int32), truth, present))
    return Images(*map(np.stack, zip(*rows, strict=True)))


def make_networks(superpixels: int | None) -> tuple[keras.Model, keras.Model, keras.Model]:
    """A classifier of images, the segmentation that follows from it, and its features at the resolution of the image.

    With ``superpixels``, the largest number of them in an image, features are pooled over these; with None, the scores
    at the resolution of the features are a class activation map.
    """
    image = keras.Input((None, None, 3))
    superpixel_map = keras.Input((None, None), dtype="int32")
    x = layers.Rescaling(4, -2)(image)
    # With padding="same", kernels of 4 x 4 and stride 2 keep features centred on their pixels; 3 x 3 would shift them.
    for channels, kernel_size, strides in ((16, 4, 2), (32, 4, 2)):
        x = layers.Conv2D(channels, kernel_size, strides, padding="same", activation="relu")(x)
    upsampling = layers.UpSampling2D(STRIDE, interpolation="bilinear")
    features = upsampling(x)

    def head(tensor: Any) -> Any:
        """Scores of the features of each superpixel or position."""
        return layers.Dense(len(MATERIALS), "softmax")(layers.Dense(32, "relu")(tensor))

    if superpixels is None:
        inputs = [image]
        scores = head(x)
        of_image, of_pixels = layers.GlobalAveragePooling2D()(scores), upsampling(scores)
    else:
        inputs = [image, superpixel_map]
        pooled = SuperpixelPooling(superpixels)([features, superpixel_map])
        scores = head(pooled)
        of_image = layers.GlobalAveragePooling1D()(scores)
        of_pixels = SuperpixelUnpooling()([scores, superpixel_map])
    return keras.Model(inputs, of_image), keras.Model(inputs, of_pixels), keras.Model(image, features)


class ShowProgress(keras.callbacks.Callback):
    """Advance a progress bar after each epoch."""

    def __init__(self, advance: Callable[[], None]) -> None:
        super().__init__()
        self.advance = advance

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Advance the bar."""
        self.advance()


def train(name: str, model: keras.Model, images: Images, epochs: int, console: Console) -> None:
    """Train a classifier from the materials that each image shows; their shares of the image are not known."""
    model.compile(keras.optimizers.Adam(5e-3), "categorical_crossentropy")
    target = images.present / images.present.sum(axis=1, keepdims=True)
    with Progress(console=console) as progress:
        task = progress.add_task(f"training, {name}", total=epochs)
        shown = ShowProgress(lambda: progress.advance(task))
        model.fit(images.inputs(model), target, BATCH, epochs, verbose=0, callbacks=[shown])


def segment(model: keras.Model, images: Images) -> Array:
    """The material with the largest score at each pixel."""
    return model.predict(images.inputs(model), BATCH, verbose=0).argmax(axis=-1)


def mean_iou(found: Array, truth: Array) -> float:
    """Intersection over union of each material in all images, averaged over materials."""
    pairs = [(found == material, truth == material) for material in range(len(MATERIALS))]
    return float(np.mean([(a & b).sum() / max((a | b).sum(), 1) for a, b in pairs]))


def loop_means(features: Array, superpixels: Array) -> list[Array]:
    """Mean features (S, C) of the superpixels of each image, computed one superpixel at a time."""
    means = []
    for image, labels in zip(features, superpixels, strict=True):
        means.append(np.stack([image[labels == label].mean(axis=0) for label in range(labels.max() + 1)]))
    return means


def mask_difference(features: Array, superpixels: Array, number: int) -> float:
    """Relative difference of Keras' mean of all pooled superpixels from that of a loop in float64."""
    pooled = SuperpixelPooling(number)([features, superpixels])
    found = keras.ops.convert_to_numpy(layers.GlobalAveragePooling1D()(pooled))
    expected = np.stack([means.mean(axis=0) for means in loop_means(features.astype(np.float64), superpixels)])
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def median_ms(call: Callable[[], Any], rounds: int) -> float:
    """Median time of a call in milliseconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def draw(path: Path, title: str, images: Images, columns: dict[str, Array], count: int = 3) -> None:
    """Plot test images, and the ground truth and segmentations of each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import colors, patches, pyplot

    palette = "#d55e00", "#8c8c8c", "#0072b2"
    shown = np.argsort(-images.present.sum(axis=1), kind="stable")[:count]
    figure, axes = pyplot.subplots(count, len(columns) + 1, figsize=(11, 2.6 * count + 1.1), constrained_layout=True)
    for row, index in zip(axes, shown, strict=True):
        row[0].imshow(segmentation.mark_boundaries(images.pixels[index], images.superpixels[index], color=(1, 1, 0)))
        for axis, found in zip(row[1:], columns.values(), strict=True):
            axis.imshow(found[index], cmap=colors.ListedColormap(palette), vmin=0, vmax=2, interpolation="nearest")
            axis.contour(images.truth[index], levels=[0.5, 1.5], colors="black", linewidths=1)
        for axis in row:
            axis.set_axis_off()
    for axis, name in zip(axes[0], ("test image, superpixels", *columns), strict=True):
        axis.set_title(name)
    handles = [patches.Patch(color=colour, label=name) for colour, name in zip(palette, MATERIALS, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    figure.suptitle(title, fontsize=13)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Segmentation by superpixel pooling, trained from image labels.")
    parser.add_argument("--images", type=int, default=192, help="number of training images (default 192)")
    parser.add_argument("--test-images", type=int, default=32, help="number of test images (default 32)")
    parser.add_argument("--size", type=int, default=96, help="height and width, a multiple of 4 (default 96)")
    parser.add_argument("--segments", type=int, default=80, help="requested number of superpixels (default 80)")
    parser.add_argument("--epochs", type=int, default=10, help="passes over the training images (default 10)")
    parser.add_argument("--rounds", type=int, default=5, help="number of timed runs (default 5)")
    parser.add_argument("--seed", type=int, default=0, help="seed of images and weights (default 0)")
    parser.add_argument("--figure", type=Path, default=Path("superpixels.png"), help="path of the figure")
    arguments = parser.parse_args()
    if arguments.size % STRIDE:
        parser.error(f"--size is {arguments.size}, expected a multiple of {STRIDE}")

    console = Console(width=100)
    training, test = (
        make_images(count, arguments.size, arguments.segments, is_test, arguments.seed, console)
        for count, is_test in ((arguments.images, False), (arguments.test_images, True))
    )
    counts = np.concatenate([training.superpixels, test.superpixels]).max(axis=(1, 2)) + 1
    number = int(counts.max())
    console.print(f"{keras.backend.backend()} backend; images have {counts.min()} to {number} superpixels")

    found, scores, weights = {}, {}, []
    for name, superpixels in (("class activation map", None), ("superpixel pooling", number)):
        keras.utils.set_random_seed(arguments.seed)
        classifier, segmenter, extractor = make_networks(superpixels)
        train(name, classifier, training, arguments.epochs, console)
        found[name] = segment(segmenter, test)
        scores[name] = mean_iou(found[name], test.truth)
        weights.append(classifier.count_params())

    superpixels = test.superpixels[:BATCH]
    features = keras.ops.convert_to_numpy(extractor(test.pixels[:BATCH]))
    difference = mask_difference(features, superpixels, number)
    console.print(f"masked mean over superpixels, relative difference from a loop in float64: {difference:.1e}")
    if difference > RELATIVE_TOLERANCE:
        raise SystemExit("The masked mean over superpixels is not that of the loop.")
    loop_ms = median_ms(lambda: loop_means(features, superpixels), arguments.rounds)
    pooling_ms = median_ms(lambda: ao.segment_mean(features, superpixels, number, layout="NHWC"), arguments.rounds)
    table = Table(title=f"means of superpixels, {' x '.join(map(str, features.shape))} float32")
    for column in ("method", "time ms", "relative time"):
        table.add_column(column, justify="left" if column == "method" else "right")
    table.add_row("segment_mean", f"{pooling_ms:.2f}", "1.0")
    table.add_row("loop over superpixels", f"{loop_ms:.2f}", f"{loop_ms / pooling_ms:.1f}")
    console.print(table)

    console.print(f"weights of each network: {weights[0]}, {weights[1]}")
    for name, score in scores.items():
        console.print(f"mean IoU on test images, {name}: {score:.3f}")
    cam, pooled = scores.values()
    if pooled <= cam:
        raise SystemExit("Superpixel pooling does not have a larger IoU than class activation maps.")
    title = f"Trained without masks, superpixel pooling segments better: mean IoU {pooled:.2f} instead of {cam:.2f}"
    columns = {"ground truth": test.truth, **{f"{name}, {scores[name]:.2f}": image for name, image in found.items()}}
    draw(arguments.figure, title, test, columns)
    console.print(f"figure: {arguments.figure}")


if __name__ == "__main__":
    main()
