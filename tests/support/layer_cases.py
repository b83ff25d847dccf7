"""Keras layers to be tested, each with the inputs that it takes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Shape = tuple[int | None, ...]
BATCH = 2


class LayerCase(NamedTuple):
    """A layer of `arrayops.layers.keras`, and shapes of its inputs in channels_last, without the batch.

    ``classes`` is None for features, or the number of values of an integer input.
    """

    name: str
    arguments: dict[str, Any]
    shapes: tuple[Shape, ...]
    classes: tuple[int | None, ...] = (None, None, None)

    def layer(self, data_format: str = "channels_last", **changes: Any) -> Any:
        """The layer."""
        from arrayops.layers import keras as layers

        return getattr(layers, self.name)(**{**self.arguments, "data_format": data_format, **changes})

    def shapes_in(self, data_format: str) -> list[Shape]:
        """Shapes of the inputs with a batch."""
        moved = data_format == "channels_first"
        return [
            (BATCH, shape[-1], *shape[:-1]) if moved and classes is None else (BATCH, *shape)
            for shape, classes in zip(self.shapes, self.classes, strict=False)
        ]

    def arrays(self, data_format: str = "channels_last") -> list[np.ndarray]:
        """Random inputs; with another format, the same values."""
        random = np.random.default_rng(len(self.name))
        found = []
        for shape, classes in zip(self.shapes, self.classes, strict=False):
            full = (BATCH, *shape)
            if classes is None:
                array = random.standard_normal(full).astype(np.float32)
                found.append(np.ascontiguousarray(moved(array, data_format)))
            else:
                found.append(random.integers(0, classes, full).astype(np.int32))
        return found


def moved(array: np.ndarray, data_format: str) -> np.ndarray:
    """An array of channels_last in another format."""
    return array if data_format == "channels_last" else np.moveaxis(array, -1, 1)


SIZE = 9, 12
IMAGE: Shape = (*SIZE, 4)
GUIDE: Shape = (*SIZE, 3)
SMALL: Shape = (5, 6, 4)
PAC = {"filters": 6, "kernel_size": 3}
CASES = {
    "conv": LayerCase("GroupedConv2D", {"filters": 6, "kernel_size": (3, 2), "groups": 2, "strides": (2, 1)}, (IMAGE,)),
    "conv-dilated": LayerCase(
        "GroupedConv2D",
        {"filters": 4, "kernel_size": 3, "groups": 4, "strides": 2, "dilation_rate": 2, "padding": "same"},
        (IMAGE,),
    ),
    "conv-options": LayerCase(
        "GroupedConv2D",
        {
            "filters": 8,
            "kernel_size": 3,
            "activation": "relu",
            "use_bias": False,
            "kernel_initializer": "he_normal",
            "kernel_regularizer": "l2",
            "activity_regularizer": "l1",
            "kernel_constraint": "max_norm",
        },
        (IMAGE,),
    ),
    "transpose": LayerCase(
        "GroupedConv2DTranspose",
        {"filters": 6, "kernel_size": 3, "strides": 2, "groups": 2, "output_padding": (1, 0)},
        (SMALL,),
    ),
    "transpose-same": LayerCase(
        "GroupedConv2DTranspose", {"filters": 6, "kernel_size": 4, "strides": 3, "padding": "same"}, (SMALL,)
    ),
    "pac": LayerCase("PacConv2D", {**PAC, "padding": "same", "activation": "relu"}, (IMAGE, GUIDE)),
    "pac-self": LayerCase("PacConv2D", {**PAC, "strides": 2}, (IMAGE,)),
    "pac-options": LayerCase(
        "PacConv2D",
        {
            **PAC,
            "groups": 2,
            "kernel_type": "inv",
            "inv_alpha": 0.2,
            "inv_lambda": -0.5,
            "asymmetric": True,
            "smooth_kernel": ((0.25, 0.5, 0.25),),
            "normalize_kernel": True,
        },
        (IMAGE, GUIDE),
    ),
    "pac-shared": LayerCase("PacConv2D", {**PAC, "filters": 4, "shared_filters": True}, (IMAGE, GUIDE)),
    "pac-portable": LayerCase("PacConv2D", {**PAC, "padding": "same", "implementation": "portable"}, (IMAGE, GUIDE)),
    "pac-transpose": LayerCase("PacConv2DTranspose", {**PAC, "strides": 2, "padding": "same"}, (SMALL, (10, 12, 3))),
    "pool": LayerCase("PacPooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}, (IMAGE, GUIDE)),
    "pool-channel-wise": LayerCase(
        "PacPooling2D", {"pool_size": 2, "channel_wise": True, "normalize_kernel": False}, (IMAGE, IMAGE)
    ),
    "pool-portable": LayerCase("PacPooling2D", {"pool_size": 3, "implementation": "portable"}, (IMAGE, GUIDE)),
    "superpixels": LayerCase("SuperpixelPooling", {"n_superpixels": 7}, (IMAGE, SIZE), (None, 5)),
    "superpixels-max": LayerCase(
        "SuperpixelPooling",
        {"n_superpixels": 5, "reduction": "max", "ignore_label": 3, "empty": -1.0, "check": True},
        (IMAGE, SIZE),
        (None, 5),
    ),
    "unpooling": LayerCase("SuperpixelUnpooling", {"ignore_label": 2, "fill": 0.5}, ((7, 4), SIZE), (None, 7)),
    "merge": LayerCase("MergeFeatureMaps", {}, (IMAGE, SMALL, GUIDE)),
    "merge-max": LayerCase("MergeFeatureMaps", {"how": "max", "size": "smallest", "antialias": True}, (IMAGE, SMALL)),
    "merge-flat": LayerCase("MergeFeatureMaps", {"how": "flat", "size": (12, 13)}, (IMAGE, SMALL)),
}
