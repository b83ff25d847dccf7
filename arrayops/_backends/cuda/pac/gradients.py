"""Gradients of the adaptive kernel, and of the arrays it is computed from."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from arrayops._backends.cuda.engine import memory, structures
from arrayops._backends.cuda.engine.device import THREADS
from arrayops._backends.cuda.engine.launch import launch, struct
from arrayops._backends.cuda.engine.structures import ArrayView, view
from arrayops._backends.cuda.engine.sums import sum_parts
from arrayops._backends.cuda.pac.call import PacCall
from arrayops._backends.cuda.pac.plan import PacPlan
from arrayops._backends.cuda.window.plan import correlation_strides
from arrayops._core.kernel_source import Pairs
from arrayops._ops import images

BAND_BYTES = 32 << 20
"""Size of the gradient of the kernel that is in memory at once, unless one row of outputs needs more."""

KERNEL_GRAD_PIXELS, KERNEL_GRAD_CHANNELS, KERNEL_GRAD_DEPTH = 64, 32, 8
SMOOTH_BLOCKS = 32


class OutputBand(NamedTuple):
    """Rows of the output of some images, whose kernel gradient is in memory at once."""

    first_image: int
    images: int
    first_row: int
    rows: int


def bands(plan: PacPlan) -> Iterator[OutputBand]:
    """Split the outputs into bands: whole images if they fit, else rows of one image."""
    height, width = plan.output_size
    row_bytes = max(1, plan.kernel_channels * plan.taps * width * plan.accumulator.itemsize)
    rows = max(1, min(height, BAND_BYTES // row_bytes))
    images = max(1, BAND_BYTES // (row_bytes * max(1, height))) if rows == height else 1
    for first_image in range(0, plan.batch, images):
        count = min(images, plan.batch - first_image)
        for first_row in range(0, height, rows):
            yield OutputBand(first_image, count, first_row, min(rows, height - first_row))


class AdaptiveKernelGradients:
    """Gradients of the adaptive kernel, or of the arrays it is computed from.

    Parameters
    ----------
    call : PacCall
        The forward call.
    grad : cupy.ndarray
        Gradient of its output, or of its kernel where that is the output.
    needs : frozenset of str
        Names of the gradients to compute.
    """

    def __init__(self, call: PacCall, grad: Any, needs: frozenset[str]) -> None:
        self.guide = self.kernel = self.inv_alpha = self.inv_lambda = self.smooth_kernel = None
        self._call, self._grad = call, grad
        plan = call.plan
        if plan.precomputed:
            if "kernel" in needs:
                self._compute_kernel()
            return
        needs_options = plan.parameters.kernel_type == "inv" and bool(needs & {"inv_alpha", "inv_lambda"})
        needs_smooth = plan.smooth is not None and "smooth_kernel" in needs
        if "guide" in needs or needs_options or needs_smooth:
            self._compute_guide_and_options("guide" in needs, needs_options, needs_smooth, needs)

    def _compute_kernel(self) -> None:
        call, plan = self._call, self._call.plan
        result = memory.empty(call.guide.shape, call.guide.dtype)
        layout = plan.parameters.layout
        strides = structures.kernel_strides(structures.contiguous_strides(result.shape), layout)
        height, width = plan.kernel_size
        for band in bands(plan):
            kernel_grad = self._band_kernel_grad(band)
            first = band.first_image * strides[0] + band.first_row * strides[4]
            sizes = (band.images, plan.kernel_channels, height, width, band.rows, plan.output_size[1])
            sum_parts(kernel_grad, 1, sizes, strides, result, first)
        self.kernel = result

    def _compute_guide_and_options(
        self, needs_guide: bool, needs_options: bool, needs_smooth: bool, needs: frozenset[str]
    ) -> None:
        call, plan = self._call, self._call.plan
        all_bands = list(bands(plan))
        width = plan.output_size[1]
        channels = plan.kernel_channels
        distance = call.plan.kernel("pac_guide_grad.cu", "pac_distance_grad", ("THREADS", THREADS))
        blocks = [-(-band.images * band.rows * width // THREADS) for band in all_bands]
        option_parts = smooth_parts = grad_guide = None
        if needs_options:
            option_parts = memory.empty((sum(blocks), 2, channels), plan.accumulator)
        if needs_smooth:
            assert plan.smooth is not None
            smooth_parts = memory.empty((len(all_bands) * SMOOTH_BLOCKS, *plan.smooth), plan.accumulator)
        if needs_guide:
            grad_guide = memory.empty((plan.batch, plan.guides, *plan.guide_size), plan.accumulator)
        first_part, cleared = 0, set()
        for number, band in enumerate(all_bands):
            geometry = _band(band)
            kernel_grad = self._band_kernel_grad(band)
            arguments = (*call.arguments, geometry, kernel_grad, option_parts, np.int32(first_part))
            launch(distance, (blocks[number], channels, 1), (THREADS, 1, 1), arguments)
            first_part += blocks[number]
            if not (needs_guide or needs_smooth):
                continue
            centre = self._centre_grad(band, geometry, kernel_grad)
            if smooth_parts is not None:
                self._smooth_kernel_parts(geometry, centre, smooth_parts, number * SMOOTH_BLOCKS)
            if grad_guide is not None:
                clear = band.first_image not in cleared
                cleared.add(band.first_image)
                self._add_to_guide(band, geometry, kernel_grad, centre, grad_guide, clear)
        if needs_options:
            self._sum_option_parts(option_parts, sum(blocks), needs)
        if smooth_parts is not None and plan.smooth is not None and call.smooth is not None:
            self.smooth_kernel = memory.empty(plan.smooth, call.smooth.dtype)
            sum_parts(
                smooth_parts, len(all_bands) * SMOOTH_BLOCKS, plan.smooth, (plan.smooth[1], 1), self.smooth_kernel
            )
        if grad_guide is not None:
            self.guide = self._in_layout_of_guide(grad_guide)

    def _band_kernel_grad(self, band: OutputBand) -> Any:
        """Gradient of the kernel of a band, (images, channels of K, taps, rows, columns) accumulators."""
        call, plan, grad = self._call, self._call.plan, self._grad
        sizes = (band.images, plan.kernel_channels, plan.taps, band.rows, plan.output_size[1])
        kernel_grad = memory.empty(sizes, plan.accumulator)
        if call.samples is None:
            self._load_kernel_grad(band, kernel_grad)
            return kernel_grad
        samples_view, grad_view = view(call.samples), view(grad)
        geometry = _geometry(plan, samples_view, grad_view, band)
        arguments = (*call.arguments, geometry, call.samples, call.weight, grad, kernel_grad)
        if plan.filters == "grouped":
            defines: Pairs = (
                ("GROUPED", ""),
                ("PIXELS", KERNEL_GRAD_PIXELS),
                ("CHANNELS", KERNEL_GRAD_CHANNELS),
                ("DEPTH", KERNEL_GRAD_DEPTH),
            )
            if structures.image_strides(grad_view.strides, plan.parameters.layout)[1] == 1:
                defines += (("CHANNELS_LAST", ""),)
            function = call.plan.kernel("pac_kernel_grad.cu", "pac_kernel_grad", *defines)
            blocks = -(-band.rows * plan.output_size[1] // KERNEL_GRAD_PIXELS) * band.images
            threads = KERNEL_GRAD_PIXELS // 4 * (KERNEL_GRAD_CHANNELS // 4)
            launch(function, (blocks, plan.taps, 1), (threads, 1, 1), arguments)
        else:
            function = call.plan.kernel("pac_kernel_grad.cu", "pac_kernel_grad_channelwise")
            launch(function, (call.plan.blocks(kernel_grad.size), 1, 1), (THREADS, 1, 1), arguments)
        return kernel_grad

    def _load_kernel_grad(self, band: OutputBand, kernel_grad: Any) -> None:
        """Copy the upstream gradient of a kernel, in any layout, to the layout of a band."""
        call, plan = self._call, self._call.plan
        function = call.plan.kernel("pac_guide_grad.cu", "pac_load_kernel_grad", ("THREADS", THREADS))
        strides = _kernel_strides(view(self._grad).strides, plan.parameters.layout)
        arguments = (*call.arguments, _band(band), strides, self._grad, kernel_grad)
        launch(function, (call.plan.blocks(kernel_grad.size), 1, 1), (THREADS, 1, 1), arguments)

    def _centre_grad(self, band: OutputBand, geometry: np.void, kernel_grad: Any) -> Any:
        call, plan = self._call, self._call.plan
        centre = memory.empty((band.images, plan.guides, band.rows, plan.output_size[1]), plan.accumulator)
        function = call.plan.kernel("pac_guide_grad.cu", "pac_centre_grad", ("THREADS", THREADS))
        arguments = (*call.arguments, geometry, kernel_grad, centre)
        launch(function, (call.plan.blocks(centre.size), 1, 1), (THREADS, 1, 1), arguments)
        return centre

    def _smooth_kernel_parts(self, geometry: np.void, centre: Any, parts: Any, first_part: int) -> None:
        call, plan = self._call, self._call.plan
        assert plan.smooth is not None
        height, width = plan.smooth
        function = call.plan.kernel("pac_guide_grad.cu", "pac_smooth_grad", ("THREADS", THREADS))
        arguments = (*call.arguments, geometry, centre, np.int32(height), np.int32(width), parts, np.int32(first_part))
        launch(function, (SMOOTH_BLOCKS, height * width, 1), (THREADS, 1, 1), arguments)

    def _add_to_guide(
        self, band: OutputBand, geometry: np.void, kernel_grad: Any, centre: Any, grad_guide: Any, clear: bool
    ) -> None:
        call, plan = self._call, self._call.plan
        height, width = plan.smooth or (1, 1)
        function = call.plan.kernel("pac_guide_grad.cu", "pac_guide_grad", ("THREADS", THREADS))
        sizes = np.int32(height), np.int32(width)
        arguments = (*call.arguments, geometry, kernel_grad, centre, call.smooth, *sizes, grad_guide, np.int32(clear))
        count = band.images * plan.guides * plan.guide_size[0] * plan.guide_size[1]
        launch(function, (call.plan.blocks(count), 1, 1), (THREADS, 1, 1), arguments)

    def _sum_option_parts(self, parts: Any, count: int, needs: frozenset[str]) -> None:
        """Add up the partial gradients of alpha and lambda: for each channel of K, or over all of them."""
        call, plan = self._call, self._call.plan
        channels = plan.kernel_channels
        for number, name in enumerate(("inv_alpha", "inv_lambda")):
            if name not in needs:
                continue
            array = getattr(call, name)
            result = memory.empty(array.shape, array.dtype)
            sum_options(parts, count, channels, number, result)
            setattr(self, name, result)

    def _in_layout_of_guide(self, grad_guide: Any) -> Any:
        """Convert accumulators (N, G, H, W) to the layout and dtype of the guide."""
        call, plan = self._call, self._call.plan
        layout = plan.parameters.layout
        if layout == "NCHW" and grad_guide.dtype == call.guide.dtype:
            return grad_guide
        result = memory.empty(call.guide.shape, call.guide.dtype)
        strides = structures.image_strides(structures.contiguous_strides(result.shape), layout)
        sum_parts(grad_guide, 1, grad_guide.shape, strides, result)
        return result


def sum_options(parts: Any, count: int, channels: int, number: int, result: Any) -> None:
    """Add up parts (count, 2, channels) of alpha or lambda into a result of one entry, or one for each channel."""
    summed = memory.empty((2, channels), parts.dtype)
    sum_parts(parts, count, (2, channels), (channels, 1), summed)
    channel_sums = summed[number]
    if result.size == channels:
        sum_parts(channel_sums, 1, (channels,), (1,), result)
    else:
        sum_parts(channel_sums, channels, (1,), (1,), result)


@lru_cache(maxsize=256)
def _band(band: OutputBand) -> np.void:
    return struct(structures.BAND, **band._asdict())


@lru_cache(maxsize=256)
def _kernel_strides(strides: tuple[int, ...], layout: str) -> np.void:
    names = structures.KERNEL_STRIDES.names or ()
    values = structures.kernel_strides(strides, layout)
    return struct(structures.KERNEL_STRIDES, **dict(zip(names, values, strict=True)))


@lru_cache(maxsize=256)
def _geometry(plan: PacPlan, samples: ArrayView, grad: ArrayView, band: OutputBand) -> np.void:
    parameters = plan.parameters
    if plan.filters == "grouped":
        inputs, outputs = plan.group_channels
    else:
        inputs = outputs = images.image(samples.shape, parameters.layout).channels
    return struct(
        structures.KERNEL_GRADIENT,
        input=structures.image_strides(samples.strides, parameters.layout),
        grad=structures.image_strides(grad.strides, parameters.layout),
        weight=(0,) * 6 if plan.weight is None else correlation_strides(plan, plan.weight),
        output_band=tuple(band),
        groups=parameters.groups,
        inputs=inputs,
        outputs=outputs,
    )
