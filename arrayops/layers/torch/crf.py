"""Conditional random fields with pixel-adaptive pairwise terms, by mean-field inference."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

import arrayops as ao
from arrayops._core import checks, shapes
from arrayops._typing import Size
from arrayops.layers.torch.fillers import Filler, assign, perturb, potts
from arrayops.layers.torch.pac import PacConv2d

CompatType = Literal["4d", "2d", "potts", "na"]
FinalOutput = Literal["log_Q", "softmax", "log_softmax"]
PairwiseKernels = Mapping[str, Any] | Sequence[Mapping[str, Any]]


class Pairwise(NamedTuple):
    """Settings of a pairwise term that its messenger does not hold.

    ``factor`` is that of its messages; it is a trained parameter if ``factor_is_trained``.
    """

    compat_type: str
    blur: int
    factor: float
    factor_is_trained: bool


class Compatibility(nn.Conv2d):
    """The trained compatibility of each pair of classes; at first that of a Potts model."""

    def __init__(self, channels: int, perturbed: bool, **device_and_dtype: Any) -> None:
        self.perturbed = perturbed
        super().__init__(channels, channels, 1, bias=False, **device_and_dtype)

    def reset_parameters(self) -> None:
        """Set the initial values."""
        assign(self.weight, potts(self.in_channels)[:, :, None, None])
        if self.perturbed:
            perturb(self.weight)


class PacCRF(nn.Module):
    """Conditional random field with pixel-adaptive pairwise terms: refines class scores along the edges of an image.

    Each step of mean-field inference computes, from class probabilities Q, starting with those of the unary scores U::

        log Q = w_u U - sum over i of w_i compat_i(PAC_i(Q))        Q = softmax over the classes of log Q

    where PAC_i is a `PacConv2d` with the edge features i as its guide, without a bias, computed at a lower resolution
    with ``blur``. Adaptive kernels are computed once for all steps.

    Parameters
    ----------
    channels : int
        Number of classes.
    num_steps : int
        Number of steps.
    final_output : {"log_Q", "softmax", "log_softmax"}, default "log_Q"
        Whether the result is log Q, which is not normalised, Q, or its logarithm.
    perturbed_init : bool, default True
        Add small random numbers to the initial weights, so that classes are not trained alike.
    native_impl : bool, default False
        Not used; an argument of the reference code.
    fixed_weighting : bool, default False
        The weights w_u and w_i are not trained.
    unary_weight : float, default 1.0
        Initial value of w_u.
    pairwise_kernels : dict or sequence of dict, optional
        Arguments of `add_pairwise_kernel`, for each pairwise term.
    device, dtype
        Of the parameters.

    Attributes
    ----------
    unary_weight : torch.nn.Parameter, (); a float with ``fixed_weighting``
    messengers : torch.nn.ModuleList of PacConv2d, or of torch.nn.Conv2d for "na"
    compat : torch.nn.ModuleList of torch.nn.Conv2d for "2d", else of torch.nn.Identity
    pairwise_weights : torch.nn.ParameterList, each ()
        Trained and used with ``compat_type="potts"`` and ``spatial_filter=False`` alone, where it is the negative of
        ``pairwise_weight`` at first. The weights of other filters can be scaled by any factor, so the factor of their
        messages is the constant ``pairwise_weight``.

    Raises
    ------
    TypeError
        If an argument has a wrong type, or an input a wrong dtype.
    ValueError
        If an argument has an invalid value, or if shapes do not match.

    References
    ----------
    H. Su et al., "Pixel-Adaptive Convolutional Neural Networks", CVPR 2019, section 5. P. Krähenbühl and V. Koltun,
    "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011. Arguments and initial
    weights follow the former's code.

    Examples
    --------
    >>> import torch
    >>> from arrayops.layers.torch import PacCRF
    >>> near = {"kernel_size": 3, "compat_type": "potts", "spatial_filter": False, "pairwise_weight": 0.5}
    >>> far = {**near, "kernel_size": 5, "dilation": 4}
    >>> crf = PacCRF(21, num_steps=5, final_output="softmax", pairwise_kernels=[near, far])
    >>> scores, image = torch.rand(1, 21, 12, 16), torch.rand(1, 3, 12, 16)
    >>> crf(scores, 10 * image).shape
    torch.Size([1, 21, 12, 16])
    """

    def __init__(
        self,
        channels: int,
        num_steps: int,
        final_output: FinalOutput = "log_Q",
        perturbed_init: bool = True,
        native_impl: bool = False,
        fixed_weighting: bool = False,
        unary_weight: float = 1.0,
        pairwise_kernels: PairwiseKernels | None = None,
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.channels = checks.count(name, "channels", channels)
        self.num_steps = checks.count(name, "num_steps", num_steps)
        self.final_output = checks.choice(name, "final_output", final_output, get_args(FinalOutput))
        self.perturbed_init = checks.flag(name, "perturbed_init", perturbed_init)
        self.fixed_weighting = checks.flag(name, "fixed_weighting", fixed_weighting)
        self._device_and_dtype = {"device": device, "dtype": dtype}
        self._initial_unary_weight = float(checks.number(name, "unary_weight", unary_weight))
        self.unary_weight: Any = self._initial_unary_weight
        if not self.fixed_weighting:
            self.unary_weight = nn.Parameter(torch.tensor(self._initial_unary_weight, **self._device_and_dtype))
        self.messengers = nn.ModuleList()
        self.compat = nn.ModuleList()
        self.pairwise_weights = nn.ParameterList()
        self._pairwise: list[Pairwise] = []
        for arguments in as_sequence(pairwise_kernels):
            self.add_pairwise_kernel(**arguments)

    def reset_parameters(self) -> None:
        """Set all parameters to their initial values."""
        with torch.no_grad():
            if not self.fixed_weighting:
                self.unary_weight.fill_(self._initial_unary_weight)
            for pairwise, weight in zip(self._pairwise, self.pairwise_weights, strict=True):
                weight.fill_(pairwise.factor)
        for module in (*self.messengers, *self.compat):
            if not isinstance(module, nn.Identity):
                module.reset_parameters()

    def add_pairwise_kernel(
        self,
        kernel_size: Size = 3,
        dilation: Size = 1,
        blur: int = 1,
        compat_type: CompatType = "4d",
        spatial_filter: bool = True,
        pairwise_weight: float = 1.0,
    ) -> None:
        """Add a pairwise term.

        Parameters
        ----------
        kernel_size, dilation : int or pair of int, default 3, 1
            Size of the filter, odd, and spacing of its taps.
        blur : int, default 1
            Compute the messages at a resolution that is lower by this factor: the window is so much larger.
        compat_type : {"4d", "2d", "potts", "na"}, default "4d"
            The filter and the compatibility of classes. "4d": a filter for each pair of classes. "2d": one filter, and
            a trained compatibility for each pair of classes. "potts": one filter; equal classes attract each other.
            "na": a plain convolution, with a filter for each pair of classes and without edge features.
        spatial_filter : bool, default True
            With "2d" and "potts": whether the filter is trained; otherwise all its weights are 1, except at the centre.
        pairwise_weight : float, default 1.0
            The factor of the messages.
        """
        name = type(self).__name__
        checks.choice(name, "compat_type", compat_type, get_args(CompatType))
        checks.flag(name, "spatial_filter", spatial_filter)
        size = shapes.pair(name, "kernel_size", kernel_size, 1)
        spacing = shapes.pair(name, "dilation", dilation, 1)
        if size[0] % 2 == 0 or size[1] % 2 == 0:
            raise ValueError(f"{name}: kernel_size is {kernel_size!r}, expected odd numbers")
        one_filter = compat_type in ("2d", "potts")
        padding = size[0] // 2 * spacing[0], size[1] // 2 * spacing[1]
        # Where the others are by now.
        like = next(self.parameters(), None)
        place = self._device_and_dtype if like is None else {"device": like.device, "dtype": like.dtype}
        window = {"padding": padding, "dilation": spacing, "bias": False, **place}
        sign = -1 if compat_type == "potts" else 1
        pairwise = Pairwise(
            compat_type,
            checks.count(name, "blur", blur),
            factor=sign * float(checks.number(name, "pairwise_weight", pairwise_weight)),
            factor_is_trained=compat_type == "potts" and not spatial_filter and not self.fixed_weighting,
        )
        messenger: nn.Module
        if compat_type == "na":
            messenger = nn.Conv2d(self.channels, self.channels, size, **window)
        else:
            filler: Filler = "crf_perturbed" if self.perturbed_init else "crf"
            if one_filter and not spatial_filter:
                filler = "crf_pool"
            messenger = PacConv2d(
                self.channels,
                self.channels,
                size,
                shared_filters=one_filter,
                filler=filler,
                **window,
            )
        self._pairwise.append(pairwise)
        self.messengers.append(messenger)
        is_2d = compat_type == "2d"
        self.compat.append(Compatibility(self.channels, self.perturbed_init, **place) if is_2d else nn.Identity())
        weight = torch.tensor(pairwise.factor, **place)
        self.pairwise_weights.append(nn.Parameter(weight, requires_grad=pairwise.factor_is_trained))

    @property
    def num_pairwise_kernels(self) -> int:
        """Number of pairwise terms."""
        return len(self._pairwise)

    def compute_edge_kernel(self, edge_feat: Tensor | Sequence[Tensor | None]) -> list[Tensor | None]:
        """The adaptive kernels of edge features, for ``edge_kernel`` in several calls; None for "na".

        Parameters
        ----------
        edge_feat : tensor, (N, G, H, W), or a sequence of one for each pairwise term
            Edge features.

        Returns
        -------
        list of tensor, (N, 1, kh, kw, H, W), or None
            One for each pairwise term; with ``blur``, height and width are smaller by it, rounded up.
        """
        shared = isinstance(edge_feat, Tensor)
        features = [edge_feat] * self.num_pairwise_kernels if shared else list(edge_feat)
        self._check_number("edge_feat", features)
        kernels: list[Tensor | None] = []
        for pairwise, messenger, guide in zip(self._pairwise, self.messengers, features, strict=True):
            if pairwise.compat_type == "na":
                kernels.append(None)
                continue
            if guide is None:
                raise ValueError(f"{type(self).__name__}: edge_feat is None, expected a tensor, except for 'na'")
            kernel, _ = messenger.compute_kernel(blurred(guide, pairwise.blur))
            kernels.append(kernel)
        return kernels

    def forward(
        self,
        unary: Tensor,
        edge_feat: Tensor | Sequence[Tensor | None] | None,
        edge_kernel: Sequence[Tensor | None] | None = None,
        logQ: Tensor | None = None,
    ) -> Tensor:
        """Refine class scores.

        Parameters
        ----------
        unary : tensor, (N, channels, H, W)
            Class scores U: logarithms of probabilities, except for a constant at each pixel.
        edge_feat : tensor, (N, G, H, W), or a sequence of one for each pairwise term
            Edge features, scaled so that a difference of 1 is a significant one; not used with ``edge_kernel``.
        edge_kernel : sequence of tensor, optional
            Adaptive kernels, of `compute_edge_kernel`.
        logQ : tensor, (N, channels, H, W), optional
            Where the iteration starts; by default ``unary``.

        Returns
        -------
        tensor, (N, channels, H, W)
            As ``final_output`` says.
        """
        edge_kernel = self._edge_kernels(unary, edge_feat, edge_kernel)
        if logQ is not None and logQ.shape != unary.shape:
            raise ValueError(
                f"{type(self).__name__}: logQ is {tuple(logQ.shape)}, expected {tuple(unary.shape)} as unary"
            )
        log_q = unary if logQ is None else logQ
        for _ in range(self.num_steps):
            probabilities = torch.softmax(log_q, 1)
            log_q = self.unary_weight * unary
            for i, kernel in enumerate(edge_kernel):
                log_q = log_q - self._message(i, probabilities, kernel)
        if self.final_output == "softmax":
            return torch.softmax(log_q, 1)
        return torch.log_softmax(log_q, 1) if self.final_output == "log_softmax" else log_q

    def _message(self, i: int, probabilities: Tensor, kernel: Tensor | None) -> Tensor:
        """The term that pairwise term ``i`` subtracts from log Q."""
        pairwise = self._pairwise[i]
        source = blurred(probabilities, pairwise.blur)
        messenger = self.messengers[i]
        message = messenger(source) if pairwise.compat_type == "na" else messenger(source, None, kernel)
        message = unblurred(self.compat[i](message), pairwise.blur, probabilities.shape[2:])
        return message * (self.pairwise_weights[i] if pairwise.factor_is_trained else pairwise.factor)

    def _edge_kernels(
        self,
        unary: Tensor,
        edge_feat: Tensor | Sequence[Tensor | None] | None,
        edge_kernel: Sequence[Tensor | None] | None,
    ) -> Sequence[Tensor | None]:
        """Check ``unary``; return ``edge_kernel``, or the adaptive kernels of edge features of its height and width."""
        name = type(self).__name__
        if unary.ndim != 4 or unary.shape[1] != self.channels:
            raise ValueError(f"{name}: unary is {tuple(unary.shape)}, expected (N, {self.channels}, H, W)")
        if edge_kernel is None:
            if edge_feat is None:
                raise ValueError(f"{name}: edge_feat and edge_kernel are both None, expected one of them")
            for guide in [edge_feat] if isinstance(edge_feat, Tensor) else edge_feat:
                if guide is not None and guide.shape[2:] != unary.shape[2:]:
                    size = tuple(unary.shape[2:])
                    raise ValueError(
                        f"{name}: edge_feat is {tuple(guide.shape)}, expected height and width {size} of unary"
                    )
            edge_kernel = self.compute_edge_kernel(edge_feat)
        self._check_number("edge_kernel", edge_kernel)
        return edge_kernel

    def _check_number(self, name: str, values: Sequence[Any]) -> None:
        if len(values) != self.num_pairwise_kernels:
            raise ValueError(
                f"{type(self).__name__}: {name} has {len(values)} entries, expected {self.num_pairwise_kernels}, one "
                "for each pairwise kernel"
            )

    def extra_repr(self) -> str:
        """The settings."""
        kinds = [pairwise.compat_type for pairwise in self._pairwise]
        blurs = [pairwise.blur for pairwise in self._pairwise]
        return (
            f"{self.channels}, num_steps={self.num_steps}, final_output={self.final_output!r}, compat_type={kinds}, "
            f"blur={blurs}"
        )


class PacCRFLoose(nn.Module):
    """`PacCRF` whose steps have weights of their own.

    Parameters
    ----------
    channels, num_steps, final_output, perturbed_init, native_impl, fixed_weighting, unary_weight, pairwise_kernels
        As of `PacCRF`.
    device, dtype
        Of the parameters.

    Attributes
    ----------
    steps : torch.nn.ModuleList of PacCRF
        One for each step.

    Raises
    ------
    TypeError
        If an argument has a wrong type, or an input a wrong dtype.
    ValueError
        If an argument has an invalid value, or if shapes do not match.

    References
    ----------
    As of `PacCRF`.

    Examples
    --------
    >>> import torch
    >>> from arrayops.layers.torch import PacCRFLoose
    >>> crf = PacCRFLoose(21, num_steps=5, pairwise_kernels={"kernel_size": 5, "blur": 2})
    >>> len(crf.steps)
    5
    >>> crf(torch.rand(1, 21, 12, 16), torch.rand(1, 3, 12, 16)).shape
    torch.Size([1, 21, 12, 16])
    """

    def __init__(
        self,
        channels: int,
        num_steps: int,
        final_output: FinalOutput = "log_Q",
        perturbed_init: bool = True,
        native_impl: bool = False,
        fixed_weighting: bool = False,
        unary_weight: float = 1.0,
        pairwise_kernels: PairwiseKernels | None = None,
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        number = checks.count(type(self).__name__, "num_steps", num_steps)
        settings = perturbed_init, native_impl, fixed_weighting, unary_weight, pairwise_kernels
        self.channels = channels
        self.num_steps = number
        self.final_output = final_output
        self.steps = nn.ModuleList(
            PacCRF(channels, 1, final_output if last else "log_Q", *settings, device=device, dtype=dtype)
            for last in (i == number - 1 for i in range(number))
        )

    def add_pairwise_kernel(self, *args: Any, **kwargs: Any) -> None:
        """Add a pairwise term to each step, with the arguments of `PacCRF.add_pairwise_kernel`."""
        for step in self.steps:
            step.add_pairwise_kernel(*args, **kwargs)

    @property
    def num_pairwise_kernels(self) -> int:
        """Number of pairwise terms."""
        first: PacCRF = self.steps[0]
        return first.num_pairwise_kernels

    def compute_edge_kernel(self, edge_feat: Tensor | Sequence[Tensor | None]) -> list[Tensor | None]:
        """As of `PacCRF`; the kernels are those of all steps."""
        first: PacCRF = self.steps[0]
        return first.compute_edge_kernel(edge_feat)

    def forward(
        self,
        unary: Tensor,
        edge_feat: Tensor | Sequence[Tensor | None] | None,
        edge_kernel: Sequence[Tensor | None] | None = None,
    ) -> Tensor:
        """Refine class scores; arguments and result are those of `PacCRF`."""
        first: PacCRF = self.steps[0]
        edge_kernel = first._edge_kernels(unary, edge_feat, edge_kernel)
        log_q = unary
        for step in self.steps:
            log_q = step(unary, None, edge_kernel, log_q)
        return log_q


def as_sequence(pairwise_kernels: PairwiseKernels | None) -> Sequence[Mapping[str, Any]]:
    """The settings of all pairwise terms."""
    if pairwise_kernels is None:
        return ()
    return [pairwise_kernels] if isinstance(pairwise_kernels, Mapping) else pairwise_kernels


def blur_padding(size: int, blur: int) -> tuple[int, int]:
    """Zeros in front of and behind an axis, which make its size a multiple of ``blur``; half in front, rounded up."""
    # No remainder of a negative number: torch 2.7 gets it wrong for sizes that are unknown in a compiled program.
    missing = (size + blur - 1) // blur * blur - size
    before = (missing + 1) // 2
    return before, missing - before


def blurred(image: Tensor, blur: int) -> Tensor:
    """The means of blocks of ``blur`` x ``blur`` pixels, centred; blocks at the border are smaller."""
    if blur == 1:
        return image
    sides = [*blur_padding(image.shape[3], blur), *blur_padding(image.shape[2], blur)]
    # Padding that avg_pool2d adds by itself cannot depend on sizes that are unknown in a compiled program.
    sums = functional.avg_pool2d(functional.pad(image, sides), blur)
    return sums / functional.avg_pool2d(functional.pad(torch.ones_like(image[:1, :1]), sides), blur)


def unblurred(image: Tensor, blur: int, size: Sequence[int]) -> Tensor:
    """The inverse of `blurred` by bilinear interpolation, to an image of ``size``."""
    if blur == 1:
        return image
    large = ao.resize2d(image, (image.shape[2] * blur, image.shape[3] * blur), layout="NCHW")
    rows, columns = size
    (top, _), (left, _) = blur_padding(rows, blur), blur_padding(columns, blur)
    return large[:, :, top : top + rows, left : left + columns]
