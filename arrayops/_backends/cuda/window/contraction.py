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
from arrayops._backends.cuda.engine.device import THREADS
from arrayops._backends.cuda.engine.launch import launch, struct
from arrayops._backends.cuda.engine.module import Kernel
from arrayops._backends.cuda.engine.structures import ArrayView, view
from arrayops._backends.cuda.window.plan import WindowCall, WindowPlan, correlation_strides, filter_defines
from arrayops._core.kernel_source import Pairs
from arrayops._core.shapes import Axis, Pair

# Output channels of a block of the multiply-add kernel -> (rows, columns) of its tile. Tiles are larger for few output
# channels, so that a block has at least a warp.
TILE_BY_OUTPUTS = {64: (8, 16), 32: (8, 16), 16: (16, 16), 8: (16, 16)}
MAX_STAGED_CHANNELS = 8
"""Maximum number of source channels that the multiply-add kernel stages at once."""
MAX_MERGED_CHANNELS = 8
"""Maximum number of channels of a merged group, for the multiply-add kernel."""
MAX_KERNEL_TAPS = 32
"""Maximum number of taps whose kernel values are in shared memory at once."""
MAX_KERNEL_BYTES = 32 << 10
"""Maximum size of kernel values in shared memory, for the multiply-add kernel. float64 with wide tiles keeps fewer
taps, or kernel values and weights would exceed the shared memory of compute capability 7.5."""
MAX_WEIGHT_BYTES = 16 << 10
"""Maximum size of the weights that are staged at once."""
DEFAULT_SHARED_BYTES = 48 << 10
"""Limit of shared memory above which fewer channels are staged at once."""

MIN_MMA_CAPABILITY = 80
MMA_TILE = (16, 16)
MMA_OUTPUT_TILES = (16, 32, 64)
VECTOR_BYTES = 16
MMA_STEP_BYTES = 32
"""Bytes of a row that one step of the product covers."""
MMA_PIXEL_TILES = 2
MAX_MMA_STEPS = 2


@dataclass(frozen=True, eq=False)
class ContractionLaunch:
    """A launch of a contraction, and of the packing of its weight, except for arrays."""

    function: Kernel
    shared_bytes: int
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    geometry: np.void
    pack: Kernel
    packed_size: int
    packing_grid: tuple[int, int, int]
    packing: np.void


def contract(call: WindowCall, source: Any, bias: Any, result: Any, backward: bool = False) -> None:
    """Write the sums over taps and channels of ``source`` to ``result``."""
    plan = call.plan
    aligned = source.data.ptr % VECTOR_BYTES == 0
    key = aligned, view(source) if backward else "forward"
    config: ContractionLaunch | None = plan.launches.get(key)
    if config is None:
        config = plan.launches[key] = _launch(plan, view(source), aligned, result.shape, backward)
    packed = memory.empty((config.packed_size,), result.dtype)
    launch(config.pack, config.packing_grid, (THREADS, 1, 1), (config.packing, call.weight, packed))
    arguments = (*call.arguments, config.geometry, source, packed, bias, result)
    launch(config.function, config.grid, config.block, arguments, config.shared_bytes)


def orientation(axis: Axis, backward: bool) -> tuple[int, int, int]:
    """Step and upsampling of the gather along one axis (see ``window_gather.cuh``), and the size of its result."""
    step, upsampling = (1, axis.stride) if axis.transposed else (axis.stride, 1)
    return (upsampling, step, axis.size) if backward else (step, upsampling, axis.output)


