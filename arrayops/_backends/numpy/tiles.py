"""Cuts the outputs of a sliding window into tiles, and the images they read into phase planes.

A tile is a rectangle of output places. Its planes (see ``arrayops._core.taps``) are stored with one row pitch, so that
a tap at (row shift, column shift) is one shift of the flat plane, ``row * pitch + column``, and a whole tile is one
contiguous run for every tap:

    pitch P = W + reach   . . . . . . j j      a tile of R x W places: the last columns (j) hold
                          . . . . . . j j      junk, computed and thrown away, so that no inner
                          . . . . . . j j      loop ends at a row's end
                          h h h h h h h h      halo rows that taps reach
                          0 0 0 0 0 0 0 0      one more row, so that the last run stays inside
"""

from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.numpy.memory import Array, load
from arrayops._backends.numpy.views import Grid
from arrayops._core.shapes import Axis, Pair
from arrayops._core.taps import AxisTaps, Phase, PhasePlanes, axis_taps


class FlatTap(NamedTuple):
    """A tap of one phase: its (row, column) in the filter, and plane and flat shift in input and guide.

    ``plane`` is -1 where the tap falls on stuffed zeros.
    """

    row: int
    column: int
    plane: int
    offset: int
    guide_plane: int
    guide_offset: int


class Mirrored(NamedTuple):
    """Taps on opposite sides of the centre: of ``pairs`` pairs the i-th is ``shift + i step`` places behind and before.

    They are the taps ``behind + i`` and ``before - i`` of a phase.
    """

    behind: int
    before: int
    pairs: int
    shift: int
    step: int

    @property
    def grid(self) -> Grid:
        """The taps behind the centre as a grid of one row."""
        return Grid(1, self.pairs, 0, self.step)


class TapBlock(NamedTuple):
    """Taps of one input plane, which form a grid: ``first`` and those that follow it, shifted from ``offset`` on."""

    first: int
    plane: int
    offset: int
    grid: Grid


class FlatPhase(NamedTuple):
    """What the outputs of one phase read; centre and smoothing taps as (guide plane, flat shift).

    ``blocks`` covers the taps on real samples, a block for each input plane.

    ``mirrored`` pairs all taps but the one at the centre, numbered ``middle``, where every tap has a counterpart on the
    centre's own plane, as with stride 1 and odd sizes; otherwise it is empty and ``middle`` is -1.
    """

    taps: tuple[FlatTap, ...]
    centre: Pair
    smooth: tuple[tuple[Pair, ...], ...]
    mirrored: tuple[Mirrored, ...]
    middle: int
    blocks: tuple[TapBlock, ...]


class Outputs(NamedTuple):
    """Which outputs a phase makes in a tile: slices of the output image, and the rows and columns they fill."""

    rows: slice
    columns: slice
    extent: Pair


class Cut(NamedTuple):
    """Which part of an image lies in which part of each plane: (plane, slices of the plane, slices of the image)."""

    planes: int
    rows: int
    pitch: int
    parts: tuple[tuple[int, tuple[slice, slice], tuple[slice, slice]], ...]

    def load(self, planes: Array, image: Array) -> None:
        """Fill ``planes`` (planes, channels, rows, pitch) from ``image`` (channels, height, width), else with zeros."""
        self.load_samples(planes, image)
        for plane, (rows, columns), _ in self.parts:
            target = planes[plane]
            if rows.start > 0:
                target[:, : rows.start] = 0
            if rows.stop < self.rows:
                target[:, rows.stop :] = 0
            if columns.start > 0:
                target[:, rows, : columns.start] = 0
            if columns.stop < self.pitch:
                target[:, rows, columns.stop :] = 0

    def load_samples(self, planes: Array, image: Array) -> None:
        """Fill the places of samples in ``planes`` (planes, ..., rows, pitch) from ``image`` (..., height, width)."""
        for plane, inside, source in self.parts:
            load(planes[plane][..., inside[0], inside[1]], image[..., source[0], source[1]])

    def add(self, image: Array, planes: Array) -> None:
        """Add ``planes`` to ``image``: the transpose of `load`."""
        for plane, inside, target in self.parts:
            part = image[:, target[0], target[1]]
            np.add(part, planes[plane, :, inside[0], inside[1]], out=part)


