"""Pixel-adaptive operators on the CPU: each tile computes its adaptive kernel and contracts it at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from arrayops._backends.numpy.adaptive import TileKernel, clear_outside, tile_kernel_backward
from arrayops._backends.numpy.blocks import Scratch, run_blocks
from arrayops._backends.numpy.contraction import Channelwise, Contraction, Gradients, Grouped
from arrayops._backends.numpy.layouts import channels_first, grouped_weight, kernel_channels_first, shared_filter
from arrayops._backends.numpy.memory import Array, compute_dtype, empty, load, store, zeros
from arrayops._backends.numpy.pac_call import PacCall, flat_run, flattened, prepare, widened
from arrayops._backends.numpy.tiles import Cut, Outputs, Tile
from arrayops._core.op import BackwardParameters
from arrayops._ops import pac as records
from arrayops._ops.pac import PacParameters

Results = tuple[Array | None, ...]

OPTIONS = ("inv_alpha", "inv_lambda", "smooth_kernel")
"""The last three arrays of every operator, which shape its adaptive kernel."""


def pac_kernel2d(arrays: tuple[Any, ...], parameters: PacParameters) -> Results:
    """Adaptive kernel, and output mask."""
    p = parameters
    call = _kernel_call(arrays, p, backward=False)
    guide = arrays[0]
    width = guide.shape[1 if p.layout == "NCHW" else 3] if p.channel_wise else 1
    assert p.kernel_size is not None
    shape = records.kernel_shape(call.batch, width, p.kernel_size, call.output_size, p.layout)
    result = empty(shape, guide.dtype)
    view = kernel_channels_first(result, p.layout)
    output_mask, mask_view = _empty_mask(call, p.layout)

    def compute(index: int, scratch: Scratch) -> None:
        image, tile = call.block(index)
        planes = call.load_guide(image, tile, scratch)
        for phase, outputs in zip(tile.phases, tile.outputs, strict=True):
            height, width = outputs.extent
            kernel = call.phase_kernel(image, tile, planes, phase, outputs, scratch)
            places = kernel.values.reshape(*kernel.values.shape[:2], tile.rows, tile.pitch)
            for tap, values in zip(phase.taps, places, strict=True):
                target = view[image, :, tap.row, tap.column, outputs.rows, outputs.columns]
                store(target, values[:, :height, :width])
            _store_mask(mask_view, image, tile, outputs, kernel)

    run_blocks(call.blocks, compute, workspace=call.workspace)
    return result, output_mask


def pac_kernel2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `pac_kernel2d`."""
    grad, *forward = arrays
    p = parameters.forward
    call = _kernel_call(tuple(forward), p, backward=True)
    found = _backward(call, p, kernel_channels_first(grad, p.layout), parameters.needs)
    return found.guide, *found.adaptive_options(forward[-3:])


def pac_conv2d(arrays: tuple[Any, ...], parameters: PacParameters) -> Results:
    """Pixel-adaptive convolution, and output mask."""
    return _forward(_convolution_call("pac_conv2d", arrays, parameters), parameters, arrays[0])


def pac_conv2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `pac_conv2d`."""
    return _convolution_backward("pac_conv2d", arrays, parameters)


def pac_conv_transpose2d(arrays: tuple[Any, ...], parameters: PacParameters) -> Results:
    """Transposed pixel-adaptive convolution, and output mask."""
    return _forward(_convolution_call("pac_conv_transpose2d", arrays, parameters), parameters, arrays[0])


def pac_conv_transpose2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `pac_conv_transpose2d`."""
    return _convolution_backward("pac_conv_transpose2d", arrays, parameters)


def pac_pool2d(arrays: tuple[Any, ...], parameters: PacParameters) -> Results:
    """Pixel-adaptive pooling, and output mask."""
    return _forward(_pooling_call(arrays, parameters), parameters, arrays[0])


