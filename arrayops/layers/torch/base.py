"""What the pixel-adaptive layers share: the window, and the adaptive kernel with its options and parameters."""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import arrayops as ao
from arrayops._core import shapes
from arrayops._ops.pac import cached_parameters
from arrayops._typing import Padding, Size
from arrayops.layers.torch.fillers import assign
from arrayops.layers.torch.representation import arguments_text


class KernelType(NamedTuple):
    """A parsed ``kernel_type``: the initial values of the "inv" kernel, None for "gaussian", and its two suffixes."""

    inv: tuple[float, float] | None
    asymmetric: bool
    fixed: bool


def parse_kernel_type(layer: str, value: Any) -> KernelType:
    """Parse "gaussian" or "inv_{alpha}_{lambda}", each with the suffix "_asym", the latter also with "_fixed"."""
    kind, *words = str(value).split("_")
    numbers, suffixes = (words[:2], words[2:]) if kind == "inv" else ([], words)
    allowed = {"asym", "fixed"} if kind == "inv" else {"asym"}
    try:
        found = [float(number) for number in numbers]
    except ValueError:
        found = []
    if not all(map(math.isfinite, found)):
        found = []
    sizes = {"gaussian": 0, "inv": 2}
    if len(found) != sizes.get(kind) or len(set(suffixes)) != len(suffixes) or not allowed.issuperset(suffixes):
        raise ValueError(
            f"{layer}: kernel_type is {value!r}, expected 'gaussian' or 'inv_<alpha>_<lambda>' with two numbers, such "
            "as 'inv_0.5_1', optionally followed by '_asym', and for inv by '_fixed'"
        )
    return KernelType((found[0], found[1]) if found else None, "asym" in suffixes, "fixed" in suffixes)


def initial_smooth_kernel(layer: str, value: Any) -> NDArray[np.float64] | None:
    """The smoothing kernel of a ``smooth_kernel_type``, (sh, sw)."""
    if value == "none":
        return None
    if value == "gaussian":
        return np.outer((0.25, 0.5, 0.25), (0.25, 0.5, 0.25))
    kind, _, size = str(value).partition("_")
    if kind not in ("average", "full") or not (size.isascii() and size.isdecimal()) or int(size) % 2 == 0:
        raise ValueError(
            f"{layer}: smooth_kernel_type is {value!r}, expected 'none', 'gaussian', 'average_<size>' or "
            "'full_<size>' with an odd size, such as 'full_3'"
        )
    return np.full((int(size), int(size)), 1 / int(size) ** 2)


def valid_pixels(layer: str, mask: Tensor | None) -> Tensor | None:
    """A mask of any dtype as bool; floating-point masks must consist of 0 and 1."""
    if mask is None or mask.dtype is torch.bool:
        return mask
    valid = mask != 0
    if mask.is_floating_point():
        if torch.compiler.is_compiling():
            raise TypeError(f"{layer}: mask is {mask.dtype}, expected a bool mask in a compiled program: pass mask > 0")
        if not torch.equal(valid.to(mask.dtype), mask):
            raise ValueError(
                f"{layer}: mask has values other than 0 and 1, expected valid or invalid pixels: pass mask > 0"
            )
    return valid


