"""Runs the backward of a call tile by tile, and adds up what tiles share in the order of the tiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arrayops._backends.numpy.adaptive import OptionGradients, TileKernel, clear_outside, tile_kernel_backward
from arrayops._backends.numpy.blocks import Compute, run_blocks
from arrayops._backends.numpy.layouts import channels_first, kernel_channels_first
from arrayops._backends.numpy.memory import Array, add_widened, as_result, empty, load, store, zeros
from arrayops._backends.numpy.pac_call import Call, TilePlanes, flat_or_none, flat_run, flattened
from arrayops._backends.numpy.pac_contraction import Gradients
from arrayops._backends.numpy.program import Program
from arrayops._backends.numpy.scratch import Scratch
from arrayops._backends.numpy.tiles import Cut, Tile
from arrayops._ops.images import image_shape
from arrayops._ops.pac import kernel_shape

OPTIONS = ("inv_alpha", "inv_lambda", "smooth_kernel")
"""The last three arrays of every operator, which shape its adaptive kernel."""


@dataclass
class Found:
    """Gradients of a call, None for those not made: full-size ones as results, small ones as float64 sums.

    ``weight`` is in the order of the contraction.
    """

    input: Array | None
    guide: Array | None
    kernel: Array | None
    weight: Array | None
    bias: Array | None
    options: OptionGradients

    def adaptive_options(self, arrays: Sequence[Any]) -> tuple[Array | None, Array | None, Array | None]:
        """Gradients of inv_alpha, inv_lambda and smooth_kernel, given those ``arrays``."""
        alpha, lambda_, smooth = (
            None if total is None else as_result(total, like)
            for total, like in zip(_each(self.options), arrays, strict=True)
        )
        return alpha, lambda_, smooth


def backward(call: Call, grad: Array, needs: frozenset[str]) -> Found:
    """Gradients of a call from ``grad``, that of its output (N, O, H, W), or of its kernel where that is the output."""
    totals = _Totals(call, needs)

    def begin(scratch: Scratch) -> Compute:
        plans: dict[Any, _Plan] = {}

        def compute(index: int) -> _TileGradients:
            image, tile = call.block(index)
            plan = plans.get(tile.kind)
            if plan is None:
                plan = plans[tile.kind] = _plan(call, totals, tile, scratch)
            call.load(plan.planes, image, tile)
            plan.clear.run()
            for number, phase in enumerate(plan.phases):
                _run_phase(call, totals, phase, grad[image], image, tile, number)
            return plan.found

        return compute

    def commit(index: int, found: _TileGradients) -> None:
        image, tile = call.block(index)
        totals.add(image, tile, found)

    run_blocks(call.blocks, begin, commit, call.workspace)
    return totals.found(needs)


class _ImageGradient:
    """Gradient of an array of images, to which tiles add; half-precision results are summed in float32."""

    def __init__(self, view: Array, layout: str, dtype: "np.dtype[Any]") -> None:
        batch, channels, height, width = view.shape
        shape = image_shape(batch, channels, (height, width), layout)
        self.result_dtype = view.dtype
        self.sums = zeros(shape, dtype)
        self.view = channels_first(self.sums, layout)

    def result(self) -> Array:
        """The sums in the dtype of the images."""
        if self.result_dtype == self.sums.dtype:
            return self.sums
        result = empty(self.sums.shape, self.result_dtype)
        store(result, self.sums)
        return result


@dataclass
class _TileGradients:
    """What one block adds to the gradients that blocks share: planes of the images, and sums."""

    samples: Array | None
    guide: Array | None
    weight: Array | None
    bias: Array | None
    options: OptionGradients


class _Totals:
    """Gradients of the whole call, None for those that are not wanted."""

    def __init__(self, call: Call, needs: frozenset[str]) -> None:
        adaptive, contraction = call.adaptive, call.contraction
        given = (None,) * 3 if adaptive is None else (adaptive.inv_alpha, adaptive.inv_lambda, adaptive.smooth)
        wanted = [option if name in needs else None for name, option in zip(OPTIONS, given, strict=True)]
        self.options = OptionGradients(*(None if option is None else np.zeros(option.shape) for option in wanted))
        self.samples = self.guide = None
        self.kernel = self.kernel_view = self.weight = self.bias = None
        if call.samples is not None and "input" in needs:
            self.samples = _ImageGradient(call.samples, call.layout, call.dtype)
        # The options' gradients come with that of the guide.
        if call.guide is not None and ("guide" in needs or any(option is not None for option in wanted)):
            self.guide = _ImageGradient(call.guide, call.layout, call.dtype)
        if call.kernel is not None and "kernel" in needs:
            batch, width, *sizes = call.kernel.shape
            shape = kernel_shape(batch, width, (sizes[0], sizes[1]), (sizes[2], sizes[3]), call.layout)
            self.kernel = zeros(shape, call.kernel.dtype)
            self.kernel_view = kernel_channels_first(self.kernel, call.layout)
        if contraction is not None and contraction.weight is not None and "weight" in needs:
            self.weight = np.zeros(contraction.weight.shape)
        if call.bias is not None and "bias" in needs:
            self.bias = np.zeros(call.bias.shape)

    def add(self, image: int, tile: Tile, found: _TileGradients) -> None:
        """Add what a tile found."""
        if self.samples is not None and found.samples is not None:
            tile.input.add(self.samples.view[image], found.samples)
        if self.guide is not None and found.guide is not None:
            tile.guide.add(self.guide.view[image], found.guide)
        sums = (self.weight, self.bias, *_each(self.options)), (found.weight, found.bias, *_each(found.options))
        for total, part in zip(*sums, strict=True):
            if total is not None and part is not None:
                add_widened(total, part)

    def found(self, needs: frozenset[str]) -> Found:
        """The gradients as results."""
        return Found(
            input=None if self.samples is None else self.samples.result(),
            guide=None if self.guide is None or "guide" not in needs else self.guide.result(),
            kernel=self.kernel,
            weight=self.weight,
            bias=self.bias,
            options=self.options,
        )


@dataclass(frozen=True)
class _Phase:
    """Program and buffers of a phase; ``grad_output`` is (outputs, rows, pitch), None without a contraction."""

    program: Program
    kernel: TileKernel
    grad_output: Array | None
    grad_kernel: Array | None


@dataclass(frozen=True)
class _Plan:
    """Buffers and programs for tiles of one kind."""

    planes: TilePlanes
    clear: Program
    phases: list[_Phase]
    found: _TileGradients


def _plan(call: Call, totals: _Totals, tile: Tile, scratch: Scratch) -> _Plan:
    clear = Program(scratch)
    found = _TileGradients(
        samples=_zero_planes(clear, "grad_samples", totals.samples, tile.input, call.dtype),
        guide=_zero_planes(clear, "grad_guide", totals.guide, tile.guide, call.dtype),
        weight=None if totals.weight is None else clear.buffer("grad_weight", totals.weight.shape, call.dtype),
        bias=None if totals.bias is None else np.empty(totals.bias.shape),
        options=OptionGradients(*(None if total is None else np.empty(total.shape) for total in _each(totals.options))),
    )
    for sums in (found.weight, found.bias, *_each(found.options)):
        if sums is not None:
            clear(sums.fill, 0)
    planes = call.planes(tile, clear)
    phases = [_plan_phase(call, totals, tile, number, planes, found, scratch) for number in range(len(tile.phases))]
    return _Plan(planes, clear, phases, found)


def _plan_phase(
    call: Call,
    totals: _Totals,
    tile: Tile,
    number: int,
    planes: TilePlanes,
    found: _TileGradients,
    scratch: Scratch,
) -> _Phase:
    phase, outputs, contraction = tile.phases[number], tile.outputs[number], call.contraction
    program = Program(scratch)
    kernel = call.phase_kernel(planes, tile, phase, outputs, program)
    grad_kernel = places = None
    if totals.guide is not None or totals.kernel is not None:
        grad_kernel = program.buffer("grad_kernel", kernel.values.shape, call.dtype)
    if contraction is not None and planes.samples is not None:
        run, places = flat_run(program, "grad_output", contraction.outputs, tile, call.dtype)
        clear_outside(run, tile, outputs, program)
        into = Gradients(flat_or_none(found.samples), grad_kernel, found.weight)
        contraction.backward(planes.samples, kernel.values, phase, run, into, program)
        if found.bias is not None:
            program(_add_places, found.bias, run)
    if grad_kernel is not None and planes.guide is not None and found.guide is not None:
        assert call.adaptive is not None
        clear_outside(grad_kernel, tile, outputs, program)
        tile_kernel_backward(
            call.adaptive,
            planes.guide,
            phase,
            tile,
            kernel,
            grad_kernel,
            flattened(found.guide),
            found.options,
            program,
        )
    return _Phase(program, kernel, places, grad_kernel)


def _run_phase(call: Call, totals: _Totals, phase: _Phase, grad: Array, image: int, tile: Tile, number: int) -> None:
    """Load the gradient of one image's output, run the program, and store the kernel's gradient if that is a result."""
    outputs, taps = tile.outputs[number], tile.phases[number].taps
    height, width = outputs.extent
    call.load_kernel(phase.kernel, image, tile, tile.phases[number], outputs)
    if phase.grad_output is not None:
        load(phase.grad_output[:, :height, :width], grad[:, outputs.rows, outputs.columns])
    elif phase.grad_kernel is not None:
        call.load_taps(phase.grad_kernel, grad, tile, tile.phases[number], outputs)
    phase.program.run()
    if totals.kernel_view is not None and phase.grad_kernel is not None:
        parts = phase.grad_kernel.reshape(*phase.grad_kernel.shape[:2], tile.rows, tile.pitch)
        for tap, part in zip(taps, parts, strict=True):
            target = totals.kernel_view[image, :, tap.row, tap.column, outputs.rows, outputs.columns]
            store(target, part[:, :height, :width])


def _zero_planes(
    program: Program, name: str, wanted: _ImageGradient | None, cut: Cut, dtype: "np.dtype[Any]"
) -> Array | None:
    if wanted is None:
        return None
    planes = program.buffer(name, (cut.planes, wanted.view.shape[1], cut.rows, cut.pitch), dtype)
    program(planes.fill, 0)
    return planes


def _add_places(total: Array, run: Array) -> None:
    """Add the sum over a run, (channels, places), to the total of each channel."""
    total += run.sum(axis=1, dtype=np.float64)


def _each(options: OptionGradients) -> tuple[Array | None, Array | None, Array | None]:
    return options.inv_alpha, options.inv_lambda, options.smooth_kernel
