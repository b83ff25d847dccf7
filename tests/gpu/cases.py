"""Calls of every family of kernels, forward and backward, in float32 and float16 and both layouts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray


class Call(NamedTuple):
    """A call of one public function on NumPy arrays."""

    name: str
    operator: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]
    dtype: str

    def on(self, target: Any) -> Any:
        """Call the function of that name of ``target``: `arrayops`, or a `cuda_device.Device`."""
        return getattr(target, self.operator)(*self.arguments, **self.keywords)

    def widened(self) -> Call:
        """The same call with float16 arrays converted to float32, as for the reference."""
        return self._replace(
            arguments=_widened(self.arguments), keywords={k: _widened(v) for k, v in self.keywords.items()}
        )


def _widened(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_widened(each) for each in value)
    return value.astype(np.float32) if isinstance(value, np.ndarray) and value.dtype == np.float16 else value


def _nhwc(array: Array) -> Array:
    """NCHW to NHWC."""
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def calls(size: int, channels: int) -> Iterator[Call]:
    """Batches of two images of ``size`` x ``size`` pixels."""
    rng = np.random.default_rng(7)
    for dtype in ("float32", "float16"):
        for family in (_pac, _conv, _segment, _merge):
            for name, operator, arguments, keywords in family(rng, size, channels, dtype):
                yield Call(f"{name} {dtype}", operator, arguments, keywords, dtype)


Rows = Iterator[tuple[str, str, tuple[Any, ...], dict[str, Any]]]


def _normal(rng: np.random.Generator, dtype: str, *shape: int, scale: float = 1.0) -> Array:
    return (rng.standard_normal(shape) * scale).astype(dtype)


def _pac(rng: np.random.Generator, s: int, c: int, dtype: str) -> Rows:
    n, g = 2, 3
    x, dy, bias = _normal(rng, dtype, n, c, s, s), _normal(rng, dtype, n, c, s, s), _normal(rng, dtype, c)
    guide = _normal(rng, dtype, n, g, s, s, scale=0.5)
    weight, weight_5x5 = _normal(rng, dtype, c, c, 3, 3, scale=0.2), _normal(rng, dtype, c, c, 5, 5, scale=0.1)
    upsampled = _normal(rng, dtype, n, g, 2 * s + 1, 2 * s + 1, scale=0.5)
    mask = rng.random((n, 1, s, s)) < 0.7
    hwio = np.ascontiguousarray(weight.transpose(2, 3, 1, 0))
    padded = {"padding": 1}
    nhwc = {**padded, "layout": "NHWC"}
    masked = {**padded, "mask": mask, "normalize_kernel": True}
    yield "pac_conv2d", "pac_conv2d", (x, guide, weight, bias), padded
    yield "pac_conv2d 5x5", "pac_conv2d", (x, guide, weight_5x5), {"padding": 2}
    yield "pac_conv2d NHWC", "pac_conv2d", (_nhwc(x), _nhwc(guide), hwio), nhwc
    yield "pac_conv2d mask", "pac_conv2d", (x, guide, weight), masked
    yield "pac_conv2d_backward", "pac_conv2d_backward", (dy, x, guide, weight, bias), padded
    yield "pac_conv2d_backward NHWC", "pac_conv2d_backward", (_nhwc(dy), _nhwc(x), _nhwc(guide), hwio), nhwc
    yield "pac_conv_transpose2d", "pac_conv_transpose2d", (x, upsampled, weight), {"stride": 2}
    yield "pac_kernel2d", "pac_kernel2d", (guide, 3), {**padded, "normalize": True}
    yield "pac_pool2d", "pac_pool2d", (x, guide, 3), padded
    yield "pac_pool2d_backward", "pac_pool2d_backward", (dy, x, guide, 3), padded


def _conv(rng: np.random.Generator, s: int, c: int, dtype: str) -> Rows:
    n = 2
    x, dy, bias = _normal(rng, dtype, n, c, s, s), _normal(rng, dtype, n, c, s, s), _normal(rng, dtype, c)
    weight = _normal(rng, dtype, c, c, 3, 3, scale=0.2)
    hwio = np.ascontiguousarray(weight.transpose(2, 3, 1, 0))
    weight_groups_of_4, weight_depthwise = (np.ascontiguousarray(hwio[:, :, :count]) for count in (4, 1))
    padded = {"padding": 1}
    nhwc = {**padded, "layout": "NHWC"}
    groups_of_4, depthwise = {**nhwc, "groups": c // 4}, {**nhwc, "groups": c}
    yield "conv2d", "conv2d", (x, weight, bias), padded
    yield "conv2d NHWC", "conv2d", (_nhwc(x), hwio), nhwc
    yield "conv2d groups of 4 NHWC", "conv2d", (_nhwc(x), weight_groups_of_4), groups_of_4
    yield "conv2d depthwise NHWC", "conv2d", (_nhwc(x), weight_depthwise), depthwise
    yield "conv2d_backward", "conv2d_backward", (dy, x, weight, bias), padded
    yield "conv2d_backward groups of 4 NHWC", "conv2d_backward", (_nhwc(dy), _nhwc(x), weight_groups_of_4), groups_of_4
    weight_depthwise = np.ascontiguousarray(weight[:, :1])
    depthwise = {**padded, "groups": c}
    yield "conv2d_backward depthwise", "conv2d_backward", (dy, x, weight_depthwise), depthwise
    yield "conv_transpose2d", "conv_transpose2d", (x, weight), {"stride": 2, "padding": 1}


def _labels(rng: np.random.Generator, s: int) -> tuple[Array, int]:
    """Square cells of 7 x 7 pixels on the first image, the same labels in random order on the second."""
    steps = np.arange(s) // 7
    cells = steps[:, None] * (int(steps[-1]) + 1) + steps
    labels = np.stack([cells, rng.permutation(cells.ravel()).reshape(s, s)]).astype(np.int32)
    return labels, int(labels.max()) + 2


def _segment(rng: np.random.Generator, s: int, c: int, dtype: str) -> Rows:
    n = 2
    labels, segments = _labels(rng, s)
    for layout in ("NCHW", "NHWC"):
        last = layout == "NHWC"
        features = _normal(rng, dtype, *((n, s, s, c) if last else (n, c, s, s)))
        pooled = _normal(rng, dtype, *((n, segments, c) if last else (n, c, segments)))
        keywords = {"layout": layout}
        for name in ("mean", "max", "var"):
            arguments = (features, labels, segments)
            yield f"segment_{name} {layout}", f"segment_{name}", arguments, keywords
            if name != "var":
                yield f"segment_{name}_backward {layout}", f"segment_{name}_backward", (pooled, *arguments), keywords
        yield f"segment_unpool {layout}", "segment_unpool", (pooled, labels), keywords
    yield "segment_count", "segment_count", (labels, segments), {}


def _merge(rng: np.random.Generator, s: int, c: int, dtype: str) -> Rows:
    n = 2
    for layout in ("NCHW", "NHWC"):
        sizes = (s, -(-s // 2), -(-s // 4))
        maps = tuple(_normal(rng, dtype, n, c, size, size) for size in sizes)
        grad = _normal(rng, dtype, n, 3 * c, s, s)
        if layout == "NHWC":
            maps, grad = tuple(map(_nhwc, maps)), _nhwc(grad)
        for how in ("concat", "add", "max"):
            yield f"merge {how} {layout}", "merge_feature_maps", (maps,), {"how": how, "layout": layout}
        yield f"merge_backward concat {layout}", "merge_feature_maps_backward", (grad, maps), {"layout": layout}
        bicubic = {"mode": "bicubic", "antialias": True, "layout": layout}
        yield f"resize2d bicubic {layout}", "resize2d", (maps[0], (s // 2, s + 3)), bicubic
