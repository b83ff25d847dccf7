"""Merging of feature maps of different sizes."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

import arrayops as ao
from arrayops._ops.merge import merge_parameters
from arrayops.layers.torch.representation import arguments_text
from arrayops.merge import Coordinates, How, MergedSize, Mode


class MergeFeatureMaps(nn.Module):
    """Bring feature maps to a common size, and concatenate or reduce them: a skip connection in one step.

    With R(x) the map x resized to the common size::

        concat    y = [R(x_0), R(x_1), ...] along the channels
        add       y = R(x_0) + R(x_1) + ...
        mean      y = (R(x_0) + R(x_1) + ...) / (number of maps)
        max       y = max(R(x_0), R(x_1), ...)
        flat      y = the pixels of x_0, then those of x_1, ..., then zeros, reshaped to the common size

    The maps can have any heights and widths. The resized maps are not stored.

    Parameters
    ----------
    how : {"concat", "add", "mean", "max", "flat"}, default "concat"
        See above. Except with "concat", the maps have the same number of channels.
    size : {"largest", "smallest"}, or int or pair of int, default "largest"
        The common height and width: the largest or smallest of the maps, for each axis alone, or numbers.
    mode : {"nearest", "bilinear", "bicubic", "area"}, default "bilinear"
        Interpolation, as of `arrayops.resize2d`.
    coordinates : {"half_pixel", "align_corners", "asymmetric"}, default "half_pixel"
        Coordinate convention; "half_pixel" is ``align_corners=False`` of `torch.nn.Upsample`.
    antialias : bool, default False
        For "bilinear" and "bicubic": average over the pixels that an output pixel covers, where a map gets smaller.

    Raises
    ------
    TypeError
        If an argument has a wrong type, or an input a wrong dtype.
    ValueError
        If an argument has an invalid value, or if shapes do not match.

    References
    ----------
    Concatenation of maps from two depths: O. Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image
    Segmentation", MICCAI 2015; their sum: T.-Y. Lin et al., "Feature Pyramid Networks for Object Detection", CVPR 2017.

    Examples
    --------
    >>> import torch
    >>> from arrayops.layers.torch import MergeFeatureMaps
    >>> early, late = torch.ones(1, 128, 15, 15), torch.ones(1, 128, 6, 6)
    >>> MergeFeatureMaps()([early, late]).shape
    torch.Size([1, 256, 15, 15])
    >>> MergeFeatureMaps("add", size=12)([early, late]).shape
    torch.Size([1, 128, 12, 12])
    """

    def __init__(
        self,
        how: How = "concat",
        size: MergedSize = "largest",
        *,
        mode: Mode = "bilinear",
        coordinates: Coordinates = "half_pixel",
        antialias: bool = False,
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = {
            "how": how,
            "size": size,
            "mode": mode,
            "coordinates": coordinates,
            "antialias": antialias,
        }
        parameters = merge_parameters(type(self).__name__, **self.options, layout="NCHW")
        self.options["size"] = parameters.size

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Merge maps, each (N, C, H, W) with its own height and width."""
        return ao.merge_feature_maps(maps, **self.options, layout="NCHW")

    def extra_repr(self) -> str:
        """The arguments of the constructor that are not defaults."""
        defaults = {"mode": "bilinear", "coordinates": "half_pixel", "antialias": False}
        others = {name: (self.options[name], default) for name, default in defaults.items()}
        return arguments_text(f"{self.options['how']!r}", f"size={self.options['size']!r}", options=others)