class PacModule(nn.Module):
    """A layer with a window and an adaptive kernel."""

    inv_alpha: Tensor | None
    inv_lambda: Tensor | None
    smooth_kernel: Tensor | None
    _transposed = False

    def __init__(
        self,
        kernel_size: Size,
        stride: Size,
        padding: Padding,
        dilation: Size,
        kernel_type: str,
        smooth_kernel_type: str,
        normalize_kernel: bool,
        *,
        output_padding: Size = 0,
        channel_wise: bool = False,
        guide_channels: int = 1,
        groups: int = 1,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        parameters = cached_parameters(
            name,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            dilation=dilation,
            layout="NCHW",
            kernel_type="gaussian",
            asymmetric=False,
            normalize_kernel=normalize_kernel,
            channel_wise=channel_wise,
            transposed=self._transposed,
            groups=groups,
        )
        assert parameters.kernel_size is not None
        self.kernel_size = parameters.kernel_size
        self.stride = parameters.stride
        self.padding = short_padding(parameters.padding)
        self.output_padding = parameters.output_padding
        self.dilation = parameters.dilation
        self.normalize_kernel = parameters.normalize
        self.channel_wise = parameters.channel_wise
        self.groups = parameters.groups
        self.kernel_type = kernel_type
        self.smooth_kernel_type = smooth_kernel_type
        self._kernel_type = parse_kernel_type(name, kernel_type)
        self._device_and_dtype = {"device": device, "dtype": dtype}

        smooth_kernel = initial_smooth_kernel(name, smooth_kernel_type)
        learned = self.channel_wise and not self._kernel_type.fixed
        if self._kernel_type.inv and learned and guide_channels < 1:
            raise ValueError(
                f"{name}: out_channels is {guide_channels}, expected the number of channels of the guide with "
                f"channel_wise and kernel_type {kernel_type!r}"
            )
        inv_shape = (guide_channels,) if learned else ()
        for argument in ("inv_alpha", "inv_lambda"):
            self._register(argument, inv_shape if self._kernel_type.inv else None, not self._kernel_type.fixed)
        smooth_shape = None if smooth_kernel is None else tuple(smooth_kernel.shape)
        self._register("smooth_kernel", smooth_shape, str(smooth_kernel_type).startswith("full"))

    def _register(self, name: str, shape: tuple[int, ...] | None, trained: bool) -> None:
        """Register a parameter, or a buffer if it is not ``trained``; None without a shape."""
        tensor = None if shape is None else torch.empty(shape, **self._device_and_dtype)
        if trained:
            self.register_parameter(name, None if tensor is None else nn.Parameter(tensor))
        else:
            self.register_buffer(name, tensor)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Set all parameters and buffers to their initial values."""
        if self._kernel_type.inv:
            for tensor, value in zip((self.inv_alpha, self.inv_lambda), self._kernel_type.inv, strict=True):
                assert tensor is not None
                tensor.fill_(value)
        smooth_kernel = initial_smooth_kernel(type(self).__name__, self.smooth_kernel_type)
        if smooth_kernel is not None:
            assert self.smooth_kernel is not None
            assign(self.smooth_kernel, smooth_kernel)

    def compute_kernel(
        self, input_for_kernel: Tensor, input_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The adaptive kernel of a guide, for the argument ``kernel`` of this layer and of others with its window.

        Parameters
        ----------
        input_for_kernel : tensor, (N, G, H, W)
            The guide.
        input_mask : tensor, (N, 1, H, W), optional
            As of the layer's call.

        Returns
        -------
        tuple of two
            The kernel (N, 1, kh, kw, Ho, Wo), or (N, G, kh, kw, Ho, Wo) if channel-wise, and the output mask
            (N, 1, Ho, Wo), which is None without an ``input_mask``.
        """
        mask = valid_pixels(type(self).__name__, input_mask)
        found = ao.pac_kernel2d(
            input_for_kernel,
            self.kernel_size,
            mask=mask,
            normalize=self.normalize_kernel,
            channel_wise=self.channel_wise,
            transposed=self._transposed,
            output_padding=self.output_padding,
            **self._adaptive_arguments(input_for_kernel),
            **self._window_arguments(),
        )
        return (found, None) if mask is None else tuple(found)

    def _window_arguments(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "layout": "NCHW"}

    def _adaptive_arguments(self, guide: Tensor | None) -> dict[str, Any]:
        """Options of the adaptive kernel; its parameters in the dtype of the guide, be it that of the layer or not."""
        names = "inv_alpha", "inv_lambda", "smooth_kernel"
        arrays = {name: getattr(self, name) for name in names}
        return {
            "kernel_type": "gaussian" if self._kernel_type.inv is None else "inv",
            "asymmetric": self._kernel_type.asymmetric,
            **{name: each if each is None or guide is None else each.to(guide.dtype) for name, each in arrays.items()},
        }

    def _call_arguments(self, guide: Tensor | None, kernel: Tensor | None, mask: Tensor | None) -> dict[str, Any]:
        """Keywords of the function that the layer calls; with a ``kernel``, the guide is not used."""
        name, window = type(self).__name__, self._window_arguments()
        if kernel is None:
            options = {"normalize_kernel": self.normalize_kernel, **self._adaptive_arguments(guide)}
            return {"guide": guide, "mask": valid_pixels(name, mask), **options, **window}
        if isinstance(kernel, tuple):
            raise TypeError(
                f"{name}: kernel is a tuple, expected a tensor: compute_kernel returns (kernel, output_mask)"
            )
        if mask is not None:
            raise ValueError(f"{name}: mask is set, expected None with kernel: pass it to compute_kernel")
        return {"guide": None, "kernel": kernel, **window}

    def extra_repr(self) -> str:
        """The arguments of the constructor that are not defaults, as in torch's own layers."""
        options = {
            "kernel_size": (self.kernel_size, None),
            "stride": (self.stride, None),
            "padding": (self.padding, (0, 0)),
            "output_padding": (self.output_padding, (0, 0)),
            "dilation": (self.dilation, (1, 1)),
            "groups": (self.groups, 1),
            "kernel_type": (self.kernel_type, "gaussian"),
            "smooth_kernel_type": (self.smooth_kernel_type, "none"),
            "channel_wise": (self.channel_wise, False),
            "normalize_kernel": (self.normalize_kernel, False),
        }
        return arguments_text(options=options)


def short_padding(padding: shapes.Padding) -> Any:
    """A padding as a pair, if both sides of each axis are equal."""
    if isinstance(padding, str) or any(before != after for before, after in padding):
        return padding
    return padding[0][0], padding[1][0]
