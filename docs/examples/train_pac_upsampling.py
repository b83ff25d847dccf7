"""Does a network with pixel-adaptive convolutions train in JAX as in PyTorch, and what are they good for?

The task is joint upsampling: a disparity map at 1/8 of the resolution, and a photo at full resolution, give the
disparity map at full resolution. As in section 4.1 of the paper (Su et al., CVPR 2019), convolutions encode the map,
three transposed pixel-adaptive convolutions of stride 2 upsample it, and other convolutions compute their guides from
the photo. Such a network is trained twice, from the same initial weights and on the same samples:

- in PyTorch, with the layer ``arrayops.layers.torch.PacConvTranspose2d`` and ``torch.optim.Adam``;
- in JAX, with the function ``arrayops.pac_conv_transpose2d``, ``jax.value_and_grad`` and ``jax.jit``.

Losses and predictions are compared. The losses of the first steps differ by rounding errors; training amplifies these,
and at its end the differences are not larger than those after a change of the initial weights by rounding.

A third network has the same layers, but plain transposed convolutions. It gets the photo too: the features that are the
guides of the other network are appended to the feature maps, so that it has more weights. Before the training, it
computes bilinear upsampling, and the network with pixel-adaptive convolutions computes joint bilateral upsampling; the
table shows what that gives, so that the share of the training can be seen.

The networks are trained on crops of the left part of the photo. The figure shows their errors on the right part.

Run: ``python docs/examples/train_pac_upsampling.py --figure train_pac_upsampling.png``, on a GPU with ``--device cuda``
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

import arrayops as ao
from arrayops.layers.torch import PacConvTranspose2d

Array = np.ndarray[Any, Any]
LEVELS, CHANNELS, GUIDES, HIDDEN = 3, 8, 3, 16
"""Upsampling layers, and channels of the feature maps, of each guide and of the layer before the guides."""
FACTOR = 2**LEVELS
UNIT = 16.0
"""Pixels of disparity that are 1 in the arrays."""
GUIDE_SCALE = 10.0
"""A distance of 1/10 in Lab colours, which are scaled to a lightness of 1, becomes a guide distance of 1."""
TRAINED, GAP = 0.48, 24
"""Part of the photo's width for training, and pixels between it and the part for testing."""
RATE, DECAYS, EPSILON = 2e-3, (0.9, 0.999), 1e-5
"""Initial learning rate, decay rates of the moments, and epsilon of Adam."""
FIRST, FIRST_TOLERANCE, TOLERANCE = 20, 1e-4, 5e-3
"""Number of first steps, and bounds of the relative differences of their losses, and of all losses and predictions.

Training amplifies rounding errors: in PyTorch alone, initial weights that differ by one unit in the last place change
the predictions by up to 3e-3 after 80 steps.
"""
BILINEAR, UNTRAINED, PLAIN, PAC = "bilinear", "PAC, before training", "transposed convolutions", "PAC"


class Samples(NamedTuple):
    """Maps to upsample (N, 1, h, w), photos (N, 3, H, W) in Lab colours, disparities (N, 1, H, W), where it is known.

    Pixel (i, j) of a map is pixel (8 i, 8 j) of the disparity: H = 8 (h - 1) + 1.
    """

    low: Array
    photo: Array
    disparity: Array
    known: Array


class Result(NamedTuple):
    """Losses of the training steps, the prediction (H, W) for the test part, and the median seconds per step."""

    losses: Array
    prediction: Array
    seconds: float


def load_scene() -> tuple[Array, Array, Array]:
    """The photo (H, W, 3), its disparity (H, W), and where that is known (H, W)."""
    from skimage import color, data

    photo, _, disparity = data.stereo_motorcycle()
    known = np.isfinite(disparity)
    disparity = np.where(known, disparity, 0) / UNIT
    return (color.rgb2lab(photo) / 100).astype(np.float32), disparity.astype(np.float32), known


def downsampled(disparity: Array, known: Array) -> Array:
    """Every eighth pixel of the disparity along both axes; the nearest known one where it is not known."""
    from scipy import ndimage

    disparity, known = (array[::FACTOR, ::FACTOR] for array in (disparity, known))
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return disparity[tuple(nearest)]


def samples(crops: Iterable[tuple[Array, Array, Array]]) -> Samples:
    """Samples of crops of one size."""
    arrays = [
        (downsampled(disparity, known)[None], np.moveaxis(photo, 2, 0), disparity[None], known[None].astype(np.float32))
        for photo, disparity, known in crops
    ]
    return Samples(*(np.stack(each) for each in zip(*arrays, strict=True)))


