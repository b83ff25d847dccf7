"""Records of resizing and of merging maps of different sizes: parameters, checks and shapes."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from numbers import Real
from typing import Any, NamedTuple

from arrayops._core import checks, shapes
from arrayops._core.op import ArraySpec, Meta, Metas, Op
from arrayops._core.resampling import Sampling
from arrayops._core.shapes import SPATIAL, Pair
from arrayops._ops.images import Image, image, image_shape

MODES = ("nearest", "bilinear", "bicubic", "area")
COORDINATES = ("half_pixel", "align_corners", "asymmetric")
HOWS = ("concat", "add", "mean", "max", "flat")
EXTREMES = {"largest": max, "smallest": min}


class ResizeParameters(NamedTuple):
    """Parameters of ``resize2d``, normalised: either a size or a scale is None."""

    size: Pair | None
    scale: tuple[float, float] | None
    mode: str
    coordinates: str
    antialias: bool
    layout: str


class MergeParameters(NamedTuple):
    """Parameters of ``merge_feature_maps``, normalised."""

    how: str
    size: Pair | str
    mode: str
    coordinates: str
    antialias: bool
    layout: str


Parameters = ResizeParameters | MergeParameters


def resize_parameters(
    op: str, *, size: Any, scale: Any, mode: Any, coordinates: Any, antialias: Any, layout: Any
) -> ResizeParameters:
    """Check and normalise the keywords of ``resize2d``."""
    if (size is None) == (scale is None):
        raise ValueError(f"{op}: size is {size!r} and scale is {scale!r}, expected one of them")
    return ResizeParameters(
        None if size is None else shapes.pair(op, "size", size, 1),
        None if scale is None else scales(op, scale),
        *sampling_parameters(op, mode, coordinates, antialias),
        checks.choice(op, "layout", layout, checks.LAYOUTS),
    )


def merge_parameters(
    op: str, *, how: Any, size: Any, mode: Any, coordinates: Any, antialias: Any, layout: Any
) -> MergeParameters:
    """Check and normalise the keywords of ``merge_feature_maps``."""
    if isinstance(size, str):
        if size not in EXTREMES:
            raise ValueError(f"{op}: size is {size!r}, expected 'largest', 'smallest' or (height, width)")
    else:
        size = shapes.pair(op, "size", size, 1)
    return MergeParameters(
        checks.choice(op, "how", how, HOWS),
        size,
        *sampling_parameters(op, mode, coordinates, antialias),
        checks.choice(op, "layout", layout, checks.LAYOUTS),
    )


def sampling_parameters(op: str, mode: Any, coordinates: Any, antialias: Any) -> tuple[str, str, bool]:
    """Mode, coordinates and antialias that go together."""
    mode = checks.choice(op, "mode", mode, MODES)
    coordinates = checks.choice(op, "coordinates", coordinates, COORDINATES)
    antialias = checks.flag(op, "antialias", antialias)
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(f"{op}: antialias is True with mode {mode!r}, expected mode 'bilinear' or 'bicubic'")
    if mode == "area" and coordinates != "half_pixel":
        raise ValueError(f"{op}: coordinates is {coordinates!r}, expected 'half_pixel' with mode 'area'")
    return mode, coordinates, antialias


def scales(op: str, value: Any) -> tuple[float, float]:
    """``value``, a number or two of them, as the factors of height and width."""
    values = value if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2 or not all(isinstance(v, Real) and not isinstance(v, bool) for v in values):
        raise ValueError(f"{op}: scale is {value!r}, expected a number or a pair of them")
    height, width = map(float, values)
    if not (0 < height < math.inf and 0 < width < math.inf):
        raise ValueError(f"{op}: scale is {value!r}, expected finite numbers above 0")
    return height, width


def resized(op: str, p: ResizeParameters, size: Pair) -> Pair:
    """Size of the output for an input of ``size``."""
    if p.size is not None:
        return p.size
    assert p.scale is not None
    found = math.floor(size[0] * p.scale[0]), math.floor(size[1] * p.scale[1])
    if min(found) < 1:
        raise ValueError(f"{op}: scale {p.scale} makes {found} of {size}, expected at least 1 x 1")
    return found


def samplings(p: Parameters, size: Pair, output: Pair) -> tuple[Sampling, Sampling]:
    """How rows and columns of a map of ``size`` are resized."""
    rows, columns = (Sampling(size[i], output[i], p.mode, p.coordinates, p.antialias) for i in (0, 1))
    return rows, columns


def check_map(op: str, name: str, meta: Meta | None, layout: str) -> tuple[Meta, Image]:
    """A floating image batch that has a pixel at least."""
    if meta is None:
        raise TypeError(f"{op}: {name} is None, expected an array")
    checks.axes(op, name, meta, " ".join(layout))
    checks.floating(op, name, meta)
    found = image(meta.shape, layout)
    for word, extent in zip(SPATIAL, found.size, strict=True):
        if extent < 1:
            raise ValueError(f"{op}: {name} is {meta.shape}, expected a {word} of at least 1")
    return meta, found


def infer_resize2d(metas: Metas, p: ResizeParameters) -> Metas:
    """Shape rules of ``resize2d``."""
    meta, found = check_map("resize2d", "input", metas[0], p.layout)
    size = resized("resize2d", p, found.size)
    return (Meta(image_shape(found.batch, found.channels, size, p.layout), meta.dtype),)


def infer_merge_feature_maps(metas: Metas, p: MergeParameters) -> Metas:
    """Shape rules of ``merge_feature_maps``."""
    op = "merge_feature_maps"
    first, head = check_map(op, "maps[0]", metas[0], p.layout)
    images = [head]
    for i, meta in enumerate(metas[1:], 1):
        name = f"maps[{i}]"
        meta, found = check_map(op, name, meta, p.layout)
        checks.dtype(op, name, meta, first.dtype, "as maps[0]")
        if found.batch != head.batch:
            raise ValueError(f"{op}: {name} is {meta.shape}, expected batch {head.batch} as maps[0]")
        if p.how != "concat" and found.channels != head.channels:
            raise ValueError(
                f"{op}: {name} is {meta.shape}, expected {head.channels} channels as maps[0] with how {p.how!r}"
            )
        images.append(found)
    size = merged_size(p, [found.size for found in images])
    channels = sum(found.channels for found in images) if p.how == "concat" else head.channels
    if p.how == "flat":
        positions, places = sum(math.prod(found.size) for found in images), math.prod(size)
        if positions > places:
            raise ValueError(
                f"{op}: size is {size}, {places} places, expected at least {positions}, the positions of all maps"
            )
    return (Meta(image_shape(head.batch, channels, size, p.layout), first.dtype),)


def merged_size(p: MergeParameters, sizes: list[Pair]) -> Pair:
    """Size to which maps of these ``sizes`` are brought: extremes are taken axis by axis."""
    if isinstance(p.size, str):
        extreme = EXTREMES[p.size]
        return extreme(height for height, _ in sizes), extreme(width for _, width in sizes)
    return p.size


def concatenated(maps: Sequence[tuple[int, ...]], layout: str) -> list[tuple[slice, ...]]:
    """Where maps of these shapes lie in their concatenation: an index each."""
    axis = layout.index("C")
    ends = list(accumulate((shape[axis] for shape in maps), initial=0))
    return [(slice(None),) * axis + (slice(*edges),) for edges in pairwise(ends)]


class Flat(NamedTuple):
    """How maps lie one behind the other in a flat result: its shape then, and the index and shape of each map.

    Last comes what no map takes, as images of one row.
    """

    shape: tuple[int, ...]
    parts: list[tuple[tuple[slice, ...], tuple[int, ...]]]


def flattened(result: tuple[int, ...], maps: Sequence[tuple[int, ...]], layout: str) -> Flat:
    """How maps of these shapes lie in a result of shape ``result``."""
    batch, channels, (height, width) = image(result, layout)
    places = height * width
    sizes = [image(shape, layout).size for shape in maps]
    ends = [*accumulate((math.prod(size) for size in sizes), initial=0), places]
    sizes.append((1, ends[-1] - ends[-2]))
    parts: list[tuple[tuple[slice, ...], tuple[int, ...]]] = []
    for edges, size in zip(pairwise(ends), sizes, strict=True):
        positions = slice(*edges)
        index = (slice(None), slice(None), positions) if layout == "NCHW" else (slice(None), positions)
        parts.append((index, image_shape(batch, channels, size, layout)))
    return Flat((batch, channels, places) if layout == "NCHW" else (batch, places, channels), parts)


RESIZE2D = Op("resize2d", "merge", (ArraySpec("input"),), infer_resize2d)
MERGE_FEATURE_MAPS = Op("merge_feature_maps", "merge", (ArraySpec("maps", variadic=True),), infer_merge_feature_maps)
OPS = (RESIZE2D, MERGE_FEATURE_MAPS)
