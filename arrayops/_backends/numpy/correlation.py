"""Runs plain convolutions: the correlation of images with a weight, and the gradient of that weight."""

from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.numpy.blocks import Compute, Scratch, run_blocks
from arrayops._backends.numpy.memory import Array, add_widened, compute_dtype, load, store
from arrayops._backends.numpy.program import Program
from arrayops._backends.numpy.stacks import LEAST_BLOCKS, Division, Stack, balanced_share, divide
from arrayops._backends.numpy.tap_products import Block, add_up, add_weight_gradient, filter_blocks, workspace
from arrayops._backends.numpy.tiles import Outputs
from arrayops._core.shapes import Axis

Axes = tuple[Axis, Axis]

MOST_JOBS = 8
"""Tiles of one image, or of a stack, whose gradients of a weight are added in float32 before they are widened."""

LEAST_DEPTH, MOST_OUTPUTS = 150, 64
"""Terms of a product from which, and outputs of a group up to which, outputs are made side by side.

Products with the places in front go faster in OpenBLAS, but what they make must be transposed as it is stored. Sums of
fewer terms do not make up for that, nor do wide groups, whose rows of places fall on too few lines of the cache.
"""


class _Samples(NamedTuple):
    """Planes of some groups, (planes, groups, channels, places), and the places of images in them."""

    planes: Array
    places: Array

    @classmethod
    def make(cls, scratch: Scratch, groups: int, channels: int, stack: Stack, dtype: "np.dtype[Any]") -> "_Samples":
        """Uninitialised planes for a stack."""
        cut = stack.tile.input
        planes = scratch("samples", (cut.planes, groups, channels, stack.rows, cut.pitch), dtype)
        flat = planes.reshape(cut.planes, groups, channels, stack.rows * cut.pitch)
        return cls(flat, stack.places(planes))

    def load(self, stack: Stack, images: Array) -> None:
        """Load images (N, groups, channels, H, W); what lies around them is left as it is."""
        given = images.transpose(1, 2, 0, 3, 4)
        stack.tile.input.load_samples(self.places[..., : given.shape[2], :, :], given)


class _Outputs(NamedTuple):
    """Outputs of some groups, as (groups, outputs, run) and as (groups, outputs, images, step, pitch)."""

    run: Array
    places: Array

    @classmethod
    def make(
        cls, scratch: Scratch, groups: int, outputs: int, stack: Stack, dtype: "np.dtype[Any]", side_by_side: bool
    ) -> "_Outputs":
        """Uninitialised outputs for a stack, those of a place or the places of an output side by side."""
        places = stack.images, stack.step, stack.tile.pitch
        count = stack.images * stack.step * stack.tile.pitch
        if side_by_side:
            made = scratch("outputs", (groups, count, outputs), dtype)
            shaped = made.reshape(groups, *places, outputs).transpose(0, 4, 1, 2, 3)
            return cls(made[:, : stack.run].transpose(0, 2, 1), shaped)
        made = scratch("outputs", (groups, outputs, count), dtype)
        return cls(made[:, :, : stack.run], made.reshape(groups, outputs, *places))

    def of(self, outputs: Outputs, images: int) -> Array:
        """The places of a phase's outputs, (groups, outputs, N, Ho, Wo)."""
        height, width = outputs.extent
        return self.places[:, :, :images, :height, :width]


class _Surroundings:
    """Clears buffers when images come to lie elsewhere in them: what is around images is zero, and stays so."""

    def __init__(self) -> None:
        self._stack: Stack | None = None
        self._counts: tuple[int, int] | None = None

    def clear(self, stack: Stack, groups: int, images: int, *buffers: Array) -> None:
        """Make room for some groups of some images."""
        if stack is not self._stack or (groups, images) != self._counts:
            for buffer in buffers:
                buffer.fill(0)
            self._stack, self._counts = stack, (groups, images)


