"""Pixel-adaptive convolution in a tf.function on the CPU, beside what TensorFlow itself offers.

The convolution is 5 x 5 with a Gaussian kernel of 3 guide channels, "SAME" padding, from 32 to 32 channels, over 2
images of 128 x 128 pixels, NHWC, float32. Timed are the forward; the forward with the gradients of input, guide and
weight; and the forward with the gradient of the weight alone, as in the first layer on an image. The contenders are
``ao.pac_conv2d``; *taps*, a sum over the filter's taps of products with slices; *unfold*, patches of input and guide
side by side; and ``tf.nn.conv2d``, a plain convolution, which has no kernel to compute and no guide to make a gradient
for. The results of the first three are compared, at a small size, before they are timed.

All contenders run in turn in each round; the ratio is the median over rounds of arrayops' time over the contender's.
There are no limits here: the exit status says nothing about speed.

Run from a checkout with TensorFlow installed: ``PYTHONPATH=. python tests/benchmarks/pac_tensorflow.py``
"""

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

import arrayops as ao
import harness

BATCH, CHANNELS, GUIDES, WINDOW = 2, 32, 3, 5
CHECKED_SIZE = 9
TOLERANCE = 1e-5

CASES: dict[str, tuple[str, ...]] = {
    "forward": (),
    "forward and all gradients": ("input", "guide", "weight"),
    "forward and the gradient of the weight": ("weight",),
}

Function = Callable[[Any, Any, Any], Any]


def ours(input: Any, guide: Any, weight: Any) -> Any:
    return ao.pac_conv2d(input, guide, weight, padding="SAME", layout="NHWC")


def taps(input: Any, guide: Any, weight: Any) -> Any:
    """One product of matrices for each tap; no array is larger than the padded input."""
    _, height, width, channels = input.shape
    size, _, _, outputs = weight.shape
    before = (size - 1) // 2
    padding = (0, 0), (before, size - 1 - before), (before, size - 1 - before), (0, 0)
    # Outside the image the input is 0, so that what the guide is there has no effect.
    input_around, guide_around = tf.pad(input, padding), tf.pad(guide, padding)
    # The gradient of unstack is one stack, that of 25 slices a sum of as many arrays of the size of the weight.
    matrices = tf.unstack(tf.reshape(weight, (size * size, channels, outputs)))
    output = 0.0
    for tap, matrix in enumerate(matrices):
        top, left = divmod(tap, size)
        window = np.s_[:, top : top + height, left : left + width]
        difference = guide_around[window] - guide
        kernel = tf.exp(-0.5 * tf.reduce_sum(tf.square(difference), axis=-1, keepdims=True))
        # tensordot multiplies two matrices; matmul would take each row of the image as a matrix of its own.
        output += tf.tensordot(kernel * input_around[window], matrix, 1)
    return output


def unfold(input: Any, guide: Any, weight: Any) -> Any:
    """Patches of input and guide, a kernel, one product of matrices."""
    batch, height, width, channels = input.shape
    size, _, _, outputs = weight.shape

    def patches(array: Any) -> Any:
        found = tf.image.extract_patches(array, (1, size, size, 1), (1, 1, 1, 1), (1, 1, 1, 1), "SAME")
        return tf.reshape(found, (batch, height, width, size * size, array.shape[-1]))

    difference = patches(guide) - guide[:, :, :, None]
    kernel = tf.exp(-0.5 * tf.reduce_sum(tf.square(difference), axis=-1, keepdims=True))
    matrices = tf.reshape(weight, (size * size, channels, outputs))
    # Given the kernel as a third array, einsum takes twice as long or longer.
    return tf.einsum("nhwkc,kco->nhwo", kernel * patches(input), matrices)


def plain(input: Any, guide: Any, weight: Any) -> Any:
    return tf.nn.conv2d(input, weight, 1, "SAME")


PAC: dict[str, Function] = {"arrayops": ours, "taps": taps, "unfold": unfold}
CONTENDERS: dict[str, Function] = {**PAC, "tf.nn.conv2d": plain}


def compiled(function: Function, sources: Sequence[str]) -> Any:
    """A tf.function of input, guide, weight and output gradient: the output, and the gradients of the sources.

    The output is a result too: otherwise TensorFlow would not compute it where gradients do not need it.
    """

    def call(input: Any, guide: Any, weight: Any, gradient: Any) -> Any:
        arrays = {"input": input, "guide": guide, "weight": weight}
        watched = [arrays[name] for name in sources]
        with tf.GradientTape() as tape:
            tape.watch(watched)
            output = function(input, guide, weight)
        return output, tape.gradient(output, watched, gradient)

    return tf.function(call)


def random_arrays(size: int) -> tuple[Any, Any, Any, Any]:
    """Input, guide, weight and output gradient."""
    random = np.random.default_rng(0)
    image = (BATCH, size, size)
    return (
        random.standard_normal((*image, CHANNELS), np.float32),
        random.standard_normal((*image, GUIDES), np.float32) / 4,
        random.standard_normal((WINDOW, WINDOW, CHANNELS, CHANNELS), np.float32),
        random.standard_normal((*image, CHANNELS), np.float32),
    )


def agree(functions: Mapping[str, Any], sources: Sequence[str]) -> None:
    """Compare the results of all contenders that compute a PAC with those of arrayops on NumPy arrays."""
    input, guide, weight, gradient = arrays = random_arrays(CHECKED_SIZE)
    gradients = ao.pac_conv2d_backward(gradient, input, guide, weight, padding="SAME", layout="NHWC")
    expected = {"output": ours(input, guide, weight)} | {name: getattr(gradients, name) for name in sources}
    for contender in PAC:
        output, found = functions[contender](*map(tf.constant, arrays))
        for (name, want), got in zip(expected.items(), (output, *found), strict=True):
            error = np.linalg.norm(got - want) / np.linalg.norm(want)
            assert error <= TOLERANCE, f"{contender}, {name}: relative error {error:.1e}"


def table(functions: Mapping[str, Any], size: int, rounds: int) -> str:
    """Time all contenders; a Markdown table."""
    tensors = [tf.constant(array) for array in random_arrays(size)]
    times = harness.milliseconds({name: partial(call, *tensors) for name, call in functions.items()}, rounds)
    lines = ["| contender | best ms | median ms | arrayops / contender |", "|---|---|---|---|"]
    for name, values in times.items():
        ratio = statistics.median(own / other for own, other in zip(times["arrayops"], values, strict=True))
        lines.append(f"| {name} | {min(values):.1f} | {statistics.median(values):.1f} | {ratio:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Print a table for each case."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="rounds of timing (default 15)")
    parser.add_argument("--size", type=int, default=128, help="height and width of the images (default 128)")
    arguments = parser.parse_args()
    # Each contender is traced on its own, once for each size; TensorFlow warns as if one were traced again and again.
    tf.get_logger().setLevel("ERROR")
    tf.config.set_visible_devices([], "GPU")
    tf.config.threading.set_intra_op_parallelism_threads(harness.THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(harness.THREADS)
    ao.set_num_threads(harness.THREADS)
    about = ", ".join(f"{name} {value}" for name, value in harness.machine().items())
    print(f"{about}; {harness.THREADS} threads each, {arguments.size} x {arguments.size} pixels")
    for name, sources in CASES.items():
        functions = {contender: compiled(function, sources) for contender, function in CONTENDERS.items()}
        agree(functions, sources)
        print(f"\n{name}\n\n{table(functions, arguments.size, arguments.rounds)}", flush=True)


if __name__ == "__main__":
    main()
