"""conv2d and conv_transpose2d as nested loops in float64, and as torch's own for gradients.

The loops follow DESIGN section 3: those of the pixel-adaptive oracle, with an adaptive kernel that is 1 everywhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from optional import optional
from oracles import pac, pac_torch

torch = optional("torch")
F = optional("torch.nn.functional")


def _apply(
    input: Any, weight: Any, bias: Any, transposed: bool, layout: str, groups: int, **options: Any
) -> np.ndarray:
    if layout == "NHWC":
        input, weight = input.transpose(0, 3, 1, 2), weight.transpose(3, 2, 0, 1)
    x = np.asarray(input).astype(np.float64)
    dense = pac.dense_weight(np.asarray(weight).astype(np.float64), x.shape[1], groups, False, transposed)
    rows, cols = pac.axes(transposed, dense.shape[2:], input_size=x.shape[2:], **options)
    ones = np.ones((len(x), 1, rows.taps, cols.taps, rows.outputs, cols.outputs))
    result = pac.adaptive_sum(x, ones, dense, None, rows, cols)
    if bias is not None:
        result += np.asarray(bias).astype(np.float64)[:, None, None]
    return result if layout == "NCHW" else result.transpose(0, 2, 3, 1)


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    *,
    groups: int = 1,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    layout: str = "NCHW",
) -> np.ndarray:
    return _apply(input, weight, bias, False, layout, groups, stride=stride, padding=padding, dilation=dilation)


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    *,
    groups: int = 1,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    dilation: Any = 1,
    layout: str = "NCHW",
) -> np.ndarray:
    return _apply(
        input,
        weight,
        bias,
        True,
        layout,
        groups,
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
    )


def _double(array: Any, size: bool) -> Any:
    value = np.ascontiguousarray(np.asarray(array).astype(np.float64))
    return torch.from_numpy(np.abs(value) if size else value)


def differentiable(operator: str, tensors: dict[str, Any], options: dict[str, Any]) -> Any:
    """The same by torch: padding and cropping of a plain convolution and a whole transposed one; NHWC as well."""
    x, weight = tensors["input"], tensors["weight"]
    nhwc = options.get("layout", "NCHW") == "NHWC"
    if nhwc:
        # Torch wants some weights contiguous where their gradient is.
        x, weight = x.permute(0, 3, 1, 2).contiguous(), weight.permute(3, 2, 0, 1).contiguous()
    transposed = operator == "conv_transpose2d"
    geometry = pac_torch.geometry(
        transposed,
        tuple(weight.shape[2:]),
        options.get("stride", 1),
        options.get("padding", 0),
        options.get("dilation", 1),
        options.get("output_padding", 0),
        tuple(x.shape[2:]),
    )
    groups, bias = options.get("groups", 1), tensors.get("bias")
    if transposed:
        whole = F.conv_transpose2d(x, weight, None, geometry.stride, groups=groups, dilation=geometry.dilation)
        top, left = crops(options, geometry)
        height, width = geometry.output_size
        # More may be cut off in front than there is without output_padding: so pad first.
        beyond = [max(0, end - size) for end, size in ((left + width, whole.shape[3]), (top + height, whole.shape[2]))]
        result = F.pad(whole, (0, beyond[0], 0, beyond[1]))[:, :, top : top + height, left : left + width]
        if bias is not None:
            result = result + bias[:, None, None]
    else:
        padded = F.pad(x, geometry.padding)
        result = F.conv2d(padded, weight, bias, geometry.stride, dilation=geometry.dilation, groups=groups)
    return result.permute(0, 2, 3, 1) if nhwc else result


def crops(options: dict[str, Any], geometry: pac_torch.Geometry) -> list[int]:
    """Rows and columns in front that a transposed convolution drops; those behind follow from the output's size."""
    found = []
    sides = pac.explicit_padding(options.get("padding", 0))
    for a in range(2):
        extent = (geometry.kernel_size[a] - 1) * geometry.dilation[a] + 1
        front = max(extent - geometry.stride[a], 0) // 2 if sides is None else sides[a][0]
        found.append(front)
    return found


