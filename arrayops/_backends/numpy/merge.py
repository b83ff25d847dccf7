"""Resizing and merging on the CPU: every map goes tile by tile straight to its place in the result."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.numpy.blocks import Compute, run_blocks
from arrayops._backends.numpy.memory import Array, compute_dtype, empty, store
from arrayops._backends.numpy.merge_bands import LONGEST, Axis, identity
from arrayops._backends.numpy.merge_joined import Spread, Sum, spread
from arrayops._backends.numpy.merge_tiles import TILE, Cut, Resizing, Source, Tile, cut, tiles
from arrayops._backends.numpy.scratch import Scratch
from arrayops._core.op import BackwardParameters
from arrayops._core.shapes import Pair
from arrayops._ops.images import image, image_shape
from arrayops._ops.merge import (
    MergeParameters,
    Parameters,
    ResizeParameters,
    concatenated,
    flattened,
    merged_size,
    resized,
    samplings,
)

SMALL = 1 << 15
"""Elements of all arrays of a call for which waking a thread takes longer than it saves."""

WORKSPACE = 4 * 4 * TILE
"""Bytes that a tile of float32 takes, about: itself, and what it is made of."""

Size = tuple[int, ...]
"""Height and width."""

Results = tuple[Array | None, ...]
Task = Callable[[Scratch], None]


def resize2d(arrays: tuple[Any, ...], parameters: ResizeParameters) -> Results:
    """Resizing."""
    (source,) = arrays
    found = image(source.shape, parameters.layout)
    size = resized("resize2d", parameters, found.size)
    output = empty(image_shape(found.batch, found.channels, size, parameters.layout), source.dtype)
    _run(_resize_tasks(source, output, parameters), (source, output))
    return (output,)


def resize2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradient of `resize2d`."""
    grad, source = arrays
    if not parameters.needs:
        return (None,)
    found = empty(source.shape, source.dtype)
    _run(_resize_tasks(grad, found, parameters.forward, back=True), (grad, found))
    return (found,)


def merge_feature_maps(arrays: tuple[Any, ...], parameters: MergeParameters) -> Results:
    """Merging."""
    p = parameters
    images = [image(source.shape, p.layout) for source in arrays]
    size = merged_size(p, [found.size for found in images])
    channels = sum(found.channels for found in images) if p.how == "concat" else images[0].channels
    output = empty(image_shape(images[0].batch, channels, size, p.layout), arrays[0].dtype)
    tasks: list[Task] = []
    if p.how == "concat":
        for source, slot in zip(arrays, _slots(output, arrays, p.layout), strict=True):
            tasks += _resize_tasks(source, slot, p)
    elif p.how == "flat":
        *places, rest = _places(output, arrays, p.layout)
        for source, place in zip(arrays, places, strict=True):
            tasks += _copy_tasks(source, place, p.layout)
        tasks.append(lambda scratch: _clear(rest))
    else:
        tasks += _reduce_tasks(arrays, output, p)
    _run(tasks, (*arrays, output))
    return (output,)


