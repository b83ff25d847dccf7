"""Resizing and merging on the CPU: every map goes tile by tile straight to its place in the result."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from arrayops._backends.numpy.blocks import Compute, Scratch, run_blocks
from arrayops._backends.numpy.memory import Array, compute_dtype, empty, store
from arrayops._backends.numpy.merge_bands import LONGEST, Axis
from arrayops._backends.numpy.merge_tiles import TILE, Cut, Resizing, Source, Sum, Tile, cut, tiles
from arrayops._core.op import BackwardParameters
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
        winners = _winners(maps, grad.shape, p) if p.how == "max" else None
        factor = 1 / len(maps) if p.how == "mean" else 1.0
        for number, target in enumerate(found):
            tasks += _resize_tasks(grad, target, p, back=True, factor=factor, winners=winners, number=number)
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


def _axes(source: Array, target: Array, p: Parameters, back: bool) -> tuple[Axis, Axis]:
    sizes = image(source.shape, p.layout).size, image(target.shape, p.layout).size
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
    resizing, way = _way(source, target, p, back)
    won = None if winners is None else _planes(winners, p.layout)
    copied = resizing.plain and won is None and factor == 1

    def task(n: int, tile: Tile, scratch: Scratch) -> None:
        out = targets[n, tile.planes, tile.rows, tile.columns]
        if copied:
            _copy(out, sources[n, tile.planes, tile.rows, tile.columns])
            return
        work = _work(scratch, "work", out, resizing.dtype)
        resizing.make(scratch, Source(sources[n], None if won is None else won[n], number), tile, work)
        _finish(out, work, factor)

    return _tasks(targets, way, task)


def _way(source: Array, target: Array, p: Parameters, back: bool) -> tuple[Resizing, Cut]:
    """The way of a map to a result, or of a gradient back."""
    rows, columns = _axes(source, target, p, back)
    way = cut((rows,), (columns,), _planes(target, p.layout).shape[4])
    return Resizing(rows, columns, way, compute_dtype(target)), way


def _reduce_tasks(maps: Sequence[Array], output: Array, p: MergeParameters) -> list[Task]:
    """Resize all maps into tiles of ``output``, where they are added or the largest is taken."""
    if not output.size:
        return []
    resizings, way = _resizings(maps, output, p)
    factor = 1 / len(maps) if p.how == "mean" else 1.0
    sources, targets = [_planes(source, p.layout) for source in maps], _planes(output, p.layout)
    dtype = compute_dtype(output)
    sum_of = Sum(resizings)

    def task(n: int, tile: Tile, scratch: Scratch) -> None:
        out = targets[n, tile.planes, tile.rows, tile.columns]
        work = _work(scratch, "work", out, dtype)
        images = [Source(source[n]) for source in sources]
        if p.how == "max":
            resizings[0].make(scratch, images[0], tile, work)
            for resizing, image_of in zip(resizings[1:], images[1:], strict=True):
                other = scratch("other", out.shape, dtype)
                resizing.make(scratch, image_of, tile, other)
                np.maximum(work, other, out=work)
        else:
            sum_of.make(scratch, images, tile, work)
        _finish(out, work, factor)

    return _tasks(targets, way, task)


def _winners(maps: Sequence[Array], shape: tuple[int, ...], p: MergeParameters) -> Array:
    """The number of the first map that attains the maximum, for every element of the output: a byte each."""
    winners = empty(shape, np.min_scalar_type(len(maps) - 1))
    if not winners.size:
        return winners
    resizings, way = _resizings(maps, winners, p)
    sources, targets = [_planes(source, p.layout) for source in maps], _planes(winners, p.layout)

    def task(n: int, tile: Tile, scratch: Scratch) -> None:
        out = targets[n, tile.planes, tile.rows, tile.columns]
        out[...] = 0
        best, other = (scratch(name, out.shape, resizings[0].dtype) for name in ("work", "other"))
        resizings[0].make(scratch, Source(sources[0][n]), tile, best)
        for number in range(1, len(maps)):
            resizings[number].make(scratch, Source(sources[number][n]), tile, other)
            # NaN is larger than any number, as it is for the maximum.
            larger = (other > best) | (np.isnan(other) & ~np.isnan(best))
            np.copyto(best, other, where=larger)
            np.copyto(out, number, where=larger)

    _run(_tasks(targets, way, task), (*maps, winners))
    return winners


def _resizings(maps: Sequence[Array], output: Array, p: MergeParameters) -> tuple[list[Resizing], Cut]:
    """The way of each map to the size of the output, cut into the same tiles."""
    axes = [_axes(source, output, p, back=False) for source in maps]
    run = _planes(output, p.layout).shape[4]
    way = cut(tuple(rows for rows, _ in axes), tuple(columns for _, columns in axes), run)
    return [Resizing(rows, columns, way, compute_dtype(maps[0])) for rows, columns in axes], way


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
