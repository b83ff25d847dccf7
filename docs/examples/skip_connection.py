"""A small U-Net that denoises a photo, trained with the `_backward` functions only.

It has three levels. The encoder uses convolutions and downsampling by area averaging. The decoder uses pixel-adaptive
upsampling guided by the noisy photo and, at each level, merges the result with the feature map of the encoder. Sizes
need not be divisible by two: a photo of 75 x 75 has feature maps of 37 and 18 at the lower levels, which are upsampled
to 36 and 74; the merge resizes them to 37 and 75.

Run: ``python docs/examples/skip_connection.py --figure skip_connection.png``
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

import arrayops as ao

Array = np.ndarray[Any, Any]
WIDTHS = 16, 24, 32
NOISE = 0.12
GUIDE = 4.0
"""Scale of the guide: a colour difference of 1/4 becomes a guide distance of 1."""


class Adam:
    """The Adam optimiser (Kingma and Ba, 2015)."""

    def __init__(self, weights: dict[str, Array], rate: float) -> None:
        self.weights, self.rate, self.steps = weights, rate, 0
        self.mean = {name: np.zeros_like(value) for name, value in weights.items()}
        self.square = {name: np.zeros_like(value) for name, value in weights.items()}

    def step(self, gradients: dict[str, Array]) -> None:
        self.steps += 1
        for name, gradient in gradients.items():
            self.mean[name] += 0.1 * (gradient - self.mean[name])
            self.square[name] += 0.001 * (gradient**2 - self.square[name])
            mean = self.mean[name] / (1 - 0.9**self.steps)
            square = self.square[name] / (1 - 0.999**self.steps)
            self.weights[name] -= self.rate * mean / (np.sqrt(square) + 1e-8)


def initial_weights(seed: int = 0) -> dict[str, Array]:
    """Filters (O, C, kh, kw), or (C, O, kh, kw) for transposed convolutions, and biases."""
    random = np.random.default_rng(seed)
    first, second, third = WIDTHS
    shapes = {
        "down1": (first, 3, 3, 3),
        "down2": (second, first, 3, 3),
        "down3": (third, second, 3, 3),
        "up2": (third, second, 4, 4),
        "merge2": (second, 2 * second, 3, 3),
        "up1": (second, first, 4, 4),
        "merge1": (first, 2 * first, 3, 3),
        "last": (3, first, 3, 3),
    }
    weights = {}
    for name, shape in shapes.items():
        transposed = name.startswith("up")
        # Each output of a 4 x 4 transposed convolution with stride 2 depends on four taps.
        terms = shape[0] * 4 if transposed else int(np.prod(shape[1:]))
        scale = 0.1 if name == "last" else 1.0
        weights[name] = random.standard_normal(shape, np.float32) * np.float32(scale * (2 / terms) ** 0.5)
        weights[f"{name} bias"] = np.zeros(shape[1 if transposed else 0], np.float32)
    return weights


class Network:
    """Forward and backward pass; the forward pass saves the arrays that the backward pass needs."""

    def __init__(self, weights: dict[str, Array]) -> None:
        self.weights = weights
        self.gradients: dict[str, Array] = {}
        self.saved: dict[str, Array] = {}

    def convolve(self, name: str, x: Array, relu: bool = True) -> Array:
        y = ao.conv2d(x, self.weights[name], self.weights[f"{name} bias"], padding=1)
        self.saved[name] = x
        if relu:
            y = self.saved[f"{name} output"] = np.maximum(y, 0)
        return y

    def convolve_back(self, name: str, grad: Array) -> Array:
        if f"{name} output" in self.saved:
            grad = grad * (self.saved[f"{name} output"] > 0)
        arrays = self.saved[name], self.weights[name], self.weights[f"{name} bias"]
        gradients = ao.conv2d_backward(grad, *arrays, padding=1)
        self.gradients[name], self.gradients[f"{name} bias"] = gradients.weight, gradients.bias
        return gradients.input

    def upsample(self, name: str, x: Array, photo: Array) -> Array:
        """Upsample by 2, guided by the photo resized to the output size."""
        size = 2 * x.shape[2], 2 * x.shape[3]
        guide = self.saved[f"{name} guide"] = GUIDE * ao.resize2d(photo, size, antialias=True)
        self.saved[name] = x
        weight, bias = self.weights[name], self.weights[f"{name} bias"]
        return ao.pac_conv_transpose2d(x, guide, weight, bias, stride=2, padding=1)

    def upsample_back(self, name: str, grad: Array) -> Array:
        arrays = (self.saved[name], self.saved[f"{name} guide"], self.weights[name], self.weights[f"{name} bias"])
        needs = "input", "weight", "bias"
        gradients = ao.pac_conv_transpose2d_backward(grad, *arrays, stride=2, padding=1, needs=needs)
        self.gradients[name], self.gradients[f"{name} bias"] = gradients.weight, gradients.bias
        return gradients.input

    def pool(self, x: Array) -> Array:
        return ao.resize2d(x, scale=0.5, mode="area")

    def pool_back(self, grad: Array, x: Array) -> Array:
        return ao.resize2d_backward(grad, x, scale=0.5, mode="area").input

    def forward(self, photo: Array) -> Array:
        """Denoise a photo."""
        saved = self.saved
        early = saved["early"] = self.convolve("down1", photo)
        middle = saved["middle"] = self.convolve("down2", self.pool(early))
        late = saved["late"] = self.convolve("down3", self.pool(middle))
        up2 = saved["up2 output"] = self.upsample("up2", late, photo)
        merged2 = self.convolve("merge2", ao.merge_feature_maps([middle, up2]))
        up1 = saved["up1 output"] = self.upsample("up1", merged2, photo)
        merged1 = self.convolve("merge1", ao.merge_feature_maps([early, up1]))
        return photo + self.convolve("last", merged1, relu=False)

    def backward(self, grad: Array) -> dict[str, Array]:
        """Gradients of all weights, from the gradient of the output."""
        saved = self.saved
        grad = self.convolve_back("merge1", self.convolve_back("last", grad))
        grad_early, grad = ao.merge_feature_maps_backward(grad, [saved["early"], saved["up1 output"]]).maps
        grad = self.convolve_back("merge2", self.upsample_back("up1", grad))
        grad_middle, grad = ao.merge_feature_maps_backward(grad, [saved["middle"], saved["up2 output"]]).maps
        grad = self.convolve_back("down3", self.upsample_back("up2", grad))
        grad = self.convolve_back("down2", self.pool_back(grad, saved["middle"]) + grad_middle)
        self.convolve_back("down1", self.pool_back(grad, saved["early"]) + grad_early)
        return self.gradients


def crops(photo: Array, size: int, count: int, random: np.random.Generator) -> Array:
    """Random square crops of a photo (H, W, 3) as (N, 3, size, size)."""
    corners = [random.integers(0, extent - size + 1, count) for extent in photo.shape[:2]]
    patches = [photo[y : y + size, x : x + size] for y, x in zip(*corners, strict=True)]
    return np.ascontiguousarray(np.stack(patches).transpose(0, 3, 1, 2))


def noisy(clean: Array, random: np.random.Generator) -> Array:
    return clean + NOISE * random.standard_normal(clean.shape, np.float32)


def psnr(image: Array, clean: Array) -> float:
    """Peak signal-to-noise ratio in dB, for a peak value of 1."""
    return float(-10 * np.log10(np.mean((image - clean) ** 2)))


def train(network: Network, photo: Array, size: int, batch: int, steps: int, console: Console) -> list[float]:
    """Train the network; return the loss of each step."""
    random = np.random.default_rng(1)
    optimiser = Adam(network.weights, 3e-3)
    losses = []
    for _ in track(range(steps), "training", console=console):
        clean = crops(photo, size, batch, random)
        error = network.forward(noisy(clean, random)) - clean
        losses.append(float(np.mean(error**2)))
        optimiser.step(network.backward(error * np.float32(2 / error.size)))
    return losses


def check_gradient(network: Network, photo: Array) -> float:
    """Relative difference between directional derivatives from `backward` and from finite differences, in float64."""
    random = np.random.default_rng(2)
    network64 = Network({name: value.astype(np.float64) for name, value in network.weights.items()})
    image, grad = photo.astype(np.float64), random.standard_normal(photo.shape)
    network64.forward(image)
    gradients = network64.backward(grad)
    direction = {name: random.standard_normal(value.shape) for name, value in network64.weights.items()}
    derivative = sum(float((gradients[name] * direction[name]).sum()) for name in gradients)
    values = []
    for step in (1e-6, -1e-6):
        shifted = Network({name: value + step * direction[name] for name, value in network64.weights.items()})
        values.append(float((shifted.forward(image) * grad).sum()))
    return abs((values[0] - values[1]) / 2e-6 - derivative) / abs(derivative)


def merge_modes(early: Array, late: Array) -> dict[str, Array]:
    """Two feature maps (1, 1, H, W) merged in every mode; the channels of "concat" are placed side by side."""
    pixels = early[0, 0].size + late[0, 0].size
    side = int(np.ceil(pixels**0.5))
    modes = {how: ao.merge_feature_maps([early, late], how=how)[0] for how in ("concat", "add", "mean", "max")}
    modes["flat"] = ao.merge_feature_maps([early, late], how="flat", size=(side, side))[0]
    return {how: np.concatenate(list(channels), axis=1) for how, channels in modes.items()}


def draw(path: Path, images: dict[str, Array], losses: list[float], modes: dict[str, Array]) -> None:
    """Plot photos and the loss in the first row, the merge modes in the second."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(14, 6.4), constrained_layout=True)
    top, bottom = figure.subfigures(2, 1)
    axes = top.subplots(1, len(images) + 1)
    for axis, (title, image) in zip(axes[:-1], images.items(), strict=True):
        axis.imshow(np.clip(image[0].transpose(1, 2, 0), 0, 1))
        axis.set_title(title)
        axis.set_axis_off()
    axes[-1].semilogy(losses)
    axes[-1].set_title("training loss (mean squared error)")
    widths = [image.shape[1] / image.shape[0] for image in modes.values()]
    for axis, (how, image) in zip(bottom.subplots(1, len(modes), width_ratios=widths), modes.items(), strict=True):
        axis.imshow(image, cmap="magma")
        axis.set_title(how)
        axis.set_axis_off()
    bottom.suptitle("feature maps of full and of quarter resolution, merged in every mode")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def normalised_mean(x: Array) -> Array:
    """The mean of the channels of the first image, scaled to 0 to 1."""
    mean = x[:1].mean(axis=1, keepdims=True)
    return (mean - mean.min()) / max(float(np.ptp(mean)), 1e-12)


