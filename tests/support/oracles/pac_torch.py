"""PAC in differentiable float64 torch: unfold, elementwise kernel, einsum (Su et al., CVPR 2019, equations 1 and 3).

Written from the paper's formula and DESIGN section 3. Torch's autograd gives the gradients; `gradient_magnitudes` gives
the size of what is summed up in each of them, the yardstick for rounding errors where a sum cancels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from optional import optional

if TYPE_CHECKING:
    from torch import Tensor

torch = optional("torch")
F = optional("torch.nn.functional")

# Arrays here are tiny, and with several test workers torch's spinning threads only steal time from each other.
if torch:
    torch.set_num_threads(1)

DIFFERENTIABLE = ("input", "guide", "weight", "bias", "kernel", "inv_alpha", "inv_lambda", "smooth_kernel")


class Geometry(NamedTuple):
    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]  # left, right, top, bottom, as F.pad takes them
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    transposed: bool


def _two(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def geometry(
    transposed: bool,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    output_padding: Any,
    size: tuple[int, int],
    size_is_output: bool = False,
) -> Geometry:
    """Sizes as torch has them, and TensorFlow's SAME."""
    kernel_size, stride, dilation, output_padding = map(_two, (kernel_size, stride, dilation, output_padding))
    sides: list[list[int]] = []
    inputs: list[int] = []
    outputs: list[int] = []
    for a in range(2):
        k, s, d, op, n = kernel_size[a], stride[a], dilation[a], output_padding[a], size[a]
        reach = d * (k - 1)
        if str(padding).upper() == "SAME" and transposed:
            n_in = n // s if size_is_output else n
            total = max(reach + 1 - s, 0)
            front, n_out = total // 2, n_in * s
        elif str(padding).upper() == "SAME":
            n_in, n_out = n, (n + s - 1) // s
            total = max((n_out - 1) * s + reach + 1 - n, 0)
            front = total // 2
        else:
            value = 0 if isinstance(padding, str) else _two(padding)[a]
            front, back = _two(value)
            total = front + back
            if not transposed:
                n_in, n_out = n, (n + total - reach - 1) // s + 1
            elif size_is_output:
                n_in, n_out = (n - 1 - op - reach + total) // s + 1, n
            else:
                n_in, n_out = n, (n - 1) * s - total + reach + op + 1
        sides.append([front, total - front])
        inputs.append(n_in)
        outputs.append(n_out)
    return Geometry(
        tuple(kernel_size),
        tuple(stride),
        tuple(dilation),
        (*sides[1], *sides[0]),
        tuple(inputs),
        tuple(outputs),
        transposed,
    )  # type: ignore[arg-type]


def _unfold(image: Tensor, padding: tuple[int, ...], stride: tuple[int, int], g: Geometry) -> Tensor:
    """(N, C, kh, kw, Ho, Wo): the zero-padded image under every tap."""
    left, right, top, bottom = padding
    padded = F.pad(image, [max(side, 0) for side in padding])
    # Negative padding cuts, possibly more than the image has (F.pad refuses that): so pad first.
    more_y, more_x = max(-top - image.shape[2], 0), max(-left - image.shape[3], 0)
    padded = F.pad(padded, (0, more_x, 0, more_y))[:, :, max(-top, 0) :, max(-left, 0) :]
    height = image.shape[2] + top + bottom
    width = image.shape[3] + left + right
    columns = F.unfold(padded[:, :, :height, :width], g.kernel_size, dilation=g.dilation, stride=stride)
    kh, kw = g.kernel_size
    ho, wo = g.output_size
    return columns.reshape(image.shape[0], image.shape[1], kh, kw, ho, wo)


