"""Pixel-adaptive convolution, its transposed form, and pooling."""

import warnings
from typing import Any

import torch
from torch import Tensor

import arrayops as ao
from arrayops._core import checks
from arrayops._typing import Padding, Size
from arrayops.layers.torch.base import PacModule
from arrayops.layers.torch.fillers import CONSTANT, FILLERS, Filler, fill
from arrayops.layers.torch.representation import arguments_text


class PacConvolution(PacModule):
    """What the two convolutions share: weight, bias and their initial values."""

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size,
        padding: Padding,
        dilation: Size,
        bias: bool,
        kernel_type: str,
        smooth_kernel_type: str,
        normalize_kernel: bool,
        shared_filters: bool,
        filler: Filler,
        *,
        output_padding: Size,
        groups: int,
        device: Any,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__(
            kernel_size,
            stride,
            padding,
            dilation,
            kernel_type,
            smooth_kernel_type,
            normalize_kernel,
            output_padding=output_padding,
            groups=groups,
            device=device,
            dtype=dtype,
        )
        name = type(self).__name__
        self.in_channels = checks.count(name, "in_channels", in_channels)
        self.out_channels = checks.count(name, "out_channels", out_channels)
        for argument in ("in_channels", "out_channels"):
            if getattr(self, argument) % self.groups:
                raise ValueError(
                    f"{name}: {argument} is {getattr(self, argument)}, expected a multiple of groups {groups}"
                )
        self.shared_filters = checks.flag(name, "shared_filters", shared_filters)
        if self.shared_filters and (self.in_channels != self.out_channels or self.groups != 1):
            raise ValueError(
                f"{name}: shared_filters is True, expected False with in_channels {in_channels}, out_channels "
                f"{out_channels} and groups {groups}: one filter serves all channels, each for itself"
            )
        self.filler = checks.choice(name, "filler", filler, FILLERS)
        self._check_filler()
        trained = self.filler not in CONSTANT
        self._register("weight", (1, 1, *self.kernel_size) if self.shared_filters else self._weight_shape(), trained)
        self._register("bias", (self.out_channels,) if checks.flag(name, "bias", bias) else None, True)
        self.reset_parameters()

    def _weight_shape(self) -> tuple[int, int, int, int]:
        """Shape of the weight without ``shared_filters``."""
        first, second = (
            (self.in_channels, self.out_channels) if self._transposed else (self.out_channels, self.in_channels)
        )
        return first, second // self.groups, *self.kernel_size

    def _check_filler(self) -> None:
        """Check that the filler suits the filter."""
        if self.filler == "uniform":
            return
        needs = []
        if self.filler in CONSTANT and not self.shared_filters:
            needs.append("shared_filters=True")
        if self.in_channels != self.out_channels or self.groups != 1:
            needs.append("as many output as input channels, and one group")
        if self.filler != "pool" and any(size % 2 == 0 for size in self.kernel_size):
            needs.append("an odd kernel_size")
        if self.filler == "linear" and not self._transposed:
            needs.append("a transposed convolution")
        if self.filler == "linear" and any(
            size < 2 * step - 1 for size, step in zip(self.kernel_size, self.stride, strict=True)
        ):
            needs.append("a kernel_size of at least 2 stride - 1")
        if needs:
            raise ValueError(f"{type(self).__name__}: filler {self.filler!r} needs {', '.join(needs)}")

    def reset_parameters(self) -> None:
        """Set all parameters and buffers to their initial values."""
        super().reset_parameters()
        fill(
            self.weight,
            self.bias,
            self.filler,
            in_channels=self.in_channels // self.groups,
            stride=self.stride,
            normalize=self.normalize_kernel,
            shared=self.shared_filters,
        )

    def _function_arguments(self, guide: Tensor | None, kernel: Tensor | None, mask: Tensor | None) -> dict[str, Any]:
        return {
            "weight": self.weight,
            "bias": self.bias,
            "groups": self.groups,
            "shared_filters": self.shared_filters,
            **self._call_arguments(guide, kernel, mask),
        }

    def extra_repr(self) -> str:
        """The arguments of the constructor that are not defaults, as in torch's own layers."""
        options = {
            "shared_filters": (self.shared_filters, False),
            "bias": (self.bias is not None, True),
            "filler": (self.filler, "uniform"),
        }
        return arguments_text(f"{self.in_channels}, {self.out_channels}", super().extra_repr(), options=options)