def main() -> None:
    parser = argparse.ArgumentParser(description="A small U-Net with merged skip connections.")
    parser.add_argument("--size", type=int, default=75, help="height and width of training crops (default 75)")
    parser.add_argument("--batch", type=int, default=4, help="batch size (default 4)")
    parser.add_argument("--steps", type=int, default=150, help="training steps (default 150)")
    parser.add_argument("--figure", type=Path, default=Path("skip_connection.png"), help="path of the figure")
    arguments = parser.parse_args()

    from skimage import data

    photo = data.astronaut().astype(np.float32) / 255
    # The face is the test image; training uses the part of the photo below it.
    clean = np.ascontiguousarray(photo[None, 20:181, 150:301].transpose(0, 3, 1, 2))
    noisy_photo = noisy(clean, np.random.default_rng(3))
    console = Console(width=100)

    network = Network(initial_weights())
    difference = check_gradient(network, noisy_photo[:, :, :37, :41])
    console.print(f"gradient of all weights, relative difference from finite differences: {difference:.1e}")
    untrained = psnr(network.forward(noisy_photo), clean)
    losses = train(network, photo[200:], arguments.size, arguments.batch, arguments.steps, console)
    restored = network.forward(noisy_photo)
    maps = normalised_mean(network.saved["early"]), normalised_mean(network.saved["late"])
    console.print(f"noisy photo: {psnr(noisy_photo, clean):.2f} dB")
    console.print(f"network, untrained: {untrained:.2f} dB")
    console.print(f"network, trained: {psnr(restored, clean):.2f} dB")
    images = {"photo": clean, "with noise": noisy_photo, "restored": restored}
    draw(arguments.figure, images, losses, merge_modes(*maps))
    console.print(f"figure: {arguments.figure}")


if __name__ == "__main__":
    main()
