"""Layers for `torch.nn`: pixel-adaptive convolution and its CRF, superpixel pooling, and merging of feature maps.

The pixel-adaptive layers have the names, constructor arguments, defaults, initial weights and state dict entries of the
reference code of the paper (NVlabs/pacnet); `load_pacnet_state_dict` converts its checkpoints.

Import this module before ``torch.export.load`` and ``torch.jit.load``, which look operators up by name: it registers
those of arrayops. Otherwise the first call with a tensor does.
"""

from arrayops._frameworks.torch import library as _library  # noqa: F401  registers the operators
from arrayops.layers.torch.crf import PacCRF, PacCRFLoose
from arrayops.layers.torch.merging import MergeFeatureMaps
from arrayops.layers.torch.pac import PacConv2d, PacConvTranspose2d, PacPool2d
from arrayops.layers.torch.pacnet import LoadedState, load_pacnet_state_dict
from arrayops.layers.torch.superpixels import SuperpixelPool2d, SuperpixelUnpool2d

__all__ = [
    "LoadedState",
    "MergeFeatureMaps",
    "PacCRF",
    "PacCRFLoose",
    "PacConv2d",
    "PacConvTranspose2d",
    "PacPool2d",
    "SuperpixelPool2d",
    "SuperpixelUnpool2d",
    "load_pacnet_state_dict",
]
