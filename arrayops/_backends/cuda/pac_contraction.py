"""Launches the grouped contraction, forward or as the gradient of the input.

Two kernels make it. ``pac_contract.cu`` works on plain multiply-adds, in every dtype. ``pac_contract_mma.cu`` works on
tensor cores: half precision, and float32 where TF32 was asked for, from compute capability 8.0 on. It rounds samples
scaled by the adaptive kernel to the dtype; in float16, whose range is small, that asks for a kernel of at most 1.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from arrayops._backends.cuda import memory, structures
from arrayops._backends.cuda.launch import launch, struct
from arrayops._backends.cuda.module import Kernel, Pairs
from arrayops._backends.cuda.pac_call import PacCall
from arrayops._backends.cuda.pac_plan import THREADS, Plan, weight_strides
from arrayops._backends.cuda.structures import View, view
from arrayops._core.shapes import Axis, Pair
from arrayops._ops import images

# Most output channels that a block makes on multiply-adds, and (rows, columns) of its tile. Blocks keep at least a
# warp, so narrow ones take larger tiles.
TILES = {64: (8, 16), 32: (8, 16), 16: (16, 16), 8: (16, 16)}
CHANNELS = 8
"""Source channels that are staged at once on multiply-adds, at most."""
TAPS = 32
"""Taps whose kernel values are kept at once."""
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


def contract(call: PacCall, source: Any, bias: Any, result: Any, backward: bool = False) -> None:
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
    """Step and stuff of the gather (see ``gather.cuh``), and the size of its result."""
    step, stuff = (1, axis.stride) if axis.transposed else (axis.stride, 1)
    return (stuff, step, axis.size) if backward else (step, stuff, axis.output)


class _Shape:
    """The sizes of a contraction, whichever kernel makes it."""

    def __init__(self, made: Plan, weight: View, backward: bool) -> None:
        p = made.parameters
        extents = images.weight_extents(weight.shape, p)
        # One of the two is given for a group, the other for all groups.
        inputs = extents.inputs // p.groups if p.transposed else extents.inputs
        outputs = extents.outputs if p.transposed else extents.outputs // p.groups
        self.sources, self.results = (outputs, inputs) if backward else (inputs, outputs)
        self.axes = made.axes
        self.steps, self.stuffs, self.sizes = zip(*(orientation(axis, backward) for axis in made.axes), strict=True)
        self.taps = min(made.taps, TAPS)

    def stage(self, tile: Pair) -> Pair:
        """Rows and columns of the source that a tile's taps read."""
        rows, columns = (
            (tile[i] - 1) * self.steps[i] + (axis.kernel - 1) * axis.dilation // self.stuffs[i] + 1
            for i, axis in enumerate(self.axes)
        )
        return rows, columns

    def tiles(self, tile: Pair) -> Pair:
        """Tiles down and across the largest phase."""
        down, across = (-(-self.sizes[i] // (self.stuffs[i] * tile[i])) for i in (0, 1))
        return down, across


def _launch(made: Plan, source: View, aligned: bool, result_shape: tuple[int, ...], backward: bool) -> Launch:
    weight = made.views.weight
    assert weight is not None
    shape = _Shape(made, weight, backward)
    parts = _mma(made, shape) or _multiply_adds(made, shape)
    result_strides = structures.contiguous_strides(result_shape)
    file, name, tile, output_tile, channels, threads, shared_bytes, defines, sources_last = parts
    p = made.parameters
    layout = made.parameters.layout
    source_strides = structures.image_strides(source.strides, layout)
    if backward:
        defines += (("BACKWARD", ""),)
    if sources_last and aligned and _in_vectors(shape, source_strides, source.dtype.itemsize):
        defines += (("ALIGNED", ""),)
    packing_defines: Pairs = ()
    if sources_last:
        packing_defines += (("SOURCES_LAST", ""),)
        if made.dtype.itemsize == 4:
            packing_defines += (("TO_TF32", ""),)
    down, across = shape.tiles(tile)
    stage_rows, stage_pitch = shape.stage(tile)
    padded_sources = -(-shape.sources // channels) * channels
    padded_results = -(-shape.results // output_tile) * output_tile
    counts = dict(
        zip(
            structures.CHANNEL_COUNTS,
            (p.groups, shape.sources, shape.results, padded_sources, padded_results),
            strict=True,
        )
    )
    packed_size = p.groups * made.taps * padded_sources * padded_results
    return Launch(
        function=made.kernel(file, name, *defines, shared_bytes=shared_bytes),
        shared_bytes=shared_bytes,
        grid=(
            made.batch * shape.stuffs[0] * shape.stuffs[1] * down * across,
            p.groups * (padded_results // output_tile),
            1,
        ),
        block=(threads, 1, 1),
        geometry=struct(
            structures.CONTRACTION,
            source=source_strides,
            result=structures.image_strides(result_strides, layout),
            tiles_down=down,
            tiles_across=across,
            stage_rows=stage_rows,
            stage_pitch=stage_pitch,
            **counts,
        ),
        pack=made.kernel("pac_pack.cu", "pac_pack", *packing_defines),
        packed_size=packed_size,
        packing_grid=(made.blocks(packed_size), 1, 1),
        packing=struct(structures.PACKING, weight=weight_strides(weight, p, backward), **counts),
    )


def _in_vectors(shape: _Shape, strides: tuple[int, int, int, int], itemsize: int) -> bool:
    """Whether the channels of every place and group are whole vectors, each aligned as the first."""
    length = VECTOR_BYTES // itemsize
    batch, channel, row, column = strides
    return channel == 1 and all(step % length == 0 for step in (batch, row, column, shape.sources))


def _at_most_one(made: Plan) -> bool:
    """Whether the adaptive kernel cannot be above 1."""
    p = made.parameters
    # A mask alone divides by the share of taps that are left, so that the kernel may be as large as their number.
    rescaled = made.views.mask is not None and not p.normalize
    return p.kernel_type == "gaussian" and made.views.kernel is None and not rescaled


# File and symbol, tile, output tile, channels staged at once, threads, shared memory, macros, and whether the packed
# weight has its sources last.
_Parts = tuple[str, str, Pair, int, int, int, int, Pairs, bool]


def _multiply_adds(made: Plan, shape: _Shape) -> _Parts:
    itemsize = made.accumulator.itemsize
    wide = itemsize == 8
    thread = 4 if wide else 8
    output_tile = next(tile for tile in sorted(TILES) if tile >= min(shape.results, 32 if wide else 64))
    tile = TILES[output_tile]
    stage_rows, stage_pitch = shape.stage(tile)
    stage_bytes = stage_rows * stage_pitch * itemsize
    channels = next(count for count in (1, 2, 4, CHANNELS) if count >= min(shape.sources, CHANNELS))
    weight_taps = min(shape.taps, max(1, WEIGHT_BYTES // (channels * output_tile * itemsize)))

    def shared(count: int, stage: int) -> int:
        total: int = (shape.taps * tile[0] * tile[1] + weight_taps * count * output_tile) * itemsize + count * stage
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
        ("TAP_CHUNK", shape.taps),
        ("WEIGHT_TAPS", weight_taps),
        *((("DIRECT", ""),) if direct else ()),
    )
    threads = tile[0] * tile[1] // thread * (output_tile // thread)
    shared_bytes = shared(channels, stage_bytes)
    return "pac_contract.cu", "pac_contract", tile, output_tile, channels, threads, shared_bytes, defines, False


def _mma(made: Plan, shape: _Shape) -> _Parts | None:
    """The tensor-core kernel, where there is one for the dtype, the kernel and the GPU, and it fits."""
    itemsize = made.dtype.itemsize
    capable = made.gpu.compute_capability >= MMA_CAPABILITY
    if itemsize == 8 or (itemsize == 4 and made.precise) or not capable:
        return None
    if made.dtype == np.float16 and not _at_most_one(made):
        return None
    elements = MMA_STEP_BYTES // itemsize
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
        shape.taps * MMA_TILE[0] * MMA_TILE[1] * 4
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
    threads = 32 * MMA_TILE[0] // MMA_PIXEL_TILES
    name = "pac_contract_mma"
    return "pac_contract_mma.cu", name, MMA_TILE, output_tile, channels, threads, shared_bytes, defines, True
