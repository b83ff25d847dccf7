"""My feature maps are (15, 15, 128) and (6, 6, 128): how do I merge them in a skip connection in Keras, by flattening,
resizing or learned upsampling?

A small network denoises crops of photos. Its encoder, two strided convolutions, computes exactly these two feature maps
from a crop of 75 x 75 pixels; its decoder gets the merged maps. `MergeFeatureMaps` merges them in every mode, and each
result is compared with a computation in NumPy:

- "concat", "add", "mean" and "max" resize the map of 6 x 6 to 15 x 15 and combine the two,
- "flat" flattens both to 225 + 36 = 261 pixels, pads with zeros to 441, and reshapes to 21 x 21: all values are kept,
  but a pixel no longer is where it was in the crop, and a convolution after the merge cannot find out,
- `GroupedConv2DTranspose` of stride 2 with filters of 5 x 5 makes (6 - 1) * 2 + 5 = 15 pixels of 6: learned
  upsampling, here with one filter for each channel, before "concat".

The same network is trained with each of them, and with one of the two maps alone, on the same crops in the same order.

The figure shows what the skip connection is worth: the PSNR on crops of another photo for each way to merge. Most of it
is the detail in the map of 15 x 15, as the bar of that map alone shows.

Run: ``python docs/examples/skip_connection.py --figure skip_connection.png``
"""

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table
from skimage import data

from arrayops.layers.keras import GroupedConv2D, GroupedConv2DTranspose, MergeFeatureMaps

Array = np.ndarray[Any, Any]
CROP, CHANNELS, EARLY, LATE, FLAT = 75, 128, 15, 6, 21
NOISE = 0.2
MODES = "concat", "add", "mean", "max", "flat"
WITHOUT, EARLY_ALONE, LEARNED = "6 x 6 alone (no skip connection)", "15 x 15 alone", "learned upsampling, concat"
GAIN = 1.0
"""The least difference in dB that the claim of the figure calls better."""


def random_crops(photos: list[Array], count: int, seed: int) -> Array:
    """Crops of photos in turn, half of them mirrored, with values from 0 to 1."""
    random = np.random.default_rng(seed)
    crops = []
    for index in range(count):
        photo = photos[index % len(photos)]
        row, column = (random.integers(size - CROP + 1) for size in photo.shape[:2])
        crop = photo[row : row + CROP, column : column + CROP]
        crops.append(crop[:, ::-1] if random.random() < 0.5 else crop)
    return np.stack(crops).astype(np.float32) / 255


def noisy(clean: Array, seed: int) -> Array:
    return clean + NOISE * np.random.default_rng(seed).standard_normal(clean.shape, np.float32)


def encode(photo: Any) -> tuple[Any, Any]:
    """The feature maps (15, 15, 128) and (6, 6, 128) of crops (75, 75, 3)."""
    early = layers.Conv2D(CHANNELS, 5, strides=5, activation="relu", name="early")(photo - 0.5)
    late = GroupedConv2D(CHANNELS, 5, strides=2, groups=8, activation="relu", name="late")(early)
    return early, late


def merge(way: str, early: Any, late: Any) -> Any:
    """The map that the decoder gets."""
    if way == WITHOUT:
        return MergeFeatureMaps(size=EARLY)([late])
    if way == EARLY_ALONE:
        return early
    if way == LEARNED:
        upsampled = GroupedConv2DTranspose(CHANNELS, 5, strides=2, groups=CHANNELS)(late)
        return MergeFeatureMaps("concat")([early, upsampled])
    if way == "flat":
        # The decoder needs 15 x 15 pixels.
        return MergeFeatureMaps(size=EARLY)([MergeFeatureMaps("flat", size=FLAT)([early, late])])
    return MergeFeatureMaps(way)([early, late])


