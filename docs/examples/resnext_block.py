"""The ResNeXt bottleneck of figure 3c (Xie et al., CVPR 2017), forward and backward, in NumPy arrays.

The block is a 1 x 1 convolution to 128 channels, a 3 x 3 convolution in 32 groups, and a 1 x 1 convolution back to 256
channels, with ReLUs between them and a skip connection. The grouped convolution is computed by `conv2d` with
``groups``, and by the usual emulation: a depthwise convolution, a reshape and a sum. Both give the same result up to
rounding; their time and memory are printed and plotted.

Run: ``python docs/examples/resnext_block.py --figure resnext_block.png``
"""

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

import arrayops as ao

Array = np.ndarray[Any, Any]
CHANNELS, WIDTH, GROUPS = 256, 128, 32
RELATIVE_TOLERANCE = 4e-6


class Weights(NamedTuple):
    """Filters of the block, OIHW."""

    reduce: Array
    grouped: Array
    expand: Array


class GroupedConvolution(NamedTuple):
    """An implementation of the grouped 3 x 3 convolution: output, and gradients with respect to input and weight."""

    forward: Callable[[Array, Array], Array]
    backward: Callable[[Array, Array, Array], tuple[Array, Array]]


def grouped_forward(x: Array, weight: Array) -> Array:
    return ao.conv2d(x, weight, groups=GROUPS, padding=1)


def grouped_backward(grad: Array, x: Array, weight: Array) -> tuple[Array, Array]:
    gradients = ao.conv2d_backward(grad, x, weight, groups=GROUPS, padding=1, needs=("input", "weight"))
    return gradients.input, gradients.weight


