"""Keras 3 layers of the operators, on the TensorFlow, JAX and PyTorch backends.

Import this module before ``keras.saving.load_model`` of a model that has such layers. Their arguments are named as
those of Keras' own layers, and kernels have the shapes of `keras.layers.Conv2D` and `keras.layers.Conv2DTranspose` in
both data formats, so that weights can be moved between them.
"""

from arrayops._frameworks.keras import operator_call as _operator_call  # noqa: F401  registers a layer
from arrayops.layers.keras.convolution import GroupedConv2D, GroupedConv2DTranspose
from arrayops.layers.keras.merging import MergeFeatureMaps
from arrayops.layers.keras.pac import PacConv2D, PacConv2DTranspose, PacPooling2D
from arrayops.layers.keras.superpixels import SuperpixelPooling, SuperpixelUnpooling

__all__ = [
    "GroupedConv2D",
    "GroupedConv2DTranspose",
    "MergeFeatureMaps",
    "PacConv2D",
    "PacConv2DTranspose",
    "PacPooling2D",
    "SuperpixelPooling",
    "SuperpixelUnpooling",
]
