"""Runs the forward of a call tile by tile: the adaptive kernel, contracted at once or stored as the result."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from arrayops._backends.numpy.adaptive import TileKernel
from arrayops._backends.numpy.blocks import Compute, run_blocks
from arrayops._backends.numpy.layouts import channels_first, kernel_channels_first
from arrayops._backends.numpy.memory import Array, empty, store
from arrayops._backends.numpy.pac_call import Call, TilePlanes
from arrayops._backends.numpy.pac_contraction import Contraction
from arrayops._backends.numpy.program import Program
from arrayops._backends.numpy.scratch import Scratch
from arrayops._backends.numpy.tiles import Outputs, Tile
from arrayops._core.shapes import Pair
from arrayops._ops.images import image_shape
from arrayops._ops.pac import kernel_shape

Results = tuple[Array | None, ...]


@dataclass(frozen=True)
class _Plan:
    """Buffers and programs for tiles of one kind: the planes, and for each phase its program and kernel.

    ``output`` is (groups, outputs of a group, rows, pitch), empty where the kernel is the result.
    """

    planes: TilePlanes
    phases: list[tuple[Program, TileKernel]]
    output: Array


def _output(
    contraction: Contraction | None, tile: Tile, dtype: "np.dtype[Any]", program: Program
) -> tuple[Array, Array]:
    """An uninitialised output of a tile, as (groups, outputs of a group, run) and with rows and pitch for the run."""
    groups, outputs = (1, 0) if contraction is None else (contraction.groups, contraction.outputs)
    each = outputs // max(groups, 1)
    if contraction is not None and contraction.places_first:
        places = program.buffer("output", (groups, tile.rows, tile.pitch, each), dtype)
        return places.reshape(groups, tile.run, each).transpose(0, 2, 1), places.transpose(0, 3, 1, 2)
    places = program.buffer("output", (groups, each, tile.rows, tile.pitch), dtype)
    return places.reshape(groups, each, tile.run), places


def _plan(call: Call, tile: Tile, scratch: Scratch) -> _Plan:
    programs = [Program(scratch) for _ in tile.phases]
    planes = call.planes(tile, programs[0])
    contraction = call.contraction
    run, places = _output(contraction, tile, call.dtype, programs[0])
    phases = []
    for program, phase, part in zip(programs, tile.phases, tile.outputs, strict=True):
        kernel = call.phase_kernel(planes, tile, phase, part, program)
        if contraction is not None and planes.samples is not None:
            contraction.forward(planes.samples, kernel.values, phase, run, program)
            if call.bias is not None:
                program(np.add, run, call.bias.reshape(*run.shape[:2], 1), out=run)
        phases.append((program, kernel))
    return _Plan(planes, phases, places)


def forward(call: Call, dtype: "np.dtype[Any]") -> Results:
    """Output of ``dtype``, and output mask."""
    assert call.contraction is not None
    shape = image_shape(call.batch, call.contraction.outputs, call.output_size, call.layout)
    result = empty(shape, dtype)
    view = channels_first(result, call.layout)

    def keep(image: int, tile: Tile, number: int, kernel: TileKernel, output: Array) -> None:
        outputs = tile.outputs[number]
        height, width = outputs.extent
        target = view[image, :, outputs.rows, outputs.columns]
        store(target.reshape(*output.shape[:2], height, width), output[:, :, :height, :width])

    return result, _run(call, keep)


def kernel_forward(call: Call, kernel_size: Pair, guide: Array) -> Results:
    """Adaptive kernel (in the layout and dtype of ``guide``) and output mask."""
    assert call.adaptive is not None
    shape = kernel_shape(call.batch, call.adaptive.width, kernel_size, call.output_size, call.layout)
    result = empty(shape, guide.dtype)
    view = kernel_channels_first(result, call.layout)

    def keep(image: int, tile: Tile, number: int, kernel: TileKernel, output: Array) -> None:
        outputs = tile.outputs[number]
        height, width = outputs.extent
        places = kernel.values.reshape(*kernel.values.shape[:2], tile.rows, tile.pitch)
        for tap, values in zip(tile.phases[number].taps, places, strict=True):
            target = view[image, :, tap.row, tap.column, outputs.rows, outputs.columns]
            store(target, values[:, :height, :width])

    return result, _run(call, keep)


def _run(call: Call, keep: Any) -> Array | None:
    """Run all tiles, hand each phase's results to ``keep``, and return the output mask, if the call has a mask."""
    output_mask = mask_view = None
    if call.mask is not None:
        output_mask = empty(image_shape(call.batch, 1, call.output_size, call.layout), np.bool_)
        mask_view = channels_first(output_mask, call.layout)

    def begin(scratch: Scratch) -> Compute:
        plans: dict[Any, _Plan] = {}

        def compute(index: int) -> None:
            image, tile = call.block(index)
            plan = plans.get(tile.kind)
            if plan is None:
                plan = plans[tile.kind] = _plan(call, tile, scratch)
            call.load(plan.planes, image, tile)
            for number, (program, kernel) in enumerate(plan.phases):
                call.load_kernel(kernel, image, tile, tile.phases[number], tile.outputs[number])
                program.run()
                keep(image, tile, number, kernel, plan.output)
                if mask_view is not None:
                    _store_mask(mask_view[image, 0], tile, tile.outputs[number], kernel)

        return compute

    run_blocks(call.blocks, begin, workspace=call.workspace)
    return output_mask


def _store_mask(view: Array, tile: Tile, outputs: Outputs, kernel: TileKernel) -> None:
    """Write where a phase's windows have taps left."""
    if kernel.left is not None:
        height, width = outputs.extent
        left = kernel.left.reshape(tile.rows, tile.pitch)[:height, :width]
        np.greater(left, 0, out=view[outputs.rows, outputs.columns])