class _Filters:
    """Weights and bias of some groups, in the order of the products, kept until a thread takes other groups."""

    def __init__(self, scratch: Scratch, weight: Array, bias: Array | None, phases: list[list[Block]]) -> None:
        self._scratch, self._weight, self._bias, self._phases = scratch, weight, bias, phases
        self._dtype = compute_dtype(weight)
        self._held: slice | None = None

    def weights(self, groups: int, phase: int) -> list[Array]:
        """Weights (groups, rows, columns x channels, outputs) of the blocks of a phase."""
        _, _, _, channels, outputs = self._weight.shape
        return [
            self._scratch(
                f"weight {phase} {number}",
                (groups, block.taps.grid.rows, block.taps.grid.columns * channels, outputs),
                self._dtype,
            )
            for number, block in enumerate(self._phases[phase])
        ]

    def bias(self, groups: int) -> Array | None:
        """Bias (groups, outputs, 1)."""
        if self._bias is None:
            return None
        return self._scratch("bias", (groups, self._weight.shape[4], 1), self._dtype)

    def hold(self, some: slice) -> None:
        """Fill the arrays for these groups."""
        if some == self._held:
            return
        weight = self._weight[some]
        for phase, blocks in enumerate(self._phases):
            for block, ordered in zip(blocks, self.weights(len(weight), phase), strict=True):
                source = block.of(weight)
                load(ordered.reshape(source.shape), source)
        bias = self.bias(len(weight))
        if bias is not None and self._bias is not None:
            load(bias[:, :, 0], self._bias.reshape(-1, bias.shape[1])[some])
        self._held = some


class _Plan(NamedTuple):
    """Buffers for a kind of stack and a number of groups, and a program for each phase."""

    samples: _Samples
    outputs: _Outputs
    programs: list[Program]


def correlate(samples: Array, weight: Array, axes: Axes, bias: Array | None, result: Array) -> None:
    """Correlate images (N, C, H, W) with a weight (groups, kh, kw, inputs, outputs) into ``result`` (N, O, Ho, Wo).

    Over samples or over stuffed zeros, as the axes say.
    """
    dtype = compute_dtype(samples)
    groups, _, _, channels, outputs = weight.shape
    division = _divide(axes, weight, len(samples), dtype)
    images, results = _grouped(samples, groups), _grouped(result, groups)
    side_by_side = axes[1].kernel * channels >= LEAST_DEPTH and outputs <= MOST_OUTPUTS

    def begin(scratch: Scratch) -> Compute:
        # The taps of a phase are the same in every tile.
        phases = [filter_blocks(phase) for phase in division.stacks[0].tile.phases]
        filters = _Filters(scratch, weight, bias, phases)
        plans: dict[Any, _Plan] = {}
        surroundings = _Surroundings()

        def plan(stack: Stack, count: int) -> _Plan:
            planes = _Samples.make(scratch, count, channels, stack, dtype)
            made = _Outputs.make(scratch, count, outputs, stack, dtype, side_by_side)
            programs = [Program(scratch) for _ in phases]
            for number, (program, phase) in enumerate(zip(programs, stack.tile.phases, strict=True)):
                add_up(planes.planes, filter_blocks(phase), filters.weights(count, number), made.run, program)
                added = filters.bias(count)
                if added is not None:
                    program(np.add, made.run, added, out=made.run)
            return _Plan(planes, made, programs)

        def compute(index: int) -> None:
            part, job = divmod(index, division.jobs)
            some, (batch, stack) = division.part(part), division.job(job)
            count, given = some.stop - some.start, batch.stop - batch.start
            kind = stack.tile.kind, count
            if kind not in plans:
                plans[kind] = plan(stack, count)
            planes, made, programs = plans[kind]
            filters.hold(some)
            surroundings.clear(stack, count, given, planes.planes)
            planes.load(stack, images[batch, some])
            for program, outputs_of in zip(programs, stack.tile.outputs, strict=True):
                program.run()
                target = results[batch, some, :, outputs_of.rows, outputs_of.columns]
                store(target.transpose(1, 2, 0, 3, 4), made.of(outputs_of, given))

        return compute

    run_blocks(division.blocks if result.size else 0, begin, workspace=_workspace(division, weight, dtype))


