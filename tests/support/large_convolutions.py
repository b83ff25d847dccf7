"""Convolutions large enough for several blocks, tiles and vectors, beside torch in float64."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import arrayops as ao
from strategies import in_memory, to_layout

NAMES = ("output", "input", "weight", "bias")


class Shape(NamedTuple):
    """A convolution: channels are those of one group."""

    batch: int
    groups: int
    inputs: int
    outputs: int
    size: tuple[int, int]
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    transposed: bool = False

    def output_size(self) -> tuple[int, ...]:
        """Height and width of the output."""
        rules = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        if self.transposed:
            return tuple((n - 1) * s + (k - 1) * d + 1 - 2 * p for n, k, s, p, d in rules)
        return tuple((n + 2 * p - (k - 1) * d - 1) // s + 1 for n, k, s, p, d in rules)

    def channels(self) -> tuple[int, int]:
        """The axes of the weight that count channels, NCHW."""
        if self.transposed:
            return self.groups * self.inputs, self.outputs
        return self.groups * self.outputs, self.inputs

    def arrays(self, dtype: Any = np.float32, seed: int = 0) -> dict[str, np.ndarray]:
        """Input, weight, bias and gradient of the output, NCHW, of mean 1/4: sums neither cancel nor grow alike."""
        random = np.random.default_rng(seed)
        shapes = {
            "input": (self.batch, self.groups * self.inputs, *self.size),
            "weight": (*self.channels(), *self.kernel),
            "bias": (self.groups * self.outputs,),
            "grad": (self.batch, self.groups * self.outputs, *self.output_size()),
        }
        return {name: (random.standard_normal(shape) + 0.25).astype(dtype) for name, shape in shapes.items()}

    def options(self, layout: str) -> dict[str, Any]:
        """Keyword arguments."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
            "layout": layout,
        }


def results(
    shape: Shape, arrays: dict[str, np.ndarray], layout: str, memory: str = "contiguous"
) -> dict[str, np.ndarray]:
    """Output and gradients by arrayops, NCHW, from arrays in a layout and in an order of memory."""
    name = "conv_transpose2d" if shape.transposed else "conv2d"
    given = {key: in_memory(to_layout(key, array, layout), memory) for key, array in arrays.items()}
    call = given["input"], given["weight"], given["bias"]
    output = getattr(ao, name)(*call, **shape.options(layout))
    gradients = getattr(ao, f"{name}_backward")(given["grad"], *call, **shape.options(layout))
    found = dict(zip(NAMES, (output, *gradients), strict=True))
    if layout == "NHWC":
        for key, order in (("output", (0, 3, 1, 2)), ("input", (0, 3, 1, 2)), ("weight", (3, 2, 0, 1))):
            found[key] = found[key].transpose(order)
    return found


def expected(shape: Shape, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same by torch in float64."""
    import torch
    from torch.nn import functional

    input, weight, bias, grad = (
        torch.from_numpy(arrays[key].astype(np.float64)) for key in ("input", "weight", "bias", "grad")
    )
    variables = [tensor.requires_grad_() for tensor in (input, weight, bias)]
    function = functional.conv_transpose2d if shape.transposed else functional.conv2d
    options = shape.options("NCHW")
    del options["layout"]
    output = function(*variables, **options)
    gradients = torch.autograd.grad(output, variables, grad)
    return dict(zip(NAMES, (tensor.detach().numpy() for tensor in (output, *gradients)), strict=True))


# Every kernel and algorithm in at least two of them; widths that vectors do not divide.
SHAPES = {
    "dense": Shape(2, 1, 20, 24, (19, 37)),
    "dense, many channels": Shape(1, 1, 130, 70, (9, 11)),
    "to 3 channels": Shape(2, 1, 17, 3, (23, 18)),
    "3 channels": Shape(2, 1, 3, 33, (30, 31), (7, 7), (2, 2), (3, 3)),
    "1x1": Shape(2, 1, 40, 50, (21, 33), (1, 1), padding=(0, 0)),
    "1x1, strided": Shape(2, 1, 40, 33, (21, 33), (1, 1), (2, 3), (0, 0)),
    "groups of 4": Shape(2, 8, 4, 4, (29, 35)),
    "groups of 8": Shape(2, 5, 8, 8, (17, 14)),
    "groups of 16, stride 2": Shape(2, 3, 16, 16, (14, 15), stride=(2, 2)),
    "groups of 32": Shape(3, 2, 32, 32, (7, 7)),
    "groups of 5 to 3": Shape(2, 4, 5, 3, (13, 26), (2, 4)),
    "depthwise": Shape(2, 37, 1, 1, (18, 29)),
    "depthwise 7x7": Shape(2, 32, 1, 1, (14, 14), (7, 7), padding=(3, 3)),
    "depthwise, multiplier 2": Shape(2, 20, 1, 2, (15, 22)),
    "depthwise, strided, dilated": Shape(2, 16, 1, 1, (31, 40), (3, 5), (2, 1), (3, 2), (2, 3)),
    "depthwise, RGB": Shape(1, 3, 1, 1, (40, 53), (11, 11), padding=(5, 5)),
    "dilated far": Shape(1, 1, 9, 10, (50, 61), (3, 3), padding=(20, 25), dilation=(20, 25)),
    "no padding": Shape(2, 1, 18, 19, (16, 20), padding=(0, 0)),
    "padded beyond the filter": Shape(1, 2, 6, 20, (10, 12), (2, 3), padding=(4, 5)),
    "wide image": Shape(1, 1, 4, 5, (3, 1300)),
    "transposed": Shape(2, 1, 19, 17, (11, 13), (4, 4), (2, 2), transposed=True),
    "transposed, groups of 4": Shape(2, 6, 4, 4, (12, 17), (3, 3), (3, 2), transposed=True),
    "transposed, depthwise": Shape(2, 32, 1, 1, (9, 10), (4, 4), (2, 2), transposed=True),
    "transposed, stride beyond the filter": Shape(1, 1, 6, 20, (5, 7), (2, 3), (5, 4), (0, 0), transposed=True),
}