def merge_feature_maps_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `merge_feature_maps`."""
    grad, *maps = arrays
    p: MergeParameters = parameters.forward
    if not parameters.needs:
        return (None,) * len(maps)
    found = [empty(source.shape, source.dtype) for source in maps]
    tasks: list[Task] = []
    if p.how == "flat":
        for place, target in zip(_places(np.ascontiguousarray(grad), found, p.layout), found, strict=False):
            tasks += _copy_tasks(place, target, p.layout)
    elif p.how == "concat":
        for slot, target in zip(_slots(grad, maps, p.layout), found, strict=True):
            tasks += _resize_tasks(slot, target, p, back=True)
    else:
        tasks += _shared_tasks(grad, found, maps, p)
    _run(tasks, (grad, *found))
    return tuple(found)


def _run(tasks: Sequence[Task], touched: Sequence[Array]) -> None:
    """Run tasks that write to different places, on the available threads, or on one if the arrays are small."""
    small = sum(array.size for array in touched) <= SMALL

    def begin(scratch: Scratch) -> Compute:
        def compute(index: int) -> None:
            for task in tasks if small else tasks[index : index + 1]:
                task(scratch)

        return compute

    run_blocks(min(len(tasks), 1) if small else len(tasks), begin, workspace=WORKSPACE)


def _planes(array: Array, layout: str) -> Array:
    """A batch of images as (N, planes, rows, columns, run): planes are channels in NCHW, runs are in NHWC."""
    return array[..., None] if layout == "NCHW" else array[:, None]


def _slots(merged: Array, maps: Sequence[Array], layout: str) -> list[Array]:
    """The channels of each map in the concatenated result."""
    return [merged[index] for index in concatenated([source.shape for source in maps], layout)]


def _axes(source: Size, target: Size, p: Parameters, back: bool) -> tuple[Axis, Axis]:
    sizes: tuple[Pair, Pair] = (source[0], source[1]), (target[0], target[1])
    rows, columns = samplings(p, *(sizes[::-1] if back else sizes))
    return Axis(rows, back), Axis(columns, back)


def _tasks(targets: Array, way: Cut, task: Callable[[int, Tile, Scratch], None]) -> list[Task]:
    """``task(image, tile, scratch)`` for every tile of (N, planes, rows, columns, run)."""
    batch, planes, height, width, run = targets.shape
    cuts = tiles(planes, (height, width), run, way)
    return [partial(task, n, tile) for n in range(batch) for tile in cuts]


def _resize_tasks(
    source: Array,
    target: Array,
    p: Parameters,
    back: bool = False,
    factor: float = 1.0,
    winners: Array | None = None,
    number: int = 0,
) -> list[Task]:
    """Resize ``source`` into ``target``, or its gradient, which is ``source``, back into that of the map."""
    if not target.size:
        return []
    sources, targets = _planes(source, p.layout), _planes(target, p.layout)
    resizing, way = _way(sources.shape[2:4], targets.shape[2:4], targets.shape[4], compute_dtype(target), p, back)
    copied = resizing.plain and winners is None and factor == 1
    gradient = Source(sources, resizing.dtype, None if winners is None else _planes(winners, p.layout), number)

    def task(n: int, tile: Tile, scratch: Scratch) -> None:
        out = targets[n, tile.planes, tile.rows, tile.columns]
        if copied:
            _copy(out, sources[n, tile.planes, tile.rows, tile.columns])
            return
        work = _work(scratch, "work", out, resizing.dtype)
        resizing.make(scratch, gradient, n, tile, work)
        _finish(out, work, factor)

    return _tasks(targets, way, task)


@lru_cache(maxsize=256)
def _way(
    source: Size, target: Size, run: int, dtype: "np.dtype[Any]", p: Parameters, back: bool
) -> tuple[Resizing, Cut]:
    """The way of a map to a result, or of a gradient back."""
    rows, columns = _axes(source, target, p, back)
    way = cut((rows,), (columns,), run)
    return Resizing(rows, columns, way, dtype), way


def _shared_tasks(grad: Array, found: Sequence[Array], maps: Sequence[Array], p: MergeParameters) -> list[Task]:
    """Bring the gradient of what all maps were reduced to back to each of them."""
    winners = _winners(maps, grad.shape, p) if p.how == "max" else None
    factor = 1 / len(maps) if p.how == "mean" else 1.0
    gradient = Source(_planes(grad, p.layout), compute_dtype(grad))
    joined: tuple[int, ...] = ()
    tasks: list[Task] = []
    if winners is None and gradient.by_columns:
        sizes = tuple(_planes(target, p.layout).shape[2:4] for target in found)
        _, _, *size, run = gradient.values.shape
        joined, way = _spread(sizes, tuple(size), run, compute_dtype(grad), p)
        if way is not None:
            tasks += _spread_tasks(gradient, [found[number] for number in joined], way, factor)
    for number, target in enumerate(found):
        if number not in joined:
            tasks += _resize_tasks(grad, target, p, back=True, factor=factor, winners=winners, number=number)
    return tasks


@lru_cache(maxsize=256)
def _spread(
    targets: tuple[Size, ...], source: Size, run: int, dtype: "np.dtype[Any]", p: MergeParameters
) -> tuple[tuple[int, ...], Spread | None]:
    """The maps to which a gradient of ``source`` is brought at once, and the way."""
    axes = [_axes(source, target, p, back=True) for target in targets]
    joined = tuple(number for number, (_, columns) in enumerate(axes) if not identity(columns))
    way = spread(tuple(axes[number] for number in joined), run, dtype)
    return ((), None) if way is None else (joined, way)


def _spread_tasks(source: Source, targets: Sequence[Array], way: Spread, factor: float) -> list[Task]:
    """Bring a gradient to several maps, image by image; in NHWC, as runs are long."""

    def task(n: int, scratch: Scratch) -> None:
        outs = [target[n : n + 1] for target in targets]
        way.make(scratch, source, n, outs)
        for out in outs:
            _finish(out, out, factor)

    return [partial(task, n) for n in range(len(source.values))]


def _reduce_tasks(maps: Sequence[Array], output: Array, p: MergeParameters) -> list[Task]:
    """Resize all maps into tiles of ``output``, where they are added or the largest is taken."""
    if not output.size:
        return []
    resizings, sum_of, way = _ways(maps, output, p)
    factor = 1 / len(maps) if p.how == "mean" else 1.0
    dtype = compute_dtype(output)
    sources, targets = [Source(_planes(source, p.layout), dtype) for source in maps], _planes(output, p.layout)

    def task(n: int, tile: Tile, scratch: Scratch) -> None:
        out = targets[n, tile.planes, tile.rows, tile.columns]
        work = _work(scratch, "work", out, dtype)
        if p.how == "max":
            resizings[0].make(scratch, sources[0], n, tile, work)
            for resizing, source in zip(resizings[1:], sources[1:], strict=True):
                other = scratch("other", out.shape, dtype)
                resizing.make(scratch, source, n, tile, other)
                np.maximum(work, other, out=work)
        else:
            sum_of.make(scratch, sources, n, tile, work)
        _finish(out, work, factor)

    return _tasks(targets, way, task)


def _winners(maps: Sequence[Array], shape: tuple[int, ...], p: MergeParameters) -> Array:
    """The number of the first map that attains the maximum, for every element of the output: a byte each."""
    winners = empty(shape, np.min_scalar_type(len(maps) - 1))
    if not winners.size:
        return winners
    resizings, _, way = _ways(maps, winners, p)
    dtype = resizings[0].dtype
    sources, targets = [Source(_planes(source, p.layout), dtype) for source in maps], _planes(winners, p.layout)

    def task(n: int, tile: Tile, scratch: Scratch) -> None:
        out = targets[n, tile.planes, tile.rows, tile.columns]
        out[...] = 0
        best, other = (scratch(name, out.shape, dtype) for name in ("work", "other"))
        resizings[0].make(scratch, sources[0], n, tile, best)
        for number in range(1, len(maps)):
            resizings[number].make(scratch, sources[number], n, tile, other)
            # NaN is larger than any number, as it is for the maximum.
            larger = (other > best) | (np.isnan(other) & ~np.isnan(best))
            np.copyto(best, other, where=larger)
            np.copyto(out, number, where=larger)

    _run(_tasks(targets, way, task), (*maps, winners))
    return winners


class Ways(NamedTuple):
    """The ways of several maps to one size, cut into the same tiles, and that of their sum."""

    resizings: tuple[Resizing, ...]
    sum: Sum
    cut: Cut


def _ways(maps: Sequence[Array], output: Array, p: MergeParameters) -> Ways:
    """The ways of maps to the size of the output."""
    target = _planes(output, p.layout).shape
    sizes = tuple(_planes(source, p.layout).shape[2:4] for source in maps)
    return _ways_to(sizes, target[2:4], target[4], compute_dtype(maps[0]), p)


@lru_cache(maxsize=256)
def _ways_to(sources: tuple[Size, ...], target: Size, run: int, dtype: "np.dtype[Any]", p: MergeParameters) -> Ways:
    """The same by sizes alone, remembered."""
    axes = [_axes(source, target, p, back=False) for source in sources]
    way = cut(tuple(rows for rows, _ in axes), tuple(columns for _, columns in axes), run)
    resizings = tuple(Resizing(rows, columns, way, dtype) for rows, columns in axes)
    return Ways(resizings, Sum(resizings), way)


def _work(scratch: Scratch, name: str, out: Array, dtype: "np.dtype[Any]") -> Array:
    """Where a tile is computed: its place in the result, unless that is of half precision."""
    return out if out.dtype == dtype else scratch(name, out.shape, dtype)


def _finish(out: Array, work: Array, factor: float) -> None:
    """Scale a computed tile and bring it to its place."""
    if factor != 1:
        np.multiply(work, work.dtype.type(factor), out=work)
    if work is not out:
        store(out, work)


def _copy(destination: Array, source: Array) -> None:
    """Copy between arrays of one dtype, bit by bit."""
    if source.dtype.kind == "V":
        destination, source = destination.view(np.uint16), source.view(np.uint16)
    np.copyto(destination, source)


def _places(folded: Array, maps: Sequence[Array], layout: str) -> list[Array]:
    """The positions of each map in a contiguous flat result, of the map's shape, and last those that none takes."""
    how = flattened(folded.shape, [source.shape for source in maps], layout)
    flat = folded.reshape(how.shape)
    return [flat[index].reshape(shape) for index, shape in how.parts]


def _copy_tasks(source: Array, target: Array, layout: str) -> list[Task]:
    """Copy one batch of images into another."""
    sources, targets = _planes(source, layout), _planes(target, layout)

    def task(n: int, tile: Tile, scratch: Scratch) -> None:
        where = n, tile.planes, tile.rows, tile.columns
        _copy(targets[where], sources[where])

    return _tasks(targets, Cut(LONGEST, targets.shape[3], TILE), task)


def _clear(place: Array) -> None:
    place[...] = np.zeros((), place.dtype)
