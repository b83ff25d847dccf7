"""Drawn calls of the segment operators, small enough for loops in Python."""

from __future__ import annotations

import dataclasses
from typing import Any

import hypothesis.strategies as st
import numpy as np

from strategies import MEMORY, in_memory

INTEGERS = tuple(np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64))
REDUCTIONS = ("mean", "sum", "max", "min", "var")
OPERATORS = {
    "mean": "segment_mean",
    "sum": "segment_sum",
    "max": "segment_max",
    "min": "segment_min",
    "var": "segment_var",
    "count": "segment_count",
    "reduce": "segment_reduce",
    "unpool": "segment_unpool",
}
FORMS = ("NCHW", "NHWC", "flat")


@dataclasses.dataclass
class Segments:
    """Features, labels and keywords of a call; `segments` is their number, given to the call or not."""

    features: np.ndarray
    labels: np.ndarray
    segments: int
    options: dict[str, Any]

    @property
    def layout(self) -> str:
        return str(self.options.get("layout", "NCHW"))

    @property
    def ignore_label(self) -> int | None:
        found: int | None = self.options.get("ignore_label")
        return found

    def __repr__(self) -> str:
        labels = f"{self.labels.dtype}{self.labels.tolist()}"
        return f"{self.features.dtype}{self.features.shape}, {labels}, {self.options}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def pooled_shape(self) -> tuple[int, ...]:
        if self.features.ndim == 2:
            return self.segments, self.features.shape[1]
        if self.layout == "NCHW":
            return (*self.features.shape[:2], self.segments)
        return self.features.shape[0], self.segments, self.features.shape[3]


def values(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Values with many ties."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(max(limits.min, -9), min(limits.max, 9), shape).astype(dtype)
    return (rng.integers(-4, 5, shape) + rng.standard_normal(shape) * rng.integers(0, 2, shape)).astype(dtype)


@st.composite
def segment_calls(
    draw: st.DrawFn,
    dtypes: tuple[np.dtype, ...],
    zero: str = "",
    memory: bool = True,
    sizes: tuple[int, int] = (7, 9),
) -> Segments:
    """A valid call; `zero` names what has size 0: batch, pixels, channels or segments."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    # Flat features have no batch.
    form, dtype = draw(st.sampled_from(FORMS[:2] if zero == "batch" else FORMS)), draw(st.sampled_from(dtypes))
    segments = 0 if zero == "segments" else draw(st.integers(1, 9))
    channels = 0 if zero == "channels" else draw(st.sampled_from((1, 2, 3, 5)))
    batch = 0 if zero == "batch" else draw(st.integers(1, 3))
    size = tuple(0 if zero == "pixels" else draw(st.integers(1, most)) for most in sizes)
    shape = {
        "NCHW": (batch, channels, *size),
        "NHWC": (batch, *size, channels),
        "flat": (size[0] * size[1], channels),
    }[form]
    kind = draw(st.sampled_from(INTEGERS))
    options: dict[str, Any] = {} if form == "flat" else {"layout": form}
    if form == "NCHW" and draw(st.booleans()):
        del options["layout"]
    label_shape = (shape[0],) if form == "flat" else (batch, *size)
    labels = rng.integers(0, max(segments, 1), label_shape)
    if draw(st.booleans()):
        labels = np.sort(labels, axis=-1)
    strange = [] if kind.kind == "u" else [-1, -100]
    strange += [120] if kind.itemsize == 1 else [255, 2**15 - 1] if kind.itemsize == 2 else [255, 2**31 - 1]
    if kind.itemsize == 8:
        strange += [2**32, 2**63 - 1] + ([2**64 - 1] if kind.kind == "u" else [-(2**63)])
    labels = labels.astype(kind)
    if draw(st.booleans()) or zero == "segments":
        inside = draw(st.booleans()) and segments > 0
        ignore = draw(st.integers(0, segments - 1)) if inside else draw(st.sampled_from(strange))
        options["ignore_label"] = ignore
        share = 1.0 if zero == "segments" else draw(st.sampled_from((0.0, 0.3, 1.0)))
        labels[rng.random(label_shape) < share] = ignore
    if draw(st.integers(0, 3)) == 0:
        options["check"] = False
        labels[rng.random(label_shape) < 0.2] = draw(st.sampled_from(strange))
    if draw(st.booleans()):
        options["check"] = options.get("check", draw(st.sampled_from((None, True, False))))
    features = values(rng, shape, dtype)
    if memory:
        features = in_memory(features, draw(st.sampled_from(MEMORY)))
        labels = in_memory(labels, draw(st.sampled_from(MEMORY)))
    return Segments(features, labels, segments, options)


KINDS = ("random", "sorted", "patches", "one", "some")


def labelled(
    kind: str,
    form: str,
    *,
    dtype: np.dtype,
    channels: int,
    segments: int,
    size: tuple[int, int] = (31, 40),
    batch: int = 2,
    label_dtype: Any = np.int32,
    seed: int = 0,
    **options: Any,
) -> Segments:
    """A call of a certain size. Labels are random, sorted, coherent in space, of one segment, or of a few and none."""
    rng = np.random.default_rng(seed)
    height, width = size
    batch = 1 if form == "flat" else batch
    shape = {
        "NCHW": (batch, channels, height, width),
        "NHWC": (batch, height, width, channels),
        "flat": (height * width, channels),
    }[form]
    labels = rng.integers(0, segments, (batch, height, width))
    if kind == "sorted":
        labels = np.sort(labels.reshape(batch, -1), axis=1).reshape(labels.shape)
    elif kind == "patches":
        rows, columns = np.indices(size)
        labels = np.stack([(rows // 7 * 5 + columns // 9 + image) % segments for image in range(batch)])
    elif kind in ("one", "some"):
        labels[rng.random(labels.shape) < (1 if kind == "one" else 0.9)] = segments // 2
    labels = labels.astype(label_dtype)
    if kind == "some":
        options.setdefault("ignore_label", segments // 3)
    if form == "flat":
        labels = labels[0].ravel()
    else:
        options["layout"] = form
    return Segments(values(rng, shape, dtype), labels, segments, options)


def fresh(result: np.ndarray, *arrays: np.ndarray) -> np.ndarray:
    assert type(result) is np.ndarray
    assert result.flags.writeable
    assert result.flags.c_contiguous
    assert not any(np.shares_memory(result, array) for array in arrays if array.size)
    return result


def large(seed: int, layout: str, batch: int = 2, size: tuple[int, int] = (211, 190), segments: int = 50) -> Any:
    """Features (float32, 6 channels) and labels in coherent patches with noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(size)
    labels = np.stack([(rows // 31 * 7 + columns // 29 + image) % segments for image in range(batch)])
    noise = rng.random(labels.shape) < 0.2
    labels = np.where(noise, rng.integers(0, segments, labels.shape), labels).astype(np.int32)
    features = (rng.standard_normal((batch, *size, 6)) + rng.standard_normal(6) * 3).astype(np.float32)
    return (features if layout == "NHWC" else np.ascontiguousarray(features.transpose(0, 3, 1, 2))), labels
