"""Launches the grouped contraction, forward or as the gradient of the input.

There are two kernels. ``contraction.cu`` uses scalar multiply-adds, for every dtype. ``contraction_mma.cu`` uses tensor
cores: for half precision, and for float32 if TF32 is enabled, from compute capability 8.0 on. It rounds input samples
scaled by the adaptive kernel to the dtype; float16, with its small range, requires kernel values of at most 1.

Groups narrower than a tile are merged into one group whose weights between them are zero (see ``pack_weights.cu``).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from arrayops._backends.cuda.engine import memory, module, structures
from arrayops._backends.cuda.engine.launch import launch, struct
from arrayops._backends.cuda.engine.module import Kernel, Pairs
from arrayops._backends.cuda.engine.structures import View, view
from arrayops._backends.cuda.window.plan import THREADS, Call, Plan, correlation_strides, filter_defines
from arrayops._core.shapes import Axis, Pair

# Most output channels that a block makes on multiply-adds, and (rows, columns) of its tile. Blocks keep at least a
# warp, so narrow ones take larger tiles.
TILES = {64: (8, 16), 32: (8, 16), 16: (16, 16), 8: (16, 16)}
CHANNELS = 8
"""Source channels that are staged at once on multiply-adds, at most."""
NARROWEST = 8
"""Channels up to which narrow groups are taken together on multiply-adds."""
TAPS = 32
"""Taps whose kernel values are kept at once."""
KERNEL_BYTES = 32 << 10
"""Kernel values that are kept at once on multiply-adds: float64 with wide tiles keeps fewer taps, or K and the weights
alone would be beyond the shared memory of compute capability 7.5."""
WEIGHT_BYTES = 16 << 10
"""Weights that are staged at once."""
DEFAULT_SHARED_BYTES = 48 << 10
"""Beyond, fewer channels are staged at once."""

MMA_CAPABILITY = 80
MMA_TILE = (16, 16)
MMA_OUTPUTS = (16, 32, 64)
VECTOR_BYTES = 16
MMA_STEP_BYTES = 32
"""Bytes of a row that one step of a product takes."""
MMA_PIXEL_TILES = 2
MMA_STEPS = 2


@dataclass(frozen=True, eq=False)
class Launch:
    """How a contraction is launched: its kernel, and the packing of its weight."""

    function: Kernel
    shared_bytes: int
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    geometry: np.void
    pack: Kernel
    packed_size: int
    packing_grid: tuple[int, int, int]
    packing: np.void


def contract(call: Call, source: Any, bias: Any, result: Any, backward: bool = False) -> None:
    """Write the sums over taps and channels of ``source`` to ``result``."""
    made = call.plan
    aligned = source.data.ptr % VECTOR_BYTES == 0
    key = aligned, view(source) if backward else "forward"
    how: Launch | None = made.launches.get(key)
    if how is None:
        how = made.launches[key] = _launch(made, view(source), aligned, result.shape, backward)
    packed = memory.empty((how.packed_size,), result.dtype)
    launch(how.pack, how.packing_grid, (THREADS, 1, 1), (how.packing, call.weight, packed))
    arguments = (*call.arguments, how.geometry, source, packed, bias, result)
    launch(how.function, how.grid, how.block, arguments, how.shared_bytes)


def orientation(axis: Axis, backward: bool) -> tuple[int, int, int]:
    """Step and stuff of the gather (see ``window_gather.cuh``), and the size of its result."""
    step, stuff = (1, axis.stride) if axis.transposed else (axis.stride, 1)
    return (stuff, step, axis.size) if backward else (step, stuff, axis.output)


def span(groups: int, width: int, most: int) -> int:
    """Groups that are taken together as one: the largest divisor of ``groups`` with at most ``most`` channels."""
    return max((n for n in range(1, most // max(width, 1) + 1) if groups % n == 0), default=1)


@dataclass(frozen=True)
class _Shape:
    """The sizes of a contraction: of ``groups`` groups, each made of ``span`` groups of the call."""

    made: Plan
    groups: int
    span: int
    sources: int
    results: int
    backward: bool

    @property
    def taps(self) -> int:
        """Taps whose kernel values are kept at once; all of them where there are no such values."""
        return min(self.made.taps, TAPS) if self.made.adaptive else self.made.taps

    @property
    def kernel_taps(self) -> int:
        """Taps for which kernel values are kept."""
        return self.taps if self.made.adaptive else 0

    def orientation(self, axis: int) -> tuple[int, int, int]:
        """See `orientation`."""
        return orientation(self.made.axes[axis], self.backward)

    def together(self, most: int) -> "_Shape":
        """Narrow groups taken together up to ``most`` channels."""
        count = span(self.groups, max(self.sources, self.results), most)
        return replace(
            self,
            groups=self.groups // count,
            span=self.span * count,
            sources=self.sources * count,
            results=self.results * count,
        )

    def stage(self, tile: Pair) -> Pair:
        """Rows and columns of the source that a tile's taps read."""

        def extent(i: int) -> int:
            step, stuff, _ = self.orientation(i)
            axis = self.made.axes[i]
            return (tile[i] - 1) * step + (axis.kernel - 1) * axis.dilation // stuff + 1

        return extent(0), extent(1)

    def tiles(self, tile: Pair) -> Pair:
        """Tiles down and across the largest phase."""

        def count(i: int) -> int:
            _, stuff, size = self.orientation(i)
            return -(-size // (stuff * tile[i]))

        return count(0), count(1)


@dataclass(frozen=True)
class _Kernel:
    """The kernel for a contraction.

    ``channels`` are staged at once, in ``stage`` rows and columns; ``sources_last`` is the order of its weights.
    """

    file: str
    name: str
    shape: _Shape
    tile: Pair
    stage: Pair
    output_tile: int
    channels: int
    threads: int
    shared_bytes: int
    defines: Pairs
    sources_last: bool


def _launch(made: Plan, source: View, aligned: bool, result_shape: tuple[int, ...], backward: bool) -> Launch:
    assert made.weight is not None
    p, layout = made.parameters, made.parameters.layout
    inputs, outputs = made.group_channels
    sources, results = (outputs, inputs) if backward else (inputs, outputs)
    call_shape = _Shape(made, p.groups, 1, sources, results, backward)
    kernel = _mma(call_shape) or _multiply_adds(call_shape)
    shape, tile = kernel.shape, kernel.tile
    source_strides = structures.image_strides(source.strides, layout)
    defines = kernel.defines
    packing_defines: Pairs = ()
    if backward:
        defines += (("BACKWARD", ""),)
    if kernel.sources_last:
        if aligned and _in_vectors(shape, source_strides, source.dtype.itemsize):
            defines += (("ALIGNED", ""),)
        if layout == "NHWC" and made.dtype.itemsize == 2 and shape.results % 2 == 0:
            defines += (("PAIRED", ""),)
        packing_defines = _packing_defines(made)
    down, across = shape.tiles(tile)
    stage_rows, stage_pitch = kernel.stage
    padded_sources = -(-shape.sources // kernel.channels) * kernel.channels
    padded_results = -(-shape.results // kernel.output_tile) * kernel.output_tile
    counts = dict(
        zip(
            structures.CHANNEL_COUNTS,
            (shape.groups, shape.sources, shape.results, padded_sources, padded_results),
            strict=True,
        )
    )
    packed_size = shape.groups * made.taps * padded_sources * padded_results
    phases = shape.orientation(0)[1] * shape.orientation(1)[1]
    return Launch(
        function=made.kernel(kernel.file, kernel.name, *defines, shared_bytes=kernel.shared_bytes),
        shared_bytes=kernel.shared_bytes,
        grid=(made.batch * phases * down * across, shape.groups * (padded_results // kernel.output_tile), 1),
        block=(kernel.threads, 1, 1),
        geometry=struct(
            structures.CONTRACTION,
            source=source_strides,
            result=structures.image_strides(structures.contiguous_strides(result_shape), layout),
            tiles_down=down,
            tiles_across=across,
            stage_rows=stage_rows,
            stage_pitch=stage_pitch,
            **counts,
        ),
        # Packing depends neither on windows nor on adaptive kernels, so that calls of all operators share it.
        pack=module.kernel(
            "pack_weights.cu", "pack_weights", (*filter_defines(made.dtype, made.kernel_size), *packing_defines)
        ),
        packed_size=packed_size,
        packing_grid=(made.blocks(packed_size), 1, 1),
        packing=struct(
            structures.PACKING, weight=correlation_strides(made, made.weight, backward), span=shape.span, **counts
        ),
    )


def _packing_defines(made: Plan) -> Pairs:
    sources_last: Pairs = (("SOURCES_LAST", ""),)
    return (*sources_last, ("TO_TF32", "")) if made.dtype.itemsize == 4 else sources_last


def _in_vectors(shape: _Shape, strides: tuple[int, int, int, int], itemsize: int) -> bool:
    """Whether the channels of every place and group are whole vectors, each aligned as the first."""
    length = VECTOR_BYTES // itemsize
    batch, channel, row, column = strides
    return channel == 1 and all(step % length == 0 for step in (batch, row, column, shape.sources))


def _multiply_adds(call_shape: _Shape) -> _Kernel:
    made, shape = call_shape.made, call_shape.together(NARROWEST)
    itemsize = made.accumulator.itemsize
    wide = itemsize == 8
    thread = 4 if wide else 8
    output_tile = next(tile for tile in sorted(TILES) if tile >= min(shape.results, 32 if wide else 64))
    tile = TILES[output_tile]
    stage_rows, stage_pitch = shape.stage(tile)
    # A warp reads eight rows or more at once, which an odd pitch spreads over all banks.
    stage_pitch |= 1
    stage_bytes = stage_rows * stage_pitch * itemsize
    channels = next(count for count in (1, 2, 4, CHANNELS) if count >= min(shape.sources, CHANNELS))
    pixels = tile[0] * tile[1]
    taps = min(shape.taps, KERNEL_BYTES // (pixels * itemsize)) if made.adaptive else shape.taps
    kernel_taps = min(shape.kernel_taps, taps)
    weight_taps = min(taps, max(1, WEIGHT_BYTES // (channels * output_tile * itemsize)))

    def shared(count: int, stage: int) -> int:
        total: int = (kernel_taps * pixels + weight_taps * count * output_tile) * itemsize + count * stage
        return total

    while channels > 1 and shared(channels, stage_bytes) > DEFAULT_SHARED_BYTES:
        channels //= 2
    direct = shared(channels, stage_bytes) > made.gpu.shared_bytes
    if direct:
        stage_bytes = 0
    defines: Pairs = (
        ("TILE_ROWS", tile[0]),
        ("TILE_COLUMNS", tile[1]),
        ("OUTPUT_TILE", output_tile),
        ("THREAD_PIXELS", thread),
        ("THREAD_OUTPUTS", thread),
        ("CHANNELS", channels),
        ("TAP_CHUNK", taps),
        ("WEIGHT_TAPS", weight_taps),
        *((("DIRECT", ""),) if direct else ()),
    )
    threads = pixels // thread * (output_tile // thread)
    return _Kernel(
        file="contraction.cu",
        name="contraction_fma",
        shape=shape,
        tile=tile,
        stage=(stage_rows, stage_pitch),
        output_tile=output_tile,
        channels=channels,
        threads=threads,
        shared_bytes=shared(channels, stage_bytes),
        defines=defines,
        sources_last=False,
    )


def _mma(call_shape: _Shape) -> _Kernel | None:
    """The tensor-core kernel, where there is one for the dtype, the kernel and the GPU, and it fits."""
    made = call_shape.made
    itemsize = made.dtype.itemsize
    capable = made.gpu.compute_capability >= MMA_CAPABILITY
    if itemsize == 8 or (itemsize == 4 and made.precise) or not capable:
        return None
    if made.dtype == np.float16 and not made.at_most_one:
        return None
    elements = MMA_STEP_BYTES // itemsize
    shape = call_shape.together(elements)
    # Narrower than half a step, most of a product would be zeros.
    if shape.sources < elements // 2 or shape.results < 8:
        return None
    steps = min(MMA_STEPS, -(-shape.sources // elements))
    channels = steps * elements
    output_tile = next((tile for tile in MMA_OUTPUTS if tile >= shape.results), MMA_OUTPUTS[-1])
    row_bytes = steps * MMA_STEP_BYTES + MMA_STEP_BYTES // 2
    stage_rows, stage_pitch = shape.stage(MMA_TILE)
    weight_taps = min(shape.taps, max(1, WEIGHT_BYTES // (output_tile * row_bytes)))
    shared_bytes = (
        shape.kernel_taps * MMA_TILE[0] * MMA_TILE[1] * 4
        + weight_taps * output_tile * row_bytes
        + stage_rows * stage_pitch * row_bytes
    )
    if shared_bytes > made.gpu.shared_bytes:
        return None
    defines: Pairs = (
        ("TILE_ROWS", MMA_TILE[0]),
        ("TILE_COLUMNS", MMA_TILE[1]),
        ("OUTPUT_TILE", output_tile),
        ("PIXEL_TILES", MMA_PIXEL_TILES),
        ("STEPS", steps),
        ("TAP_CHUNK", shape.taps),
        ("WEIGHT_TAPS", weight_taps),
    )
    return _Kernel(
        file="contraction_mma.cu",
        name="contraction_mma",
        shape=shape,
        tile=MMA_TILE,
        stage=(stage_rows, stage_pitch),
        output_tile=output_tile,
        channels=channels,
        threads=32 * MMA_TILE[0] // MMA_PIXEL_TILES,
        shared_bytes=shared_bytes,
        defines=defines,
        sources_last=True,
    )
