"""What a plain convolution works on at a time: some groups of channels, some images, and a tile of each of these.

Small images are stacked, so that one flat run holds the tile of several of them:

    . x x x x     image 0       The zeros between two images are those that taps read below the one and above the
    . x x x x                   other, as the zeros between two rows (see `shared_pitch`) are those that they read
    . . . . .                   right of the one and left of the other.
    . x x x x     image 1
    . x x x x

Groups have nothing in common. Taken a few at a time, what is kept of their samples and outputs stays in cache, and so
do their weights, which a block can therefore put in order itself.
"""

import math
from functools import lru_cache
from typing import NamedTuple

from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.tiles import Tile, cut_tiles, shared_pitch, tile_shape, window
from arrayops._core.shapes import Axis, Pair

LEAST_CHANNELS, CHANNELS_LAST = 16, 128
"""Channels of a block, groups permitting, in images with rows and with channels side by side.

The latter are read from memory once for every block that takes some channels of their pixels.
"""

STACKED_PLACES = 2048
"""Places of a run up to which images are stacked."""

BLOCK_BYTES = 3 << 18
"""Size of the samples and outputs of a block up to which groups are added to it: half of a second-level cache."""

LEAST_BLOCKS = 8
"""Blocks of a call where its groups, images and places allow: a few for each of a few threads."""


class Stack(NamedTuple):
    """A tile of each of ``images`` images, which begin ``step`` rows apart in planes and in runs."""

    tile: Tile
    images: int
    step: int

    @property
    def places(self) -> int:
        """Places of a plane."""
        return ((self.images - 1) * self.step + self.tile.input.rows) * self.tile.pitch

    @property
    def run(self) -> int:
        """Places of a flat run, from the first image's first output to the last image's last row."""
        return ((self.images - 1) * self.step + self.tile.rows) * self.tile.pitch

    def by_image(self, places: Array) -> Array:
        """Places (..., n) of planes or of a run as (..., images, step, pitch)."""
        shape = self.images, self.step, self.tile.pitch
        return places[..., : math.prod(shape)].reshape(*places.shape[:-1], *shape)


class Division(NamedTuple):
    """The blocks of a call: ``groups_at_once`` groups, and the ``stacks`` of each ``images`` images."""

    groups: int
    groups_at_once: int
    batch: int
    images: int
    stacks: tuple[Stack, ...]

    @property
    def parts(self) -> int:
        """How many times some groups are taken."""
        return -(-self.groups // self.groups_at_once)

    @property
    def jobs(self) -> int:
        """Blocks of some groups."""
        return -(-self.batch // self.images) * len(self.stacks)

    @property
    def blocks(self) -> int:
        """Blocks in all: the jobs of the first groups, then those of the next."""
        return self.parts * self.jobs

    def part(self, index: int) -> slice:
        """Groups of a part."""
        return slice(index * self.groups_at_once, min((index + 1) * self.groups_at_once, self.groups))

    def job(self, index: int) -> tuple[slice, Stack]:
        """Images and stack of a job: all images of a stack one after the other."""
        stack, images = divmod(index, -(-self.batch // self.images))
        return slice(images * self.images, min((images + 1) * self.images, self.batch)), self.stacks[stack]


def narrowest(images: Array, groups: int, channels: Pair) -> int:
    """Groups of ``channels`` (inputs, outputs) that a block has at least, of images (N, C, H, W)."""
    least = LEAST_CHANNELS if images.strides[3] == images.itemsize else CHANNELS_LAST
    return min(max(1, groups), -(-least // max(1, min(channels))))


@lru_cache(maxsize=128)
def divide(axes: tuple[Axis, Axis], batch: int, groups: int, least: int, channels: Pair, itemsize: int) -> Division:
    """Division of a convolution whose groups have ``channels`` (inputs, outputs) of ``itemsize`` bytes.

    At least ``least`` groups are taken at once.

    It depends on the shapes alone, so that results do not depend on the machine.
    """
    whole = window(axes)
    kept = whole.planes[0] * channels[0], channels[1]
    parts = -(-groups // least)
    image_bytes, place_bytes = least * kept[0] * itemsize, least * kept[1] * itemsize
    shape = tile_shape(whole, batch * parts, (image_bytes, 0), place_bytes)
    tiles = cut_tiles(axes, (1, 1), (axes[0].size, axes[1].size), shape, wrapped=True)
    stacks = tuple(Stack(tile, 1, tile.input.rows) for tile in tiles)
    images = 1
    if len(tiles) == 1 and batch > 1:
        (tile,) = tiles
        step = shared_pitch(whole.taps[0].input, axes[0].size, tile.rows, tile.rows + whole.taps[0].input.reach)
        most = min(batch, STACKED_PLACES // max(1, step * tile.pitch))
        if most > 1:
            images = balanced_share(batch, most)
            stacks = (Stack(tile, images, step),)
    run = max((stack.places for stack in stacks), default=1)
    jobs = max(1, -(-batch // images) * len(stacks))
    most = max(least, min(BLOCK_BYTES // max(1, sum(kept) * itemsize * run), groups * jobs // LEAST_BLOCKS))
    return Division(groups, equal_share(groups, most), batch, images, stacks)


def equal_share(count: int, most: int) -> int:
    """The size of equal shares of ``count`` that hold at most ``most``, if not much less; else of about equal ones."""
    return next((share for share in range(min(most, count), most // 2, -1) if count % share == 0), 0) or balanced_share(
        count, most
    )


def balanced_share(count: int, most: int) -> int:
    """Size of the fewest about equal shares of ``count`` that hold at most ``most``."""
    return -(-count // max(1, -(-count // most)))