def decode(merged: Any) -> Any:
    """Crops (75, 75, 3): each of the 15 x 15 pixels becomes a block of 5 x 5."""
    hidden = layers.Conv2D(64, 1, activation="relu")(merged)
    block = CROP // EARLY
    blocks = layers.Reshape((EARLY, EARLY, block, block, 3))(layers.Conv2D(block * block * 3, 1)(hidden))
    return layers.Reshape((CROP, CROP, 3))(layers.Permute((1, 3, 2, 4, 5))(blocks)) + 0.5


def network(way: str) -> keras.Model:
    """The network with one way to merge; initial weights of the encoder are the same for all."""
    keras.utils.set_random_seed(0)
    photo = keras.Input((CROP, CROP, 3))
    return keras.Model(photo, decode(merge(way, *encode(photo))))


class Advance(keras.callbacks.Callback):
    """Progress bar of training."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        super().__init__()
        self.progress, self.task = progress, task

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.progress.advance(self.task)


def train(model: keras.Model, clean: Array, epochs: int, batch: int, callback: keras.callbacks.Callback) -> None:
    """Train to denoise."""
    steps = epochs * -(-len(clean) // batch)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)), "mse")
    model.fit(noisy(clean, 1), clean, batch, epochs, verbose=0, callbacks=[callback], shuffle=False)


def psnr(image: Array, clean: Array) -> float:
    """Peak signal-to-noise ratio in dB, for a peak value of 1."""
    return float(-10 * np.log10(np.mean((image - clean) ** 2)))


def resized(late: Array) -> Array:
    """The map (N, 6, 6, C) interpolated linearly to (N, 15, 15, C); edge pixels are replicated."""
    coordinates = (np.arange(EARLY) + 0.5) * LATE / EARLY - 0.5
    matrix = np.stack([np.interp(coordinates, np.arange(LATE), unit) for unit in np.eye(LATE)], axis=1)
    return np.einsum("ih,jw,nhwc->nijc", matrix, matrix, late)


def expected(mode: str, early: Array, late: Array) -> Array:
    """What a mode of `MergeFeatureMaps` computes, in NumPy."""
    if mode == "flat":
        pixels = np.concatenate([each.reshape(len(each), -1, CHANNELS) for each in (early, late)], axis=1)
        zeros = FLAT * FLAT - pixels.shape[1]
        return np.pad(pixels, ((0, 0), (0, zeros), (0, 0))).reshape(-1, FLAT, FLAT, CHANNELS)
    pair = early, resized(late)
    if mode == "concat":
        return np.concatenate(pair, axis=-1)
    return {"add": np.add(*pair), "mean": np.mean(pair, axis=0), "max": np.maximum(*pair)}[mode]


def check_modes(maps: list[Any]) -> Table:
    """Merge two maps in every mode, and compare each result with NumPy.

    Raises
    ------
    SystemExit
        If a difference is more than rounding error.
    """
    early, late = (ops.convert_to_numpy(each) for each in maps)
    table = Table(title=f"maps {early.shape[1:]} and {late.shape[1:]} merged")
    for column in ("mode", "output shape", "difference from NumPy"):
        table.add_column(column, justify="left" if column == "mode" else "right")
    for mode in MODES:
        layer = MergeFeatureMaps(mode, size=FLAT if mode == "flat" else "largest")
        merged = ops.convert_to_numpy(layer(maps))
        difference = float(np.abs(merged - expected(mode, early, late)).max())
        if difference > 1e-6:
            raise SystemExit(f'the largest difference of mode "{mode}" from NumPy is {difference:.1e}')
        table.add_row(mode, str(merged.shape[1:]), f"{difference:.0e}")
    return table


def check_claim(scores: dict[str, float]) -> str:
    """The claim of the figure.

    Raises
    ------
    SystemExit
        If it is not true.
    """
    merged = {way: score for way, score in scores.items() if way not in (WITHOUT, EARLY_ALONE, "flat")}
    lowest, without = min(merged.values()), scores[WITHOUT]
    if lowest < without + GAIN or scores["flat"] > without - GAIN:
        raise SystemExit(f"the skip connection does not help when resized, or helps when flattened: {scores}")
    return (
        f"A skip connection raises the PSNR from {without:.1f} dB to {lowest:.1f} dB or more when the small map is "
        f"resized or upsampled,\nand lowers it to {scores['flat']:.1f} dB when both maps are flattened"
    )


def draw(path: Path, claim: str, scores: dict[str, float], images: dict[str, Array]) -> None:
    """Plot bars of the PSNR, and one crop as each network restores it."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(13, 5.4), constrained_layout=True)
    figure.suptitle(claim, fontsize=13, fontweight="bold")
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1))
    axis = left.subplots()
    others = {WITHOUT: "tab:gray", EARLY_ALONE: "tab:gray", "flat": "tab:red"}
    bars = axis.barh(list(scores), list(scores.values()), color=[others.get(way, "tab:blue") for way in scores])
    axis.bar_label(bars, fmt="%.2f", padding=3)
    axis.axvline(scores[WITHOUT], color="black", linestyle=":", linewidth=1)
    axis.invert_yaxis()
    axis.set_xlim(0, 1.1 * max(scores.values()))
    axis.set_xlabel("PSNR on crops of another photo, dB (higher is better)")
    axis.spines[["top", "right"]].set_visible(False)
    for panel, (title, image) in zip(right.subplots(2, 3).flat, images.items(), strict=True):
        panel.imshow(np.clip(image, 0, 1))
        panel.set_title(title, fontsize=10)
        panel.set_axis_off()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Ways to merge feature maps of 15 x 15 and 6 x 6 pixels in Keras.")
    parser.add_argument("--crops", type=int, default=256, help="number of training crops (default 256)")
    parser.add_argument("--epochs", type=int, default=2, help="number of epochs (default 2)")
    parser.add_argument("--batch", type=int, default=8, help="batch size (default 8)")
    parser.add_argument("--test-crops", type=int, default=48, help="number of test crops (default 48)")
    parser.add_argument("--figure", type=Path, default=Path("skip_connection.png"), help="path of the figure")
    arguments = parser.parse_args()

    keras.config.set_image_data_format("channels_last")
    console = Console(width=100)
    photos = [data.chelsea(), data.coffee(), data.rocket(), data.stereo_motorcycle()[0]]
    clean = random_crops(photos, arguments.crops, seed=0)
    astronaut = data.astronaut()
    face = astronaut[None, 75 : 75 + CROP, 187 : 187 + CROP].astype(np.float32) / 255
    test = np.concatenate([face, random_crops([astronaut], arguments.test_crops, seed=2)])
    noisy_test = noisy(test, 3)

    photo = keras.Input((CROP, CROP, 3))
    console.print(check_modes(keras.Model(photo, encode(photo))(noisy_test[:4])))

    table = Table(title=f"denoising; noisy crops: {psnr(noisy_test, test):.2f} dB")
    for column in ("the decoder gets", "weights", "PSNR dB"):
        table.add_column(column, justify="left" if column.startswith("the") else "right")
    ways = WITHOUT, EARLY_ALONE, *MODES[:-1], LEARNED, "flat"
    scores, restored = {}, {}
    with Progress(console=console) as progress:
        steps = arguments.epochs * -(-arguments.crops // arguments.batch)
        task = progress.add_task("training", total=steps * len(ways))
        for way in ways:
            progress.update(task, description=way)
            model = network(way)
            train(model, clean, arguments.epochs, arguments.batch, Advance(progress, task))
            outputs = ops.convert_to_numpy(model(noisy_test))
            scores[way], restored[way] = psnr(outputs, test), outputs[0]
            table.add_row(way, f"{model.count_params():,}", f"{scores[way]:.2f}")
    console.print(table)
    claim = check_claim(scores)
    console.print(claim.replace("\n", " "))
    images = {"photo": test[0], "with noise": noisy_test[0]}
    images |= {way: restored[way] for way in (WITHOUT, "flat", "concat", LEARNED)}
    draw(arguments.figure, claim, scores, {title.partition(" (")[0]: image for title, image in images.items()})
    console.print(f"figure: {arguments.figure}")


if __name__ == "__main__":
    main()
