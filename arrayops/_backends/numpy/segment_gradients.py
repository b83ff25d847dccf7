"""Gradients of reductions over segments.

With g the gradient of a reduction of the n pixels of a segment, a pixel x of it gets g / n of the mean, g of the sum,
2 g (x - mean) / n of the variance, and g of an extreme if it is the first pixel that attains it.
"""

from collections.abc import Mapping

import numpy as np

from arrayops._backends.numpy.blocks import Compute, run_blocks
from arrayops._backends.numpy.memory import Array, compute_dtype, empty, load, store, zeros
from arrayops._backends.numpy.scratch import Scratch
from arrayops._backends.numpy.segment_labels import Labels, count_pixels
from arrayops._backends.numpy.segment_rows import Part, cut, load_rows, pixel_rows, segment_rows, store_rows
from arrayops._backends.numpy.segment_spread import spread
from arrayops._backends.numpy.segment_totals import Totals, Wanted, collect
from arrayops._ops.segment import POSITIONS, SegmentParameters


def gradient(
    op: str,
    grads: Mapping[str, Array],
    features: Array,
    labels: Array,
    p: SegmentParameters,
    saved: Mapping[str, Array],
) -> Array:
    """Gradient of the features from those of some reductions, by name; ``saved`` holds results of the forward."""
    known = Labels(op, labels, p.num_segments, p.ignore_label, p.check)
    pooled = {name: segment_rows(grad, p.layout) for name, grad in grads.items()}
    rows = pixel_rows(features, p.layout)
    shape = known.images, p.num_segments + 1, rows.shape[2]
    # Elsewhere the gradient of extremes is 0.
    result = (zeros if set(pooled) <= set(POSITIONS) else empty)(features.shape, features.dtype)
    target = pixel_rows(result, p.layout)

    extremes = tuple(name for name, positions in POSITIONS.items() if name in pooled and positions not in saved)
    places = {
        name: _saved_positions(op, saved[positions], p.layout, known)
        if positions in saved
        else np.empty((shape[0], p.num_segments, shape[2]), np.int64)
        for name, positions in POSITIONS.items()
        if name in pooled
    }
    means = np.zeros(shape) if "var" in pooled else None
    search_means = means is not None and "means" not in saved
    if means is not None and "means" in saved:
        bits = np.ascontiguousarray(saved["means"])
        means[:, :-1] = segment_rows(bits.view(np.float64)[..., 0], p.layout)
    if search_means or extremes:

        def finish(scratch: Scratch, part: Part, totals: Totals) -> None:
            if search_means:
                assert means is not None
                assert totals.moments is not None
                means[part.image, :-1, part.channels] = totals.moments.mean[:-1]
            for name, found in totals.extremes.items():
                assert found.places is not None
                places[name][part.image, :, part.channels] = found.places[:-1]

        collect(rows, known, Wanted(moments=search_means, extremes=extremes, places=True), finish)

    counts = None
    if "counts" in saved:
        counts = saved["counts"].reshape(known.images, p.num_segments)
    elif {"mean", "var"} & set(pooled):
        counts = count_pixels(known)[:, :-1]
    level = np.zeros(shape, compute_dtype(features))
    for name in ("mean", "sum"):
        if name in pooled:
            level[:, :-1] += _widened(pooled[name]) if name == "sum" else _shares(pooled[name], counts)
    if means is not None:
        slope = np.zeros(shape)
        slope[:, :-1] = 2 * _shares(pooled["var"], counts)
        _slopes(rows, known, level, slope, means, target)
    elif {"mean", "sum"} & set(pooled):
        plain = empty(shape, features.dtype)
        store(plain, level)
        spread(plain, known, target)
    if places:
        _add_at(target, places, pooled)
    return result


def _saved_positions(op: str, saved: Array, layout: str, labels: Labels) -> Array:
    last = int(saved.max(initial=-1))
    if last >= labels.pixels:
        raise ValueError(f"{op}: saved has the position {last}, expected -1 to {labels.pixels - 1}")
    return segment_rows(saved, layout)


def _widened(array: Array) -> Array:
    wide = np.empty(array.shape, compute_dtype(array))
    load(wide, array)
    return wide


def _shares(grad: Array, counts: Array | None) -> Array:
    """A gradient over the pixels of each segment; what segments without pixels get is used by nobody."""
    assert counts is not None
    shares: Array = _widened(grad) / np.maximum(counts, 1)[:, :, None]
    return shares


def _slopes(rows: Array, labels: Labels, level: Array, slope: Array, means: Array, target: Array) -> None:
    """``target = level + slope * (rows - means)``, each by the pixel's segment."""
    made = cut(rows, labels.segments)

    def begin(scratch: Scratch) -> Compute:
        def compute(index: int) -> None:
            part = made.parts[index]
            slots = labels.slots(part.image, part.start, part.stop).astype(np.intp)
            tables = [np.ascontiguousarray(table[part.image, :, part.channels]) for table in (means, slope, level)]
            for start in range(part.start, part.stop, made.wide_rows):
                pixels = slice(start, min(start + made.wide_rows, part.stop))
                these = slots[pixels.start - part.start : pixels.stop - part.start]
                block = rows[part.image, pixels, part.channels]
                own, values = (scratch(name, block.shape, np.float64) for name in ("own", "values"))
                np.take(tables[0], these, axis=0, out=own, mode="clip")
                np.subtract(load_rows(scratch, "wide", block, values.dtype), own, out=values)
                np.take(tables[1], these, axis=0, out=own, mode="clip")
                np.multiply(values, own, out=values)
                np.add(values, tables[2][these], out=values)
                if not labels.plain:
                    # Theirs would be 0 times whatever they hold, which may be NaN.
                    values[these == labels.segments] = 0.0
                store_rows(scratch, target[part.image, pixels, part.channels], values)

        return compute

    run_blocks(len(made.parts), begin)


def _add_at(target: Array, places: Mapping[str, Array], grads: Mapping[str, Array]) -> None:
    """Add the gradients of extremes to the pixels that attain them."""

    def begin(scratch: Scratch) -> Compute:
        def compute(image: int) -> None:
            for name, found in places.items():
                segments, channels = np.nonzero(found[image] >= 0)
                at = found[image][segments, channels], channels
                old = target[image][at]
                new = _widened(old)
                new += _widened(grads[name][image][segments, channels])
                store(old, new)
                target[image][at] = old

        return compute

    run_blocks(len(target), begin)
