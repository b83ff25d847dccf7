"""Calls as a user writes them: checked by mypy and basedpyright, never run."""

from typing import Any, assert_type

import numpy as np
import torch
from numpy.typing import NDArray

import arrayops as ao
import arrayops.layers.torch as torch_layers
from arrayops.layers.keras import GroupedConv2D, MergeFeatureMaps, PacConv2D, PacPooling2D, SuperpixelPooling

Float32 = NDArray[np.float32]
Mask = NDArray[np.bool_]


def pac(image: Float32, guide: Float32, weight: Float32, bias: Float32, mask: Mask) -> None:
    """Pixel-adaptive operators."""
    kernel = ao.pac_kernel2d(guide, 3, padding="same", normalize=True, channel_wise=False)
    assert_type(kernel, Float32)
    masked_kernel = ao.pac_kernel2d(guide, (3, 3), mask=mask, padding=(1, 1))
    assert_type(masked_kernel, ao.MaskedOutput[Float32, Mask])

    assert_type(ao.pac_conv2d(image, guide, weight), Float32)
    assert_type(ao.pac_conv2d(image, guide, weight, bias, stride=[2, 2], padding=[1, 1]), Float32)
    assert_type(ao.pac_conv2d(image, None, weight, kernel=kernel, padding=1), Float32)
    masked = ao.pac_conv2d(image, guide, weight, mask=mask, kernel_type="inv", inv_alpha=bias, inv_lambda=bias)
    assert_type(masked.output, Float32)
    assert_type(masked.output_mask, Mask)
    output, output_mask = masked
    assert_type(output, Float32)
    assert_type(output_mask, Mask)

    upsampled = ao.pac_conv_transpose2d(image, guide, weight, stride=2, padding=1, output_padding=(1, 1))
    assert_type(upsampled, Float32)
    masked_upsampled = ao.pac_conv_transpose2d(image, guide, weight, mask=mask, stride=2, padding="SAME")
    assert_type(masked_upsampled, ao.MaskedOutput[Float32, Mask])

    assert_type(ao.pac_pool2d(image, guide, 3, padding=((1, 1), (1, 1)), layout="NHWC"), Float32)
    assert_type(ao.pac_pool2d(image, guide, 3, layout="channels_first"), Float32)
    assert_type(ao.pac_pool2d(image, guide, 3, layout=None), Float32)
    assert_type(ao.pac_pool2d(image, guide, [3, 3], mask=mask), ao.MaskedOutput[Float32, Mask])


def optional_mask(image: Float32, guide: Float32, mask: Mask | None) -> None:
    """A mask that may be None."""
    assert_type(ao.pac_pool2d(image, guide, 3, mask=mask), Float32 | ao.MaskedOutput[Float32, Mask])


def pac_gradients(image: Float32, guide: Float32, weight: Float32, mask: Mask) -> None:
    """Gradients of the pixel-adaptive operators."""
    assert_type(ao.pac_kernel2d_backward(image, guide, 3, mask=mask).guide, Float32 | None)
    conv = ao.pac_conv2d_backward(image, image, guide, weight, mask=mask, needs=["weight", "guide"])
    assert_type(conv.weight, Float32 | None)
    assert_type(conv.guide, Float32 | None)
    assert_type(ao.pac_conv_transpose2d_backward(image, image, guide, weight, stride=2).bias, Float32 | None)
    assert_type(ao.pac_pool2d_backward(image, image, guide, 3, padding="VALID").input, Float32 | None)


def mixed_precision(image: NDArray[np.float16], guide: Float32, weight: NDArray[np.float16]) -> None:
    """A float32 guide with a float16 input."""
    assert_type(ao.pac_conv2d(image, guide, weight), NDArray[np.float16])
    gradients = ao.pac_conv2d_backward(image, image, guide, weight)
    assert_type(gradients.input, NDArray[np.float16] | None)
    assert_type(gradients.guide, Float32 | None)


def convolution(image: Float32, weight: Float32, bias: Float32) -> None:
    """Convolutions, with every form of sizes and padding."""
    assert_type(ao.conv2d(image, weight), Float32)
    assert_type(ao.conv2d(image, weight, bias, stride=(2, 1), padding=1, dilation=[1, 2], groups=2), Float32)
    assert_type(ao.conv2d(image, weight, padding=(1, 2)), Float32)
    assert_type(ao.conv2d(image, weight, padding=[1, 2]), Float32)
    assert_type(ao.conv2d(image, weight, padding=((1, 2), (3, 4))), Float32)
    assert_type(ao.conv2d(image, weight, padding=[[1, 2], [3, 4]]), Float32)
    assert_type(ao.conv2d(image, weight, padding=[(1, 2), (3, 4)]), Float32)
    assert_type(ao.conv2d(image, weight, padding="SAME"), Float32)
    assert_type(ao.conv2d(image, weight, padding="VALID"), Float32)
    assert_type(ao.conv2d(image, weight, padding="same"), Float32)
    assert_type(ao.conv2d(image, weight, padding="valid"), Float32)
    assert_type(ao.conv_transpose2d(image, weight, bias, stride=[2, 2], output_padding=[1, 0]), Float32)
    assert_type(ao.conv2d_backward(image, image, weight, bias, needs={"bias"}).bias, Float32 | None)
    assert_type(ao.conv_transpose2d_backward(image, image, weight).weight, Float32 | None)


