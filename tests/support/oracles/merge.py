"""resize2d and merge_feature_maps as loops in float64, after DESIGN section 3 and the frameworks' documents."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

Weights = list[dict[int, float]]  # for each output, input -> weight


def position(i: int, inputs: int, outputs: int, coordinates: str) -> Fraction:
    """Where output i lies among the samples 0, 1, ..., inputs - 1."""
    if coordinates == "half_pixel":
        return Fraction(2 * i + 1, 2) * Fraction(inputs, outputs) - Fraction(1, 2)
    if coordinates == "asymmetric":
        return i * Fraction(inputs, outputs)
    return i * Fraction(inputs - 1, outputs - 1) if outputs > 1 else Fraction(0)


def cubic(x: float, a: float) -> float:
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    if x < 2:
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return 0.0


def tent(x: float, a: float) -> float:
    return max(0.0, 1 - abs(x))


def axis_weights(inputs: int, outputs: int, mode: str, coordinates: str, antialias: bool) -> Weights:
    return [
        {k: w for k, w in one(i, inputs, outputs, mode, coordinates, antialias).items() if w != 0}
        for i in range(outputs)
    ]


def one(i: int, inputs: int, outputs: int, mode: str, coordinates: str, antialias: bool) -> dict[int, float]:
    place = position(i, inputs, outputs, coordinates)
    if mode == "area":
        covered = range(i * inputs // outputs, math.ceil(Fraction((i + 1) * inputs, outputs)))
        return dict.fromkeys(covered, 1 / len(covered))
    if mode == "nearest":
        return {min(math.floor(place if coordinates == "asymmetric" else place + Fraction(1, 2)), inputs - 1): 1.0}
    kernel, reach = (tent, 1) if mode == "bilinear" else (cubic, 2)
    if not antialias:
        found: dict[int, float] = {}
        for tap in range(math.floor(place) - reach, math.floor(place) + reach + 2):
            at = min(max(tap, 0), inputs - 1)  # the border goes on
            found[at] = found.get(at, 0.0) + kernel(float(tap - place), -0.75)
        return found
    step = Fraction(inputs, outputs)
    if coordinates == "align_corners":
        step = Fraction(inputs - 1, outputs - 1) if outputs > 1 else Fraction(0)
        place = step * Fraction(2 * i + 1, 2) - Fraction(1, 2)  # torch: the step alone knows of the corners
    width = max(step, Fraction(1))
    found = {tap: kernel(float((tap - place) / width), -0.5) for tap in range(inputs)}
    total = sum(found.values())
    return {tap: weight / total for tap, weight in found.items()}


def output_size(size: tuple[int, int], target: Any, scale: Any) -> tuple[int, int]:
    if target is None:
        factors = scale if isinstance(scale, tuple) else (scale, scale)
        return math.floor(size[0] * factors[0]), math.floor(size[1] * factors[1])
    return target if isinstance(target, tuple) else (target, target)


def first(array: Any, layout: str) -> np.ndarray:
    """As float64 (N, C, H, W)."""
    array = np.asarray(array).astype(np.float64)
    return array if layout == "NCHW" else array.transpose(0, 3, 1, 2)


def back(array: np.ndarray, layout: str) -> np.ndarray:
    return array if layout == "NCHW" else array.transpose(0, 2, 3, 1)


def both_axes(size: tuple[int, int], target: tuple[int, int], how: dict[str, Any]) -> tuple[Weights, Weights]:
    keywords = {"mode": "bilinear", "coordinates": "half_pixel", "antialias": False, **how}
    rows, columns = (axis_weights(size[a], target[a], **keywords) for a in (0, 1))
    return rows, columns


def resized(x: np.ndarray, target: tuple[int, int], how: dict[str, Any]) -> np.ndarray:
    rows, columns = both_axes(x.shape[2:], target, how)
    y = np.zeros((*x.shape[:2], *target))
    for h, row in enumerate(rows):
        for w, column in enumerate(columns):
            for i, a in row.items():
                for j, b in column.items():
                    y[:, :, h, w] += a * b * x[:, :, i, j]
    return y


def resized_back(grad: np.ndarray, size: tuple[int, int], how: dict[str, Any], magnitude: bool = False) -> np.ndarray:
    """The gradient; with `magnitude`, the sum of the absolute values of its summands."""
    rows, columns = both_axes(size, grad.shape[2:], how)
    found = np.zeros((*grad.shape[:2], *size))
    for h, row in enumerate(rows):
        for w, column in enumerate(columns):
            for i, a in row.items():
                for j, b in column.items():
                    found[:, :, i, j] += (
                        abs(a * b) * np.abs(grad[:, :, h, w]) if magnitude else a * b * grad[:, :, h, w]
                    )
    return found


def split(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keywords of the resizing, and the others."""
    names = "mode", "coordinates", "antialias"
    return {k: v for k, v in options.items() if k in names}, {k: v for k, v in options.items() if k not in names}


