"""The ResNeXt block of figure 3c (Xie et al., CVPR 2017) in Keras on TensorFlow, with a grouped convolution.

How do I build the block with a grouped convolution, instead of emulating it by a depthwise convolution, a reshape and a
sum? And what becomes of filters that were trained with the emulation?

The block is a 1 x 1 convolution to 128 channels, a 3 x 3 convolution in 32 groups, and a 1 x 1 convolution back to 256
channels, with ReLUs between them and a skip connection. The 3 x 3 convolution is `GroupedConv2D`, the emulation, or
`keras.layers.Conv2D` with ``groups``. On a CPU, TensorFlow 2.21 has no gradient of a grouped convolution, and Keras
compiles its layer with XLA. A training step, forward and backward, of each is measured in a process of its own: its
time, and by how much it raises the peak of the resident memory.

Two blocks are then trained with the emulation, one for each usual order of the channels, and `grouped_kernel` converts
their depthwise filters. Output and gradients of the blocks before and after are compared, in float32 and float64.

The figure shows time and memory of a training step.

Run: ``python docs/examples/resnext_block.py --figure resnext_block.png``
"""

import argparse
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.progress import track
from rich.table import Table

from arrayops.layers.keras import GroupedConv2D

Array = np.ndarray[Any, Any]
Order = Literal["consecutive", "interleaved"]
CHANNELS, WIDTH, GROUPS = 256, 128, 32
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


class Cost(NamedTuple):
    """Seconds of a training step, and its peak memory in MiB."""

    seconds: float
    memory: float


def grouped(x: Any) -> Any:
    return GroupedConv2D(WIDTH, 3, padding="same", groups=GROUPS, use_bias=False)(x)


def keras_grouped(x: Any) -> Any:
    return keras.layers.Conv2D(WIDTH, 3, padding="same", groups=GROUPS, use_bias=False)(x)


def emulated(x: Any, order: Order = "consecutive") -> Any:
    """The emulation; channel c of ``x`` is of group c // (C / groups), or c % groups if ``order`` is interleaved."""
    _, height, width, channels = x.shape
    inner, multiplier = channels // GROUPS, WIDTH // GROUPS
    products = keras.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=multiplier, use_bias=False)(x)
    axes, axis = ((GROUPS, inner), -2) if order == "consecutive" else ((inner, GROUPS), -3)
    products = keras.layers.Reshape((height, width, *axes, multiplier))(products)
    return keras.layers.Reshape((height, width, WIDTH))(keras.ops.sum(products, axis=axis))


CONVOLUTIONS: dict[str, Callable[[Any], Any]] = {
    "GroupedConv2D": grouped,
    "DepthwiseConv2D, reshape, sum": emulated,
    "Conv2D(groups=32)": keras_grouped,
}


def block(size: int, convolution: Callable[[Any], Any]) -> keras.Model:
    """The block on maps of size x size, with ``convolution`` as its 3 x 3 convolution."""
    x = keras.Input((size, size, CHANNELS))
    y = keras.layers.Conv2D(WIDTH, 1, activation="relu")(x)
    y = keras.layers.ReLU()(convolution(y))
    y = keras.layers.Conv2D(CHANNELS, 1)(y)
    return keras.Model(x, keras.layers.ReLU()(keras.layers.Add()([x, y])))


def grouped_kernel(depthwise_filter: Array, groups: int, order: Order = "consecutive") -> tuple[Array, Array]:
    """The kernel of a grouped convolution from the filter of its emulation.

    The emulation reshapes the output of the depthwise convolution, of which channel c m + k is that of input channel c
    and filter k, and sums over the channels of a group:

    - "consecutive": to (..., groups, C / groups, m), sum over axis -2;
    - "interleaved": to (..., C / groups, groups, m), sum over axis -3.

    Parameters
    ----------
    depthwise_filter : array (kh, kw, C, m)
        Weights of `keras.layers.DepthwiseConv2D`, or the filter of `tf.nn.depthwise_conv2d`.
    groups : int
        Number of groups, a divisor of C.
    order : {"consecutive", "interleaved"}
        See above.

    Returns
    -------
    kernel : array (kh, kw, C / groups, groups m)
        Kernel of `GroupedConv2D`.
    channels : array (C,)
        The input of the grouped convolution is ``x[..., channels]``, with x that of the emulation. Take the same
        outputs of the layer before instead: ``kernel[..., channels]`` and ``bias[channels]``.
    """
    height, width, inputs, multiplier = depthwise_filter.shape
    inner = inputs // groups
    channels = np.arange(inputs)
    if order == "interleaved":
        channels = channels.reshape(inner, groups).T.ravel()
    filters = depthwise_filter[:, :, channels].reshape(height, width, groups, inner, multiplier)
    return filters.swapaxes(2, 3).reshape(height, width, inner, groups * multiplier), channels