def random_crops(scene: tuple[Array, ...], size: int, count: int, random: np.random.Generator) -> Samples:
    """Square crops at random positions, every other one mirrored."""
    height, width = scene[1].shape
    crops = []
    for index in range(count):
        top, left = (int(random.integers(limit - size + 1)) for limit in (height, width))
        crop = tuple(array[top : top + size, left : left + size] for array in scene)
        crops.append(tuple(array[:, ::-1] for array in crop) if index % 2 else crop)
    return samples(crops)


def guide_of_level(guides: Any, level: int) -> Any:
    """The guide of an upsampling layer, at the resolution of its output."""
    step = 2 ** (LEVELS - 1 - level)
    return guides[:, level * GUIDES : (level + 1) * GUIDES, ::step, ::step]


class Upsampler(nn.Module):
    """The network with pixel-adaptive (``adaptive``) or plain transposed convolutions."""

    def __init__(self, adaptive: bool) -> None:
        super().__init__()
        self.adaptive = adaptive
        appended = 0 if adaptive else GUIDES
        self.encoder1 = nn.Conv2d(1, CHANNELS, 3, padding=1)
        self.encoder2 = nn.Conv2d(CHANNELS, CHANNELS - 1, 3, padding=1)
        self.guide1 = nn.Conv2d(3, HIDDEN, 3, padding=1)
        self.guide2 = nn.Conv2d(HIDDEN, LEVELS * GUIDES, 3, padding=1)
        self.upsampling = nn.ModuleList(
            PacConvTranspose2d(CHANNELS, CHANNELS, 5, stride=2, padding=2, normalize_kernel=True)
            if adaptive
            else nn.ConvTranspose2d(CHANNELS + (appended if level else 0), CHANNELS, 5, stride=2, padding=2)
            for level in range(LEVELS)
        )
        self.decoder1 = nn.Conv2d(CHANNELS + appended, CHANNELS, 3, padding=1)
        self.decoder2 = nn.Conv2d(CHANNELS, 1, 3, padding=1)
        self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        """Let the network upsample the map alone: by means if the filters are adaptive, otherwise bilinearly."""
        for layer in (self.guide2, self.decoder2):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        linear = torch.tensor([0, 0.5, 1, 0.5, 0])
        window = torch.ones(5, 5) if self.adaptive else torch.outer(linear, linear)
        for layer in self.upsampling:
            layer.weight.copy_(torch.eye(len(layer.weight), CHANNELS)[:, :, None, None] * window)
            nn.init.zeros_(layer.bias)

    def forward(self, low: Tensor, photo: Tensor) -> Tensor:
        """The map (N, 1, h, w) at the resolution of the photo (N, 3, H, W)."""
        guides = photo.tile(1, LEVELS, 1, 1) + self.guide2(self.guide1(photo).relu())
        x = torch.cat([low, self.encoder2(self.encoder1(low).relu()).relu()], dim=1)
        for level, layer in enumerate(self.upsampling):
            guide = guide_of_level(guides, level)
            x = layer(x, GUIDE_SCALE * guide).relu() if self.adaptive else torch.cat([layer(x).relu(), guide], dim=1)
        return x[:, :1] + self.decoder2(self.decoder1(x).relu())


def jax_upsample(weights: dict[str, jax.Array], low: jax.Array, photo: jax.Array) -> jax.Array:
    """What `Upsampler` computes with pixel-adaptive convolutions; the keys are those of its state dict."""

    def conv(name: str, x: jax.Array) -> jax.Array:
        return jax.lax.conv(x, weights[f"{name}.weight"], (1, 1), "SAME") + weights[f"{name}.bias"][:, None, None]

    guides = jnp.tile(photo, (1, LEVELS, 1, 1)) + conv("guide2", jax.nn.relu(conv("guide1", photo)))
    x = jnp.concatenate([low, jax.nn.relu(conv("encoder2", jax.nn.relu(conv("encoder1", low))))], axis=1)
    for level in range(LEVELS):
        guide = GUIDE_SCALE * guide_of_level(guides, level)
        weight, bias = (weights[f"upsampling.{level}.{name}"] for name in ("weight", "bias"))
        x = jax.nn.relu(ao.pac_conv_transpose2d(x, guide, weight, bias, stride=2, padding=2, normalize_kernel=True))
    return x[:, :1] + conv("decoder2", jax.nn.relu(conv("decoder1", x)))


def mean_squared_error(prediction: Any, disparity: Any, known: Any) -> Any:
    """Mean over the pixels whose disparity is known, of any framework."""
    return (known * (prediction - disparity) ** 2).sum() / known.sum()


