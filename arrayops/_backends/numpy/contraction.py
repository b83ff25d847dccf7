"""Sums over taps of kernel times weight times input, for the flat runs of a tile.

Both contractions work through a run in chunks that stay in cache, and through the taps in groups where a chunk of all
of them would not. ``samples`` are the input's planes as (planes, channels, places), ``kernel`` is (taps, G, run).
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from arrayops._backends.numpy.blocks import Scratch
from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.tiles import FlatPhase, FlatTap, TapRun
from arrayops._backends.numpy.views import add_shifted, shifted

CHUNK_BYTES = 5 << 18
"""Size of the buffer that holds the scaled samples of a chunk: about half of a core's second-level cache."""


def balanced(run: int, chunk: int) -> int:
    """Length, in whole cache lines, of the fewest about equal chunks of at most about ``chunk`` that make up a run."""
    chunks = max(1, -(-run // chunk))
    return -(-max(run, 1) // chunks // 16) * 16


def split(runs: tuple[TapRun, ...], most: int) -> list[tuple[TapRun, ...]]:
    """Neighbouring runs in about equal parts of at most ``most`` taps; longer runs are cut."""
    short = [
        run._replace(first=run.first + at, taps=min(most, run.taps - at), offset=run.offset + at * run.step)
        for run in runs
        for at in range(0, run.taps, most)
    ]
    parts: list[tuple[TapRun, ...]] = []
    left = sum(run.taps for run in short)
    while short:
        aim = -(-left // -(-left // most))
        part = [short.pop(0)]
        taken = part[0].taps
        while short and taken + short[0].taps <= max(aim, taken):
            taken += short[0].taps
            part.append(short.pop(0))
        parts.append(tuple(part))
        left -= taken
    return parts


def extent(runs: tuple[TapRun, ...]) -> tuple[int, int]:
    """First tap of neighbouring runs, and number of their taps."""
    return runs[0].first, runs[-1].first + runs[-1].taps - runs[0].first


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
    def weight(self) -> Array | None:
        """Filter in the order of the contraction, None where there is none."""

    def forward(self, samples: Array, kernel: Array, phase: FlatPhase, output: Array, scratch: Scratch) -> None:
        """Write the sums to ``output`` (outputs, run)."""

    def backward(
        self, samples: Array, kernel: Array, phase: FlatPhase, grad: Array, into: Gradients, scratch: Scratch
    ) -> None:
        """Gradients of samples, kernel and weight from ``grad`` (outputs, run), zero at junk."""

    def workspace(self, run: int) -> int:
        """Bytes of scratch that a run takes, beside what the caller holds."""


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
        return int(self.weight.shape[0] * self.weight.shape[4])

    def workspace(self, run: int) -> int:
        """The columns of a chunk, its partial product, and the gradient of the weight with its summand."""
        _, chunk = self._steps(run)
        return 3 * CHUNK_BYTES + int(self.outputs * chunk * self.weight.itemsize + 3 * self.weight.nbytes)

    def _of(self, phase: FlatPhase) -> Array:
        """Weights of a phase's taps, (groups, taps, channels, outputs)."""
        groups, height, width, channels, outputs = self.weight.shape
        taps = phase.taps
        if len(taps) == height * width and all(tap.row * width + tap.column == at for at, tap in enumerate(taps)):
            return self.weight.reshape(groups, height * width, channels, outputs)
        # Phases live as long as the tiles of the call, which hold them.
        chosen = self._chosen.get(id(phase))
        if chosen is None:
            chosen = self.weight[:, [tap.row for tap in taps], [tap.column for tap in taps]]
            self._chosen[id(phase)] = chosen
        return chosen

    def _steps(self, run: int) -> tuple[int, int]:
        """Most taps of a group, and number of places in a chunk.

        Long chunks: a NumPy call costs microseconds, and with several threads each is a turn at the interpreter.
        """
        place = max(1, self.weight.shape[0] * self.weight.shape[3] * self.weight.itemsize)
        chunk = balanced(run, min(max(CHUNK_BYTES // (6 * place), 512), 4096))
        return max(1, CHUNK_BYTES // (place * chunk)), chunk

    def forward(self, samples: Array, kernel: Array, phase: FlatPhase, output: Array, scratch: Scratch) -> None:
        """Scale the samples of each tap by the kernel, then one matrix product for a group of taps."""
        weight = self._of(phase)
        groups, _, channels, outputs = weight.shape
        run = kernel.shape[-1]
        most, chunk = self._steps(run)
        parts = split(phase.runs, most)
        planes = samples.reshape(samples.shape[0], groups, channels, samples.shape[2])
        grouped_output = output.reshape(groups, outputs, run)
        if not parts:
            grouped_output[...] = 0
        for start in range(0, run, chunk):
            length = min(chunk, run - start)
            target = grouped_output[:, :, start : start + length]
            for number, runs in enumerate(parts):
                first, taps = extent(runs)
                columns = scratch("columns", (groups, taps, channels, length), weight.dtype)
                for some in runs:
                    begin, end = some.first - first, some.first - first + some.taps
                    scale = kernel[some.first : some.first + some.taps, :, start : start + length]
                    source = shifted(planes[some.plane], some.offset + start, some.step, some.taps, length)
                    np.multiply(source, scale, out=columns[:, begin:end])
                factors = weight[:, first : first + taps].reshape(groups, taps * channels, outputs).transpose(0, 2, 1)
                matrix = columns.reshape(groups, taps * channels, length)
                if number == 0:
                    np.matmul(factors, matrix, out=target)
                else:
                    product = scratch("product", target.shape, weight.dtype)
                    np.matmul(factors, matrix, out=product)
                    np.add(target, product, out=target)

    def backward(
        self, samples: Array, kernel: Array, phase: FlatPhase, grad: Array, into: Gradients, scratch: Scratch
    ) -> None:
        """The transposed matrix product gives the gradient of the scaled samples; the rest follows from it.

        The columns have zeros around each chunk, so that the taps of a run, which add to places shifted against each
        other, can be added up by one slanted view.
        """
        weight = self._of(phase)
        groups, all_taps, channels, outputs = weight.shape
        run = kernel.shape[-1]
        most, chunk = self._steps(run)
        parts = split(phase.runs, most)
        planes = samples.reshape(samples.shape[0], groups, channels, samples.shape[2])
        grouped_grad = grad.reshape(groups, outputs, run)
        grad_planes = None if into.samples is None else into.samples.reshape(planes.shape)
        grad_weight = None
        if into.weight is not None:
            grad_weight = scratch("grad_taps", weight.shape, weight.dtype)
            grad_weight[...] = 0
        for start in range(0, run, chunk):
            length = min(chunk, run - start)
            part = grouped_grad[:, :, start : start + length]
            for runs in parts:
                first, taps = extent(runs)
                margin = max((some.taps - 1) * some.step for some in runs) if grad_planes is not None else 0
                margin = -(-margin // 16) * 16
                padded = scratch("columns", (groups, taps, channels, margin + length + margin), weight.dtype)
                columns = padded[..., margin : margin + length]
                factors = weight[:, first : first + taps].reshape(groups, taps * channels, outputs)
                matrix = padded.reshape(groups, taps * channels, padded.shape[-1])[:, :, margin : margin + length]
                if grad_planes is not None or into.kernel is not None:
                    np.matmul(factors, part, out=matrix)
                for some in runs:
                    here = columns[:, some.first - first : some.first - first + some.taps]
                    source = shifted(planes[some.plane], some.offset + start, some.step, some.taps, length)
                    scale = kernel[some.first : some.first + some.taps, :, start : start + length]
                    if into.kernel is not None:
                        target = into.kernel[some.first : some.first + some.taps, 0, start : start + length]
                        np.einsum("gtcn,gtcn->tn", source, here, out=target)
                    if grad_planes is not None:
                        np.multiply(here, scale, out=here)
                if grad_planes is not None:
                    padded[..., :margin] = 0
                    padded[..., margin + length :] = 0
                    for some in runs:
                        reach = (some.taps - 1) * some.step
                        places = slice(some.offset + start, some.offset + start + length + reach)
                        target = grad_planes[some.plane, :, :, places]
                        add_shifted(target, padded, some.first - first, some.taps, margin, some.step, scratch)
                if grad_weight is not None:
                    for some in runs:
                        here = columns[:, some.first - first : some.first - first + some.taps]
                        scale = kernel[some.first : some.first + some.taps, :, start : start + length]
                        source = shifted(planes[some.plane], some.offset + start, some.step, some.taps, length)
                        np.multiply(source, scale, out=here)
                    # This way round: the long dimension in front is half as fast again in OpenBLAS.
                    summand = scratch("summand", factors.shape, weight.dtype)
                    np.matmul(matrix, part.transpose(0, 2, 1), out=summand)
                    sums = grad_weight[:, first : first + taps].reshape(factors.shape)
                    np.add(sums, summand, out=sums)
        if into.weight is not None and grad_weight is not None and all_taps:
            rows, across = [tap.row for tap in phase.taps], [tap.column for tap in phase.taps]
            into.weight[:, rows, across] += grad_weight


@dataclass(frozen=True)
class Channelwise:
    """One filter for every channel, or none at all (``weight`` is None: pooling). The kernel may differ by channel.

    ``weight`` is (kh, kw).
    """

    weight: Array | None
    outputs: int
    dtype: "np.dtype[Any]"

    def workspace(self, run: int) -> int:
        """The product of one tap, for a chunk."""
        return CHUNK_BYTES // 2

    def _chunk(self, run: int) -> int:
        return balanced(run, max(256, CHUNK_BYTES // 4 // (max(1, self.outputs) * self.dtype.itemsize)))

    def forward(self, samples: Array, kernel: Array, phase: FlatPhase, output: Array, scratch: Scratch) -> None:
        """Add up the scaled samples tap by tap."""
        run = kernel.shape[-1]
        chunk = self._chunk(run)
        for start in range(0, run, chunk):
            stop = min(start + chunk, run)
            target = output[:, start:stop]
            target[...] = 0
            product = scratch("product", target.shape, self.dtype)
            for index, tap in enumerate(phase.taps):
                scale = self._scale(kernel[index, :, start:stop], tap, scratch)
                np.multiply(samples[tap.plane, :, tap.offset + start : tap.offset + stop], scale, out=product)
                np.add(target, product, out=target)

    def backward(
        self, samples: Array, kernel: Array, phase: FlatPhase, grad: Array, into: Gradients, scratch: Scratch
    ) -> None:
        """The same products, tap by tap, with the roles of samples, kernel and output exchanged."""
        run = kernel.shape[-1]
        chunk = self._chunk(run)
        shared = kernel.shape[1] == 1
        for start in range(0, run, chunk):
            stop = min(start + chunk, run)
            part = grad[:, start:stop]
            product = scratch("product", part.shape, self.dtype)
            moment = scratch("moment", (kernel.shape[1], stop - start), self.dtype)
            for index, tap in enumerate(phase.taps):
                places = slice(tap.offset + start, tap.offset + stop)
                values = kernel[index, :, start:stop]
                if into.samples is not None:
                    np.multiply(part, self._scale(values, tap, scratch), out=product)
                    target = into.samples[tap.plane, :, places]
                    np.add(target, product, out=target)
                if into.kernel is None and into.weight is None:
                    continue
                if shared:
                    np.einsum("cn,cn->n", samples[tap.plane, :, places], part, out=moment[0])
                else:
                    np.multiply(samples[tap.plane, :, places], part, out=moment)
                if into.kernel is not None:
                    factor = 1 if self.weight is None else self.weight[tap.row, tap.column]
                    np.multiply(moment, factor, out=into.kernel[index, :, start:stop])
                if into.weight is not None:
                    np.multiply(moment, values, out=moment)
                    into.weight[tap.row, tap.column] += moment.sum(dtype=np.float64)

    def _scale(self, values: Array, tap: FlatTap, scratch: Scratch) -> Array:
        if self.weight is None:
            return values
        scale = scratch("weighted", values.shape, self.dtype)
        np.multiply(values, self.weight[tap.row, tap.column], out=scale)
        return scale
