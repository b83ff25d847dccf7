"""Results of reductions over segments, from the totals of one pass over the features."""

from typing import Any

import numpy as np

from arrayops._backends.numpy.memory import Array, empty
from arrayops._backends.numpy.scratch import Scratch
from arrayops._backends.numpy.segment_labels import Labels
from arrayops._backends.numpy.segment_rows import Part, block_rows, pixel_rows, segment_rows, store_rows, wide_dtype
from arrayops._backends.numpy.segment_totals import Totals, Wanted, collect
from arrayops._ops.segment import POSITIONS, SegmentParameters, count_shape, pixels, pooled_shape, saved_by


def reduced(op: str, arrays: tuple[Any, ...], p: SegmentParameters) -> dict[str, Array]:
    """The results of all reductions of a call on features and labels, by name, and what it saves."""
    features, labels = arrays
    known = Labels(op, labels, p.num_segments, p.ignore_label, p.check)
    extents = pixels(features.shape, p.layout)
    shape = pooled_shape(extents, p.num_segments, p.layout)
    made = {}
    for name in p.reductions:
        if name == "count":
            made[name] = empty(count_shape(extents, p.num_segments), np.int64)
        else:
            integers = name == "sum" and features.dtype.kind in "iu"
            made[name] = empty(shape, wide_dtype(features.dtype) if integers else features.dtype)
    for name in saved_by(p.reductions) if p.save else ():
        if name == "counts":
            made[name] = empty(count_shape(extents, p.num_segments), np.int64)
        else:
            made[name] = empty(shape, np.float64 if name == "means" else np.int64)
    counts = [made[name].reshape(known.images, p.num_segments) for name in ("count", "counts") if name in made]
    targets = {name: segment_rows(found, p.layout) for name, found in made.items() if name not in ("count", "counts")}

    def finish(scratch: Scratch, part: Part, totals: Totals) -> None:
        for numbers in counts if part.channels.start == 0 else ():
            numbers[part.image] = totals.counts[:-1]
        length = block_rows(part.channels.stop - part.channels.start)
        for start in range(0, p.num_segments, length):
            these = slice(start, min(start + length, p.num_segments))
            absent = totals.counts[these] == 0
            for name, target in targets.items():
                values = table(name, totals, these)
                values[absent] = -1 if name in POSITIONS.values() else p.empty
                store_rows(scratch, target[part.image, these, part.channels], values)

    wanted = Wanted(
        sums="mean" in made or "sum" in made,
        moments="var" in made,
        extremes=tuple(name for name in POSITIONS if name in made),
        places=p.save,
    )
    collect(pixel_rows(features, p.layout), known, wanted, finish)
    if "means" in made:
        made["means"] = made["means"].view(np.int32).reshape(*shape, 2)
    return made


def table(name: str, totals: Totals, these: slice) -> Array:
    """A reduction of some segments from its totals, (segments, channels); rows without pixels hold anything."""
    counts = np.maximum(totals.counts[these], 1)[:, None]
    if name in ("var", "means"):
        assert totals.moments is not None
        return totals.moments.squares[these] / counts if name == "var" else totals.moments.mean[these]
    for extreme, saved in POSITIONS.items():
        if name == saved:
            places = totals.extremes[extreme].places
            assert places is not None
            return places[these]
    if name in totals.extremes:
        return totals.extremes[name].values[these]
    assert totals.sums is not None
    return totals.sums.totals[these] / counts if name == "mean" else totals.sums.totals[these]