class Tile(NamedTuple):
    """A rectangle of output places, the same for every image of a batch."""

    rows: int
    columns: int
    pitch: int
    input: Cut
    guide: Cut
    phases: tuple[FlatPhase, ...]
    outputs: tuple[Outputs, ...]

    @property
    def run(self) -> int:
        """Length of a flat run, junk included."""
        return self.rows * self.pitch

    @property
    def kind(self) -> tuple[Any, ...]:
        """What the work on a tile depends on, beside the samples: equal for tiles that differ in their corner alone."""
        return self.rows, self.columns, tuple(outputs.extent for outputs in self.outputs)


class Window(NamedTuple):
    """A two-dimensional sliding window: its axes, and the tap lists along each."""

    axes: tuple[Axis, Axis]
    taps: tuple[AxisTaps, AxisTaps]

    @property
    def places(self) -> Pair:
        """Rows and columns of the grid that tiles divide: outputs of the phase that has most."""
        rows, columns = (max(phase.length for phase in taps.phases) for taps in self.taps)
        return rows, columns

    @property
    def reach(self) -> Pair:
        """Largest shift of any tap, in rows and in columns."""
        rows, columns = (max(taps.input.reach, taps.guide.reach) for taps in self.taps)
        return rows, columns

    @property
    def planes(self) -> Pair:
        """Number of planes of the input, and of the guide."""
        rows, columns = self.taps
        return (
            len(rows.input.planes) * len(columns.input.planes),
            len(rows.guide.planes) * len(columns.guide.planes),
        )

    @property
    def most_taps(self) -> int:
        """Largest number of taps that fall on real samples in any one phase."""
        rows, columns = (max(sum(tap.plane >= 0 for tap in phase.taps) for phase in taps.phases) for taps in self.taps)
        return rows * columns


@lru_cache(maxsize=128)
def window(axes: tuple[Axis, Axis], smooth: Pair = (1, 1)) -> Window:
    """The window over ``axes`` whose guide is smoothed at the centre by a kernel of size ``smooth``."""
    return Window(axes, (axis_taps(axes[0], smooth[0]), axis_taps(axes[1], smooth[1])))


@lru_cache(maxsize=128)
def cut_tiles(
    axes: tuple[Axis, Axis], smooth: Pair, guide_size: Pair, shape: Pair, stuffed: bool = False, wrapped: bool = False
) -> tuple[Tile, ...]:
    """Tiles of ``shape`` (rows, columns) that cover the outputs of a window, in raster order.

    Their phases list the taps on real samples, and those on ``stuffed`` zeros if wanted. Rows of
    ``wrapped`` tiles, of which samples alone are read, share the zeros around them: see `shared_pitch`.
    """
    whole = window(axes, smooth)
    (row_taps, column_taps), (rows, columns) = whole.taps, whole.places
    sizes = axes[0].size, axes[1].size
    phases: dict[int, tuple[FlatPhase, ...]] = {}
    tiles = []
    for top in range(0, rows, shape[0]):
        for left in range(0, columns, shape[1]):
            height, width = min(shape[0], rows - top), min(shape[1], columns - left)
            pitch = width + whole.reach[1]
            if wrapped and width == columns:
                pitch = shared_pitch(column_taps.input, sizes[1], columns, pitch)
            if pitch not in phases:
                phases[pitch] = _flat_phases(row_taps, column_taps, pitch, stuffed)
            tiles.append(
                Tile(
                    height,
                    width,
                    pitch,
                    _cut((row_taps.input, column_taps.input), sizes, (top, left), (height, width), pitch),
                    _cut((row_taps.guide, column_taps.guide), guide_size, (top, left), (height, width), pitch),
                    phases[pitch],
                    tuple(
                        _outputs(row, column, (top, left), (height, width))
                        for row in row_taps.phases
                        for column in column_taps.phases
                    ),
                )
            )
    return tuple(tiles)