def resize2d(input: Any, size: Any = None, *, scale: Any = None, layout: str = "NCHW", **how: Any) -> np.ndarray:
    x = first(input, layout)
    return back(resized(x, output_size(x.shape[2:], size, scale), how), layout)


def resize2d_backward(
    grad_output: Any,
    input: Any,
    size: Any = None,
    *,
    scale: Any = None,
    layout: str = "NCHW",
    magnitude: bool = False,
    **how: Any,
) -> np.ndarray:
    extent = first(input, layout).shape[2:]
    return back(resized_back(first(grad_output, layout), extent, how, magnitude), layout)


def merged_size(maps: list[np.ndarray], size: Any) -> tuple[int, int]:
    if isinstance(size, str):
        extreme = {"largest": max, "smallest": min}[size]
        return extreme(x.shape[2] for x in maps), extreme(x.shape[3] for x in maps)
    return size if isinstance(size, tuple) else (size, size)


def merge_feature_maps(
    maps: Any, *, how: str = "concat", size: Any = "largest", layout: str = "NCHW", **sampling: Any
) -> np.ndarray:
    arrays = [first(x, layout) for x in maps]
    target = merged_size(arrays, size)
    if how == "flat":
        y = np.zeros((*arrays[0].shape[:2], *target))
        place = 0
        for x in arrays:
            for i in range(x.shape[2]):
                for j in range(x.shape[3]):
                    y[:, :, place // target[1], place % target[1]] = x[:, :, i, j]
                    place += 1
        return back(y, layout)
    each = [resized(x, target, sampling) for x in arrays]
    if how == "concat":
        return back(np.concatenate(each, axis=1), layout)
    stack = np.stack(each)
    return back({"add": stack.sum, "mean": stack.mean, "max": stack.max}[how](axis=0), layout)


def merge_feature_maps_backward(
    grad_output: Any,
    maps: Any,
    *,
    how: str = "concat",
    size: Any = "largest",
    layout: str = "NCHW",
    magnitude: bool = False,
    **sampling: Any,
) -> list[np.ndarray]:
    arrays, grad = [first(x, layout) for x in maps], first(grad_output, layout)
    target = merged_size(arrays, size)
    found = []
    if how == "max":
        stack = np.stack([resized(x, target, sampling) for x in arrays])
        winner = stack.argmax(axis=0)  # the first, and of NaN the first as well
    place = channel = 0
    for number, x in enumerate(arrays):
        if how == "flat":
            rows, columns = x.shape[2:]
            flat = grad.reshape(*grad.shape[:2], target[0] * target[1])
            g = flat[:, :, place : place + rows * columns].reshape(x.shape)
            place += rows * columns
            found.append(back(np.abs(g) if magnitude else g, layout))
            continue
        part = grad
        if how == "concat":
            part = grad[:, channel : channel + x.shape[1]]
            channel += x.shape[1]
        elif how == "mean":
            part = grad / len(arrays)
        elif how == "max":
            part = np.where(winner == number, grad, 0)
        found.append(back(resized_back(part, x.shape[2:], sampling, magnitude), layout))
    return found