def train_in_torch(
    network: Upsampler, batches: list[Samples], test: Samples, device: str, on_step: Callable[[], None]
) -> Result:
    """Train a network in PyTorch, one step for each batch."""
    optimizer = torch.optim.Adam(network.parameters(), RATE, DECAYS, EPSILON)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, total_iters=len(batches))
    losses, times = [], []
    for batch in batches:
        start = time.perf_counter()
        low, photo, disparity, known = (torch.from_numpy(array).to(device) for array in batch)
        loss = mean_squared_error(network(low, photo), disparity, known)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        times.append(time.perf_counter() - start)
        on_step()
    return Result(np.array(losses), predict(network, test, device), statistics.median(times))


@torch.no_grad()
def predict(network: Upsampler, data: Samples, device: str) -> Array:
    """Prediction (H, W) for the first sample."""
    return network(*(torch.from_numpy(array[:1]).to(device) for array in (data.low, data.photo)))[0, 0].cpu().numpy()


def train_in_jax(
    weights: dict[str, Array], batches: list[Samples], test: Samples, on_step: Callable[[], None]
) -> Result:
    """Train the network with pixel-adaptive convolutions in JAX, one step for each batch."""

    def loss_of(weights: dict[str, jax.Array], batch: Samples) -> jax.Array:
        return mean_squared_error(jax_upsample(weights, batch.low, batch.photo), batch.disparity, batch.known)

    @jax.jit
    def step(weights: Any, means: Any, squares: Any, number: int, batch: Samples) -> tuple[Any, ...]:
        """One step of Adam, by the formula of `torch.optim.Adam`."""
        loss, gradients = jax.value_and_grad(loss_of)(weights, batch)
        first, second = DECAYS
        means = jax.tree.map(lambda m, g: first * m + (1 - first) * g, means, gradients)
        squares = jax.tree.map(lambda s, g: second * s + (1 - second) * g**2, squares, gradients)
        rate = RATE * (1 - (number - 1) / len(batches)) / (1 - first**number)
        correction = jnp.sqrt(1 - second**number)
        weights = jax.tree.map(
            lambda w, m, s: w - rate * m / (jnp.sqrt(s) / correction + EPSILON), weights, means, squares
        )
        return weights, means, squares, loss

    state = jax.tree.map(jnp.asarray, weights)
    means = squares = jax.tree.map(jnp.zeros_like, state)
    losses, times = [], []
    for number, batch in enumerate(batches, start=1):
        start = time.perf_counter()
        state, means, squares, loss = step(state, means, squares, number, batch)
        losses.append(float(loss))
        times.append(time.perf_counter() - start)
        on_step()
    prediction = np.asarray(jax_upsample(state, test.low[:1], test.photo[:1]))[0, 0]
    return Result(np.array(losses), prediction, statistics.median(times))


def check_equality(left: Result, right: Result) -> str:
    """Largest differences of losses, relative to the loss, and of predictions, relative to the largest of them.

    Raises
    ------
    SystemExit
        If they are larger than the tolerances.
    """
    losses = np.abs(left.losses - right.losses) / right.losses
    predictions = np.abs(left.prediction - right.prediction) / np.abs(right.prediction).max()
    first, largest = float(losses[:FIRST].max()), float(max(losses.max(), predictions.max()))
    found = f"first losses {first:.1e}, all and predictions {largest:.1e}"
    if first > FIRST_TOLERANCE or largest > TOLERANCE:
        raise SystemExit(f"PyTorch and JAX differ by more than rounding errors: {found}")
    return found


def rmse(prediction: Array, test: Samples) -> float:
    """Root mean squared error, in pixels of disparity."""
    return float(UNIT * np.sqrt(mean_squared_error(prediction, test.disparity[0, 0], test.known[0, 0])))


def check_claim(errors: dict[str, float], weights: dict[str, int]) -> str:
    """The claim of the figure.

    Raises
    ------
    SystemExit
        If it is not true.
    """
    if min(errors, key=errors.__getitem__) != PAC or weights[PAC] > weights[PLAIN]:
        raise SystemExit(f"the network with PAC has not the smallest error, or the most weights: {errors}, {weights}")
    bilinear, plain = (100 * (1 - errors[PAC] / errors[name]) for name in (BILINEAR, PLAIN))
    return (
        f"Upsampling by {FACTOR} with PAC, guided by the photo: the error is {bilinear:.0f} % smaller than that of "
        f"bilinear upsampling,\nand {plain:.0f} % smaller than that of transposed convolutions with the photo as input"
    )