def known_ranks() -> None:
    """Arrays whose type holds the number of axes."""
    image, weight, bias = np.ones((1, 2, 8, 8)), np.ones((4, 2, 3, 3)), np.ones(4)
    labels = np.zeros((1, 8, 8), dtype=np.int64)
    batch, channels, height, width = ao.conv2d(image, weight, bias).shape
    assert_type((batch, channels, height, width), tuple[int, int, int, int])
    assert_type(ao.conv2d_backward(image, image, weight, bias).bias, NDArray[np.float64] | None)
    assert_type(ao.pac_kernel2d(image, 3), NDArray[np.float64])
    assert_type(ao.segment_mean(image, labels), NDArray[np.float64])
    assert_type(ao.segment_unpool(np.ones((1, 2, 5)), labels), NDArray[np.float64])
    assert_type(ao.segment_count(labels), NDArray[np.int64])


def segments(features: Float32, labels: NDArray[np.int64], labels32: NDArray[np.int32]) -> None:
    """Reductions over segments."""
    assert_type(ao.segment_mean(features, labels), Float32)
    assert_type(ao.segment_mean(features, labels32, 10, ignore_label=255, empty=-1.5, check=True), Float32)
    assert_type(ao.segment_sum(features, labels32), Float32)
    assert_type(ao.segment_sum(labels32, labels), NDArray[np.int64])
    image = np.zeros((1, 3, 8, 8), dtype=np.uint8)
    assert_type(ao.segment_sum(image, labels), NDArray[np.uint64])
    assert_type(ao.segment_max(features, labels), Float32)
    assert_type(ao.segment_max(labels32, labels), NDArray[np.int32])
    assert_type(ao.segment_min(features, labels32), Float32)
    assert_type(ao.segment_var(features, labels), Float32)
    saved = ao.segment_max(features, labels, return_saved=True)
    assert_type(saved, ao.SavedOutput[Float32, NDArray[np.int64]])
    assert_type(ao.segment_min(features, labels, return_saved=False), Float32)
    assert_type(ao.segment_count(labels), NDArray[np.int64])
    assert_type(ao.segment_count(labels32, 5), NDArray[np.int64])
    assert_type(ao.segment_reduce(features, labels, ("mean", "count")), tuple[NDArray[Any], ...])
    several = ao.segment_reduce(features, labels, ("max", "count"), return_saved=True)
    assert_type(several.output, tuple[NDArray[Any], ...])
    assert_type(several.saved, tuple[NDArray[Any], ...])
    assert_type(ao.segment_unpool(features, labels32, fill=2), Float32)


def positions_if_training(features: Float32, labels: NDArray[np.int64], training: bool) -> None:
    """A flag that is not a constant."""
    assert_type(ao.segment_max(features, labels, return_saved=training), Float32 | ao.SavedOutput[Float32, Any])


def segment_gradients(grad: Float32, features: Float32, labels: NDArray[np.int32]) -> None:
    """Gradients of the reductions over segments."""
    assert_type(ao.segment_mean_backward(grad, features, labels).features, Float32 | None)
    assert_type(ao.segment_sum_backward(grad, features, labels).features, Float32 | None)
    assert_type(ao.segment_max_backward(grad, features, labels).features, Float32 | None)
    assert_type(ao.segment_min_backward(grad, features, labels).features, Float32 | None)
    output, saved = ao.segment_max(features, labels, return_saved=True)
    assert_type(ao.segment_max_backward(output, features, labels, saved=saved).features, Float32 | None)
    outputs, positions = ao.segment_reduce(features, labels, ["max"], return_saved=True)
    assert_type(
        ao.segment_reduce_backward(outputs, features, labels, ["max"], saved=positions).features, Float32 | None
    )
    assert_type(ao.segment_var_backward(grad, features, labels).features, Float32 | None)
    reduced = ao.segment_reduce_backward((grad, None), features, labels, ["sum", "count"])
    assert_type(reduced.features, Float32 | None)
    assert_type(ao.segment_unpool_backward(grad, features, labels).pooled, Float32 | None)