def input_taps(image: Tensor, g: Geometry) -> Tensor:
    """Input samples under the taps, zeros where there are none."""
    left, right, top, bottom = g.padding
    if not g.transposed:
        # SAME may pad more than the last window needs; unfold drops what does not fill a step.
        return _unfold(image, (left, right, top, bottom), g.stride, g)
    sh, sw = g.stride
    height, width = (image.shape[2] - 1) * sh + 1, (image.shape[3] - 1) * sw + 1
    stuffed = image.new_zeros(*image.shape[:2], height, width)
    stuffed[:, :, ::sh, ::sw] = image
    reach_y, reach_x = ((k - 1) * d for k, d in zip(g.kernel_size, g.dilation, strict=True))
    front_y, front_x = reach_y - top, reach_x - left
    back_y = g.output_size[0] + reach_y - height - front_y
    back_x = g.output_size[1] + reach_x - width - front_x
    return _unfold(stuffed, (front_x, back_x, front_y, back_y), (1, 1), g)


def guide_taps(guide: Tensor, g: Geometry) -> Tensor:
    if not g.transposed:
        return _unfold(guide, g.padding, g.stride, g)
    reach_y, reach_x = ((k - 1) * d for k, d in zip(g.kernel_size, g.dilation, strict=True))
    return _unfold(guide, (reach_x // 2, reach_x - reach_x // 2, reach_y // 2, reach_y - reach_y // 2), (1, 1), g)


def centres(guide: Tensor, smooth_kernel: Tensor | None, g: Geometry) -> Tensor:
    """(N, G, 1, 1, Ho, Wo): the (smoothed) guide at the centre tap."""
    # Smoothing reaches outside the image, where a centre in the padding still sees part of the guide: so pad first.
    margin = [0, 0, 0, 0] if smooth_kernel is None else [n // 2 for n in smooth_kernel.shape for _ in range(2)][::-1]
    reach_y, reach_x = ((k - 1) * d for k, d in zip(g.kernel_size, g.dilation, strict=True))
    if g.transposed:
        padding = [reach_x // 2, reach_x - reach_x // 2, reach_y // 2, reach_y - reach_y // 2]
        stride = (1, 1)
    else:
        padding, stride = list(g.padding), g.stride
    plane = F.pad(guide, [p + m for p, m in zip(padding, margin, strict=True)])
    if smooth_kernel is not None:
        channels = guide.shape[1]
        plane = F.conv2d(plane, smooth_kernel.expand(channels, 1, *smooth_kernel.shape), groups=channels)
    y, x = (k // 2 * d for k, d in zip(g.kernel_size, g.dilation, strict=True))
    plane = plane[:, :, y :: stride[0], x :: stride[1]][:, :, : g.output_size[0], : g.output_size[1]]
    return plane[:, :, None, None]


def _raw_kernel(
    taps: Tensor,
    centre: Tensor,
    *,
    channel_wise: bool,
    kernel_type: str,
    inv_alpha: Tensor | None,
    inv_lambda: Tensor | None,
    asymmetric: bool,
    relative_to: Tensor | None = None,
) -> Tensor:
    """The kernel before it is divided; with `relative_to`, the taps that count, a Gaussian that is 1 at the nearest."""
    difference = taps - centre
    if asymmetric:
        difference = difference.relu()
    square = difference.pow(2)
    if not channel_wise:
        square = square.sum(1, keepdim=True)
    if kernel_type == "gaussian":
        if relative_to is not None:
            counts, nothing = relative_to > 0, torch.zeros(()).to(square)
            nearest = torch.where(counts, square.detach(), nothing + torch.inf).amin((2, 3), keepdim=True)
            square = torch.where(counts, square - nearest, nothing)
        return torch.exp(-square / 2)
    assert inv_alpha is not None
    assert inv_lambda is not None
    return inv_alpha.reshape(1, -1, 1, 1, 1, 1) + (square + 1e-4).pow(inv_lambda.reshape(1, -1, 1, 1, 1, 1) / 2)


def _kept(like: Tensor, mask: Tensor | None, g: Geometry) -> tuple[Tensor, Tensor]:
    """Valid taps, and the mask or confidence of the samples under them: (N or 1, 1, kh, kw, Ho, Wo)."""
    valid = input_taps(like.new_ones(1, 1, *g.input_size), g)
    return valid, valid if mask is None else input_taps(mask.to(like.dtype), g)


def _finish_kernel(raw: Tensor, mask: Tensor | None, normalize: bool, g: Geometry) -> Tensor:
    if mask is None and not normalize:
        return raw
    valid, kept = _kept(raw, mask, g)
    raw = torch.where(kept > 0, raw * kept, torch.zeros(()).to(raw))
    if normalize:
        divisor = raw.sum((2, 3), keepdim=True)
    else:
        divisor = kept.sum((2, 3), keepdim=True) / valid.sum((2, 3), keepdim=True).clamp(min=1)
    # An empty window has kernel 0: the inner where keeps its gradient finite.
    return torch.where(divisor != 0, raw / torch.where(divisor != 0, divisor, torch.ones_like(divisor)), 0 * raw)


def _adaptive_sum(
    image: Tensor, kernels: Tensor, weight: Tensor | None, bias: Tensor | None, groups: int, shared: bool, g: Geometry
) -> Tensor:
    taps = input_taps(image, g) * kernels
    if weight is None:
        return taps.sum((2, 3))
    if g.transposed:
        weight = weight.flip(2, 3)
    if shared:
        result = torch.einsum("ij,ncijyx->ncyx", weight[0, 0], taps)
    else:
        count = taps.shape[1] // groups
        if g.transposed:  # I, O / groups -> groups, O / groups, I / groups
            weight = weight.unflatten(0, (groups, count)).transpose(1, 2)
        else:
            weight = weight.unflatten(0, (groups, -1))
        taps = taps.unflatten(1, (groups, count))
        result = torch.einsum("gocij,ngcijyx->ngoyx", weight, taps).flatten(1, 2)
    return result if bias is None else result + bias.reshape(1, -1, 1, 1)


# --- calls in the library's terms -----------------------------------------------------------------


class Call:
    """One call of an operator, its arrays as NCHW float64 tensors. Built from the library's arguments."""

    def __init__(self, operator: str, arrays: dict[str, Any], options: dict[str, Any]) -> None:
        options = dict(options)
        self.operator = operator
        self.layout = options.pop("layout", "NCHW")
        self.mask = options.pop("mask", None)
        self.normalize = options.pop("normalize" if operator == "pac_kernel2d" else "normalize_kernel", False)
        self.groups = options.pop("groups", 1)
        self.shared = options.pop("shared_filters", False)
        self.adaptive = {
            "channel_wise": options.pop("channel_wise", False),
            "kernel_type": options.pop("kernel_type", "gaussian"),
            "asymmetric": options.pop("asymmetric", False),
        }
        self.arrays = {name: self._from(name, arrays.get(name)) for name in DIFFERENTIABLE}
        if self.mask is not None:
            mask = np.asarray(self.mask)
            mask = mask if mask.dtype == np.bool_ else mask.astype(np.float64)
            self.mask = torch.from_numpy(self._order("mask", mask, forward=True).copy())
        transposed = options.pop("transposed", operator == "pac_conv_transpose2d")
        weight, guide, image = self.arrays["weight"], self.arrays["guide"], self.arrays["input"]
        kernel_size = options.pop("kernel_size") if weight is None else weight.shape[2:]
        self.geometry = geometry(
            transposed,
            kernel_size,
            options.pop("stride", 1),
            options.pop("padding", 0),
            options.pop("dilation", 1),
            options.pop("output_padding", 0),
            tuple((guide if image is None else image).shape[2:]),
            size_is_output=image is None and transposed,
        )
        assert not options, options

    def _order(self, name: str, array: np.ndarray, forward: bool) -> np.ndarray:
        """Between the caller's layout and NCHW."""
        if self.layout == "NCHW":
            return array
        there = {"weight": (3, 2, 0, 1), "kernel": (0, 5, 3, 4, 1, 2)}.get(name, (0, 3, 1, 2))
        if name not in ("weight", "kernel", "input", "guide", "mask"):
            return array
        return array.transpose(there if forward else tuple(np.argsort(there)))

    def _from(self, name: str, array: Any) -> Tensor | None:
        if array is None:
            return None
        return torch.from_numpy(self._order(name, np.asarray(array).astype(np.float64), forward=True).copy())

    def _output_order(self, grad: np.ndarray, forward: bool) -> np.ndarray:
        return self._order("kernel" if self.operator == "pac_kernel2d" else "input", grad, forward)

    def _counted(self, like: Tensor) -> Tensor | None:
        """What a normalised kernel is summed over."""
        return _kept(like, self.mask, self.geometry)[1] if self.normalize else None

    def _kernels(self, arrays: dict[str, Tensor | None]) -> Tensor:
        if arrays["kernel"] is not None:
            return arrays["kernel"]
        guide = arrays["guide"]
        assert guide is not None
        raw = _raw_kernel(
            guide_taps(guide, self.geometry),
            centres(guide, arrays["smooth_kernel"], self.geometry),
            inv_alpha=arrays["inv_alpha"],
            inv_lambda=arrays["inv_lambda"],
            relative_to=self._counted(guide),
            **self.adaptive,
        )
        return _finish_kernel(raw, self.mask, self.normalize, self.geometry)

    def _output(self, arrays: dict[str, Tensor | None], kernels: Tensor) -> Tensor:
        image = arrays["input"]
        if image is None:
            return kernels
        if self.mask is not None:
            image = torch.where(self.mask > 0, image, torch.zeros_like(image))
        return _adaptive_sum(image, kernels, arrays["weight"], arrays["bias"], self.groups, self.shared, self.geometry)

    def forward(self) -> np.ndarray:
        return self._output_order(self._output(self.arrays, self._kernels(self.arrays)).numpy(), forward=False)

    def filled(self) -> np.ndarray:
        assert self.mask is not None
        kept = _kept(torch.zeros((), dtype=torch.float64), self.mask, self.geometry)[1]
        return self._order("mask", (kept.sum((2, 3)) > 0).numpy(), forward=False)

    def forward_magnitude(self) -> np.ndarray:
        """The output with every sum taken over absolute values."""
        arrays = self._absolute()
        return self._output_order(self._output(arrays, self._kernel_magnitude()).numpy(), forward=False)

    def backward(self, grad_output: Any) -> dict[str, np.ndarray | None]:
        leaves = {k: None if v is None else v.clone().requires_grad_() for k, v in self.arrays.items()}
        output = self._output(leaves, self._kernels(leaves))
        grad = torch.from_numpy(self._output_order(np.asarray(grad_output).astype(np.float64), forward=True).copy())
        names = [k for k, v in leaves.items() if v is not None]
        found = torch.autograd.grad(output, [leaves[k] for k in names], grad, allow_unused=True, materialize_grads=True)
        return self._gradients(dict(zip(names, found, strict=True)))

    def _gradients(self, found: dict[str, Tensor]) -> dict[str, np.ndarray | None]:
        return {
            name: self._order(name, found[name].numpy(), forward=False) if name in found else None
            for name in DIFFERENTIABLE
        }

    def _absolute(self) -> dict[str, Tensor | None]:
        return {k: None if v is None else v.abs() for k, v in self.arrays.items()}

    def _raw_and_divisor(self) -> tuple[Tensor, Tensor | float, Tensor]:
        """|K| before normalising (zero at dropped taps), |divisor|, and the kept taps."""
        guide = self.arrays["guide"]
        assert guide is not None
        alpha = self.arrays["inv_alpha"]
        raw = _raw_kernel(
            guide_taps(guide, self.geometry),
            centres(guide, self.arrays["smooth_kernel"], self.geometry),
            inv_alpha=None if alpha is None else alpha.abs(),
            inv_lambda=self.arrays["inv_lambda"],
            relative_to=self._counted(guide),
            **self.adaptive,
        )
        if self.mask is None and not self.normalize:
            return raw, 1.0, torch.ones_like(raw[:1, :1])
        valid, kept = _kept(raw, self.mask, self.geometry)
        raw = raw * kept
        if self.normalize:
            divisor = raw.sum((2, 3), keepdim=True)
        else:
            divisor = kept.sum((2, 3), keepdim=True) / valid.sum((2, 3), keepdim=True).clamp(min=1)
        return raw, torch.where(divisor == 0, torch.ones_like(divisor), divisor), kept

    def _kernel_magnitude(self) -> Tensor:
        if self.arrays["kernel"] is not None:
            return self.arrays["kernel"].abs()
        raw, divisor, _ = self._raw_and_divisor()
        return raw / divisor

    def backward_magnitude(self, grad_output: Any) -> dict[str, np.ndarray | None]:
        """Each gradient with every sum along the way taken over absolute values.

        A gradient entry is a sum of terms; in floating point its error follows the sum of their absolute values, also
        where the terms cancel (one-tap windows with normalize, say, where the exact guide gradient is 0).
        """
        grad = torch.from_numpy(self._output_order(np.asarray(grad_output).astype(np.float64), forward=True).copy())
        grad = grad.abs()
        leaves = {k: None if v is None else v.requires_grad_() for k, v in self._absolute().items()}
        kernels = self._kernel_magnitude().requires_grad_()
        output = self._output(leaves, kernels)
        names = [k for k in ("input", "weight", "bias") if leaves[k] is not None]
        found = torch.autograd.grad(output, [kernels, *[leaves[k] for k in names]], grad)
        of_kernel = found[0]
        gradients = dict(zip(names, found[1:], strict=True))
        if self.arrays["kernel"] is not None:
            return self._gradients({**gradients, "kernel": of_kernel})
        raw, divisor, kept = self._raw_and_divisor()
        if self.normalize:
            of_kernel = of_kernel + (of_kernel * raw / divisor).sum((2, 3), keepdim=True)
        of_raw = of_kernel / divisor * kept

        guide, smooth = self.arrays["guide"], self.arrays["smooth_kernel"]
        assert guide is not None
        taps, centre = guide_taps(guide, self.geometry), centres(guide, smooth, self.geometry)
        difference = (taps - centre).relu() if self.adaptive["asymmetric"] else taps - centre
        square = difference.pow(2) if self.adaptive["channel_wise"] else difference.pow(2).sum(1, keepdim=True)
        if self.adaptive["kernel_type"] == "gaussian":
            options = {"inv_alpha": None, "inv_lambda": None, "relative_to": self._counted(guide), **self.adaptive}
            slope = _raw_kernel(taps, centre, **options)
        else:
            alpha, power = self.arrays["inv_alpha"], self.arrays["inv_lambda"]
            assert alpha is not None
            assert power is not None
            wide = power.reshape(1, -1, 1, 1, 1, 1)
            slope = wide.abs() * (square + 1e-4).pow(wide / 2 - 1)
            of_power = of_raw * (square + 1e-4).pow(wide / 2) * (square + 1e-4).log().abs() / 2
            if power.numel() == 1:
                gradients["inv_alpha"] = of_raw.sum().reshape(alpha.shape)
                gradients["inv_lambda"] = of_power.sum().reshape(power.shape)
            else:
                gradients["inv_alpha"] = of_raw.sum((0, 2, 3, 4, 5))
                gradients["inv_lambda"] = of_power.sum((0, 2, 3, 4, 5))
        if smooth is None:
            size = difference.abs()
        else:  # the smoothed centre carries a rounding error, and so does a difference that is small by cancellation
            size = (taps.abs() + centres(guide.abs(), smooth.abs(), self.geometry)) * (difference != 0)
        of_difference = of_raw * slope * size
        leaf = guide.abs().requires_grad_()
        smooth_leaf = None if smooth is None else smooth.abs().requires_grad_()
        parts = [guide_taps(leaf, self.geometry), centres(leaf, smooth_leaf, self.geometry)]
        wanted = [leaf] if smooth_leaf is None else [leaf, smooth_leaf]
        of_taps = of_difference.expand_as(parts[0])
        back = torch.autograd.grad(parts, wanted, [of_taps, of_taps.sum((2, 3), keepdim=True)])
        gradients["guide"] = back[0]
        if smooth_leaf is not None:
            gradients["smooth_kernel"] = back[1]
        return self._gradients(gradients)
