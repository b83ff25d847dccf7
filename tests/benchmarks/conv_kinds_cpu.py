"""Convolutions of many kinds on the CPU beside torch: stems, strides, dilations, separable and transposed filters.

No limits: this shows where the library is far behind. Run from a checkout with torch installed:
``PYTHONPATH=. python tests/benchmarks/conv_kinds_cpu.py``
"""

import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

import arrayops as ao
import harness


class Kind(NamedTuple):
    """A convolution of square images; padding is half of the filter's extent unless given."""

    batch: int
    channels: int
    size: int
    outputs: int
    kernel_size: tuple[int, int]
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    padding: tuple[int, int] | None = None
    transposed: bool = False

    @property
    def around(self) -> tuple[int, int]:
        """Padding of rows and columns."""
        rows, columns = (self.dilation * (length - 1) // 2 for length in self.kernel_size)
        return self.padding or (rows, columns)


KINDS = {
    "stem 7x7, stride 2": Kind(1, 3, 224, 64, (7, 7), stride=2),
    "stem 3x3, stride 2": Kind(8, 3, 224, 32, (3, 3), stride=2),
    "3 to 32 channels": Kind(1, 3, 512, 32, (3, 3)),
    "9x9 of one channel": Kind(1, 1, 256, 64, (9, 9)),
    "64 channels, large": Kind(1, 64, 224, 64, (3, 3)),
    "256 channels, small": Kind(8, 256, 14, 256, (3, 3)),
    "5x5": Kind(8, 32, 64, 32, (5, 5)),
    "1x7": Kind(8, 192, 17, 192, (1, 7)),
    "7x1": Kind(8, 192, 17, 192, (7, 1)),
    "no padding": Kind(8, 64, 56, 64, (3, 3), padding=(0, 0)),
    "stride 2": Kind(8, 128, 56, 128, (3, 3), stride=2),
    "1x1, to a quarter": Kind(8, 256, 56, 64, (1, 1)),
    "1x1, stride 2": Kind(8, 256, 56, 512, (1, 1), stride=2),
    "1x1, 3 groups": Kind(8, 240, 28, 240, (1, 1), groups=3),
    "32 groups, stride 2": Kind(8, 256, 56, 256, (3, 3), stride=2, groups=32),
    "dilation 6": Kind(1, 256, 33, 256, (3, 3), dilation=6),
    "dilation 12": Kind(1, 256, 33, 256, (3, 3), dilation=12),
    "depthwise 3x3, stride 2": Kind(8, 144, 56, 144, (3, 3), stride=2, groups=144),
    "depthwise 5x5, stride 2": Kind(8, 240, 28, 240, (5, 5), stride=2, groups=240),
    "depthwise 7x7": Kind(4, 96, 56, 96, (7, 7), groups=96),
    "depthwise 11x11, RGB": Kind(1, 3, 512, 3, (11, 11), groups=3),
    "transposed 2x2, stride 2": Kind(4, 256, 28, 128, (2, 2), stride=2, padding=(0, 0), transposed=True),
    "transposed 4x4, stride 2": Kind(8, 128, 32, 64, (4, 4), stride=2, transposed=True),
    "transposed, 4 groups": Kind(4, 64, 56, 64, (3, 3), stride=2, groups=4, transposed=True),
    "small arrays": Kind(1, 8, 16, 8, (3, 3)),
}


def cases() -> Iterator[harness.Case]:
    """Forward, and backward alone, in both layouts for every kind."""
    torch.set_num_threads(harness.THREADS)
    ao.set_num_threads(harness.THREADS)
    for name, kind in KINDS.items():
        for layout in ("NCHW", "NHWC"):
            for direction in ("forward", "backward"):
                yield case(name, kind, layout, direction)


def case(name: str, kind: Kind, layout: str, direction: str) -> harness.Case:
    """One kind; torch gets channels_last tensors for NHWC."""
    random = np.random.default_rng(0)
    inner = kind.outputs // kind.groups if kind.transposed else kind.channels // kind.groups
    outer = kind.channels if kind.transposed else kind.outputs
    input = random.standard_normal((kind.batch, kind.channels, kind.size, kind.size), np.float32)
    weight = random.standard_normal((outer, inner, *kind.kernel_size), np.float32)
    order = torch.contiguous_format if layout == "NCHW" else torch.channels_last
    tensors = [torch.from_numpy(array).to(memory_format=order) for array in (input, weight)]
    options: dict[str, Any] = {"stride": kind.stride, "dilation": kind.dilation, "groups": kind.groups}
    forward = functional.conv_transpose2d if kind.transposed else functional.conv2d
    output = forward(*tensors, padding=kind.around, **options)
    upstream = torch.randn(output.shape).to(memory_format=order)

    def placed(array: Any, axes: tuple[int, ...]) -> Any:
        return np.ascontiguousarray(array.transpose(axes)) if layout == "NHWC" else array

    images, filters = (0, 2, 3, 1), (2, 3, 1, 0)
    arrays = placed(input, images), placed(weight, filters)
    grad = placed(upstream.numpy(), images)
    both = ao.conv_transpose2d, ao.conv_transpose2d_backward
    apply, differentiate = both if kind.transposed else (ao.conv2d, ao.conv2d_backward)

    def ours() -> Any:
        if direction == "forward":
            return (apply(*arrays, padding=kind.around, layout=layout, **options),)
        return differentiate(grad, *arrays, padding=kind.around, layout=layout, **options)[:2]

    def theirs() -> Any:
        if direction == "forward":
            return (forward(*tensors, padding=kind.around, **options),)
        return torch.ops.aten.convolution_backward(
            upstream,
            *tensors,
            None,
            [kind.stride] * 2,
            list(kind.around),
            [kind.dilation] * 2,
            kind.transposed,
            [0, 0],
            kind.groups,
            (True, True, False),
        )[:2]

    def agree() -> None:
        axes = (images,) if direction == "forward" else (images, filters)
        for got, expected, place in zip(ours(), theirs(), axes, strict=True):
            want = placed(expected.numpy(), place)
            # Over 512 x 512 pixels torch's gradients of weights are 6e-6 from those in float64, ours 4e-7.
            assert np.linalg.norm(got - want) <= 1.5e-5 * np.linalg.norm(want)

    times = 1 if direction == "forward" else 2
    windows = input.size // kind.channels if kind.transposed else output.numel() // kind.outputs
    return harness.Case(
        f"{direction} {layout}, {name}",
        {"arrayops": ours, "torch": theirs},
        agree,
        times * 2.0 * windows * weight.size,
        times * float(input.nbytes + grad.nbytes + weight.nbytes),
    )


if __name__ == "__main__":
    sys.exit(harness.main("Convolutions of many kinds, float32, CPU", cases))