class PacConv2d(PacConvolution):
    """Pixel-adaptive convolution: a convolution whose weights are scaled at every pixel by a kernel of guide features.

    With x the input, f the guide, W the weight, stride s, dilation d, padding p::

        y[o, h, w] = b[o] + sum over i, j of K[i, j, h, w]
                     * sum over c of W[o, c, i, j] x[c, h s + i d - p, w s + j d - p]

        K[i, j, h, w] = exp(-1/2 sum over g of (f[g, h s + i d - p, w s + j d - p] - f_centre[g]) ** 2)

    where f_centre is the guide at the centre tap. With a constant guide it is `torch.nn.Conv2d`.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of input and output.
    kernel_size : int or pair of int
        Height and width of the filter.
    stride, dilation : int or pair of int, default 1
        Step of the window, and spacing of the taps.
    padding : int, pair of int, pair of pairs ((top, bottom), (left, right)), "same" or "valid", default 0
        Zeros around the image; "same" is that of TensorFlow, with any stride: the output size is ceil(size / stride).
    bias : bool, default True
        Whether there is a bias.
    kernel_type : str, default "gaussian"
        "gaussian", or ``"inv_{alpha}_{lambda}"``, such as "inv_0.5_1", for
        ``K = inv_alpha + (sum over g of (...) ** 2 + 1e-4) ** (inv_lambda / 2)`` with two trained parameters and their
        initial values. With the suffix "_fixed" they are not trained; with "_asym", also of "gaussian", max(0, .) is
        applied to each difference before squaring.
    smooth_kernel_type : str, default "none"
        Filter of f_centre: "gaussian" is the outer product of (1/4, 1/2, 1/4), ``"average_{size}"`` a mean,
        ``"full_{size}"`` the same as initial value of a trained parameter.
    normalize_kernel : bool, default False
        Divide K by its sum over the taps within the image that are not masked out.
    shared_filters : bool, default False
        One filter (1, 1, kh, kw) for all channels; ``out_channels`` equals ``in_channels``.
    filler : {"uniform", "crf", "crf_perturbed", "pool", "crf_pool"}, default "uniform"
        Initial weights. "uniform" draws weights and biases from U(-a, a) with a = 1 / sqrt(kh kw in_channels / groups),
        times in_channels for shared filters; "crf" and "crf_perturbed" are those of a CRF's messages, a Gaussian
        without its centre between different classes, the latter with small random differences; "pool" and "crf_pool"
        are ones that are not trained, the latter without the centre.
    native_impl : bool, default False
        Not used; an argument of the reference code.
    groups : int, default 1
        Groups of channels, as of `torch.nn.Conv2d`.
    device, dtype
        Of the parameters, as of `torch.nn.Conv2d`.

    Attributes
    ----------
    weight : torch.nn.Parameter, (out_channels, in_channels / groups, kh, kw), or (1, 1, kh, kw)
        A buffer with the fillers "pool" and "crf_pool".
    bias : torch.nn.Parameter, (out_channels,), or None
    inv_alpha, inv_lambda : torch.nn.Parameter, (), or None
        A buffer with "_fixed".
    smooth_kernel : tensor, (sh, sw), or None
        A parameter with "full"; otherwise a buffer.

    Raises
    ------
    TypeError
        If an argument has a wrong type, or an input a wrong dtype.
    ValueError
        If an argument has an invalid value, or if shapes do not match.

    References
    ----------
    H. Su et al., "Pixel-Adaptive Convolutional Neural Networks", CVPR 2019, equations 3 and 4. Arguments and initial
    weights follow the authors' code.

    Examples
    --------
    >>> import torch
    >>> from arrayops.layers.torch import PacConv2d
    >>> layer = PacConv2d(16, 8, 5, padding=2)
    >>> layer
    PacConv2d(16, 8, kernel_size=(5, 5), stride=(1, 1), padding=(2, 2))
    >>> features, image = torch.rand(1, 16, 12, 12), torch.rand(1, 3, 12, 12)
    >>> layer(features, image).shape
    torch.Size([1, 8, 12, 12])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        bias: bool = True,
        kernel_type: str = "gaussian",
        smooth_kernel_type: str = "none",
        normalize_kernel: bool = False,
        shared_filters: bool = False,
        filler: Filler = "uniform",
        native_impl: bool = False,
        *,
        groups: int = 1,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            bias,
            kernel_type,
            smooth_kernel_type,
            normalize_kernel,
            shared_filters,
            filler,
            output_padding=0,
            groups=groups,
            device=device,
            dtype=dtype,
        )

    def forward(
        self,
        input_2d: Tensor,
        input_for_kernel: Tensor | None,
        kernel: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Any:
        """Convolve images.

        Parameters
        ----------
        input_2d : tensor, (N, C, H, W)
            The input.
        input_for_kernel : tensor, (N, G, H, W), or None
            The guide, not used with ``kernel``.
        kernel : tensor, (N, 1, kh, kw, Ho, Wo), optional
            An adaptive kernel, of `compute_kernel`.
        mask : tensor, (N, 1, H, W), optional
            True, or not 0, where the input is valid. A floating-point mask consists of 0 and 1, which is checked (on a
            GPU, the check waits for it), and is not possible in compiled programs: a bool mask is better.

        Returns
        -------
        tensor, (N, out_channels, Ho, Wo), or tuple of two
            The output; with ``mask``, a named tuple (output, output_mask), whose ``output_mask``, bool,
            (N, 1, Ho, Wo), is False where no valid pixel is in the window.
        """
        return ao.pac_conv2d(input_2d, **self._function_arguments(input_for_kernel, kernel, mask))


class PacConvTranspose2d(PacConvolution):
    """Pixel-adaptive transposed convolution: learned upsampling that follows the edges of a guide.

    It is `torch.nn.ConvTranspose2d` with weights that are scaled at every output pixel by the adaptive kernel of
    `PacConv2d`, whose window is centred at that pixel and has stride 1. The guide has the height and width of the
    *output*, H = (H_in - 1) stride - 2 padding + dilation (kh - 1) + output_padding + 1.

    A checkpoint of the reference code does not fit: there, filters are spatially reversed. `load_pacnet_state_dict`
    converts it.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride, padding, output_padding, dilation, bias, groups, device, dtype
        As of `torch.nn.ConvTranspose2d`; ``padding`` also as of `PacConv2d`.
    kernel_type, smooth_kernel_type, normalize_kernel, shared_filters, native_impl
        As of `PacConv2d`.
    filler : {"uniform", "linear", "crf", "crf_perturbed", "pool", "crf_pool"}, default "uniform"
        As of `PacConv2d`; "linear" are weights of bilinear upsampling of each channel, for an odd kernel_size of at
        least 2 stride - 1 and as many output as input channels.

    Attributes
    ----------
    weight : torch.nn.Parameter, (in_channels, out_channels / groups, kh, kw), or (1, 1, kh, kw)
        A buffer with the fillers "pool" and "crf_pool".
    bias, inv_alpha, inv_lambda, smooth_kernel
        As of `PacConv2d`.

    Raises
    ------
    TypeError
        If an argument has a wrong type, or an input a wrong dtype.
    ValueError
        If an argument has an invalid value, or if shapes do not match.

    References
    ----------
    H. Su et al., "Pixel-Adaptive Convolutional Neural Networks", CVPR 2019, section 3 and figure 3. Arguments and
    initial weights follow the authors' code.

    Examples
    --------
    >>> import torch
    >>> from arrayops.layers.torch import PacConvTranspose2d
    >>> layer = PacConvTranspose2d(4, 4, 5, stride=2, padding=2, output_padding=1, filler="linear")
    >>> depth, image = torch.ones(1, 4, 6, 6), torch.zeros(1, 3, 12, 12)
    >>> layer(depth, image).shape
    torch.Size([1, 4, 12, 12])
    """

    _transposed = True
    # That of the reference code is 1: see `_load_from_state_dict`.
    _version = 2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        output_padding: Size = 0,
        dilation: Size = 1,
        bias: bool = True,
        kernel_type: str = "gaussian",
        smooth_kernel_type: str = "none",
        normalize_kernel: bool = False,
        shared_filters: bool = False,
        filler: Filler = "uniform",
        native_impl: bool = False,
        *,
        groups: int = 1,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            bias,
            kernel_type,
            smooth_kernel_type,
            normalize_kernel,
            shared_filters,
            filler,
            output_padding=output_padding,
            groups=groups,
            device=device,
            dtype=dtype,
        )

    def forward(
        self,
        input_2d: Tensor,
        input_for_kernel: Tensor | None,
        kernel: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Any:
        """Upsample images.

        Parameters
        ----------
        input_2d : tensor, (N, C, H, W)
            The input.
        input_for_kernel : tensor, (N, G, Ho, Wo), or None
            The guide, not used with ``kernel``.
        kernel, mask : tensor, optional
            As of `PacConv2d`; ``mask`` has the height and width of the input.

        Returns
        -------
        tensor, (N, out_channels, Ho, Wo), or tuple of two
            As of `PacConv2d`.
        """
        return ao.pac_conv_transpose2d(
            input_2d,
            output_padding=self.output_padding,
            **self._function_arguments(input_for_kernel, kernel, mask),
        )

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        # torch stores the version of each layer's class beside the entries of a state dict.
        if local_metadata.get("version", self._version) != self._version:
            warnings.warn(
                f"{type(self).__name__}: the state dict for {prefix or 'this layer'} was saved by another class. If it "
                "was the reference code's (pacnet), its filters are spatially reversed and the results are wrong: use "
                "arrayops.layers.torch.load_pacnet_state_dict. Weights of torch.nn.ConvTranspose2d fit as they are",
                stacklevel=2,
            )
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)


class PacPool2d(PacModule):
    """Pixel-adaptive pooling: the sum of each window, weighted by the similarity of guide features to its centre.

    With x the input and K the adaptive kernel of `PacConv2d`::

        y[c, h, w] = sum over i, j of K[i, j, h, w] x[c, h s + i d - p, w s + j d - p]

    With ``normalize_kernel`` it is a mean, and with a stride of 1 the joint bilateral filter.

    Parameters
    ----------
    kernel_size : int or pair of int
        Height and width of the window.
    stride, padding, dilation, kernel_type, smooth_kernel_type, normalize_kernel, native_impl
        As of `PacConv2d`. Unlike that of torch's pooling layers, the default stride is 1.
    channel_wise : bool, default False
        One kernel for each channel of the guide, which has as many channels as the input.
    out_channels : int, default -1
        Number of channels; needed only for the parameters of an "inv" kernel with ``channel_wise``, one for each.
    device, dtype
        Of the parameters.

    Attributes
    ----------
    inv_alpha, inv_lambda : torch.nn.Parameter, (), or (out_channels,) with ``channel_wise``, or None
        A buffer (), with "_fixed".
    smooth_kernel : tensor, (sh, sw), or None
        A parameter with "full"; otherwise a buffer.

    Raises
    ------
    TypeError
        If an argument has a wrong type, or an input a wrong dtype.
    ValueError
        If an argument has an invalid value, or if shapes do not match.

    References
    ----------
    H. Su et al., "Pixel-Adaptive Convolutional Neural Networks", CVPR 2019, section 3. Arguments follow the authors'
    code.

    Examples
    --------
    >>> import torch
    >>> from arrayops.layers.torch import PacPool2d
    >>> denoise = PacPool2d(7, padding=3, normalize_kernel=True)
    >>> noisy = torch.rand(1, 3, 12, 12)
    >>> denoise(noisy, 5 * noisy).shape
    torch.Size([1, 3, 12, 12])
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        kernel_type: str = "gaussian",
        smooth_kernel_type: str = "none",
        channel_wise: bool = False,
        normalize_kernel: bool = False,
        out_channels: int = -1,
        native_impl: bool = False,
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            kernel_size,
            stride,
            padding,
            dilation,
            kernel_type,
            smooth_kernel_type,
            normalize_kernel,
            channel_wise=channel_wise,
            guide_channels=out_channels,
            device=device,
            dtype=dtype,
        )
        self.out_channels = out_channels
        self.reset_parameters()

    def forward(
        self,
        input_2d: Tensor,
        input_for_kernel: Tensor | None,
        kernel: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Any:
        """Pool images.

        Parameters
        ----------
        input_2d : tensor, (N, C, H, W)
            The input.
        input_for_kernel : tensor, (N, G, H, W), or None
            The guide, not used with ``kernel``.
        kernel : tensor, (N, 1 or C, kh, kw, Ho, Wo), optional
            An adaptive kernel, of `compute_kernel`.
        mask : tensor, (N, 1, H, W), optional
            As of `PacConv2d`.

        Returns
        -------
        tensor, (N, C, Ho, Wo), or tuple of two
            As of `PacConv2d`.
        """
        return ao.pac_pool2d(
            input_2d,
            kernel_size=self.kernel_size,
            channel_wise=self.channel_wise and kernel is None,
            **self._call_arguments(input_for_kernel, kernel, mask),
        )

    def extra_repr(self) -> str:
        """The arguments of the constructor that are not defaults, as in torch's own layers."""
        return arguments_text(super().extra_repr(), options={"out_channels": (self.out_channels, -1)})
