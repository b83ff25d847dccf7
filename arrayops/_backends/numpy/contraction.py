"""Sums over taps of kernel times weight times input, for the flat runs of a tile.

Both contractions work through a run in chunks that stay in cache, and through the taps in groups where a chunk of all
of them would not. ``samples`` are the input's planes as (planes, channels, places), ``kernel`` is (taps, G, run).
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from arrayops._backends.numpy.blocks import Scratch
from arrayops._backends.numpy.memory import Array
from arrayops._backends.numpy.tiles import FlatPhase, FlatTap

CHUNK_BYTES = 1 << 20
"""Size of the buffer that holds the scaled samples of a chunk: about half of a core's second-level cache."""


def balanced(run: int, chunk: int) -> int:
    """Length, in whole cache lines, of the fewest about equal chunks of at most about ``chunk`` that make up a run."""
    chunks = max(1, -(-run // chunk))
    return -(-max(run, 1) // chunks // 16) * 16


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

    @property
    def outputs(self) -> int:
        """Output channels."""
        return int(self.weight.shape[0] * self.weight.shape[4])

    def workspace(self, run: int) -> int:
        """The columns of a chunk, its partial product, and the gradient of the weight with its summand."""
        _, chunk = self._steps(1, run)
        return 2 * CHUNK_BYTES + int(self.outputs * chunk * self.weight.itemsize + 3 * self.weight.nbytes)

    def _of(self, taps: tuple[FlatTap, ...]) -> Array:
        """Weights of the taps, (groups, taps, channels, outputs)."""
        groups, height, width, channels, outputs = self.weight.shape
        if len(taps) == height * width:
            return self.weight.reshape(groups, height * width, channels, outputs)
        chosen: Array = self.weight[:, [tap.row for tap in taps], [tap.column for tap in taps]]
        return chosen

    def _steps(self, taps: int, run: int) -> tuple[int, int]:
        """Number of taps in a group, and of places in a chunk.

        Eight taps a group make the inner dimension of the products long enough, and chunks of 256 places and more make
        up for the cost of a NumPy call.
        """
        place = max(1, self.weight.shape[0] * self.weight.shape[3] * self.weight.itemsize)
        chunk = balanced(run, min(max(CHUNK_BYTES // (8 * place), 256), 2048))
        group = max(1, CHUNK_BYTES // (place * chunk))
        return -(-taps // -(-taps // group)) if taps else 1, chunk

    def forward(self, samples: Array, kernel: Array, phase: FlatPhase, output: Array, scratch: Scratch) -> None:
        """Scale the samples of each tap by the kernel, then one matrix product for a group of taps."""
        taps = phase.taps
        weight = self._of(taps)
        groups, _, channels, outputs = weight.shape
        run = kernel.shape[-1]
        group, chunk = self._steps(len(taps), run)
        grouped_samples = samples.reshape(samples.shape[0], groups, channels, samples.shape[2])
        grouped_output = output.reshape(groups, outputs, run)
        if not taps:
            grouped_output[...] = 0
        for start in range(0, run, chunk):
            stop = min(start + chunk, run)
            target = grouped_output[:, :, start:stop]
            for first in range(0, len(taps), group):
                some = taps[first : first + group]
                columns = scratch("columns", (groups, len(some), channels, stop - start), weight.dtype)
                for index, tap in enumerate(some):
                    source = grouped_samples[tap.plane, :, :, tap.offset + start : tap.offset + stop]
                    np.multiply(source, kernel[first + index, 0, start:stop], out=columns[:, index])
                factors = weight[:, first : first + group].reshape(groups, len(some) * channels, outputs)
                matrix = columns.reshape(groups, len(some) * channels, stop - start)
                if first == 0:
                    np.matmul(factors.transpose(0, 2, 1), matrix, out=target)
                else:
                    product = scratch("product", target.shape, weight.dtype)
                    np.matmul(factors.transpose(0, 2, 1), matrix, out=product)
                    np.add(target, product, out=target)

    def backward(
        self, samples: Array, kernel: Array, phase: FlatPhase, grad: Array, into: Gradients, scratch: Scratch
    ) -> None:
        """The transposed matrix product gives the gradient of the scaled samples; the rest follows tap by tap."""
        taps = phase.taps
        weight = self._of(taps)
        groups, _, channels, outputs = weight.shape
        run = kernel.shape[-1]
        group, chunk = self._steps(len(taps), run)
        grouped_samples = samples.reshape(samples.shape[0], groups, channels, samples.shape[2])
        grouped_grad = grad.reshape(groups, outputs, run)
        grad_samples = None if into.samples is None else into.samples.reshape(grouped_samples.shape)
        grad_weight = None
        if into.weight is not None:
            grad_weight = scratch("grad_taps", weight.shape, weight.dtype)
            grad_weight[...] = 0
        for start in range(0, run, chunk):
            stop = min(start + chunk, run)
            part = grouped_grad[:, :, start:stop]
            for first in range(0, len(taps), group):
                some = taps[first : first + group]
                columns = scratch("columns", (groups, len(some), channels, stop - start), weight.dtype)
                matrix = columns.reshape(groups, len(some) * channels, stop - start)
                factors = weight[:, first : first + group].reshape(groups, len(some) * channels, outputs)
                if grad_samples is not None or into.kernel is not None:
                    np.matmul(factors, part, out=matrix)
                for index, tap in enumerate(some):
                    places = slice(tap.offset + start, tap.offset + stop)
                    source, column = grouped_samples[tap.plane, :, :, places], columns[:, index]
                    scale = kernel[first + index, 0, start:stop]
                    if into.kernel is not None:
                        np.einsum("gcn,gcn->n", source, column, out=into.kernel[first + index, 0, start:stop])
                    if grad_samples is not None:
                        np.multiply(column, scale, out=column)
                        target = grad_samples[tap.plane, :, :, places]
                        np.add(target, column, out=target)
                    if grad_weight is not None:
                        np.multiply(source, scale, out=column)
                if grad_weight is not None:
                    # This way round: the long dimension in front is half as fast again in OpenBLAS.
                    summand = scratch("summand", factors.shape, weight.dtype)
                    np.matmul(matrix, part.transpose(0, 2, 1), out=summand)
                    sums = grad_weight[:, first : first + group].reshape(factors.shape)
                    np.add(sums, summand, out=sums)
        if into.weight is not None and grad_weight is not None:
            into.weight[:, [tap.row for tap in taps], [tap.column for tap in taps]] += grad_weight


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
