"""Segment reductions on the CPU beside torch and beside a copy of the features, and over kinds of labels.

Run from a checkout with torch and scikit-image: ``PYTHONPATH=. python tests/benchmarks/segment_cpu.py``
"""

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

import arrayops as ao
import harness

BATCH, SIZE, CHANNELS = 4, 512, 64
RANDOM = np.random.default_rng(0)
SUPERPIXELS = 400


def superpixels() -> np.ndarray[Any, Any]:
    """SLIC labels of a photo and its mirror images, (4, 512, 512)."""
    from skimage import data, segmentation

    found = segmentation.slic(data.astronaut(), n_segments=SUPERPIXELS, start_label=0).astype(np.int32)
    return np.stack([found, found[::-1], found[:, ::-1], found[::-1, ::-1]])


def layouts(slic: np.ndarray[Any, Any]) -> dict[str, tuple[np.ndarray[Any, Any], int, float]]:
    """Labels, segments, and how many times the time on superpixels each may take."""
    shape = slic.shape

    def drawn(segments: int) -> np.ndarray[Any, Any]:
        return RANDOM.integers(0, segments, shape).astype(np.int32)

    count = int(slic.max()) + 1
    tall = drawn(10**4).reshape(BATCH, -1)
    return {
        "one segment": (np.zeros(shape, np.int32), 1, 2),
        f"random, {count}": (drawn(count), count, 2),
        "random, 10^4": (drawn(10**4), 10**4, 2),
        "raster-sorted, 10^4": (np.sort(tall).reshape(shape), 10**4, 2),
        "random, 10^5": (drawn(10**5), 10**5, 6),
    }


def cases() -> Iterator[harness.Case]:
    """Reductions and gradients on superpixels, then the mean on other labels."""
    torch.set_num_threads(harness.THREADS)
    ao.set_num_threads(harness.THREADS)
    rows = RANDOM.standard_normal((BATCH, SIZE, SIZE, CHANNELS), np.float32)
    planes = np.ascontiguousarray(rows.transpose(0, 3, 1, 2))
    slic = superpixels()
    yield from forward(rows, planes, slic)
    yield from backward(rows, planes, slic)
    segments = int(slic.max()) + 1
    for layout, features in (("NHWC", rows), ("NCHW", planes)):
        for name, (labels, count, limit) in layouts(slic).items():
            rivals = {
                "arrayops": mean(features, labels, count, layout),
                "superpixels": mean(features, slic, segments, layout),
            }
            limits = {"superpixels": float(limit)}
            yield case(f"mean {layout}, {name}", rivals, lambda: None, features.nbytes, limits)


def mean(features: Any, labels: Any, segments: int, layout: Any) -> Callable[[], Any]:
    return lambda: ao.segment_mean(features, labels, segments, layout=layout)


def case(
    name: str, rivals: dict[str, Callable[[], Any]], agree: Callable[[], None], size: float, limits: dict[str, float]
) -> harness.Case:
    return harness.Case(name, rivals, agree, size / 4, size, limits)