def merging(image: Float32, small: Float32) -> None:
    """Resizing and merging."""
    assert_type(ao.resize2d(image, (4, 6), mode="bicubic", antialias=True), Float32)
    assert_type(ao.resize2d(image, 4), Float32)
    assert_type(ao.resize2d(image, [4, 6]), Float32)
    assert_type(ao.resize2d(image, scale=[2, 1.5]), Float32)
    assert_type(ao.resize2d(image, scale=2), Float32)
    assert_type(ao.resize2d_backward(image, image, scale=2).input, Float32 | None)
    assert_type(ao.merge_feature_maps([image, small]), Float32)
    assert_type(ao.merge_feature_maps((image, small), how="max", size=(4, 4)), Float32)
    assert_type(ao.merge_feature_maps((image, small), how="flat", size=[4, 4]), Float32)
    assert_type(ao.merge_feature_maps_backward(image, [image, small], size="smallest").maps, list[Float32] | None)


@ao.num_threads(2)
def decorated(image: Float32) -> Float32:
    """A function whose calls use two threads."""
    return image


def threads(image: Float32) -> None:
    """Numbers of threads."""
    ao.set_num_threads(None)
    with ao.num_threads(2):
        assert_type(ao.get_num_threads(), int)
    assert_type(decorated(image), Float32)


def with_torch(image: torch.Tensor, weight: torch.Tensor, labels: torch.Tensor) -> None:
    """The same functions with tensors of PyTorch."""
    assert_type(ao.conv2d(image, weight, padding="same"), torch.Tensor)
    assert_type(ao.conv2d_backward(image, image, weight).weight, torch.Tensor | None)
    assert_type(ao.pac_kernel2d(image, 3), torch.Tensor)
    assert_type(ao.pac_conv2d(image, image, weight, padding=1), torch.Tensor)
    masked = ao.pac_conv2d(image, image, weight, mask=labels)
    assert_type(masked, ao.MaskedOutput[torch.Tensor, torch.Tensor])
    assert_type(ao.pac_conv2d_backward(image, image, image, weight).guide, torch.Tensor | None)
    assert_type(ao.segment_mean(image, labels), torch.Tensor)
    assert_type(ao.segment_sum(image, labels), torch.Tensor)
    assert_type(ao.segment_max(image, labels, return_saved=True), ao.SavedOutput[torch.Tensor, torch.Tensor])
    assert_type(ao.segment_count(labels), torch.Tensor)
    assert_type(ao.segment_reduce(image, labels, ("max", "count")), tuple[torch.Tensor, ...])
    assert_type(ao.segment_unpool(image, labels), torch.Tensor)
    assert_type(ao.segment_mean_backward(image, image, labels).features, torch.Tensor | None)
    assert_type(ao.resize2d(image, 4), torch.Tensor)
    assert_type(ao.merge_feature_maps([image, image]), torch.Tensor)


def keras_layers() -> None:
    """Layers of Keras; what a call returns has no type, as Keras has none."""
    assert_type(PacConv2D(8, 5, padding="same", activation="relu", kernel_initializer="he_normal"), PacConv2D)
    assert_type(PacPooling2D([2, 2], strides=1, kernel_type="inv", inv_alpha=0.1, inv_lambda=1), PacPooling2D)
    assert_type(GroupedConv2D(64, (3, 3), groups=32, data_format="channels_first", name="grouped"), GroupedConv2D)
    assert_type(SuperpixelPooling(400, "max", ignore_label=255), SuperpixelPooling)
    assert_type(MergeFeatureMaps("flat", size=(21, 21)), MergeFeatureMaps)


def layers_for_torch(image: torch.Tensor, state: dict[str, torch.Tensor]) -> None:
    """Layers for torch.nn; what a call returns has no type, as those of torch have none."""
    up = torch_layers.PacConvTranspose2d(4, 8, 5, stride=2, padding=(2, 2), output_padding=1, filler="linear")
    assert_type(up.weight, torch.Tensor)
    assert_type(up.bias, torch.Tensor | None)
    assert_type(up.compute_kernel(image), tuple[torch.Tensor, torch.Tensor | None])
    assert_type(torch_layers.load_pacnet_state_dict(up, state), torch_layers.LoadedState)
    network = torch.nn.Sequential(torch_layers.PacConv2d(3, 8, (3, 5), padding="same", dtype=torch.float64), up)
    assert_type(network, torch.nn.Sequential)
    crf = torch_layers.PacCRF(21, 5, "softmax", pairwise_kernels=[{"kernel_size": 5, "compat_type": "potts"}])
    crf.add_pairwise_kernel((3, 3), dilation=4, compat_type="2d")
    assert_type(crf.forward(image, [image, None], logQ=image), torch.Tensor)
    assert_type(torch_layers.SuperpixelPool2d(400, "max", ignore_label=255).forward(image, image), torch.Tensor)
    assert_type(torch_layers.MergeFeatureMaps("add", size=(21, 21)).forward([image, image]), torch.Tensor)