def converted(weights: list[Array], order: Order) -> list[Array]:
    """The weights of a block with `GroupedConv2D` from those of one with the emulation; also of their gradients."""
    reduce, reduce_bias, depthwise, *expand = weights
    kernel, channels = grouped_kernel(depthwise, GROUPS, order)
    return [reduce[..., channels], reduce_bias[channels], kernel, *expand]


def features(size: int, batch: int) -> Array:
    """4 x 4 patches of a photo projected to the block's channels; every other image of the batch is mirrored."""
    from skimage import data, transform

    photo = transform.resize(data.astronaut(), (4 * size, 4 * size), anti_aliasing=True).astype(np.float32)
    patches = photo.reshape(size, 4, size, 4, 3).transpose(0, 2, 1, 3, 4).reshape(1, size, size, 48)
    maps = (patches - patches.mean()) @ np.random.default_rng(0).standard_normal((48, CHANNELS), np.float32) / 7
    return np.concatenate([maps, maps[:, :, ::-1]] * -(-batch // 2))[:batch]


def output_and_gradients(model: keras.Model, x: Any, target: Any) -> tuple[Any, list[Any]]:
    """The output of a model, and the gradients of the mean squared error."""
    with tf.GradientTape() as tape:
        output = model(x, training=True)
        loss = tf.reduce_mean((output - tf.cast(target, output.dtype)) ** 2)
    return output, tape.gradient(loss, model.trainable_variables)


def training_step(model: keras.Model) -> Callable[[Any, Any], Any]:
    """`output_and_gradients` of a model, as a graph of TensorFlow."""
    return tf.function(lambda x, target: output_and_gradients(model, x, target))


def peak_memory() -> float:
    """The largest resident memory of this process so far, in MiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measure(connection: Connection, name: str, size: int, batch: int) -> None:
    """In a process of its own: send the peak memory of two training steps; then, for each request, times of steps."""
    keras.utils.set_random_seed(0)
    # Libraries are loaded, and threads started, before the first measurement.
    small = tf.zeros((1, 8, 8, CHANNELS))
    training_step(block(8, CONVOLUTIONS[name]))(small, small)
    step, x = training_step(block(size, CONVOLUTIONS[name])), tf.constant(features(size, batch))
    before = peak_memory()
    for _ in range(2):
        step(x, x)
    connection.send(peak_memory() - before)
    while budget := connection.recv():
        times: list[float] = []
        while sum(times) < budget:
            start = time.perf_counter()
            step(x, x)
            times.append(time.perf_counter() - start)
        connection.send(times)


def costs(size: int, batch: int, rounds: int, console: Console) -> dict[str, Cost]:
    """Costs of a training step with each convolution; in each round, all take turns for one second or one step."""
    # The peak memory of a process starts at that of its parent: the processes are started before anything is computed.
    context = multiprocessing.get_context("spawn")
    connections, processes, memory = {}, [], {}
    for name in track(CONVOLUTIONS, "memory of a step", console=console):
        connections[name], other = context.Pipe()
        processes.append(context.Process(target=measure, args=(other, name, size, batch), daemon=True))
        processes[-1].start()
        other.close()
        memory[name] = connections[name].recv()
    times: dict[str, list[float]] = {name: [] for name in CONVOLUTIONS}
    for _ in track(range(rounds), "time of a step", console=console):
        for name, connection in connections.items():
            connection.send(1.0)
            times[name] += connection.recv()
    for connection, process in zip(connections.values(), processes, strict=True):
        connection.send(None)
        process.join()
    return {name: Cost(statistics.median(times[name]), memory[name]) for name in CONVOLUTIONS}


def trained_weights(x: Array, order: Order, steps: int) -> list[Array]:
    """The weights of a block with the emulation, trained to remove noise from feature maps."""
    keras.utils.set_random_seed(1)
    model = block(x.shape[1], lambda maps: emulated(maps, order))
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    noisy = x + np.random.default_rng(2).standard_normal(x.shape, np.float32)
    model.fit(noisy, np.maximum(x, 0), batch_size=len(x), epochs=steps, verbose=0)
    weights: list[Array] = model.get_weights()
    return weights


def difference(weights: list[Array], x: Array, order: Order, dtype: str) -> float:
    """Largest relative difference of output and gradients of the block, before and after the conversion."""
    keras.config.set_dtype_policy(dtype)
    before, after = block(x.shape[1], lambda maps: emulated(maps, order)), block(x.shape[1], grouped)
    keras.config.set_dtype_policy("float32")
    before.set_weights(weights)
    after.set_weights(converted(weights, order))
    target = np.zeros_like(x)
    expected, expected_gradients = output_and_gradients(before, x, target)
    found, gradients = output_and_gradients(after, x, target)
    expected_arrays = [expected.numpy(), *converted([each.numpy() for each in expected_gradients], order)]
    arrays = [found.numpy(), *(each.numpy() for each in gradients)]
    return max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in zip(arrays, expected_arrays, strict=True))


def draw(path: Path, found: dict[str, Cost], title: str) -> None:
    """Bars of time and memory."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 2.8), sharey=True, constrained_layout=True)
    for axis, values, unit in (
        (axes[0], [1e3 * cost.seconds for cost in found.values()], "ms"),
        (axes[1], [cost.memory for cost in found.values()], "MiB"),
    ):
        bars = axis.barh(list(found), values, color=("tab:blue", "tab:gray", "tab:gray"))
        axis.bar_label(bars, [f"{value:.0f} {unit}" for value in values], padding=3)
        axis.set_xlim(0, 1.2 * max(values))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    axes[0].set_xlabel("time of a training step on the CPU, ms")
    axes[1].set_xlabel("peak memory of a training step, MiB")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="ResNeXt block: grouped convolution, and its emulation converted.")
    parser.add_argument("--size", type=int, default=56, help="height and width of the maps (default 56)")
    parser.add_argument("--batch", type=int, default=3, help="batch size (default 3)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of timing (default 2)")
    parser.add_argument("--steps", type=int, default=10, help="training steps before the conversion (default 10)")
    parser.add_argument("--figure", type=Path, default=Path("resnext_block.png"), help="path of the figure")
    arguments = parser.parse_args()
    console = Console(width=100)

    found = costs(arguments.size, arguments.batch, arguments.rounds, console)
    table = Table(title=f"training step, {arguments.batch} maps of {arguments.size} x {arguments.size} x {CHANNELS}")
    for column in ("3 x 3 convolution", "time ms", "peak memory MiB"):
        table.add_column(column, justify="left" if column.startswith("3") else "right")
    for name, cost in found.items():
        table.add_row(name, f"{1e3 * cost.seconds:.1f}", f"{cost.memory:.1f}")
    console.print(table)
    console.print(f"fastest: {min(found, key=lambda name: found[name].seconds)}")
    console.print(f"least memory: {min(found, key=lambda name: found[name].memory)}")

    x = features(arguments.size // 2, 2)
    orders: tuple[Order, ...] = "consecutive", "interleaved"
    for order in track(orders, "training and conversion", console=console):
        weights = trained_weights(x, order, arguments.steps)
        for dtype, tolerance in TOLERANCE.items():
            relative = difference(weights, x, order, dtype)
            console.print(f"{order} channels, {dtype}, largest relative difference: {relative:.1e}")
            if not relative < tolerance:
                raise SystemExit(f"the converted block differs by {relative:.1e}, expected less than {tolerance:.0e}")

    ratio = found["Conv2D(groups=32)"].seconds / found["GroupedConv2D"].seconds
    if ratio <= 1:
        raise SystemExit(f"GroupedConv2D is not faster than Conv2D(groups=32): {ratio:.2f} times as fast")
    claim = f"GroupedConv2D trains the ResNeXt block {ratio:.0f} times as fast as Conv2D(groups=32)"
    console.print(claim)
    draw(arguments.figure, found, claim)
    console.print(f"figure: {arguments.figure}")


if __name__ == "__main__":
    main()
