"""Pooling over superpixels, and its inverse."""

from typing import get_args

from torch import Tensor, nn

import arrayops as ao
from arrayops._core import checks
from arrayops._ops.segment import checking, ignored
from arrayops._typing import PooledReduction
from arrayops.layers.torch.representation import arguments_text


class SuperpixelPool2d(nn.Module):
    """Mean, or another reduction, of the features of each superpixel.

    With n the number of pixels p of superpixel s::

        y[c, s] = sum over p of x[c, p] / n

    Parameters
    ----------
    n_superpixels : int, optional
        Number of superpixels S, at least the largest label plus 1. The default, None, is the largest label of the
        batch plus 1, for which a GPU is waited for; compiled programs need a number.
    reduction : {"mean", "sum", "max", "min", "var"}, default "mean"
        What is computed of the pixels of a superpixel.
    ignore_label : int, optional
        Pixels with this label belong to no superpixel.
    empty : float, default 0
        Value of superpixels without pixels. Where images have different numbers of superpixels,
        `arrayops.segment_count` tells which have pixels.
    check : bool, optional
        Whether labels out of range are an error; if not, they belong to no superpixel. The default, None, is True on
        the CPU and False on a GPU.

    Raises
    ------
    TypeError
        If an argument has a wrong type, or an input a wrong dtype.
    ValueError
        If an argument has an invalid value, shapes do not match, or a label is out of range.

    References
    ----------
    S. Kwak, S. Hong and B. Han, "Weakly Supervised Semantic Segmentation Using Superpixel Pooling Network", AAAI 2017.

    Examples
    --------
    >>> import torch
    >>> from arrayops.layers.torch import SuperpixelPool2d
    >>> features = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])
    >>> superpixels = torch.tensor([[[0, 0], [0, 1]]])
    >>> SuperpixelPool2d(n_superpixels=2)(features, superpixels)
    tensor([[[3., 7.]]])
    """

    def __init__(
        self,
        n_superpixels: int | None = None,
        reduction: PooledReduction = "mean",
        *,
        ignore_label: int | None = None,
        empty: float = 0,
        check: bool | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.n_superpixels = None if n_superpixels is None else checks.count(name, "n_superpixels", n_superpixels)
        self.reduction = checks.choice(name, "reduction", reduction, get_args(PooledReduction))
        self.ignore_label = ignored(name, ignore_label)
        self.empty = checks.number(name, "empty", empty)
        self.check = checking(name, check)

    def forward(self, features: Tensor, superpixel_map: Tensor) -> Tensor:
        """Pool features (N, C, H, W) over a map (N, H, W) of an integer dtype: (N, C, S)."""
        function = getattr(ao, f"segment_{self.reduction}")
        options = {"ignore_label": self.ignore_label, "empty": self.empty, "check": self.check}
        pooled: Tensor = function(features, superpixel_map, self.n_superpixels, **options, layout="NCHW")
        return pooled

    def extra_repr(self) -> str:
        """The arguments of the constructor that are not defaults."""
        options = {"ignore_label": (self.ignore_label, None), "empty": (self.empty, 0), "check": (self.check, None)}
        return arguments_text(f"{self.n_superpixels}, {self.reduction!r}", options=options)


class SuperpixelUnpool2d(nn.Module):
    """Give each pixel the features of its superpixel.

    With s(p) the superpixel of pixel p::

        y[c, p] = x[c, s(p)]

    Parameters
    ----------
    ignore_label : int, optional
        Pixels with this label belong to no superpixel.
    fill : float, default 0
        Value of pixels that belong to no superpixel.
    check : bool, optional
        Whether labels out of range are an error; if not, they belong to no superpixel. The default, None, is True on
        the CPU and False on a GPU.

    Raises
    ------
    TypeError
        If an argument has a wrong type, or an input a wrong dtype.
    ValueError
        If an argument has an invalid value, shapes do not match, or a label is out of range.

    References
    ----------
    The inverse of the pooling of S. Kwak, S. Hong and B. Han, "Weakly Supervised Semantic Segmentation Using Superpixel
    Pooling Network", AAAI 2017.

    Examples
    --------
    >>> import torch
    >>> from arrayops.layers.torch import SuperpixelUnpool2d
    >>> superpixels = torch.tensor([[[0, 0], [0, 1]]])
    >>> SuperpixelUnpool2d()(torch.tensor([[[3.0, 7.0]]]), superpixels)
    tensor([[[[3., 3.],
              [3., 7.]]]])
    """

    def __init__(self, *, ignore_label: int | None = None, fill: float = 0, check: bool | None = None) -> None:
        super().__init__()
        name = type(self).__name__
        self.ignore_label = ignored(name, ignore_label)
        self.fill = checks.number(name, "fill", fill)
        self.check = checking(name, check)

    def forward(self, pooled: Tensor, superpixel_map: Tensor) -> Tensor:
        """Features (N, C, H, W) of the pixels of a map (N, H, W), from those of superpixels (N, C, S)."""
        return ao.segment_unpool(
            pooled, superpixel_map, ignore_label=self.ignore_label, fill=self.fill, check=self.check, layout="NCHW"
        )

    def extra_repr(self) -> str:
        """The arguments of the constructor that are not defaults."""
        options = {"ignore_label": (self.ignore_label, None), "fill": (self.fill, 0), "check": (self.check, None)}
        return arguments_text(options=options)
