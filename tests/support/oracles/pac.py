"""The PAC operators as nested loops in float64, in the words of DESIGN section 3.

Nothing here is fast and nothing is shared with the library. Loops run over image, output position and tap; only
channels are vectors. The core works on NCHW arrays; the public functions take the library's arguments in either layout.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

Padding = tuple[tuple[int, int], tuple[int, int]]


# --- parameters -----------------------------------------------------------------------------------


def pair(value: Any) -> tuple[int, int]:
    """An int stands for both axes."""
    return (value, value) if isinstance(value, int) else tuple(value)


def explicit_padding(padding: Any) -> Padding | None:
    """((top, bottom), (left, right)), or None for SAME."""
    if isinstance(padding, str):
        if padding.upper() == "VALID":
            return (0, 0), (0, 0)
        assert padding.upper() == "SAME", padding
        return None
    vertical, horizontal = (padding, padding) if isinstance(padding, int) else padding
    if isinstance(vertical, int):
        return (vertical, vertical), (horizontal, horizontal)
    return tuple(vertical), tuple(horizontal)


@dataclasses.dataclass(frozen=True)
class Axis:
    """One image axis of a call: which guide position and which input sample each tap of each output sees."""

    inputs: int
    outputs: int
    taps: int
    stride: int
    dilation: int
    front: int  # padding in front, of the input in the plain form, taken off the output in the transposed form
    transposed: bool

    def guide_position(self, output: int, tap: int) -> int:
        """Position in the guide, which may lie outside of it. The plain guide has the input's resolution, the
        transposed one the output's, with total padding (k - 1) d whose smaller half is in front."""
        if self.transposed:
            return output + tap * self.dilation - (self.taps - 1) * self.dilation // 2
        return output * self.stride + tap * self.dilation - self.front

    def sample(self, output: int, tap: int) -> int | None:
        """Index of the input sample under the tap, None outside the image or on a stuffed zero."""
        if self.transposed:
            # x[0] lies at position 0 of the stuffed row; torch's y[h s + i d - p] += w[i] x[h], i = k - 1 - tap.
            stuffed = output + tap * self.dilation - ((self.taps - 1) * self.dilation - self.front)
            if stuffed % self.stride != 0:
                return None
            position = stuffed // self.stride
        else:
            position = output * self.stride + tap * self.dilation - self.front
        return position if 0 <= position < self.inputs else None