def shared_pitch(source: PhasePlanes, size: int, columns: int, pitch: int) -> int:
    """Pitch of rows whose last taps read the zeros in front of the next row, in place of zeros of their own.

    ``pitch`` is what rows with zeros of their own take, which is the answer where there is nothing to share.

    . x x x x x x x     zeros in front (.) of 7 samples (x), read by taps 0, 1, 2 for 7 outputs: a pitch of 8, not 9
    . x x x x x x x
    """
    if source.stride > 1 or source.before < 0:
        return pitch
    # At least the reach, so that one row behind the last holds what the last run reads.
    return min(pitch, max(columns, size + source.before, columns + source.reach - source.before, source.reach))


def _flat_phases(row_taps: AxisTaps, column_taps: AxisTaps, pitch: int, stuffed: bool) -> tuple[FlatPhase, ...]:
    across, guide_across = len(column_taps.input.planes), len(column_taps.guide.planes)

    def guide_place(row_plane: int, row_shift: int, column_plane: int, column_shift: int) -> Pair:
        return row_plane * guide_across + column_plane, row_shift * pitch + column_shift

    phases = []
    for row in row_taps.phases:
        for column in column_taps.phases:
            taps = []
            for r in row.taps:
                for c in column.taps:
                    real = r.plane >= 0 and c.plane >= 0
                    if real or stuffed:
                        plane, offset = (r.plane * across + c.plane, r.shift * pitch + c.shift) if real else (-1, 0)
                        place = guide_place(r.guide_plane, r.guide_shift, c.guide_plane, c.guide_shift)
                        taps.append(FlatTap(r.number, c.number, plane, offset, *place))
            smooth = tuple(tuple(guide_place(*r, *c) for c in column.smooth) for r in row.smooth)
            taps.sort(key=lambda tap: (tap.plane, tap.row, tap.column))
            centre = guide_place(*row.centre, *column.centre)
            phases.append(FlatPhase(tuple(taps), centre, smooth, *_mirrored(taps, centre), _blocks(taps)))
    return tuple(phases)


def _mirrored(taps: list[FlatTap], centre: Pair) -> tuple[tuple[Mirrored, ...], int]:
    shifts = {tap.guide_offset - centre[1]: number for number, tap in enumerate(taps)}
    if any(tap.guide_plane != centre[0] for tap in taps) or any(-shift not in shifts for shift in shifts):
        return (), -1
    runs: list[Mirrored] = []
    for shift, number in sorted(shifts.items()):
        if shift <= 0:
            continue
        if runs and taps[number].row == taps[number - 1].row:
            run = runs[-1]
            step = run.step if run.pairs > 1 else shift - run.shift
            expected = run.behind + run.pairs, run.before - run.pairs, run.shift + run.pairs * step
            if expected == (number, shifts[-shift], shift):
                runs[-1] = run._replace(pairs=run.pairs + 1, step=step)
                continue
        runs.append(Mirrored(number, shifts[-shift], 1, shift, 0))
    return tuple(runs), shifts.get(0, -1)


def _blocks(taps: list[FlatTap]) -> tuple[TapBlock, ...]:
    """The taps of a plane are all of some rows with all of some columns, each a constant number apart."""
    blocks = []
    for plane, members in groupby(enumerate(taps), key=lambda entry: entry[1].plane):
        if plane < 0:
            continue
        block = list(members)
        first, tap = block[0]
        columns = sum(other.row == tap.row for _, other in block)
        rows = len(block) // columns
        row_step = block[columns][1].offset - tap.offset if rows > 1 else 0
        column_step = block[1][1].offset - tap.offset if columns > 1 else 0
        blocks.append(TapBlock(first, plane, tap.offset, Grid(rows, columns, row_step, column_step)))
    return tuple(blocks)