def depthwise_filters(weight: Array) -> Array:
    """One depthwise filter for each pair of channels, ordered by input channel."""
    outputs, inner, *size = weight.shape
    return weight.reshape(GROUPS, outputs // GROUPS, inner, *size).swapaxes(1, 2).reshape(-1, 1, *size)


def emulated_forward(x: Array, weight: Array) -> Array:
    products = ao.conv2d(x, depthwise_filters(weight), groups=x.shape[1], padding=1)
    batch, _, height, width = products.shape
    outputs, inner = weight.shape[:2]
    summands = products.reshape(batch, GROUPS, inner, outputs // GROUPS, height, width)
    return summands.sum(axis=2).reshape(batch, outputs, height, width)


def emulated_backward(grad: Array, x: Array, weight: Array) -> tuple[Array, Array]:
    batch, outputs, height, width = grad.shape
    inner, *size = weight.shape[1:]
    shape = batch, GROUPS, inner, outputs // GROUPS, height, width
    grad_products = np.broadcast_to(grad.reshape(batch, GROUPS, 1, outputs // GROUPS, height, width), shape)
    filters = depthwise_filters(weight)
    grad_products = grad_products.reshape(batch, -1, height, width)
    gradients = ao.conv2d_backward(grad_products, x, filters, groups=x.shape[1], padding=1, needs=("input", "weight"))
    grad_filters = gradients.weight.reshape(GROUPS, inner, outputs // GROUPS, *size)
    return gradients.input, grad_filters.swapaxes(1, 2).reshape(weight.shape)


IMPLEMENTATIONS = {
    "conv2d with groups": GroupedConvolution(grouped_forward, grouped_backward),
    "depthwise, reshape, sum": GroupedConvolution(emulated_forward, emulated_backward),
}


def block(x: Array, weights: Weights, convolution: GroupedConvolution, grad: Array) -> tuple[Array, ...]:
    """Output, and the gradients of input and weights for the output gradient ``grad``."""
    first = np.maximum(ao.conv2d(x, weights.reduce), 0)
    second = np.maximum(convolution.forward(first, weights.grouped), 0)
    output = np.maximum(ao.conv2d(second, weights.expand) + x, 0)

    grad = grad * (output > 0)
    third = ao.conv2d_backward(grad, second, weights.expand)
    grad_first, grad_grouped = convolution.backward(third.input * (second > 0), first, weights.grouped)
    reduced = ao.conv2d_backward(grad_first * (first > 0), x, weights.reduce)
    return output, reduced.input + grad, reduced.weight, grad_grouped, third.weight


def features(size: int, batch: int) -> tuple[Array, Array]:
    """A photo, and its 4 x 4 patches projected to the block's channels; every other image of the batch is mirrored."""
    from skimage import data, transform

    photo = transform.resize(data.astronaut(), (4 * size, 4 * size), anti_aliasing=True).astype(np.float32)
    patches = photo.reshape(size, 4, size, 4, 3).transpose(1, 3, 4, 0, 2).reshape(1, 48, size, size)
    projection = np.random.default_rng(0).standard_normal((CHANNELS, 48, 1, 1), np.float32) / 7
    maps = ao.conv2d(patches - patches.mean(), projection)
    return photo, np.concatenate([maps, maps[..., ::-1]] * -(-batch // 2))[:batch]


def measure(call: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Median time of a call in seconds, and its peak memory in MiB."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return statistics.median(times), peak / 2**20


def draw(path: Path, photo: Array, output: Array, measurements: dict[str, tuple[float, float]]) -> None:
    """Plot the photo, the mean of the block's output channels, and bars of time and memory."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(13, 3.2), constrained_layout=True)
    axes[0].imshow(photo)
    axes[0].set_title("input")
    axes[1].imshow(output[0].mean(axis=0), cmap="magma")
    axes[1].set_title("output, mean of 256 channels")
    for axis in axes[:2]:
        axis.set_axis_off()
    times = [1e3 * seconds for seconds, _ in measurements.values()]
    memory = [mebibytes for _, mebibytes in measurements.values()]
    for axis, values, title in (
        (axes[2], times, "forward and backward, ms"),
        (axes[3], memory, "peak memory, MiB"),
    ):
        axis.barh(list(measurements), values, color=("tab:blue", "tab:gray"))
        axis.set_title(title)
    axes[3].set_yticks([])
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="ResNeXt bottleneck: grouped convolution and its emulation.")
    parser.add_argument("--size", type=int, default=56, help="height and width of the maps (default 56)")
    parser.add_argument("--batch", type=int, default=2, help="batch size (default 2)")
    parser.add_argument("--rounds", type=int, default=5, help="number of timed runs (default 5)")
    parser.add_argument("--figure", type=Path, default=Path("resnext_block.png"), help="path of the figure")
    arguments = parser.parse_args()

    photo, x = features(arguments.size, arguments.batch)
    random = np.random.default_rng(1)
    shapes = (WIDTH, CHANNELS, 1, 1), (WIDTH, WIDTH // GROUPS, 3, 3), (CHANNELS, WIDTH, 1, 1)
    # He initialisation: preserves the variance through a ReLU.
    weights = Weights(*(random.standard_normal(s, np.float32) * np.float32(2 / np.prod(s[1:])) ** 0.5 for s in shapes))
    grad = random.standard_normal(x.shape, np.float32)

    results = {name: block(x, weights, convolution, grad) for name, convolution in IMPLEMENTATIONS.items()}
    differences = [
        float(np.linalg.norm(grouped - emulated) / np.linalg.norm(emulated))
        for grouped, emulated in zip(*results.values(), strict=True)
    ]
    if max(differences) > RELATIVE_TOLERANCE:
        raise SystemExit(
            f"the relative difference of the two results is {max(differences):.1e}, more than rounding error"
        )

    def call(convolution: GroupedConvolution) -> Callable[[], Any]:
        return lambda: block(x, weights, convolution, grad)

    measurements = {name: measure(call(convolution), arguments.rounds) for name, convolution in IMPLEMENTATIONS.items()}
    table = Table(title=f"ResNeXt bottleneck, {x.shape} float32, forward and backward")
    for column in ("3 x 3 convolution", "time ms", "peak memory MiB"):
        table.add_column(column, justify="left" if column.startswith("3") else "right")
    for name, (seconds, memory) in measurements.items():
        table.add_row(name, f"{seconds * 1e3:.1f}", f"{memory:.1f}")
    console = Console(width=100)
    console.print(table)
    console.print(f"largest relative difference of output and gradients: {max(differences):.1e}")
    draw(arguments.figure, photo, results["conv2d with groups"][0], measurements)
    console.print(f"figure: {arguments.figure}")


if __name__ == "__main__":
    main()