def draw(path: Path, claim: str, test: Samples, predictions: dict[str, Array]) -> None:
    """Plot the photo and the disparity of the test part, and the error of each prediction."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from skimage import color

    unknown = test.known[0, 0] == 0
    disparity = np.ma.masked_where(unknown, UNIT * test.disparity[0, 0])
    figure, axes = pyplot.subplots(1, 2 + len(predictions), figsize=(17, 5.4), constrained_layout=True)
    figure.suptitle(claim, fontsize=15, fontweight="bold")
    axes[0].imshow(color.lab2rgb(100 * np.moveaxis(test.photo[0], 0, 2)))
    axes[0].set_title("photo")
    axes[1].imshow(disparity, cmap="viridis")
    axes[1].set_title("disparity (grey: not known)")
    for axis, (name, prediction) in zip(axes[2:], predictions.items(), strict=True):
        error = np.abs(UNIT * prediction - disparity)
        image = axis.imshow(error, cmap="magma", vmin=0, vmax=10)
        axis.set_title(f"{name}\nRMSE {rmse(prediction, test):.2f} pixels")
    for axis in axes:
        axis.set(xticks=[], yticks=[], facecolor="0.5")
    figure.colorbar(image, ax=axes[2:], label="error, pixels of disparity", extend="max", shrink=0.8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Joint upsampling with PAC, trained in PyTorch and in JAX.")
    parser.add_argument("--size", type=int, default=65, help="size of training crops, a multiple of 8, plus 1 (65)")
    parser.add_argument("--batch", type=int, default=4, help="batch size (default 4)")
    parser.add_argument("--steps", type=int, default=80, help="training steps of each network (default 80)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and crops (default 0)")
    parser.add_argument("--device", default="cpu", help="device of PyTorch (default cpu)")
    parser.add_argument("--figure", type=Path, default=Path("train_pac_upsampling.png"), help="path of the figure")
    arguments = parser.parse_args()

    # The layers are so small that more threads take more time for waiting than they save.
    torch.set_num_threads(1)
    # GPUs would round the inputs of convolutions to fewer bits.
    torch.backends.cudnn.allow_tf32 = False
    jax.config.update("jax_default_matmul_precision", "highest")

    console = Console(width=100)
    random = np.random.default_rng(arguments.seed)
    scene = load_scene()
    height, width = scene[1].shape
    split = round(TRAINED * width)
    left = tuple(array[:, :split] for array in scene)
    rows, columns = ((length - 1) // FACTOR * FACTOR + 1 for length in (height, width - split - GAP))
    test = samples([tuple(array[:rows, -columns:] for array in scene)])
    batches = [random_crops(left, arguments.size, arguments.batch, random) for _ in range(arguments.steps)]

    networks = {}
    for name, adaptive in ((PLAIN, False), (PAC, True)):
        torch.manual_seed(arguments.seed)
        networks[name] = Upsampler(adaptive).to(arguments.device)
    initial = {name: value.cpu().numpy().copy() for name, value in networks[PAC].state_dict().items()}
    low = torch.from_numpy(test.low)
    bilinear = nn.functional.interpolate(low, (rows, columns), mode="bilinear", align_corners=True)[0, 0].numpy()
    predictions = {BILINEAR: bilinear, UNTRAINED: predict(networks[PAC], test, arguments.device)}

    results = {}
    with Progress(console=console) as progress:
        for name, network in networks.items():
            task = progress.add_task(f"{name}, PyTorch", total=arguments.steps)
            on_step = functools.partial(progress.advance, task)
            results[name] = train_in_torch(network, batches, test, arguments.device, on_step)
            predictions[name] = results[name].prediction
        task = progress.add_task(f"{PAC}, JAX", total=arguments.steps)
        in_jax = train_in_jax(initial, batches, test, functools.partial(progress.advance, task))

    weights = {name: sum(each.numel() for each in network.parameters()) for name, network in networks.items()}
    errors = {name: rmse(prediction, test) for name, prediction in predictions.items()}
    table = Table(title="right part of the photo")
    for column in ("upsampling", "weights", "RMSE, pixels", "ms per step, PyTorch", "JAX"):
        table.add_column(column, justify="left" if column == "upsampling" else "right")
    for name, error in errors.items():
        seconds = [results[name].seconds] if name in results else []
        seconds += [in_jax.seconds] if name == PAC else []
        table.add_row(name, str(weights.get(name, "")), f"{error:.2f}", *(f"{1000 * each:.0f}" for each in seconds))
    console.print(table)

    equality = check_equality(results[PAC], in_jax)
    console.print(f"largest relative difference of PyTorch and JAX: {equality}")
    claim = check_claim(errors, weights)
    console.print(claim.replace("\n", " "))
    draw(arguments.figure, claim, test, {name: predictions[name] for name in (BILINEAR, PLAIN, PAC)})
    console.print(f"figure: {arguments.figure}")


if __name__ == "__main__":
    main()
