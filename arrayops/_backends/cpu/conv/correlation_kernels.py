"""Plans of correlations by kernel, and the choice of one."""

from ctypes import addressof
from functools import lru_cache

from arrayops._backends.cpu.conv.correlation import (
    LARGE_OPERATIONS,
    MAX_PACKED_BYTES,
    MIN_BLOCKS,
    PACKED_BYTES,
    Correlation,
)
from arrayops._backends.cpu.conv.geometry import FiveInts, Geometry
from arrayops._backends.cpu.conv.structures import (
    CorrelationStructure,
    DepthwiseCorrelationStructure,
    PixelCorrelationStructure,
)
from arrayops._backends.cpu.window.arrays import rounded_up
from arrayops._backends.cpu.window.structures import integers
from arrayops._backends.numpy.stacks import balanced_share

PLANES_COST, SINGLE_COST, RUNS_COST = 1.1, 1.25, 1.05
"""Measured time beside two vectors of outputs: vectors of pixels; one of outputs, without and with runs of taps."""

TO_PLANES, TO_PIXELS = 0.15, 0.05
"""What the other layout adds."""

DEPTHWISE_VECTORS = 16
"""Vectors of channels that a depthwise block packs side by side at most."""


class PlaneCorrelation(Correlation):
    """Vectors of pixels: ``conv_planes.cpp``."""

    name = "conv_planes"
    taps_first = False

    def _together(self, row_bytes: int) -> int:
        g = self.geometry
        if g.layout == "NCHW":
            return 1
        # Channels side by side are turned into planes, a vector of them at a time: many, long runs are read fast.
        narrow, wide = sorted((max(1, g.inputs), g.outputs))
        fitting, most = (size // (wide * row_bytes) for size in (PACKED_BYTES // 2, MAX_PACKED_BYTES))
        wanted, least = (-(-vectors * self.lanes // narrow) for vectors in (8, 2))
        return min(g.groups, max(min(fitting, wanted), min(most, least)))

    def _fits(self, rows: int, columns: int) -> bool:
        if self.grouped == 1:
            return super()._fits(rows, columns)
        # Results of all groups wait to be stored.
        results = self.grouped * self.outputs * rows * columns * self.item
        packed = self._sample_depth() * self._packed_bytes(rows, columns)
        return packed <= PACKED_BYTES and packed + results <= MAX_PACKED_BYTES

    @property
    def _splittable(self) -> int:
        # Groups that are packed together are stored together.
        return self.output_widths if self.grouped == 1 else 1

    def _distance(self) -> int:
        return 1

    def _results(self) -> int:
        rows, columns = self.size.most_rows, self.size.columns
        pitch = max((phase.pitch(columns) for phase in self.phases.of(rows, columns)), default=columns)
        outputs = self.width if self.grouped == 1 else self.grouped * self.outputs + self.width
        # Squares that are transposed may end a vector after the last row.
        return outputs * rounded_up((rows - 1) * pitch + columns, self.lanes) + self.lanes

    def _workspace(self) -> int:
        packed = self.phases.packed(self.size.most_rows, self.size.columns) * self._sample_depth()
        return (rounded_up(packed + self.kernels.number("slack"), self.lanes) + self._results()) * self.item

    def _structure(self, call: CorrelationStructure) -> CorrelationStructure:
        return call


class PixelCorrelation(Correlation):
    """Vectors of outputs: ``conv_pixels.cpp``."""

    name = "conv_pixels"
    taps_first = True

    @property
    def _reads_in_place(self) -> bool:
        """Whether tiles read the input, not packed samples."""
        g = self.geometry
        inside = all(axis.before <= 0 and axis.after <= 0 for axis in g.axes)
        return self.same_dtype and g.source[1] == 1 and inside and not any(axis.transposed for axis in g.axes)

    def _packed_bytes(self, rows: int, columns: int) -> int:
        return 0 if self._reads_in_place else super()._packed_bytes(rows, columns)

    def _together(self, row_bytes: int) -> int:
        g = self.geometry
        if g.layout == "NCHW":
            return 1
        # Groups side by side are packed together: long rows of channels, as long as there are enough blocks.
        grouped = min(g.groups, PACKED_BYTES // 2 // (max(1, g.inputs) * row_bytes))
        large = g.operations >= LARGE_OPERATIONS
        return min(grouped, g.images * g.groups * self.lengths[0] // MIN_BLOCKS) if large else grouped

    def _workspace(self) -> int:
        rows, columns = self.size.most_rows, self.size.columns
        packed = rounded_up(self._packed_bytes(rows, columns) * self._sample_depth(), self.lanes * self.item)
        results = 0 if self._direct else self.kernels.number("result_pixels", columns) * self.width
        return packed + results * self.item

    def _structure(self, call: CorrelationStructure) -> PixelCorrelationStructure:
        if not self._reads_in_place:
            return PixelCorrelationStructure(call, True, self._distance(), 0, self._direct)
        _, _, row, column = self.geometry.source
        # The offsets of taps are those in the input.
        phases = self.phases.of(self.size.most_rows, self.size.columns)
        for structure, phase in zip(self._table.kept[0], phases, strict=True):
            offsets = integers([y * row + x * column for y, x in phase.samples])
            structure.offsets = addressof(offsets)
            self._kept.append(offsets)
        return PixelCorrelationStructure(call, False, self.strides[1] * column, self.strides[0] * row, self._direct)


class DepthwiseCorrelation(Correlation):
    """Vectors of channels, each with its own filter: ``depthwise_pixels.cpp``. The channels are those of one group."""

    name = "depthwise_pixels"
    taps_first = True

    def _channels(self) -> tuple[int, int, int]:
        return 1, 1, self.geometry.groups

    def _width(self) -> int:
        return rounded_up(self.outputs, self.lanes)

    def _most_channels(self) -> int:
        return balanced_share(self.width // self.lanes, DEPTHWISE_VECTORS) * self.lanes

    def _sample_depth(self) -> int:
        return min(self._most_channels(), -(-self.width // self.lanes // self.output_blocks) * self.lanes)

    @property
    def _least_output_blocks(self) -> int:
        return -(-self.width // self._most_channels())

    @property
    def _splittable(self) -> int:
        return self.width // self.lanes

    def _workspace(self) -> int:
        rows, columns = self.size.most_rows, self.size.columns
        results = 0 if self._direct else columns
        return (self.phases.packed(rows, columns) + results) * self._sample_depth() * self.item

    def _weight_strides(self) -> FiveInts:
        group, row, column, _, _ = self.geometry.weight
        return 0, row, column, 0, group

    def _structure(self, call: CorrelationStructure) -> DepthwiseCorrelationStructure:
        return DepthwiseCorrelationStructure(call, self._sample_depth(), self._direct)


@lru_cache(maxsize=512)
def correlation(geometry: Geometry) -> Correlation:
    """The plan of a correlation by the fastest kernel."""
    if geometry.depthwise_pixels:
        return DepthwiseCorrelation(geometry)
    return PlaneCorrelation(geometry) if _planes_cost(geometry) < _pixels_cost(geometry) else PixelCorrelation(geometry)


def _planes_cost(g: Geometry) -> float:
    """Values computed for each output, in units of the fastest kernel: rows have a halo, few outputs are filled up."""
    rows, columns = (max(1, min(axis.output, axis.size)) for axis in g.axes)
    pitch = columns + (g.axes[1].extent - 1) // g.axes[1].stride
    positions = rounded_up((rows - 1) * pitch + columns, g.lanes) / (rows * columns)
    outputs = rounded_up(g.outputs, min(4, g.outputs)) / g.outputs
    return PLANES_COST * positions * outputs + (0 if g.layout == "NCHW" else TO_PLANES)


def _pixels_cost(g: Geometry) -> float:
    """The same for vectors of outputs."""
    columns, single = g.axes[1], g.outputs <= g.lanes
    runs = columns.kernel in (3, 5) and columns.stride == columns.dilation == 1
    outputs = rounded_up(g.outputs, g.lanes if single else 2 * g.lanes) / g.outputs
    cost = 1.0 if not single else RUNS_COST if runs else SINGLE_COST
    return outputs * cost + (TO_PIXELS if g.layout == "NCHW" else 0)