def weight_gradient(samples: Array, grad: Array, target: Array, axes: Axes) -> None:
    """Store the gradient of a convolution's weight in ``target`` (groups, kh, kw, inputs, outputs).

    ``samples`` are (N, C, H, W), ``grad``, that of the output, (N, O, Ho, Wo).
    """
    dtype = compute_dtype(samples)
    groups, _, _, channels, outputs = target.shape
    division = _divide(axes, target, len(samples), dtype)
    if samples.size == 0 or grad.size == 0:
        target[...] = 0
        return
    images, grads = _grouped(samples, groups), _grouped(grad, groups)
    # Each block takes its groups through some jobs; if through all of them, its sums are the gradient.
    jobs = min(MOST_JOBS, max(1, division.jobs * division.parts // LEAST_BLOCKS))
    jobs = balanced_share(division.jobs, jobs)
    shares = -(-division.jobs // jobs)
    total = None if shares == 1 else np.zeros(target.shape)

    def begin(scratch: Scratch) -> Compute:
        plans: dict[Any, tuple[_Samples, _Outputs, Program]] = {}
        surroundings = _Surroundings()

        def plan(stack: Stack, found: Array) -> tuple[_Samples, _Outputs, Program]:
            planes = _Samples.make(scratch, len(found), channels, stack, dtype)
            made = _Outputs.make(scratch, len(found), outputs, stack, dtype, side_by_side=False)
            program = Program(scratch)
            (phase,) = stack.tile.phases
            add_weight_gradient(planes.planes, filter_blocks(phase), made.run, found, program)
            return planes, made, program

        def compute(index: int) -> tuple[slice, Array]:
            part, share = divmod(index, shares)
            some = division.part(part)
            count = some.stop - some.start
            found = scratch("grad_weight", (count, *target.shape[1:]), dtype)
            found.fill(0)
            for job in range(share * jobs, min((share + 1) * jobs, division.jobs)):
                batch, stack = division.job(job)
                given = batch.stop - batch.start
                kind = stack.tile.kind, count
                if kind not in plans:
                    plans[kind] = plan(stack, found)
                planes, made, program = plans[kind]
                surroundings.clear(stack, count, given, planes.planes, made.run)
                planes.load(stack, images[batch, some])
                (outputs_of,) = stack.tile.outputs
                source = grads[batch, some, :, outputs_of.rows, outputs_of.columns]
                load(made.of(outputs_of, given), source.transpose(1, 2, 0, 3, 4))
                program.run()
            if total is None:
                store(target[some], found)
            return some, found

        return compute

    def commit(index: int, found: tuple[slice, Array]) -> None:
        if total is not None:
            some, sums = found
            add_widened(total[some], sums)

    run_blocks(division.parts * shares, begin, commit, _workspace(division, target, dtype) + target.nbytes)
    if total is not None:
        store(target, total)


def _divide(axes: Axes, weight: Array, batch: int, dtype: "np.dtype[Any]") -> Division:
    groups, _, _, channels, outputs = weight.shape
    return divide(axes, batch, groups, (channels, outputs), dtype.itemsize)


def _grouped(images: Array, groups: int) -> Array:
    """Images (N, C, H, W) as (N, groups, channels, H, W): a view."""
    batch, channels, height, width = images.shape
    return images.reshape(batch, groups, channels // groups, height, width)


def _workspace(division: Division, weight: Array, dtype: "np.dtype[Any]") -> int:
    """Bytes that a block takes: samples, outputs, weights, columns."""
    _, height, width, channels, outputs = weight.shape
    some = division.groups_at_once
    most = 0
    for stack in division.stacks:
        places = stack.rows * stack.tile.pitch
        kept = some * (stack.tile.input.planes * channels + outputs) * places * dtype.itemsize
        most = max(most, kept + workspace(width * channels, outputs, height, dtype.itemsize))
    return most + 2 * some * height * width * channels * outputs * dtype.itemsize
