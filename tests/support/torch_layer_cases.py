"""Layers for torch to be tested, each with the inputs that it takes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

SIZE, LARGE = (7, 9), (14, 18)
KERNELS = (
    {"kernel_size": 3, "compat_type": "4d", "pairwise_weight": 0.5},
    {"kernel_size": 5, "compat_type": "2d", "blur": 2},
    {"kernel_size": 3, "dilation": 2, "compat_type": "potts", "spatial_filter": False, "pairwise_weight": 2.0},
)


class TorchLayerCase(NamedTuple):
    """A layer of `arrayops.layers.torch`, and its inputs: shapes, or (number of labels, shape) of integers."""

    name: str
    arguments: dict[str, Any]
    inputs: tuple[Any, ...]
    as_list: bool = False

    def layer(self, **changes: Any) -> Any:
        """The layer."""
        from arrayops.layers import torch as layers

        return getattr(layers, self.name)(**{**self.arguments, **changes})

    def arrays(self) -> list[np.ndarray]:
        """Random inputs."""
        random = np.random.default_rng(len(self.name))
        return [
            random.integers(0, each[0], each[1])
            if isinstance(each[1], tuple)
            else random.standard_normal(each).astype(np.float32)
            for each in self.inputs
        ]

    def tensors(self) -> list[Any]:
        """The same as tensors."""
        import torch

        return [torch.from_numpy(array) for array in self.arrays()]

    def call(self, layer: Any, tensors: list[Any]) -> Any:
        """The output of a layer."""
        return layer(tensors) if self.as_list else layer(*tensors)


IMAGE, GUIDE = (2, 4, *SIZE), (2, 3, *SIZE)
TRANSPOSED = {"in_channels": 4, "kernel_size": 5, "stride": 2, "padding": 2, "output_padding": 1}
UPSAMPLED = IMAGE, (2, 3, *LARGE)
CASES = {
    "conv": TorchLayerCase("PacConv2d", {"in_channels": 4, "out_channels": 6, "kernel_size": 3}, (IMAGE, GUIDE)),
    "conv with all options": TorchLayerCase(
        "PacConv2d",
        {
            "in_channels": 4,
            "out_channels": 6,
            "kernel_size": (3, 5),
            "stride": 2,
            "padding": ((1, 0), (2, 2)),
            "dilation": (1, 2),
            "bias": False,
            "kernel_type": "inv_0.5_1.5_asym",
            "smooth_kernel_type": "full_3",
            "normalize_kernel": True,
            "groups": 2,
        },
        (IMAGE, GUIDE),
    ),
    "conv shared": TorchLayerCase(
        "PacConv2d",
        {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "padding": "same", "shared_filters": True},
        (IMAGE, GUIDE),
    ),
    "conv crf_pool": TorchLayerCase(
        "PacConv2d",
        {
            "in_channels": 4,
            "out_channels": 4,
            "kernel_size": 3,
            "shared_filters": True,
            "filler": "crf_pool",
            "kernel_type": "inv_0.5_1_fixed",
            "smooth_kernel_type": "gaussian",
        },
        (IMAGE, GUIDE),
    ),
    "transposed": TorchLayerCase("PacConvTranspose2d", {**TRANSPOSED, "out_channels": 6}, UPSAMPLED),
    "transposed linear": TorchLayerCase(
        "PacConvTranspose2d",
        {**TRANSPOSED, "out_channels": 4, "normalize_kernel": True, "filler": "linear"},
        UPSAMPLED,
    ),
    "pool": TorchLayerCase("PacPool2d", {"kernel_size": 3, "normalize_kernel": True}, (IMAGE, GUIDE)),
    "pool channel_wise": TorchLayerCase(
        "PacPool2d",
        {
            "kernel_size": 3,
            "stride": 2,
            "kernel_type": "inv_0.2_0.7",
            "smooth_kernel_type": "average_3",
            "channel_wise": True,
            "out_channels": 4,
        },
        (IMAGE, IMAGE),
    ),
    "crf": TorchLayerCase("PacCRF", {"channels": 4, "num_steps": 2, "pairwise_kernels": KERNELS}, (IMAGE, GUIDE)),
    "crf loose": TorchLayerCase(
        "PacCRFLoose",
        {"channels": 4, "num_steps": 2, "final_output": "softmax", "pairwise_kernels": KERNELS[0]},
        (IMAGE, GUIDE),
    ),
    "superpixel pool": TorchLayerCase("SuperpixelPool2d", {"n_superpixels": 8}, (IMAGE, (8, (2, *SIZE)))),
    "superpixel max": TorchLayerCase(
        "SuperpixelPool2d", {"n_superpixels": 8, "reduction": "max", "ignore_label": 3}, (IMAGE, (8, (2, *SIZE)))
    ),
    "superpixel unpool": TorchLayerCase("SuperpixelUnpool2d", {"fill": 2}, ((2, 4, 8), (8, (2, *SIZE)))),
    "merge": TorchLayerCase("MergeFeatureMaps", {}, (IMAGE, (2, 3, 4, 5)), as_list=True),
    "merge add": TorchLayerCase(
        "MergeFeatureMaps", {"how": "add", "size": 6, "mode": "bicubic"}, (IMAGE, (2, 4, 4, 5)), as_list=True
    ),
}


class Features:
    """A dataset that calls a layer, in the worker processes of a loader."""

    def __init__(self) -> None:
        self.layer = CASES["conv"].layer()

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        import torch

        with torch.no_grad():
            image, guide = (tensor + index for tensor in CASES["conv"].tensors())
            return self.layer(image, guide)[0]
