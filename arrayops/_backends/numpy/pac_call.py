"""One call of a pixel-adaptive operator, laid out for its tiles: views of the arrays, the window, loaders."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.numpy.adaptive import AdaptiveKernel, TileGuide, TileKernel, tile_kernel
from arrayops._backends.numpy.layouts import channels_first, kernel_channels_first
from arrayops._backends.numpy.memory import Array, compute_dtype, load, widened
from arrayops._backends.numpy.pac_contraction import Contraction
from arrayops._backends.numpy.program import Program
from arrayops._backends.numpy.tiles import Cut, FlatPhase, Outputs, Tile, cut_tiles, tile_bytes, tile_shape, window
from arrayops._core.shapes import Axis, Pair


@dataclass(frozen=True)
class Call:
    """Views (N, C, H, W) of what the call reads, and the tiles of its output, which has ``layout``.

    It has either ``guide`` (with ``adaptive``) or ``kernel``, (N, G, kh, kw, H, W). ``samples`` and ``contraction``
    are None for `pac_kernel2d`, which makes the kernel alone.
    """

    layout: str
    batch: int
    dtype: "np.dtype[Any]"
    tiles: tuple[Tile, ...]
    input_size: Pair
    output_size: Pair
    samples: Array | None
    guide: Array | None
    kernel: Array | None
    mask: Array | None
    adaptive: AdaptiveKernel | None
    contraction: Contraction | None
    bias: Array | None
    workspace: int

    @property
    def blocks(self) -> int:
        """Number of blocks of work: every tile of every image."""
        return self.batch * len(self.tiles)

    def block(self, index: int) -> tuple[int, Tile]:
        """Image and tile of a block."""
        image, tile = divmod(index, len(self.tiles))
        return image, self.tiles[tile]

    def planes(self, tile: Tile, program: Program) -> "TilePlanes":
        """Buffers for what a tile reads."""
        guide = samples = None
        if self.guide is not None and self.adaptive is not None:
            cut = tile.guide
            shape = cut.planes, self.guide.shape[1], cut.rows, cut.pitch
            blocked = outside = None
            flags = tile.input.planes, 1, tile.input.rows, tile.input.pitch
            if self.mask is not None:
                blocked = program.buffer("blocked", flags, np.bool_)
            # Without a mask it is what is blocked; with one, only the rescaling in place of normalisation asks for it.
            if self.adaptive.normalize == (self.mask is None):
                outside = program.buffer("outside", flags, np.bool_)
            guide = TileGuide(
                flattened(program.buffer("guide", shape, self.dtype)),
                flat_or_none(outside if blocked is None else blocked),
                flat_or_none(outside),
            )
        if self.samples is not None:
            cut = tile.input
            shape = cut.planes, self.samples.shape[1], cut.rows, cut.pitch
            samples = flattened(program.buffer("samples", shape, self.dtype))
        return TilePlanes(guide, samples)

    def load(self, planes: "TilePlanes", image: int, tile: Tile) -> None:
        """Fill the planes; samples that are masked out are never looked at again, so that NaN may stand there."""
        guide, samples = planes.guide, planes.samples
        if guide is not None and self.guide is not None:
            tile.guide.load(_unflattened(guide.planes, tile.guide), self.guide[image])
            if self.mask is not None and guide.blocked is not None:
                _load_invalid(guide.blocked, self.mask[image], tile.input)
            if guide.outside is not None:
                _load_invalid(guide.outside, np.broadcast_to(True, (1, *self.input_size)), tile.input)
        if samples is not None and self.samples is not None:
            tile.input.load(_unflattened(samples, tile.input), self.samples[image])
            if self.mask is not None and guide is not None and guide.blocked is not None:
                np.copyto(samples, 0, where=guide.blocked)

    def phase_kernel(
        self, planes: "TilePlanes", tile: Tile, phase: FlatPhase, outputs: Outputs, program: Program
    ) -> TileKernel:
        """The adaptive kernel of one phase: computed by the program, or for `load_kernel` to fill."""
        if planes.guide is not None and self.adaptive is not None:
            return tile_kernel(self.adaptive, planes.guide, phase, outputs, tile, program)
        assert self.kernel is not None
        values = program.buffer("kernel", (len(phase.taps), self.kernel.shape[1], tile.run), self.dtype)
        return TileKernel(values, values[:0], None, None, None)

    def load_kernel(self, kernel: TileKernel, image: int, tile: Tile, phase: FlatPhase, outputs: Outputs) -> None:
        """Load a phase's part of the computed kernel, if that is what the call was given."""
        if self.kernel is not None:
            self.load_taps(kernel.values, self.kernel[image], tile, phase, outputs)

    @staticmethod
    def load_taps(values: Array, kernel: Array, tile: Tile, phase: FlatPhase, outputs: Outputs) -> None:
        """Fill (taps, G, run) from (G, kh, kw, H, W), junk with zeros."""
        values[...] = 0
        places = values.reshape(*values.shape[:2], tile.rows, tile.pitch)
        height, width = outputs.extent
        for index, tap in enumerate(phase.taps):
            source = kernel[:, tap.row, tap.column, outputs.rows, outputs.columns]
            load(places[index, :, :height, :width], source)