def merged_groups(groups: int, width: int, max_channels: int) -> int:
    """Number of groups to merge into one: the largest divisor of ``groups`` with at most ``max_channels`` channels."""
    return max((n for n in range(1, max_channels // max(width, 1) + 1) if groups % n == 0), default=1)


@dataclass(frozen=True)
class ContractionShape:
    """The sizes of a contraction with ``groups`` groups, each merged from ``merged_groups`` groups of the call."""

    plan: WindowPlan
    groups: int
    merged_groups: int
    sources: int
    results: int
    backward: bool

    @property
    def taps(self) -> int:
        """Number of taps of a chunk; all taps without an adaptive kernel."""
        return min(self.plan.taps, MAX_KERNEL_TAPS) if self.plan.adaptive else self.plan.taps

    @property
    def kernel_taps(self) -> int:
        """Number of taps whose kernel values are in shared memory; 0 without an adaptive kernel."""
        return self.taps if self.plan.adaptive else 0

    def orientation(self, axis: int) -> tuple[int, int, int]:
        """See `orientation`."""
        return orientation(self.plan.axes[axis], self.backward)

    def merged(self, max_channels: int) -> "ContractionShape":
        """The shape with narrow groups merged, up to ``max_channels`` channels."""
        count = merged_groups(self.groups, max(self.sources, self.results), max_channels)
        return replace(
            self,
            groups=self.groups // count,
            merged_groups=self.merged_groups * count,
            sources=self.sources * count,
            results=self.results * count,
        )

    def stage(self, tile: Pair) -> Pair:
        """Rows and columns of the source that a tile's taps read."""

        def extent(i: int) -> int:
            step, upsampling, _ = self.orientation(i)
            axis = self.plan.axes[i]
            return (tile[i] - 1) * step + (axis.kernel - 1) * axis.dilation // upsampling + 1

        return extent(0), extent(1)

    def tiles(self, tile: Pair) -> Pair:
        """Number of tiles along rows and columns of the largest phase."""

        def count(i: int) -> int:
            _, upsampling, size = self.orientation(i)
            return -(-size // (upsampling * tile[i]))

        return count(0), count(1)


@dataclass(frozen=True)
class ContractionKernel:
    """The kernel for a contraction.

    ``channels`` channels of ``stage`` rows and columns are staged at once; ``sources_last`` is the layout of weights.
    """

    file: str
    name: str
    shape: ContractionShape
    tile: Pair
    stage: Pair
    output_tile: int
    channels: int
    threads: int
    shared_bytes: int
    defines: Pairs
    sources_last: bool


def _launch(
    plan: WindowPlan, source: ArrayView, aligned: bool, result_shape: tuple[int, ...], backward: bool
) -> ContractionLaunch:
    assert plan.weight is not None
    parameters, layout = plan.parameters, plan.parameters.layout
    inputs, outputs = plan.group_channels
    sources, results = (outputs, inputs) if backward else (inputs, outputs)
    call_shape = ContractionShape(plan, parameters.groups, 1, sources, results, backward)
    kernel = _mma_kernel(call_shape) or _fma_kernel(call_shape)
    shape, tile = kernel.shape, kernel.tile
    source_strides = structures.image_strides(source.strides, layout)
    defines = kernel.defines
    packing_defines: Pairs = ()
    if backward:
        defines += (("BACKWARD", ""),)
    if kernel.sources_last:
        if aligned and _in_vectors(shape, source_strides, source.dtype.itemsize):
            defines += (("ALIGNED", ""),)
        if layout == "NHWC" and plan.dtype.itemsize == 2 and shape.results % 2 == 0:
            defines += (("PAIRED", ""),)
        packing_defines = _packing_defines(plan)
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
    packed_size = shape.groups * plan.taps * padded_sources * padded_results
    phases = shape.orientation(0)[1] * shape.orientation(1)[1]
    return ContractionLaunch(
        function=plan.kernel(kernel.file, kernel.name, *defines, shared_bytes=kernel.shared_bytes),
        shared_bytes=kernel.shared_bytes,
        grid=(plan.batch * phases * down * across, shape.groups * (padded_results // kernel.output_tile), 1),
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
        # Packing does not depend on windows or adaptive kernels: all operators share the compiled kernel.
        pack=module.kernel(
            "pack_weights.cu", "pack_weights", (*filter_defines(plan.dtype, plan.kernel_size), *packing_defines)
        ),
        packed_size=packed_size,
        packing_grid=(plan.blocks(packed_size), 1, 1),
        packing=struct(
            structures.PACKING,
            weight=correlation_strides(plan, plan.weight, backward),
            merged_groups=shape.merged_groups,
            **counts,
        ),
    )


def _packing_defines(plan: WindowPlan) -> Pairs:
    sources_last: Pairs = (("SOURCES_LAST", ""),)
    return (*sources_last, ("TO_TF32", "")) if plan.dtype.itemsize == 4 else sources_last


def _in_vectors(shape: ContractionShape, strides: tuple[int, int, int, int], itemsize: int) -> bool:
    """Whether the channels of each pixel and group are whole vectors, all with the alignment of the first."""
    length = VECTOR_BYTES // itemsize
    batch, channel, row, column = strides
    return channel == 1 and all(step % length == 0 for step in (batch, row, column, shape.sources))


def _fma_kernel(call_shape: ContractionShape) -> ContractionKernel:
    plan, shape = call_shape.plan, call_shape.merged(MAX_MERGED_CHANNELS)
    itemsize = plan.accumulator.itemsize
    is_double = itemsize == 8
    thread = 4 if is_double else 8
    output_tile = next(tile for tile in sorted(TILE_BY_OUTPUTS) if tile >= min(shape.results, 32 if is_double else 64))
    tile = TILE_BY_OUTPUTS[output_tile]
    stage_rows, stage_pitch = shape.stage(tile)
    # A warp reads eight or more rows at once: an odd pitch avoids bank conflicts.
    stage_pitch |= 1
    stage_bytes = stage_rows * stage_pitch * itemsize
    channels = next(
        count for count in (1, 2, 4, MAX_STAGED_CHANNELS) if count >= min(shape.sources, MAX_STAGED_CHANNELS)
    )
    pixels = tile[0] * tile[1]
    taps = min(shape.taps, MAX_KERNEL_BYTES // (pixels * itemsize)) if plan.adaptive else shape.taps
    kernel_taps = min(shape.kernel_taps, taps)
    weight_taps = min(taps, max(1, MAX_WEIGHT_BYTES // (channels * output_tile * itemsize)))

    def shared(count: int, stage: int) -> int:
        total: int = (kernel_taps * pixels + weight_taps * count * output_tile) * itemsize + count * stage
        return total

    while channels > 1 and shared(channels, stage_bytes) > DEFAULT_SHARED_BYTES:
        channels //= 2
    unstaged = shared(channels, stage_bytes) > plan.gpu.shared_bytes
    if unstaged:
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
        *((("UNSTAGED", ""),) if unstaged else ()),
    )
    threads = pixels // thread * (output_tile // thread)
    return ContractionKernel(
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


def _mma_kernel(call_shape: ContractionShape) -> ContractionKernel | None:
    """The tensor-core kernel; None if the dtype, the kernel values or the GPU do not allow it, or it does not fit."""
    plan = call_shape.plan
    itemsize = plan.dtype.itemsize
    capable = plan.gpu.compute_capability >= MIN_MMA_CAPABILITY
    if itemsize == 8 or (itemsize == 4 and plan.precise) or not capable:
        return None
    if plan.dtype == np.float16 and not plan.at_most_one:
        return None
    elements = MMA_STEP_BYTES // itemsize
    shape = call_shape.merged(elements)
    # With fewer channels than half a step, most of a product would be multiplications by zero.
    if shape.sources < elements // 2 or shape.results < 8:
        return None
    steps = min(MAX_MMA_STEPS, -(-shape.sources // elements))
    channels = steps * elements
    output_tile = next((tile for tile in MMA_OUTPUT_TILES if tile >= shape.results), MMA_OUTPUT_TILES[-1])
    row_bytes = steps * MMA_STEP_BYTES + MMA_STEP_BYTES // 2
    stage_rows, stage_pitch = shape.stage(MMA_TILE)
    weight_taps = min(shape.taps, max(1, MAX_WEIGHT_BYTES // (output_tile * row_bytes)))
    shared_bytes = (
        shape.kernel_taps * MMA_TILE[0] * MMA_TILE[1] * 4
        + weight_taps * output_tile * row_bytes
        + stage_rows * stage_pitch * row_bytes
    )
    if shared_bytes > plan.gpu.shared_bytes:
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
    return ContractionKernel(
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
