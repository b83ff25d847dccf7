"""Merging of feature maps of different sizes."""

from collections.abc import Sequence
from typing import Any

import arrayops as ao
from arrayops._ops.merge import merge_parameters
from arrayops.layers.keras.base import DataFormat, ImageLayer, registered
from arrayops.merge import Coordinates, How, MergedSize, Mode


@registered
class MergeFeatureMaps(ImageLayer):
    """Bring feature maps to a common size, and concatenate or reduce them: a skip connection in one step.

    With R(x) the map x resized to the common size::

        concat    y = [R(x_0), R(x_1), ...] along the channels
        add       y = R(x_0) + R(x_1) + ...
        mean      y = (R(x_0) + R(x_1) + ...) / (number of maps)
        max       y = max(R(x_0), R(x_1), ...)
        flat      y = the pixels of x_0, then those of x_1, ..., then zeros, reshaped to the common size

    Call it with a list of maps, which can have any heights and widths. The resized maps are not stored. "concat" suits
    most networks; "flat" keeps all values, but not their positions.

    Parameters
    ----------
    how : {"concat", "add", "mean", "max", "flat"}, default "concat"
        See above. Except with "concat", the maps have the same number of channels.
    size : {"largest", "smallest"}, or int or pair of int, default "largest"
        The common height and width: the largest or smallest of the maps, for each axis alone, or numbers.
    mode : {"nearest", "bilinear", "bicubic", "area"}, default "bilinear"
        Interpolation, as of ``arrayops.resize2d``.
    coordinates : {"half_pixel", "align_corners", "asymmetric"}, default "half_pixel"
        Coordinate convention; "half_pixel" is that of `keras.layers.Resizing`.
    antialias : bool, default False
        For "bilinear" and "bicubic": average over the pixels that an output pixel covers, where a map gets smaller.
    data_format : {"channels_last", "channels_first"}, optional
        Order of the axes; by default ``keras.config.image_data_format()``.
    **kwargs
        Arguments of keras.layers.Layer: name, dtype, trainable.

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
    >>> import keras
    >>> from arrayops.layers.keras import MergeFeatureMaps
    >>> early, late = keras.Input((15, 15, 128)), keras.Input((6, 6, 128))
    >>> MergeFeatureMaps()([early, late]).shape
    (None, 15, 15, 256)
    >>> MergeFeatureMaps("add", size=12)([early, late]).shape
    (None, 12, 12, 128)
    >>> MergeFeatureMaps("flat", size=(21, 21))([early, late]).shape
    (None, 21, 21, 128)
    """

    def __init__(
        self,
        how: How = "concat",
        size: MergedSize = "largest",
        *,
        mode: Mode = "bilinear",
        coordinates: Coordinates = "half_pixel",
        antialias: bool = False,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        self.options: dict[str, Any] = {
            "how": how,
            "size": size,
            "mode": mode,
            "coordinates": coordinates,
            "antialias": antialias,
        }
        parameters = merge_parameters(type(self).__name__, **self.options, layout=self._layout)
        self.options["size"] = parameters.size

    def call(self, inputs: Sequence[Any]) -> Any:
        """Merge a list of maps."""
        maps: list[Any] = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
        return ao.merge_feature_maps(maps, **self.options, layout=self._layout)

    def _symbolic_output(self, inputs: Sequence[Any]) -> Any:
        """The output for symbolic tensors."""
        maps = inputs if isinstance(inputs, (tuple, list)) else [inputs]
        return self.call([self._symbolic(each) for each in maps])

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), **self.options}