def plain_axis(inputs: int, taps: int, stride: int, dilation: int, padding: tuple[int, int] | None) -> Axis:
    extent = (taps - 1) * dilation + 1
    if padding is None:  # SAME: ceil(H / s) outputs, the smaller half of the padding in front
        outputs = -(-inputs // stride)
        front = max((outputs - 1) * stride + extent - inputs, 0) // 2
    else:
        assert inputs + sum(padding) >= extent
        outputs = (inputs + sum(padding) - extent) // stride + 1
        front = padding[0]
    return Axis(inputs, outputs, taps, stride, dilation, front, transposed=False)


def transposed_axis(
    taps: int,
    stride: int,
    dilation: int,
    padding: tuple[int, int] | None,
    extra: int,
    inputs: int | None = None,
    outputs: int | None = None,
) -> Axis:
    """From the input size, or (pac_kernel2d) from the output size. `extra` is the output_padding."""
    extent = (taps - 1) * dilation + 1
    if padding is None:  # SAME: H s outputs, of total padding max(extent - s, 0) the smaller half in front
        assert extra == 0
        if inputs is None:
            assert outputs is not None
            assert outputs % stride == 0
            inputs = outputs // stride
        return Axis(inputs, inputs * stride, taps, stride, dilation, max(extent - stride, 0) // 2, transposed=True)
    around = extent - sum(padding) + extra
    if inputs is None:
        assert outputs is not None
        assert (outputs - around) % stride == 0
        inputs = (outputs - around) // stride + 1
    return Axis(inputs, (inputs - 1) * stride + around, taps, stride, dilation, padding[0], transposed=True)


def axes(
    transposed: bool,
    kernel_size: tuple[int, int],
    stride: Any,
    padding: Any,
    dilation: Any,
    output_padding: Any = 0,
    input_size: tuple[int, int] | None = None,
    output_size: tuple[int, int] | None = None,
) -> tuple[Axis, Axis]:
    both = explicit_padding(padding)
    found = []
    for a in range(2):
        side = None if both is None else both[a]
        if transposed:
            found.append(
                transposed_axis(
                    kernel_size[a],
                    pair(stride)[a],
                    pair(dilation)[a],
                    side,
                    pair(output_padding)[a],
                    inputs=None if input_size is None else input_size[a],
                    outputs=None if output_size is None else output_size[a],
                )
            )
        else:
            assert input_size is not None
            found.append(plain_axis(input_size[a], kernel_size[a], pair(stride)[a], pair(dilation)[a], side))
    return found[0], found[1]


# --- the core, NCHW -------------------------------------------------------------------------------


def adaptive_kernel(
    guide: np.ndarray,
    rows: Axis,
    cols: Axis,
    *,
    mask: np.ndarray | None,
    normalize: bool,
    channel_wise: bool,
    kernel_type: str,
    inv_alpha: np.ndarray | None,
    inv_lambda: np.ndarray | None,
    asymmetric: bool,
    smooth_kernel: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The adaptive kernel (N, 1 or G, kh, kw, Ho, Wo) and where a window has anything left (N, 1, Ho, Wo).

    A mask of numbers is a confidence, which multiplies the kernel."""
    images, channels, height, width = guide.shape
    kernels = np.zeros((images, channels if channel_wise else 1, rows.taps, cols.taps, rows.outputs, cols.outputs))
    filled = np.zeros((images, 1, rows.outputs, cols.outputs), dtype=bool)

    def guide_at(n: int, y: int, x: int) -> np.ndarray:
        if 0 <= y < height and 0 <= x < width:
            return guide[n, :, y, x]
        return np.zeros(channels)

    def centre_at(n: int, y: int, x: int) -> np.ndarray:
        if smooth_kernel is None:
            return guide_at(n, y, x)
        tall, wide = smooth_kernel.shape
        total = np.zeros(channels)
        for u in range(tall):
            for v in range(wide):
                total = total + smooth_kernel[u, v] * guide_at(n, y + u - tall // 2, x + v - wide // 2)
        return total

    def distance(tap: np.ndarray, centre: np.ndarray) -> np.ndarray:
        difference = tap - centre
        if asymmetric:
            difference = np.maximum(0.0, difference)
        square = difference**2
        return square if channel_wise else square.sum(keepdims=True)

    def compare(square: np.ndarray) -> np.ndarray:
        if kernel_type == "gaussian":
            return np.exp(-0.5 * square)
        assert kernel_type == "inv"
        assert inv_alpha is not None
        assert inv_lambda is not None
        return inv_alpha.reshape(-1) + (square + 1e-4) ** (inv_lambda.reshape(-1) / 2)

    for n in range(images):
        for oy in range(rows.outputs):
            for ox in range(cols.outputs):
                centre = centre_at(n, rows.guide_position(oy, rows.taps // 2), cols.guide_position(ox, cols.taps // 2))
                valid, kept = 0, 0.0
                squares, weights = {}, {}
                for i in range(rows.taps):
                    for j in range(cols.taps):
                        sy, sx = rows.sample(oy, i), cols.sample(ox, j)
                        confidence = 0.0
                        if sy is not None and sx is not None:
                            valid += 1
                            confidence = 1.0 if mask is None else float(mask[n, 0, sy, sx])
                        kept += confidence
                        if confidence > 0 or (mask is None and not normalize):
                            tap = guide_at(n, rows.guide_position(oy, i), cols.guide_position(ox, j))
                            squares[i, j] = distance(tap, centre)
                            weights[i, j] = confidence if confidence > 0 else 1.0
                total = np.zeros(kernels.shape[1])
                nearest: Any = 0.0
                if normalize and kernel_type == "gaussian" and squares:  # a factor of all taps: it leaves the quotient
                    nearest = np.minimum.reduce(list(squares.values()))
                for (i, j), square in squares.items():
                    value = weights[i, j] * compare(square - nearest)
                    kernels[n, :, i, j, oy, ox] = value
                    total = total + value
                filled[n, 0, oy, ox] = kept > 0
                window = kernels[n, :, :, :, oy, ox]  # a view; dropped taps are 0 in it and stay 0
                if normalize:
                    for channel in range(len(total)):
                        for i in range(rows.taps):
                            for j in range(cols.taps):
                                if total[channel] == 0:
                                    window[channel, i, j] = 0
                                elif window[channel, i, j] != 0:
                                    window[channel, i, j] /= total[channel]
                elif mask is not None and kept > 0:
                    window /= kept / valid
    return kernels, filled


def dense_weight(weight: np.ndarray, channels: int, groups: int, shared_filters: bool, transposed: bool) -> np.ndarray:
    """Weights (O, C, kh, kw) of one ungrouped correlation over the (stuffed) input: zeros between groups, the diagonal
    for shared filters, and in the transposed form spatially flipped with the channel axes exchanged."""
    if transposed:
        weight = weight[:, :, ::-1, ::-1]
    kh, kw = weight.shape[2:]
    if shared_filters:
        dense = np.zeros((channels, channels, kh, kw))
        for c in range(channels):
            dense[c, c] = weight[0, 0]
        return dense
    outputs = weight.shape[1] * groups if transposed else weight.shape[0]
    dense = np.zeros((outputs, channels, kh, kw))
    for o in range(outputs):
        for c in range(channels):
            group = o // (outputs // groups)
            if group != c // (channels // groups):
                continue
            if transposed:
                dense[o, c] = weight[c, o - group * (outputs // groups)]
            else:
                dense[o, c] = weight[o, c - group * (channels // groups)]
    return dense


def adaptive_sum(
    inputs: np.ndarray, kernels: np.ndarray, weight: np.ndarray | None, mask: np.ndarray | None, rows: Axis, cols: Axis
) -> np.ndarray:
    """Sum over taps of K * W x, or of K * x without a weight. Masked-out samples are never read."""
    images, channels = inputs.shape[:2]
    outputs = channels if weight is None else weight.shape[0]
    result = np.zeros((images, outputs, rows.outputs, cols.outputs))
    for n in range(images):
        for oy in range(rows.outputs):
            for ox in range(cols.outputs):
                for i in range(rows.taps):
                    for j in range(cols.taps):
                        sy, sx = rows.sample(oy, i), cols.sample(ox, j)
                        if sy is None or sx is None or (mask is not None and not mask[n, 0, sy, sx]):
                            continue
                        x = inputs[n, :, sy, sx]
                        term = x if weight is None else weight[:, :, i, j] @ x
                        result[n, :, oy, ox] += kernels[n, :, i, j, oy, ox] * term
    return result


# --- the operators, either layout -----------------------------------------------------------------


def _image(array: Any, layout: str) -> Any:
    """(N, H, W, C) to (N, C, H, W)."""
    if array is None or layout == "NCHW":
        return array
    return np.transpose(array, (0, 3, 1, 2))


def _result(array: np.ndarray, layout: str) -> np.ndarray:
    return array if layout == "NCHW" else np.transpose(array, (0, 2, 3, 1))


def _kernel_in(kernel: np.ndarray, layout: str) -> np.ndarray:
    """(N, Ho, Wo, kh, kw, G) to (N, G, kh, kw, Ho, Wo)."""
    return kernel if layout == "NCHW" else np.transpose(kernel, (0, 5, 3, 4, 1, 2))


def _kernel_out(kernel: np.ndarray, layout: str) -> np.ndarray:
    return kernel if layout == "NCHW" else np.transpose(kernel, (0, 4, 5, 2, 3, 1))


def _weight(weight: np.ndarray, layout: str) -> np.ndarray:
    """HWIO to OIHW, and HWOI to IOHW: the same exchange of axes."""
    return weight if layout == "NCHW" else np.transpose(weight, (3, 2, 0, 1))


def _double(array: Any) -> Any:
    return None if array is None else np.asarray(array).astype(np.float64)


def _adaptive_options(options: dict[str, Any]) -> dict[str, Any]:
    return {
        "kernel_type": options.get("kernel_type", "gaussian"),
        "inv_alpha": _double(options.get("inv_alpha")),
        "inv_lambda": _double(options.get("inv_lambda")),
        "asymmetric": options.get("asymmetric", False),
        "smooth_kernel": _double(options.get("smooth_kernel")),
    }


def pac_kernel2d(
    guide: Any,
    kernel_size: Any,
    *,
    mask: Any = None,
    normalize: bool = False,
    channel_wise: bool = False,
    transposed: bool = False,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    layout: str = "NCHW",
    **options: Any,
) -> Any:
    guide, mask = _image(_double(guide), layout), _image(mask, layout)
    size = guide.shape[2:]
    rows, cols = axes(
        transposed,
        pair(kernel_size),
        stride,
        padding,
        dilation,
        output_padding,
        input_size=None if transposed else size,
        output_size=size if transposed else None,
    )
    kernels, filled = adaptive_kernel(
        guide, rows, cols, mask=mask, normalize=normalize, channel_wise=channel_wise, **_adaptive_options(options)
    )
    kernels = _kernel_out(kernels, layout)
    return kernels if mask is None else (kernels, _result(filled, layout))


def _apply(
    inputs: Any,
    guide: Any,
    weight: Any,
    bias: Any,
    *,
    kernel_size: Any = None,
    transposed: bool = False,
    kernel: Any = None,
    mask: Any = None,
    normalize_kernel: bool = False,
    channel_wise: bool = False,
    groups: int = 1,
    shared_filters: bool = False,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    layout: str = "NCHW",
    **options: Any,
) -> Any:
    inputs, mask = _image(_double(inputs), layout), _image(mask, layout)
    if weight is not None:
        weight = dense_weight(_weight(_double(weight), layout), inputs.shape[1], groups, shared_filters, transposed)
        kernel_size = weight.shape[2:]
    rows, cols = axes(
        transposed, pair(kernel_size), stride, padding, dilation, output_padding, input_size=inputs.shape[2:]
    )
    filled = None
    if kernel is None:
        guide = _image(_double(guide), layout)
        assert guide.shape[2:] == ((rows.outputs, cols.outputs) if transposed else inputs.shape[2:])
        kernels, filled = adaptive_kernel(
            guide,
            rows,
            cols,
            mask=mask,
            normalize=normalize_kernel,
            channel_wise=channel_wise,
            **_adaptive_options(options),
        )
    else:
        kernels = _kernel_in(_double(kernel), layout)
    result = adaptive_sum(inputs, kernels, weight, mask, rows, cols)
    if bias is not None:
        result += _double(bias)[None, :, None, None]
    result = _result(result, layout)
    return result if mask is None else (result, _result(filled, layout))


def pac_conv2d(input: Any, guide: Any, weight: Any, bias: Any = None, **options: Any) -> Any:
    return _apply(input, guide, weight, bias, **options)


def pac_conv_transpose2d(input: Any, guide: Any, weight: Any, bias: Any = None, **options: Any) -> Any:
    return _apply(input, guide, weight, bias, transposed=True, **options)


def pac_pool2d(input: Any, guide: Any, kernel_size: Any, **options: Any) -> Any:
    return _apply(input, guide, None, None, kernel_size=kernel_size, **options)