def backward(operator: str, arrays: dict[str, Any], options: dict[str, Any], grad: Any, size: bool = False) -> Any:
    """Gradients by autograd in float64; with ``size``, of the absolute values: what cancels in each of them."""
    if not torch:
        return backward_loops(operator, arrays, options, grad, size)

    tensors = {name: _double(array, size).requires_grad_() for name, array in arrays.items() if array is not None}
    output = differentiable(operator, tensors, options)
    found = torch.autograd.grad(output, list(tensors.values()), _double(grad, size))
    return dict(zip(tensors, (gradient.numpy() for gradient in found), strict=True))


def backward_loops(
    operator: str, arrays: dict[str, Any], options: dict[str, Any], grad_output: Any, size: bool = False
) -> dict[str, np.ndarray]:
    """The same gradients without torch: each output's gradient goes back to the samples and weights that it came of."""
    values = {name: np.asarray(array).astype(np.float64) for name, array in arrays.items() if array is not None}
    grad = np.asarray(grad_output).astype(np.float64)
    if size:
        values, grad = {name: np.abs(value) for name, value in values.items()}, np.abs(grad)
    nhwc, transposed = options.get("layout", "NCHW") == "NHWC", operator == "conv_transpose2d"
    x, weight = values["input"], values["weight"]
    if nhwc:
        x, weight, grad = x.transpose(0, 3, 1, 2), weight.transpose(3, 2, 0, 1), grad.transpose(0, 3, 1, 2)
    groups, taps = options.get("groups", 1), weight.shape[2:]
    inner, outer = x.shape[1] // groups, grad.shape[1] // groups
    keywords = {name: options.get(name, 1) for name in ("stride", "dilation")}
    keywords |= {name: options.get(name, 0) for name in ("padding", "output_padding")}
    rows, cols = pac.axes(transposed, taps, input_size=x.shape[2:], **keywords)
    if transposed:
        weights = weight.reshape(groups, inner, outer, *taps).swapaxes(1, 2)[..., ::-1, ::-1]
    else:
        weights = weight.reshape(groups, outer, inner, *taps)
    grads = grad.reshape(len(x), groups, outer, *grad.shape[2:])
    images = x.reshape(len(x), groups, inner, *x.shape[2:])
    of_images, of_weights = np.zeros(images.shape), np.zeros(weights.shape)
    for j in range(cols.taps):
        pairs = [(ox, sx) for ox in range(cols.outputs) if (sx := cols.sample(ox, j)) is not None]
        at, seen = [ox for ox, _ in pairs], [sx for _, sx in pairs]
        for i in range(rows.taps):
            for oy in range(rows.outputs):
                sy = rows.sample(oy, i)
                if sy is None or not pairs:
                    continue
                given = grads[:, :, :, oy, at]
                of_images[:, :, :, sy, seen] += np.einsum("ngox,goc->ngcx", given, weights[:, :, :, i, j])
                of_weights[:, :, :, i, j] += np.einsum("ngox,ngcx->goc", given, images[:, :, :, sy, seen])
    if transposed:
        of_weights = of_weights[..., ::-1, ::-1].swapaxes(1, 2)
    found = {"input": of_images.reshape(x.shape), "weight": of_weights.reshape(weight.shape)}
    if nhwc:
        found = {"input": found["input"].transpose(0, 2, 3, 1), "weight": found["weight"].transpose(2, 3, 1, 0)}
    if "bias" in values:
        found["bias"] = grad.sum((0, 2, 3))
    return found


class Call:
    """One call, with the interface of `pac_torch.Call`."""

    def __init__(self, operator: str, arrays: dict[str, Any], options: dict[str, Any]) -> None:
        self.operator, self.arrays, self.options = operator, arrays, options

    def _forward(self, size: bool) -> np.ndarray:
        tensors = {name: None if array is None else _double(array, size) for name, array in self.arrays.items()}
        return differentiable(self.operator, tensors, self.options).numpy()

    def forward(self) -> np.ndarray:
        return self._forward(size=False)

    def forward_magnitude(self) -> np.ndarray:
        return self._forward(size=True)

    def backward(self, grad_output: Any) -> Any:
        return backward(self.operator, self.arrays, self.options, grad_output)

    def backward_magnitude(self, grad_output: Any) -> Any:
        return backward(self.operator, self.arrays, self.options, grad_output, size=True)