def forward(rows: Any, planes: Any, slic: Any) -> Iterator[harness.Case]:
    """Means, extremes and variances of superpixels beside torch's scattering."""
    segments = int(slic.max()) + 1
    target = np.empty_like(rows)
    index = torch.from_numpy(slic.astype(np.int64)).reshape(BATCH, -1)
    whole = (index + segments * torch.arange(BATCH)[:, None]).reshape(-1)
    counts = torch.bincount(whole, minlength=BATCH * segments).reshape(BATCH, segments, 1).clamp(min=1)

    def scattered(features: Any, how: str, layout: str) -> torch.Tensor:
        tensor = torch.from_numpy(features)
        if layout == "NHWC":
            start, values = torch.zeros(BATCH, segments, CHANNELS), tensor.view(BATCH, -1, CHANNELS)
            spread, axis = index[:, :, None].expand(-1, -1, CHANNELS), 1
        else:
            start, values = torch.zeros(BATCH, CHANNELS, segments), tensor.view(BATCH, CHANNELS, -1)
            spread, axis = index[:, None].expand(-1, CHANNELS, -1), 2
        if how == "add":
            total = start.scatter_add_(axis, spread, values)
            return total / (counts if layout == "NHWC" else counts.mT)
        return start.scatter_reduce_(axis, spread, values, how, include_self=False)

    def added() -> torch.Tensor:
        total = torch.zeros(BATCH * segments, CHANNELS).index_add_(0, whole, torch.from_numpy(rows).view(-1, CHANNELS))
        return total.view(BATCH, segments, CHANNELS) / counts

    def agreeing(ours: Callable[[], Any], theirs: Callable[[], Any]) -> Callable[[], None]:
        def agree() -> None:
            want = theirs().numpy()
            assert np.linalg.norm(ours() - want) <= 1e-5 * np.linalg.norm(want)

        return agree

    ours = mean(rows, slic, segments, "NHWC")
    rivals = {
        "arrayops": ours,
        "copyto": lambda: np.copyto(target, rows),
        "copy": rows.copy,
        "index_add": added,
        "scatter_add": lambda: scattered(rows, "add", "NHWC"),
        "scatter_reduce": lambda: scattered(rows, "mean", "NHWC"),
    }
    torchs = dict.fromkeys(("index_add", "scatter_add", "scatter_reduce"), 1 / 1.5)
    yield case("mean NHWC", rivals, agreeing(ours, added), rows.nbytes, {"copyto": 2.0, **torchs})

    ours = mean(planes, slic, segments, "NCHW")
    rivals = {
        "arrayops": ours,
        "copyto": lambda: np.copyto(target, rows),
        "scatter_add": lambda: scattered(planes, "add", "NCHW"),
        "scatter_reduce": lambda: scattered(planes, "mean", "NCHW"),
    }
    limits = {"scatter_add": 0.8, "scatter_reduce": 0.8}
    yield case("mean NCHW", rivals, agreeing(ours, rivals["scatter_add"]), rows.nbytes, limits)

    for layout, features in (("NHWC", rows), ("NCHW", planes)):

        def largest(features: Any = features, layout: Any = layout) -> Any:
            return ao.segment_max(features, slic, segments, layout=layout)

        def theirs(features: Any = features, layout: Any = layout) -> Any:
            return scattered(features, "amax", layout)

        rivals = {"arrayops": largest, "copyto": lambda: np.copyto(target, rows), "scatter_reduce": theirs}
        yield case(f"max {layout}", rivals, agreeing(largest, theirs), rows.nbytes, {})

    for names in (("var",), ("mean", "sum", "max", "min", "var", "count")):
        rivals = {
            "arrayops": lambda names=names: ao.segment_reduce(rows, slic, names, segments, layout="NHWC"),
            "copyto": lambda: np.copyto(target, rows),
        }
        yield case(f"{', '.join(names)} NHWC", rivals, lambda: None, rows.nbytes, {})


def backward(rows: Any, planes: Any, slic: Any) -> Iterator[harness.Case]:
    """Gradients of reductions of superpixels beside copies: into an array that is there, and into a new one."""
    segments = int(slic.max()) + 1
    target = np.empty_like(rows)
    for layout, features in (("NHWC", rows), ("NCHW", planes)):
        shape = (BATCH, segments, CHANNELS) if layout == "NHWC" else (BATCH, CHANNELS, segments)
        grad = RANDOM.standard_normal(shape, np.float32)
        for name in ("mean", "max", "var"):
            function = getattr(ao, f"segment_{name}_backward")
            rivals = {
                "arrayops": lambda f=function, g=grad, x=features, o=layout: f(g, x, slic, segments, layout=o),
                "copyto": lambda: np.copyto(target, rows),
                "copy": features.copy,
            }
            limits = {"copy": 2.5} if name == "mean" else {}
            yield case(f"{name} backward {layout}", rivals, lambda: None, 2 * rows.nbytes, limits)
            if name == "max":
                rivals = {**rivals, "arrayops": with_positions(grad, features, slic, segments, layout)}
                yield case(f"max backward {layout}, positions saved", rivals, lambda: None, 2 * rows.nbytes, {})


def with_positions(grad: Any, features: Any, slic: Any, segments: int, layout: Any) -> Callable[[], Any]:
    """The backward of a maximum whose forward has saved where it lies."""
    _, saved = ao.segment_max(features, slic, segments, layout=layout, return_saved=True)
    return lambda: ao.segment_max_backward(grad, features, slic, segments, layout=layout, saved=saved)


if __name__ == "__main__":
    sys.exit(harness.main(f"Segments, float32, {BATCH} x {SIZE} x {SIZE} x {CHANNELS}, CPU", cases))
