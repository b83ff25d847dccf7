"""Records of ``resize2d`` and ``merge_feature_maps``: parameters, checks and shapes."""

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from numbers import Real
from typing import Any, NamedTuple

from arrayops._core import checks, shapes
from arrayops._core.op import IMAGE, ArraySpec, Linearity, Meta, Metas, Op
from arrayops._core.resampling import Sampling
from arrayops._core.shapes import SPATIAL, Pair
from arrayops._ops.images import ImageShape, image, image_shape

MODES = ("nearest", "bilinear", "bicubic", "area")
COORDINATES = ("half_pixel", "align_corners", "asymmetric")
HOWS = ("concat", "add", "mean", "max", "flat")
EXTREMES = {"largest": max, "smallest": min}


class ResizeParameters(NamedTuple):
    """Parameters of ``resize2d``, normalised: exactly one of size and scale is None."""

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
    op: str, *, size: Any, scale: Any, mode: Any, coordinates: Any, antialias: Any, layout: str
) -> ResizeParameters:
    """Check and normalise the keyword arguments of ``resize2d``."""
    if (size is None) == (scale is None):
        raise ValueError(f"{op}: size is {size!r} and scale is {scale!r}, expected exactly one of them")
    return ResizeParameters(
        None if size is None else shapes.pair(op, "size", size, 1),
        None if scale is None else scales(op, scale),
        *sampling_parameters(op, mode, coordinates, antialias),
        layout,
    )


def merge_parameters(
    op: str, *, how: Any, size: Any, mode: Any, coordinates: Any, antialias: Any, layout: str
) -> MergeParameters:
    """Check and normalise the keyword arguments of ``merge_feature_maps``."""
    if isinstance(size, str):
        if size not in EXTREMES:
            raise ValueError(f"{op}: size is {size!r}, expected 'largest', 'smallest' or (height, width)")
    else:
        size = shapes.pair(op, "size", size, 1)
    return MergeParameters(
        checks.choice(op, "how", how, HOWS),
        size,
        *sampling_parameters(op, mode, coordinates, antialias),
        layout,
    )


def sampling_parameters(op: str, mode: Any, coordinates: Any, antialias: Any) -> tuple[str, str, bool]:
    """Check mode, coordinates and antialias, and that they are compatible."""
    mode = checks.choice(op, "mode", mode, MODES)
    coordinates = checks.choice(op, "coordinates", coordinates, COORDINATES)
    antialias = checks.flag(op, "antialias", antialias)
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(f"{op}: antialias is True with mode {mode!r}, expected mode 'bilinear' or 'bicubic'")
    if mode == "area" and coordinates != "half_pixel":
        raise ValueError(f"{op}: coordinates is {coordinates!r}, expected 'half_pixel' with mode 'area'")
    return mode, coordinates, antialias


def scales(op: str, value: Any) -> tuple[float, float]:
    """Normalise ``value``, a number or a pair of them, to the scale factors of height and width."""
    values = value if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2 or not all(isinstance(v, Real) and not isinstance(v, bool) for v in values):
        raise ValueError(f"{op}: scale is {value!r}, expected a number or a pair of them")
    height, width = map(float, values)
    if not (0 < height < math.inf and 0 < width < math.inf):
        raise ValueError(f"{op}: scale is {value!r}, expected finite numbers above 0")
    return height, width


def resized(op: str, parameters: ResizeParameters, size: Pair) -> Pair:
    """Size of the output for an input of ``size``."""
    if parameters.size is not None:
        return parameters.size
    assert parameters.scale is not None
    output = math.floor(size[0] * parameters.scale[0]), math.floor(size[1] * parameters.scale[1])
    if min(output) < 1:
        raise ValueError(
            f"{op}: scale is {parameters.scale}, which resizes {size} to {output}, expected an output of at least 1 x 1"
        )
    return output


def samplings(parameters: Parameters, size: Pair, output: Pair) -> tuple[Sampling, Sampling]:
    """Samplings that resize the rows and columns of a map of ``size`` to ``output``."""
    rows, columns = (
        Sampling(size[i], output[i], parameters.mode, parameters.coordinates, parameters.antialias) for i in (0, 1)
    )
    return rows, columns


def check_map(op: str, name: str, meta: Meta | None, layout: str) -> tuple[Meta, ImageShape]:
    """Check that a map is a floating-point image batch of at least 1 x 1 pixels; return it and its shape."""
    if meta is None:
        raise TypeError(f"{op}: {name} is None, expected an array")
    checks.axes(op, name, meta, " ".join(layout))
    checks.floating(op, name, meta)
    map_shape = image(meta.shape, layout)
    for axis, extent in zip(SPATIAL, map_shape.size, strict=True):
        if extent < 1:
            raise ValueError(f"{op}: {name} is {meta.shape}, expected a {axis} of at least 1")
    return meta, map_shape