class TilePlanes(NamedTuple):
    """What a tile reads, as flat planes: the guide, None with a computed kernel, and the samples, None without."""

    guide: TileGuide | None
    samples: Array | None


def _load_invalid(planes: Array, valid: Array, cut: Cut) -> None:
    """Make planes True where ``valid`` (1, height, width) is False, and off the image."""
    cut.load(_unflattened(planes, cut), valid)
    np.logical_not(planes, out=planes)


def flat_or_none(planes: Array | None) -> Array | None:
    """`flattened`, None for None."""
    return None if planes is None else flattened(planes)


def _unflattened(planes: Array, cut: Cut) -> Array:
    return planes.reshape(*planes.shape[:2], cut.rows, cut.pitch)


def flattened(planes: Array) -> Array:
    """Planes (planes, channels, rows, pitch) as (planes, channels, places), also where a size is zero."""
    count, channels, rows, pitch = planes.shape
    return planes.reshape(count, channels, rows * pitch)


def flat_run(program: Program, name: str, channels: int, tile: Tile, dtype: "np.dtype[Any]") -> tuple[Array, Array]:
    """An uninitialised run for ``channels``, as (channels, run) and as (channels, rows, pitch)."""
    places = program.buffer(name, (channels, tile.rows, tile.pitch), dtype)
    return places.reshape(channels, tile.run), places


def prepare(
    layout: str,
    axes: tuple[Axis, Axis],
    guide_size: Pair,
    *,
    guide: Any = None,
    adaptive: AdaptiveKernel | None = None,
    kernel: Any = None,
    mask: Any = None,
    samples: Any = None,
    contraction: Contraction | None = None,
    bias: Any = None,
    backward: bool = False,
) -> Call:
    """Lay out a call; ``guide_size`` is the resolution of the guide whether or not there is one."""
    first = guide if samples is None else samples
    dtype = compute_dtype(first)
    guide_view = None if guide is None else channels_first(guide, layout)
    kernel_view = None if kernel is None else kernel_channels_first(kernel, layout)
    sample_view = None if samples is None else channels_first(samples, layout)
    smooth_size: Pair = (1, 1) if adaptive is None or adaptive.smooth is None else adaptive.smooth.shape
    whole = window(axes, smooth_size)
    kernel_taps = axes[0].kernel * axes[1].kernel if samples is None else whole.most_taps
    width, copies = 0, 1 + backward
    if adaptive is not None:
        width, copies = adaptive.width, copies * (1 if adaptive.inv_alpha is None else 2)
    elif kernel_view is not None:
        width = kernel_view.shape[1]
    channels = 0 if sample_view is None else sample_view.shape[1]
    guide_channels = 0 if guide_view is None else guide_view.shape[1]
    image_bytes = (
        whole.planes[0] * (channels * (1 + backward) * dtype.itemsize + 2),
        whole.planes[1] * guide_channels * (1 + backward) * dtype.itemsize,
    )
    outputs = 0 if contraction is None else contraction.outputs
    # With stride 1, the differences of a row of taps are computed at once.
    differences = 3 + (axes[1].kernel if axes[0].stride == axes[1].stride == 1 else 1)
    place_bytes = (kernel_taps * width * copies + outputs + differences * guide_channels) * dtype.itemsize + 16
    batch = first.shape[0]
    shape = tile_shape(whole, batch, image_bytes, place_bytes)
    tiles = cut_tiles(axes, smooth_size, guide_size, shape, stuffed=samples is None)
    workspace = tile_bytes(tiles[0], image_bytes, place_bytes) if tiles else 0
    return Call(
        layout=layout,
        batch=batch,
        dtype=dtype,
        tiles=tiles,
        input_size=(axes[0].size, axes[1].size),
        output_size=(axes[0].output, axes[1].output),
        samples=sample_view,
        guide=guide_view,
        kernel=kernel_view,
        mask=None if mask is None else channels_first(mask, layout),
        adaptive=adaptive,
        contraction=contraction,
        bias=None if bias is None else widened(bias, dtype),
        workspace=workspace
        + (contraction.workspace(tiles[0].run, backward) if contraction is not None and tiles else 0),
    )
