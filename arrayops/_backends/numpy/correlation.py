"""Plain convolutions by planes: the correlation of images with a weight, and the gradient of that weight."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.numpy.blocks import NO_WORK, Compute, Work
from arrayops._backends.numpy.layouts import grouped_images
from arrayops._backends.numpy.memory import Array, add_widened, compute_dtype, load, store
from arrayops._backends.numpy.program import Program
from arrayops._backends.numpy.scratch import Scratch
from arrayops._backends.numpy.stacks import LEAST_BLOCKS, Division, Stack, balanced_share, divide, narrowest
from arrayops._backends.numpy.tap_products import Block, add_up, filter_blocks, weight_sums, workspace
from arrayops._core.shapes import Axis

Axes = tuple[Axis, Axis]

MOST_JOBS = 8
"""Tiles of one image, or of a stack, whose gradients of a weight are added in float32 before they are widened."""

LEAST_DEPTH, MOST_OUTPUTS = 150, 64
"""Terms of a product from which, and outputs of a group up to which, outputs are made side by side.

Products with the places in front go faster in OpenBLAS, but what they make must be transposed as it is stored. Sums of
fewer terms do not make up for that, nor do wide groups, whose rows of places fall on too few lines of the cache.
"""


LEAST_BESIDE = 16
"""Outputs of a group from which those of channels-last images are side by side: a line of the cache is copied."""


class _Samples(NamedTuple):
    """Planes of some groups, (planes, groups, channels, places), and the places of images in them."""

    planes: Array
    places: Array

    @classmethod
    def make(cls, scratch: Scratch, groups: int, channels: int, stack: Stack, dtype: "np.dtype[Any]") -> "_Samples":
        """Uninitialised planes for a stack."""
        planes = scratch("samples", (stack.tile.input.planes, groups, channels, stack.places), dtype)
        return cls(planes, stack.by_image(planes))

    def load(self, stack: Stack, images: Array) -> None:
        """Load images (N, groups, channels, H, W); what lies around them is left as it is."""
        given = images.transpose(1, 2, 0, 3, 4)
        stack.tile.input.load_samples(self.places[..., : given.shape[2], :, :], given)


def _outputs(
    scratch: Scratch, groups: int, outputs: int, stack: Stack, dtype: "np.dtype[Any]", side_by_side: bool
) -> Array:
    """Uninitialised (groups, outputs, places): the outputs of a place, or the places of an output, side by side."""
    places = stack.images * stack.step * stack.tile.pitch
    if side_by_side:
        return scratch("outputs", (groups, places, outputs), dtype).swapaxes(1, 2)
    return scratch("outputs", (groups, outputs, places), dtype)


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
                # Read once as they lie, not in the order in which they are written: that misses every cache.
                source = np.copy(block.of(weight), order="K")
                load(ordered.reshape(source.shape), source)
        bias = self.bias(len(weight))
        if bias is not None and self._bias is not None:
            load(bias[:, :, 0], self._bias.reshape(-1, bias.shape[1])[some])
        self._held = some


class _Plan(NamedTuple):
    """Buffers for a kind of stack and a number of groups, and what makes the outputs of each phase."""

    samples: _Samples
    phases: Sequence[tuple[Program, Callable[[Array], None]]]


def correlate(samples: Array, weight: Array, axes: Axes, bias: Array | None, result: Array) -> Work:
    """Work that writes a correlation to ``result`` (N, O, Ho, Wo): over samples or over stuffed zeros, as the axes say.

    ``samples`` are images (N, C, H, W), ``weight`` is (groups, kh, kw, inputs, outputs).
    """
    dtype = compute_dtype(samples)
    groups, _, _, channels, outputs = weight.shape
    if result.size == 0:
        return NO_WORK
    division = _divide(axes, weight, samples, dtype)
    images, results = grouped_images(samples, groups), grouped_images(result, groups)
    deep = axes[1].kernel * channels >= LEAST_DEPTH and outputs <= MOST_OUTPUTS
    side_by_side = deep or _beside(result, outputs)
    # Sums are slow to add up where they are not stored as they are made.
    places_last = not side_by_side and result.strides[3] == result.itemsize

    def begin(scratch: Scratch) -> Compute:
        # The taps of a phase are the same in every tile.
        tile = division.stacks[0].tile
        filters = _Filters(scratch, weight, bias, [filter_blocks(phase) for phase in tile.phases])
        plans: dict[Any, _Plan] = {}
        surroundings = _Surroundings()

        def plan(stack: Stack, count: int) -> _Plan:
            planes = _Samples.make(scratch, count, channels, stack, dtype)
            made = _outputs(scratch, count, outputs, stack, dtype, side_by_side)
            phases = []
            for number, phase in enumerate(stack.tile.phases):
                program = Program(scratch)
                blocks, weights, added = (
                    filter_blocks(phase),
                    filters.weights(count, number),
                    filters.bias(count),
                )
                terms = add_up(planes.planes, blocks, weights, made, stack.run, program)
                outputs_of = stack.tile.outputs[number].columns
                if terms is not None and result.dtype == dtype and outputs_of.step == 1 and places_last:
                    terms = stack.by_image(terms)
                    phases.append((program, partial(_store_sum, terms, added)))
                    continue
                if terms is not None:
                    program(np.add.reduce, terms, axis=1, out=made)
                if added is not None:
                    program(np.add, made, added, out=made)
                phases.append((program, partial(_store, stack.by_image(made))))
            return _Plan(planes, phases)

        def compute(index: int) -> None:
            part, job = divmod(index, division.jobs)
            some, (batch, stack) = division.part(part), division.job(job)
            count = some.stop - some.start
            kind = stack.tile.kind, count
            if kind not in plans:
                plans[kind] = plan(stack, count)
            planes, phases = plans[kind]
            filters.hold(some)
            surroundings.clear(stack, count, batch.stop - batch.start, planes.planes)
            planes.load(stack, images[batch, some])
            for (program, finish), outputs_of in zip(phases, stack.tile.outputs, strict=True):
                program.run()
                target = results[batch, some, :, outputs_of.rows, outputs_of.columns]
                finish(target.transpose(1, 2, 0, 3, 4))

        return compute

    return Work(division.blocks, begin, workspace=_workspace(division, weight, dtype))


def _of(places: Array, target: Array) -> Array:
    """The part of places (..., images, step, pitch) that is stored in ``target`` (..., N, Ho, Wo)."""
    images, height, width = target.shape[-3:]
    return places[..., :images, :height, :width]


def _store(places: Array, target: Array) -> None:
    store(target, _of(places, target))


def _store_sum(terms: Array, added: Array | None, target: Array) -> None:
    """Store the sum of terms (groups, n, outputs, images, step, pitch), and a bias for each group and output."""
    np.add.reduce(_of(terms, target), axis=1, out=target)
    if added is not None:
        np.add(target, added[..., None, None], out=target)


def _beside(images: Array, outputs: int) -> bool:
    """Whether outputs lie side by side in ``images`` (N, O, Ho, Wo), in runs that are long enough to be copied."""
    return images.strides[1] == images.itemsize and outputs >= LEAST_BESIDE


def weight_gradient(samples: Array, grad: Array, target: Array, axes: Axes) -> Work:
    """Work that stores the gradient of a convolution's weight in ``target`` (groups, kh, kw, inputs, outputs).

    ``samples`` are (N, C, H, W), ``grad``, that of the output, (N, O, Ho, Wo).
    """
    dtype = compute_dtype(samples)
    groups, _, _, channels, outputs = target.shape
    if samples.size == 0 or grad.size == 0:
        target[...] = 0
        return NO_WORK
    division = _divide(axes, target, samples, dtype)
    images, grads = grouped_images(samples, groups), grouped_images(grad, groups)
    side_by_side = _beside(grad, outputs)
    # Each block takes its groups through some jobs; if through all of them, its sums are the gradient.
    jobs = min(MOST_JOBS, max(1, division.jobs * division.parts // LEAST_BLOCKS))
    jobs = balanced_share(division.jobs, jobs)
    shares = -(-division.jobs // jobs)
    total = None if shares == 1 else np.zeros(target.shape)
    blocks = division.parts * shares

    def begin(scratch: Scratch) -> Compute:
        plans: dict[Any, tuple[_Samples, Array, Program]] = {}
        surroundings = _Surroundings()

        def plan(stack: Stack, found: Array, first: bool) -> tuple[_Samples, Array, Program]:
            planes = _Samples.make(scratch, len(found), channels, stack, dtype)
            given = _outputs(scratch, len(found), outputs, stack, dtype, side_by_side)
            program = Program(scratch)
            (phase,) = stack.tile.phases
            weight_sums(planes.planes, filter_blocks(phase), given[..., : stack.run], found, first, program)
            return planes, given, program

        def compute(index: int) -> tuple[slice, Array]:
            part, share = divmod(index, shares)
            some = division.part(part)
            found = scratch("grad_weight", (some.stop - some.start, *target.shape[1:]), dtype)
            for job in range(share * jobs, min((share + 1) * jobs, division.jobs)):
                batch, stack = division.job(job)
                kind = stack.tile.kind, len(found), job == share * jobs
                if kind not in plans:
                    plans[kind] = plan(stack, found, kind[2])
                planes, given, program = plans[kind]
                surroundings.clear(stack, len(found), batch.stop - batch.start, planes.planes, given)
                planes.load(stack, images[batch, some])
                (outputs_of,) = stack.tile.outputs
                source = grads[batch, some, :, outputs_of.rows, outputs_of.columns].transpose(1, 2, 0, 3, 4)
                load(_of(stack.by_image(given), source), source)
                program.run()
            if total is None:
                store(target[some], found)
            return some, found

        return compute

    def commit(index: int, found: tuple[slice, Array]) -> None:
        assert total is not None
        some, sums = found
        add_widened(total[some], sums)
        if index == blocks - 1:
            store(target, total)

    return Work(blocks, begin, None if total is None else commit, _workspace(division, target, dtype))


def _divide(axes: Axes, weight: Array, samples: Array, dtype: "np.dtype[Any]") -> Division:
    groups, _, _, channels, outputs = weight.shape
    least = narrowest(samples, groups, (channels, outputs))
    return divide(axes, len(samples), groups, least, (channels, outputs), dtype.itemsize)


def _workspace(division: Division, weight: Array, dtype: "np.dtype[Any]") -> int:
    """Bytes that a block takes: samples, outputs, weights, columns."""
    _, height, width, channels, outputs = weight.shape
    some = division.groups_at_once
    most: int = 0
    for stack in division.stacks:
        kept = some * (stack.tile.input.planes * channels + outputs) * stack.places * dtype.itemsize
        most = max(most, kept + workspace(width * channels, outputs, height, dtype.itemsize))
    return most + 2 * some * int(height * width * channels * outputs) * dtype.itemsize