def _outputs(row: Phase, column: Phase, corner: Pair, size: Pair) -> Outputs:
    slices, extent = [], []
    for phase, start, length in zip((row, column), corner, size, strict=True):
        count = max(0, min(start + length, phase.length) - start)
        first = phase.first + start * phase.step
        slices.append(slice(first, first + count * phase.step, phase.step))
        extent.append(count)
    return Outputs(slices[0], slices[1], (extent[0], extent[1]))


def _cut(sources: tuple[PhasePlanes, PhasePlanes], image: Pair, corner: Pair, size: Pair, pitch: int) -> Cut:
    vertical, horizontal = (
        [_overlap(source, plane, image[i], corner[i], size[i] + source.reach) for plane in source.planes]
        for i, source in enumerate(sources)
    )
    parts = tuple(
        (r * len(horizontal) + c, (vertical[r][0], horizontal[c][0]), (vertical[r][1], horizontal[c][1]))
        for r in range(len(vertical))
        for c in range(len(horizontal))
    )
    return Cut(len(parts), size[0] + sources[0].reach + 1, pitch, parts)


def _overlap(source: PhasePlanes, plane: int, size: int, start: int, length: int) -> tuple[slice, slice]:
    """Places of a plane, ``length`` of them from ``start``, that hold image samples, and those samples."""
    stride, shift = source.stride, plane - source.before
    first = max(start, -(shift // stride))
    last = max(first, min(start + length, -((shift - size) // stride)))
    low = max(first * stride + shift, 0)
    return slice(first - start, last - start), slice(low, low + (last - first) * stride, stride)


TILE_BYTES = 8 << 20
"""Size of a tile with all that is kept for it; small enough for the caches, large enough for long runs."""

TILE_PLACES = 16384
"""Places of a tile where its size allows: NumPy calls on shorter runs spend too much of their time around the work."""

MOST_PLACES = 1 << 40
"""Output places at which a call is refused at once: no memory could hold them, and listing their tiles takes ages."""


def tile_shape(whole: Window, batch: int, image_bytes: Pair, place_bytes: int) -> Pair:
    """Rows and columns of a tile; they depend on the shapes alone, so that results do not depend on the machine.

    Parameters
    ----------
    whole : Window
        The window to cut.
    batch : int
        Number of images, each of which is cut alike.
    image_bytes : pair of int
        Bytes kept for each place of all planes of the input, and of the guide.
    place_bytes : int
        Bytes kept for each output place.
    """
    rows, columns = whole.places
    if batch * rows * columns >= MOST_PLACES:
        raise MemoryError(f"an output of {batch} x {rows} x {columns} pixels does not fit in memory")

    def size(height: int, width: int) -> int:
        pitch = width + whole.reach[1]
        planes = sum(
            each * (height + taps.reach + 1) * pitch
            for each, taps in zip(image_bytes, (whole.taps[0].input, whole.taps[0].guide), strict=True)
        )
        return planes + place_bytes * height * pitch

    width = max(1, columns)
    height = max(1, min(rows, TILE_PLACES // (width + whole.reach[1])))
    # A few blocks for each of a few threads, unless they would be slivers.
    while height > 8 and batch * -(-rows // height) < 8:
        height = -(-height // 2)
    while size(height, width) > TILE_BYTES:
        if height > 4 or (height > 1 and width <= 128):
            height = -(-height // 2)
        elif width > 16:
            width = -(-width // 2)
        else:
            break
    height = -(-rows // -(-rows // height)) if rows else 1
    return height, width


def tile_bytes(tile: Tile, image_bytes: Pair, place_bytes: int) -> int:
    """Bytes kept for a tile, as `tile_shape` counts them."""
    planes = sum(each * cut.rows * cut.pitch for each, cut in zip(image_bytes, (tile.input, tile.guide), strict=True))
    return planes + place_bytes * tile.run