def pac_pool2d_backward(arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    """Gradients of `pac_pool2d`."""
    grad, *forward = arrays
    p = parameters.forward
    call = _pooling_call(tuple(forward), p, backward=True)
    found = _backward(call, p, channels_first(grad, p.layout), parameters.needs)
    return found.input, found.guide, found.kernel, *found.adaptive_options(forward[-3:])


def _kernel_call(arrays: tuple[Any, ...], p: PacParameters, backward: bool) -> PacCall:
    guide, mask, *options = arrays
    size = records.image(guide.shape, p.layout).size
    axes = records.kernel_windows("pac_kernel2d", p, size)
    return prepare(p, axes, size, guide=guide, mask=mask, options=tuple(options), backward=backward)


def _convolution_call(op: str, arrays: tuple[Any, ...], p: PacParameters, backward: bool = False) -> PacCall:
    samples, guide, weight, bias, kernel, mask, *options = arrays
    image = records.image(samples.shape, p.layout)
    axes = records.windows(op, p, records.weight_extents(weight.shape, p).kernel_size, image.size)
    dtype = compute_dtype(samples)
    contraction: Contraction
    if p.filters == "shared":
        plain = shared_filter(weight, p.layout, p.transposed)
        contraction = Channelwise(widened(plain, dtype), image.channels, dtype)
    else:
        ordered = grouped_weight(weight, p.layout, p.transposed, p.groups)
        contraction = Grouped(np.ascontiguousarray(widened(ordered, dtype)))
    return prepare(
        p,
        axes,
        (axes[0].output, axes[1].output) if p.transposed else image.size,
        guide=guide,
        kernel=kernel,
        mask=mask,
        options=tuple(options),
        samples=samples,
        contraction=contraction,
        bias=bias,
        backward=backward,
    )


def _pooling_call(arrays: tuple[Any, ...], p: PacParameters, backward: bool = False) -> PacCall:
    samples, guide, kernel, mask, *options = arrays
    image = records.image(samples.shape, p.layout)
    assert p.kernel_size is not None
    axes = records.windows("pac_pool2d", p, p.kernel_size, image.size)
    return prepare(
        p,
        axes,
        image.size,
        guide=guide,
        kernel=kernel,
        mask=mask,
        options=tuple(options),
        samples=samples,
        contraction=Channelwise(None, image.channels, compute_dtype(samples)),
        backward=backward,
    )


def _empty_mask(call: PacCall, layout: str) -> tuple[Array | None, Array | None]:
    if call.mask is None:
        return None, None
    mask = empty(records.image_shape(call.batch, 1, call.output_size, layout), np.bool_)
    return mask, channels_first(mask, layout)


def _store_mask(view: Array | None, image: int, tile: Tile, outputs: Outputs, kernel: TileKernel) -> None:
    """Write where a phase's windows have taps left, if the call has a mask."""
    if view is not None and kernel.left is not None:
        height, width = outputs.extent
        left = kernel.left.reshape(tile.rows, tile.pitch)[:height, :width]
        np.greater(left, 0, out=view[image, 0, outputs.rows, outputs.columns])


def _forward(call: PacCall, p: PacParameters, samples: Array) -> Results:
    contraction = call.contraction
    assert contraction is not None
    shape = records.image_shape(call.batch, contraction.outputs, call.output_size, p.layout)
    result = empty(shape, samples.dtype)
    view = channels_first(result, p.layout)
    output_mask, mask_view = _empty_mask(call, p.layout)

    def compute(index: int, scratch: Scratch) -> None:
        image, tile = call.block(index)
        guide = call.load_guide(image, tile, scratch)
        planes = call.load_samples(image, tile, guide, scratch)
        output, places = flat_run(scratch, "output", contraction.outputs, tile, call.dtype)
        for phase, outputs in zip(tile.phases, tile.outputs, strict=True):
            height, width = outputs.extent
            kernel = call.phase_kernel(image, tile, guide, phase, outputs, scratch)
            contraction.forward(planes, kernel.values, phase, output, scratch)
            if call.bias is not None:
                np.add(output, call.bias[:, None], out=output)
            store(view[image, :, outputs.rows, outputs.columns], places[:, :height, :width])
            _store_mask(mask_view, image, tile, outputs, kernel)

    run_blocks(call.blocks, compute, workspace=call.workspace)
    return result, output_mask


@dataclass
class _Found:
    """Gradients of a call, None for those not made: full-size ones as results, small ones as float64 sums.

    ``weight`` is in the order of the contraction.
    """

    input: Array | None
    guide: Array | None
    kernel: Array | None
    weight: Array | None
    bias: Array | None
    options: dict[str, Array]

    def adaptive_options(self, arrays: Sequence[Any]) -> tuple[Array | None, Array | None, Array | None]:
        """Gradients of inv_alpha, inv_lambda and smooth_kernel, given those ``arrays``."""
        alpha, lambda_, smooth = (
            _as_result(self.options[name], like) if name in self.options else None
            for name, like in zip(OPTIONS, arrays, strict=True)
        )
        return alpha, lambda_, smooth


@dataclass
class _TileGradients:
    """What one block adds to the gradients that blocks share."""

    samples: Array | None
    guide: Array | None
    weight: Array | None
    bias: Array | None
    options: dict[str, Any] = field(default_factory=dict)


def _convolution_backward(op: str, arrays: tuple[Any, ...], parameters: BackwardParameters) -> Results:
    grad, *forward = arrays
    p, needs = parameters.forward, parameters.needs
    call = _convolution_call(op, tuple(forward), p, backward=True)
    found = _backward(call, p, channels_first(grad, p.layout), needs)
    weight, bias = forward[2], forward[3]
    grad_weight = grad_bias = None
    if found.weight is not None:
        grad_weight = empty(weight.shape, weight.dtype)
        if p.filters == "shared":
            view = shared_filter(grad_weight, p.layout, p.transposed)
        else:
            view = grouped_weight(grad_weight, p.layout, p.transposed, p.groups)
        store(view, found.weight)
    if found.bias is not None:
        grad_bias = _as_result(found.bias, bias)
    return found.input, found.guide, grad_weight, grad_bias, found.kernel, *found.adaptive_options(forward[-3:])


def _as_result(total: Array, like: Array) -> Array:
    """A small gradient, summed in float64, in the shape and dtype of its array."""
    result = empty(like.shape, like.dtype)
    store(result, total.reshape(like.shape))
    return result


class _ImageGradient:
    """Gradient of an array of images, to which tiles add; half-precision results are summed in float32."""

    def __init__(self, view: Array, layout: str, dtype: "np.dtype[Any]") -> None:
        batch, channels, height, width = view.shape
        shape = records.image_shape(batch, channels, (height, width), layout)
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


def _backward(call: PacCall, p: PacParameters, grad: Array, needs: frozenset[str]) -> _Found:
    """Gradients of a call from ``grad``, that of its output (N, O, H, W), or of its kernel where that is the output."""
    contraction, adaptive = call.contraction, call.adaptive
    given = (None, None, None) if adaptive is None else (adaptive.inv_alpha, adaptive.inv_lambda, adaptive.smooth)
    options = dict(zip(OPTIONS, given, strict=True))
    want_adaptive = adaptive is not None and (
        "guide" in needs or any(option is not None and name in needs for name, option in options.items())
    )
    samples = guide = kernel_view = kernel = weight = bias = None
    if call.samples is not None and "input" in needs:
        samples = _ImageGradient(call.samples, p.layout, call.dtype)
    if call.guide is not None and want_adaptive:
        guide = _ImageGradient(call.guide, p.layout, call.dtype)
    if call.kernel is not None and "kernel" in needs:
        batch, width, *sizes = call.kernel.shape
        shape = records.kernel_shape(batch, width, (sizes[0], sizes[1]), (sizes[2], sizes[3]), p.layout)
        kernel = zeros(shape, call.kernel.dtype)
        kernel_view = kernel_channels_first(kernel, p.layout)
    if contraction is not None and contraction.weight is not None and "weight" in needs:
        weight = np.zeros(contraction.weight.shape)
    if call.bias is not None and "bias" in needs:
        bias = np.zeros(call.bias.shape)
    sums: dict[str, Array] = {
        name: np.zeros(option.shape) for name, option in options.items() if option is not None and name in needs
    }

    def compute(index: int, scratch: Scratch) -> _TileGradients:
        image, tile = call.block(index)
        planes = call.load_guide(image, tile, scratch)
        found = _TileGradients(
            samples=_zero_planes(scratch, "grad_samples", call.samples, tile.input, samples is not None, call.dtype),
            guide=_zero_planes(scratch, "grad_guide", call.guide, tile.guide, guide is not None, call.dtype),
            weight=None if weight is None else scratch("grad_weight", weight.shape, call.dtype),
            bias=None if bias is None else np.zeros(bias.shape),
        )
        if found.weight is not None:
            found.weight[...] = 0
        inputs = None if contraction is None else call.load_samples(image, tile, planes, scratch)
        for phase, outputs in zip(tile.phases, tile.outputs, strict=True):
            height, width = outputs.extent
            values = call.phase_kernel(image, tile, planes, phase, outputs, scratch)
            grad_kernel = None
            if want_adaptive or kernel_view is not None:
                grad_kernel = scratch("grad_kernel", values.values.shape, call.dtype)
            if contraction is not None and inputs is not None:
                run, places = flat_run(scratch, "grad_output", contraction.outputs, tile, call.dtype)
                places[...] = 0
                load(places[:, :height, :width], grad[image, :, outputs.rows, outputs.columns])
                into = Gradients(_flat(found.samples), grad_kernel, found.weight)
                contraction.backward(inputs, values.values, phase, run, into, scratch)
                if found.bias is not None:
                    found.bias += run.sum(axis=1, dtype=np.float64)
            elif grad_kernel is not None:
                call.load_taps(grad_kernel, grad[image], tile, phase, outputs)
            if grad_kernel is None:
                continue
            if kernel_view is not None:
                taps = grad_kernel.reshape(*grad_kernel.shape[:2], tile.rows, tile.pitch)
                for tap, part in zip(phase.taps, taps, strict=True):
                    target = kernel_view[image, :, tap.row, tap.column, outputs.rows, outputs.columns]
                    store(target, part[:, :height, :width])
            if adaptive is not None and planes is not None and found.guide is not None:
                clear_outside(grad_kernel, tile, outputs)
                options_found = tile_kernel_backward(
                    adaptive, planes, phase, tile, values, grad_kernel, _flat(found.guide), scratch
                )
                for name, part in zip(options, options_found, strict=True):
                    if part is not None and name in sums:
                        found.options[name] = found.options.get(name, 0.0) + part
        return found

    def commit(index: int, found: _TileGradients) -> None:
        image, tile = call.block(index)
        if samples is not None and found.samples is not None:
            tile.input.add(samples.view[image], found.samples)
        if guide is not None and found.guide is not None:
            tile.guide.add(guide.view[image], found.guide)
        if weight is not None and found.weight is not None:
            np.add(weight, found.weight, out=weight)
        if bias is not None and found.bias is not None:
            np.add(bias, found.bias, out=bias)
        for name, part in found.options.items():
            np.add(sums[name], part, out=sums[name])

    run_blocks(call.blocks, compute, commit, call.workspace)
    return _Found(
        input=None if samples is None else samples.result(),
        guide=None if guide is None or "guide" not in needs else guide.result(),
        kernel=kernel,
        weight=weight,
        bias=bias,
        options=sums,
    )


def _flat(planes: Array | None) -> Any:
    return None if planes is None else flattened(planes)


def _zero_planes(
    scratch: Scratch, name: str, images: Array | None, cut: Cut, wanted: bool, dtype: "np.dtype[Any]"
) -> Array | None:
    if images is None or not wanted:
        return None
    planes = scratch(name, (cut.planes, images.shape[1], cut.rows, cut.pitch), dtype)
    planes[...] = 0
    return planes
