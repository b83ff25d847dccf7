"""Sums over taps of kernel times weight times input, for the flat runs of a tile.

Both contractions work through a run in chunks that stay in cache, and through the taps in groups where a chunk of all
of them would not. ``samples`` are the input's planes as (planes, channels, places), ``kernel`` is (taps, G, run).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple, Protocol

import numpy as np

from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.products import balanced, multiply
from arrayops._backends.numpy.program import Program, add_sum
from arrayops._backends.numpy.tiles import FlatPhase, FlatTap, TapBlock
from arrayops._backends.numpy.views import Grid, shifted

CHUNK_BYTES = 5 << 18
"""Size of the buffer that holds the scaled samples of a chunk: about half of a core's second-level cache."""

LEAST_DEPTH, MOST_OUTPUTS = 256, 64
"""Terms of a sum from which, and outputs of a group up to which, that is worth the transposition of the results."""

FORWARD_TAPS, BACKWARD_TAPS = 8, 4
"""Taps that share the columns, where the channels leave a choice between more taps and longer chunks."""


def split(blocks: tuple[TapBlock, ...], most: int) -> list[TapBlock]:
    """Cut blocks by whole rows of taps, or within rows where those are too long, into about ``most`` taps each."""
    parts = []
    for block in blocks:
        rows, columns, row_step, column_step = block.grid
        height = max(1, round(most / columns))
        height = -(-rows // -(-rows // height))
        width = columns if columns <= most else most
        for row in range(0, rows, height):
            for column in range(0, columns, width):
                grid = Grid(min(height, rows - row), min(width, columns - column), row_step, column_step)
                first = block.first + row * columns + column
                offset = block.offset + row * row_step + column * column_step
                parts.append(TapBlock(first, block.plane, offset, grid))
    return parts


class Steps(NamedTuple):
    """How many groups, taps and places are worked on at a time."""

    groups: int
    taps: int
    places: int

    def each(self, groups: int, run: int) -> Iterator[tuple[slice, int, int]]:
        """Slice of the groups, first place and number of places of each step."""
        for group in range(0, groups, self.groups):
            for start in range(0, run, self.places):
                yield slice(group, min(group + self.groups, groups)), start, min(self.places, run - start)


@dataclass
class Gradients:
    """Where a contraction's backward puts its results; None for those not wanted.

    ``samples`` and ``weight`` are added to, ``kernel`` is overwritten.
    """

    samples: Array | None
    kernel: Array | None
    weight: Array | None


class Contraction(Protocol):
    """What the operators need of a contraction."""

    @property
    def outputs(self) -> int:
        """Output channels."""

    @property
    def groups(self) -> int:
        """Groups of them."""

    @property
    def places_first(self) -> bool:
        """Whether `forward` wants the output's channels (of a group) side by side."""

    @property
    def weight(self) -> Array | None:
        """Filter in the order of the contraction, None where there is none."""

    def forward(self, samples: Array, kernel: Array, phase: FlatPhase, output: Array, program: Program) -> None:
        """Write the sums to ``output`` (groups, outputs of a group, run)."""

    def backward(
        self, samples: Array, kernel: Array, phase: FlatPhase, grad: Array, into: Gradients, program: Program
    ) -> None:
        """Gradients of samples, kernel and weight from ``grad`` (outputs, run), zero at junk."""

    def workspace(self, run: int, backward: bool) -> int:
        """Bytes of scratch that a run takes, beside what the caller holds."""


def _add_taps(total: Array, phase: FlatPhase, part: Array) -> None:
    """Add the gradient of a phase's taps, (groups, taps, ...), to that of the weight, (groups, kh, kw, ...)."""
    total[:, [tap.row for tap in phase.taps], [tap.column for tap in phase.taps]] += part


@dataclass(frozen=True)
class Grouped:
    """A weight for each pair of channels of a group: matrix products over (taps x channels).

    ``weight`` is (groups, kh, kw, channels of a group, outputs of a group), contiguous.
    """

    weight: Array
    _chosen: dict[int, Array] = field(default_factory=dict, compare=False)

    @property
    def outputs(self) -> int:
        """Output channels."""
        return self.groups * int(self.weight.shape[4])

    @property
    def groups(self) -> int:
        """Groups of them."""
        return int(self.weight.shape[0])

    @property
    def places_first(self) -> bool:
        """Whether outputs are made with the channels of a group side by side, for products in blocks of places.

        The results are then transposed as they are stored. Sums of fewer terms do not make up for that, nor do wide
        groups, whose rows of places fall on too few lines of the cache.
        """
        _, height, width, channels, outputs = self.weight.shape
        return bool(height * width * channels >= LEAST_DEPTH and outputs <= MOST_OUTPUTS)

    def workspace(self, run: int, backward: bool) -> int:
        """The columns of a chunk, its partial product, and the gradient of the weight with its summand."""
        steps = self._steps(
            run, self.weight.shape[1] * self.weight.shape[2], BACKWARD_TAPS if backward else FORWARD_TAPS
        )
        gradient = 3 * self.weight.nbytes if backward else 0
        return 3 * CHUNK_BYTES + int(self.outputs * steps.places * self.weight.itemsize + gradient)

    def _has_all(self, phase: FlatPhase) -> bool:
        """Whether a phase has all taps of the filter, in its order."""
        _, height, width, _, _ = self.weight.shape
        taps = phase.taps
        return len(taps) == height * width and all(tap.row * width + tap.column == at for at, tap in enumerate(taps))

    def _of(self, phase: FlatPhase) -> Array:
        """Weights of a phase's taps, (groups, taps, channels, outputs)."""
        groups, _, _, channels, outputs = self.weight.shape
        taps = phase.taps
        if self._has_all(phase):
            return self.weight.reshape(groups, len(taps), channels, outputs)
        # Phases live as long as the tiles of the call, which hold them.
        chosen = self._chosen.get(id(phase))
        if chosen is None:
            chosen = self.weight[:, [tap.row for tap in taps], [tap.column for tap in taps]]
            self._chosen[id(phase)] = chosen
        return chosen

    def _steps(self, run: int, all_taps: int, taps: int) -> Steps:
        """Steps through the groups, ``all_taps`` taps and a run, so that their columns fill the buffer.

        Forward many taps at once are best: their products add up within one matrix product. Backward long chunks are,
        for the more calls that are made on each. Groups have nothing in common, so that rather fewer of them than all
        are taken at once.
        """
        groups, _, _, channels, _ = self.weight.shape
        place = max(1, channels * self.weight.itemsize)
        chunk = balanced(run, min(max(CHUNK_BYTES // (taps * max(1, groups) * place), 512), 4096))
        fitting = max(1, CHUNK_BYTES // (max(1, all_taps) * place * chunk))
        at_once = -(-groups // -(-groups // fitting)) if groups else 1
        return Steps(at_once, max(1, -(-CHUNK_BYTES // (at_once * place * chunk))), chunk)

    def forward(self, samples: Array, kernel: Array, phase: FlatPhase, output: Array, program: Program) -> None:
        """Scale the samples of each tap by the kernel, then one matrix product for a part of the taps."""
        weight = self._of(phase)
        groups, taps, channels, outputs = weight.shape
        run = output.shape[-1]
        steps = self._steps(run, taps, FORWARD_TAPS)
        parts = split(phase.blocks, steps.taps)
        planes = samples.reshape(samples.shape[0], groups, channels, samples.shape[2])
        if not parts:
            program(output.fill, 0)
        for some, start, length in steps.each(groups, run):
            target = output[some, :, start : start + length]
            for number, (first, plane, offset, grid) in enumerate(parts):
                source = shifted(planes[plane, some], offset + start, grid, length)
                matrix = self._columns(source, self._scale(kernel, first, grid, start, length), program)
                factors = weight[some, first : first + grid.taps].reshape(len(target), grid.taps * channels, outputs)
                if number == 0:
                    multiply(factors, matrix, target, program)
                    continue
                # Of the same order in memory.
                order = (0, 2, 1) if self.places_first else (0, 1, 2)
                shape = tuple(target.shape[axis] for axis in order)
                product = program.buffer("product", shape, weight.dtype).transpose(order)
                multiply(factors, matrix, product, program)
                program(np.add, target, product, out=target)

    def backward(
        self, samples: Array, kernel: Array, phase: FlatPhase, grad: Array, into: Gradients, program: Program
    ) -> None:
        """The transposed matrix product gives the gradient of the scaled samples; the rest follows from it."""
        weight = self._of(phase)
        groups, taps, channels, outputs = weight.shape
        run = grad.shape[-1]
        steps = self._steps(run, taps, BACKWARD_TAPS)
        parts = split(phase.blocks, steps.taps)
        planes = samples.reshape(samples.shape[0], groups, channels, samples.shape[2])
        grouped_grad = grad.reshape(groups, outputs, run)
        grad_planes = None if into.samples is None else into.samples.reshape(planes.shape)
        grad_weight = None
        if into.weight is not None and self._has_all(phase):
            grad_weight = into.weight.reshape(weight.shape)
        elif into.weight is not None:
            grad_weight = program.buffer("grad_taps", weight.shape, weight.dtype)
            program(grad_weight.fill, 0)
        for some, start, length in steps.each(groups, run):
            part = grouped_grad[some, :, start : start + length]
            for first, plane, offset, grid in parts:
                factors = weight[some, first : first + grid.taps].reshape(len(part), grid.taps * channels, outputs)
                source = shifted(planes[plane, some], offset + start, grid, length)
                scale = self._scale(kernel, first, grid, start, length)
                if grad_planes is not None or into.kernel is not None:
                    columns = program.buffer("columns", source.shape, weight.dtype)
                    program(np.matmul, factors, part, out=columns.reshape(len(part), grid.taps * channels, length))
                    if into.kernel is not None:
                        # All groups share the kernel, and each step adds those that it has.
                        target = self._scale(into.kernel, first, grid, start, length)
                        self._add_products(source, columns, target[:, :, 0], some.start == 0, program)
                    if grad_planes is not None:
                        program(np.multiply, columns, scale, out=columns)
                        for row, column in product(range(grid.rows), range(grid.columns)):
                            at = offset + start + row * grid.row_step + column * grid.column_step
                            target = grad_planes[plane, some, :, at : at + length]
                            program(np.add, target, columns[:, row, column], out=target)
                if grad_weight is not None:
                    summand = program.buffer("summand", factors.shape, weight.dtype)
                    matrix = self._columns(source, scale, program)
                    # This way round: the long dimension in front is half as fast again in OpenBLAS.
                    program(np.matmul, matrix, part.transpose(0, 2, 1), out=summand)
                    sums = grad_weight[some, first : first + grid.taps].reshape(factors.shape)
                    program(np.add, sums, summand, out=sums)
        if into.weight is not None and grad_weight is not None and not self._has_all(phase):
            program(_add_taps, into.weight, phase, grad_weight)

    @staticmethod
    def _columns(source: Array, scale: Array, program: Program) -> Array:
        """Scaled samples as the matrix (groups, taps x channels, length)."""
        groups, rows, across, channels, length = source.shape
        columns = program.buffer("columns", source.shape, source.dtype)
        program(np.multiply, source, scale, out=columns)
        return columns.reshape(groups, rows * across * channels, length)

    @staticmethod
    def _add_products(source: Array, columns: Array, target: Array, first: bool, program: Program) -> None:
        """Sum ``source`` times ``columns`` over groups and channels, in ``target`` (rows, columns, length)."""
        if first:
            program(np.einsum, "grtcn,grtcn->rtn", source, columns, out=target)
            return
        total = program.buffer("product", target.shape, target.dtype)
        program(np.einsum, "grtcn,grtcn->rtn", source, columns, out=total)
        program(np.add, target, total, out=target)

    @staticmethod
    def _scale(kernel: Array, first: int, grid: Grid, start: int, length: int) -> Array:
        """The kernel of a part and chunk, (rows, columns, 1, length): one value for all channels."""
        return kernel[first : first + grid.taps, :, start : start + length].reshape(grid.rows, grid.columns, 1, length)


@dataclass(frozen=True)
class Channelwise:
    """One filter for every channel, or none at all (``weight`` is None: pooling).

    There is always a kernel, which may differ by channel.

    ``weight`` is (kh, kw).
    """

    weight: Array | None
    outputs: int
    dtype: "np.dtype[Any]"
    places_first: bool = False
    groups: int = 1

    def workspace(self, run: int, backward: bool) -> int:
        """The product of one tap, for a chunk."""
        return CHUNK_BYTES // 2

    def _chunk(self, run: int) -> int:
        return balanced(run, max(256, CHUNK_BYTES // 4 // (max(1, self.outputs) * self.dtype.itemsize)))

    def forward(self, samples: Array, kernel: Array, phase: FlatPhase, output: Array, program: Program) -> None:
        """Add up the scaled samples tap by tap."""
        run = kernel.shape[-1]
        chunk = self._chunk(run)
        for start in range(0, run, chunk):
            stop = min(start + chunk, run)
            target = output[0, :, start:stop]
            program(target.fill, 0)
            product = program.buffer("product", target.shape, self.dtype)
            for index, tap in enumerate(phase.taps):
                scale = self._scale(kernel[index, :, start:stop], tap, program)
                program(np.multiply, samples[tap.plane, :, tap.offset + start : tap.offset + stop], scale, out=product)
                program(np.add, target, product, out=target)

    def backward(
        self, samples: Array, kernel: Array, phase: FlatPhase, grad: Array, into: Gradients, program: Program
    ) -> None:
        """The same products, tap by tap, with the roles of samples, kernel and output exchanged."""
        run = kernel.shape[-1]
        chunk = self._chunk(run)
        shared = kernel.shape[1] == 1
        for start in range(0, run, chunk):
            stop = min(start + chunk, run)
            part = grad[:, start:stop]
            product = program.buffer("product", part.shape, self.dtype)
            moment = program.buffer("moment", (kernel.shape[1], stop - start), self.dtype)
            for index, tap in enumerate(phase.taps):
                places = slice(tap.offset + start, tap.offset + stop)
                values = kernel[index, :, start:stop]
                if into.samples is not None:
                    program(np.multiply, part, self._scale(values, tap, program), out=product)
                    target = into.samples[tap.plane, :, places]
                    program(np.add, target, product, out=target)
                if into.kernel is None and into.weight is None:
                    continue
                if shared:
                    program(np.einsum, "cn,cn->n", samples[tap.plane, :, places], part, out=moment[0])
                else:
                    program(np.multiply, samples[tap.plane, :, places], part, out=moment)
                if into.kernel is not None:
                    factor = 1 if self.weight is None else self.weight[tap.row, tap.column]
                    program(np.multiply, moment, factor, out=into.kernel[index, :, start:stop])
                if into.weight is not None:
                    program(np.multiply, moment, values, out=moment)
                    program(add_sum, into.weight[tap.row, tap.column, None], moment)

    def _scale(self, values: Array, tap: FlatTap, program: Program) -> Array:
        if self.weight is None:
            return values
        scale = program.buffer("weighted", values.shape, self.dtype)
        program(np.multiply, values, self.weight[tap.row, tap.column], out=scale)
        return scale