def infer_resize2d(metas: Metas, parameters: ResizeParameters) -> Metas:
    """Shape rules of ``resize2d``."""
    meta, map_shape = check_map("resize2d", "input", metas[0], parameters.layout)
    size = resized("resize2d", parameters, map_shape.size)
    return (Meta(image_shape(map_shape.batch, map_shape.channels, size, parameters.layout), meta.dtype),)


def infer_merge_feature_maps(metas: Metas, parameters: MergeParameters) -> Metas:
    """Shape rules of ``merge_feature_maps``."""
    op = "merge_feature_maps"
    first, first_shape = check_map(op, "maps[0]", metas[0], parameters.layout)
    map_shapes = [first_shape]
    for i, meta in enumerate(metas[1:], 1):
        name = f"maps[{i}]"
        meta, map_shape = check_map(op, name, meta, parameters.layout)
        checks.dtype(op, name, meta, first.dtype, "as maps[0]")
        if map_shape.batch != first_shape.batch:
            raise ValueError(f"{op}: {name} is {meta.shape}, expected batch {first_shape.batch} as maps[0]")
        if parameters.how != "concat" and map_shape.channels != first_shape.channels:
            raise ValueError(
                f"{op}: {name} is {meta.shape}, expected {first_shape.channels} channels as maps[0] with "
                f"how {parameters.how!r}"
            )
        map_shapes.append(map_shape)
    size = merged_size(parameters, [each.size for each in map_shapes])
    channels = sum(each.channels for each in map_shapes) if parameters.how == "concat" else first_shape.channels
    if parameters.how == "flat":
        pixels, capacity = sum(math.prod(each.size) for each in map_shapes), math.prod(size)
        if pixels > capacity:
            raise ValueError(
                f"{op}: size is {size}, {capacity} pixels, expected at least {pixels}, the total of all maps"
            )
    return (Meta(image_shape(first_shape.batch, channels, size, parameters.layout), first.dtype),)


def merged_size(parameters: MergeParameters, sizes: list[Pair]) -> Pair:
    """Size to which maps of these ``sizes`` are resized; "largest" and "smallest" apply to each axis separately."""
    if isinstance(parameters.size, str):
        extreme = EXTREMES[parameters.size]
        return extreme(height for height, _ in sizes), extreme(width for _, width in sizes)
    return parameters.size


def concatenated(maps: Sequence[tuple[int, ...]], layout: str) -> list[tuple[slice, ...]]:
    """Index of each of the maps of these shapes in their concatenation along channels."""
    axis = layout.index("C")
    ends = list(accumulate((shape[axis] for shape in maps), initial=0))
    return [(slice(None),) * axis + (slice(*edges),) for edges in pairwise(ends)]


class Flat(NamedTuple):
    """Layout of a flat result: its flattened shape, and the index and shape of each map within it.

    The last part is the remainder that no map fills, as images of one row.
    """

    shape: tuple[int, ...]
    parts: list[tuple[tuple[slice, ...], tuple[int, ...]]]


def flattened(result: tuple[int, ...], maps: Sequence[tuple[int, ...]], layout: str) -> Flat:
    """Layout of flattened maps of these shapes in a result of shape ``result``."""
    batch, channels, (height, width) = image(result, layout)
    capacity = height * width
    sizes = [image(shape, layout).size for shape in maps]
    ends = [*accumulate((math.prod(size) for size in sizes), initial=0), capacity]
    sizes.append((1, ends[-1] - ends[-2]))
    parts: list[tuple[tuple[slice, ...], tuple[int, ...]]] = []
    for edges, size in zip(pairwise(ends), sizes, strict=True):
        positions = slice(*edges)
        index = (slice(None), slice(None), positions) if layout == "NCHW" else (slice(None), positions)
        parts.append((index, image_shape(batch, channels, size, layout)))
    return Flat((batch, channels, capacity) if layout == "NCHW" else (batch, capacity, channels), parts)


RESIZE2D = Op(
    "resize2d",
    "merge",
    (ArraySpec("input", axes=IMAGE),),
    ResizeParameters,
    infer_resize2d,
    result_axes=(IMAGE,),
    linearity=Linearity(("input",)),
)
MERGE_FEATURE_MAPS = Op(
    "merge_feature_maps",
    "merge",
    (ArraySpec("maps", variadic=True, axes=IMAGE),),
    MergeParameters,
    infer_merge_feature_maps,
    result_axes=(IMAGE,),
    linearity=Linearity(("maps",), holds=lambda parameters: parameters.how != "max"),
)
OPS = (RESIZE2D, MERGE_FEATURE_MAPS)
