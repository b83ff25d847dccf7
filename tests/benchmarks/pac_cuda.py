"""Pixel-adaptive convolution on a GPU beside torch: a plain cuDNN convolution, and unfold and einsum.

64 channels, 8 guide channels, 512 x 512; float32 in NCHW (TF32 off on all sides), halves in NHWC, against
torch's channels_last. cuDNN's convolution computes no adaptive kernel, and its backward no gradient for a guide. From a
checkout, on a machine with a GPU, torch and CuPy::

    PYTHONPATH=. python tests/benchmarks/pac_cuda.py
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.nn import functional

import arrayops as ao
from gpu_harness import Comparison, Layout, Place, Row, dtype_name, main
from pac_rivals import unfold_pac

CHANNELS, GUIDES, SIZE = 64, 8, 512
SMALL = (8, 3, 12)


def plain_backward(grad: torch.Tensor, input: torch.Tensor, weight: torch.Tensor, groups: int = 1) -> Any:
    """Torch's gradients of input and weight of a convolution that keeps the size, without its forward."""
    pad = [weight.shape[2] // 2] * 2
    return torch.ops.aten.convolution_backward(
        grad, input, weight, None, [1, 1], pad, [1, 1], False, [0, 0], groups, [True, True, False]
    )[:2]


def make(place: Place, dtype: torch.dtype, k: int, direction: str, layout: Layout) -> Comparison:
    """Forward or backward at one filter size; ``found`` is compared with unfold and einsum in float32."""
    channels, guides, size = (CHANNELS, GUIDES, SIZE) if place.cuda else SMALL
    last = layout.last
    moved = dtype.itemsize * size**2 * (2 * channels + guides) * (2 if direction == "backward" else 1)
    sets, pad = place.sets(moved), k // 2
    x = [place.normal(1, channels, size, size, dtype=dtype, last=last) for _ in range(sets)]
    g = [place.normal(1, guides, size, size, dtype=dtype, last=last, scale=0.25) for _ in range(sets)]
    w = place.normal(channels, channels, k, k, dtype=dtype, last=last, scale=0.1)
    dy = place.normal(1, channels, size, size, dtype=dtype, last=last)
    operations = 2.0 * size**2 * channels**2 * k * k
    given = {"padding": pad, **layout.keywords}
    mine = [(layout.image(x[i]), layout.image(g[i]), layout.weight(w)) for i in range(sets)]
    my_dy = layout.image(dy)
    if direction == "forward":
        return Comparison(
            {
                "arrayops": lambda i: ao.pac_conv2d(*mine[i], **given),
                "cudnn": lambda i: functional.conv2d(x[i], w, padding=pad),
                "unfold": lambda i: unfold_pac(x[i], g[i], w),
            },
            sets,
            lambda: [layout.image_of(ao.pac_conv2d(*mine[0], **given))],
            lambda: [unfold_pac(x[0].float(), g[0].float(), w.float())],
            operations,
            moved,
        )

    def unfolded(i: int, cast: Callable[[torch.Tensor], torch.Tensor] = torch.Tensor.detach) -> tuple[Any, ...]:
        leaves = [cast(tensor).detach().requires_grad_() for tensor in (x[i], g[i], w)]
        return tuple(torch.autograd.grad(unfold_pac(*leaves), leaves, cast(dy)))

    def found() -> list[Any]:
        result = ao.pac_conv2d_backward(my_dy, *mine[0], **given)
        images = layout.image_of(result.input), layout.image_of(result.guide)
        return [*images, layout.weight_of(result.weight)]

    return Comparison(
        {
            "arrayops": lambda i: ao.pac_conv2d_backward(my_dy, *mine[i], **given),
            "cudnn": lambda i: plain_backward(dy, x[i], w),
            "unfold forward + backward": unfolded,
        },
        sets,
        found,
        lambda: unfolded(0, torch.Tensor.float),
        2 * operations,
        moved,
    )


def pooling(place: Place) -> Comparison:
    """A joint bilateral filter of an image's three channels by the image."""
    size, k = SIZE * 4 if place.cuda else 12, 5
    moved = 4.0 * size**2 * 9
    sets = place.sets(moved)
    x = [place.normal(1, 3, size, size) for _ in range(sets)]
    g = [place.normal(1, 3, size, size, scale=0.25) for _ in range(sets)]

    def unfolded(i: int) -> torch.Tensor:
        windows = [functional.unfold(each, k, padding=2).view(1, 3, k * k, size, size) for each in (x[i], g[i])]
        kernel = torch.exp(-0.5 * (windows[1] - g[i][:, :, None]).square().sum(1, keepdim=True))
        return (windows[0] * kernel).sum(2)

    return Comparison(
        {"arrayops": lambda i: ao.pac_pool2d(x[i], g[i], k, padding=2), "unfold": unfolded},
        sets,
        lambda: [ao.pac_pool2d(x[0], g[0], k, padding=2)],
        lambda: [unfolded(0)],
        size**2 * k * k * (9.0 + 6),
        moved,
    )


def rows() -> Iterator[Row]:
    """In order of weight: 5 x 5 before 3 x 3, forward before backward."""
    for rank, (direction, k) in enumerate((("forward", 5), ("backward", 5), ("forward", 3), ("backward", 3))):
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            layout = Layout("NCHW" if dtype == torch.float32 else "NHWC")
            name = f"pac {k}x{k} {direction} {layout.name} {dtype_name(dtype)}"
            yield Row(name, 10 * rank, dtype, partial(make, dtype=dtype, k=k, direction=direction, layout=layout))
    channels_last = partial(make, dtype=torch.float16, k=5, direction="forward", layout=Layout("channels_last"))
    yield Row("pac 5x5 forward channels_last float16", 45, torch.float16, channels_last)
    yield Row("pac pool 5x5 3 channels 2048x2048 NCHW float32", 45, torch.float32, pooling)


if __name__ == "__main__":
    sys.exit(main("Pixel-adaptive convolution on a GPU", rows))
