"""Calls that a type checker must refuse; a comment that suppresses no error is an error itself."""

import numpy as np
from numpy.typing import NDArray

import arrayops as ao
import arrayops.layers.torch as torch_layers
from arrayops.layers.keras import GroupedConv2D, PacConv2D, SuperpixelPooling

Float32 = NDArray[np.float32]


def mistakes(image: Float32, weight: Float32, labels: NDArray[np.int64], mask: NDArray[np.bool_], word: str) -> None:
    """One mistake in each line."""
    ao.segment_mean(image, [[0, 1]])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ao.segment_count([0, 1])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ao.segment_mean_backward(image, image, [[0, 1]])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ao.segment_reduce(image, labels, "mean")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ao.segment_reduce(image, labels, ("mean", "median"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ao.segment_mean(image, labels, ignore_labels=255)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    ao.pac_pool2d(image, image, 3, mask=[[True]])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ao.pac_pool2d(image, image, 3, padding="reflect")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ao.pac_pool2d(image, image, 3, normalise=True)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    _ = ao.pac_conv2d(image, image, weight, mask=mask).shape  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    ao.pac_conv2d(image, image, weight, kernel_type="box")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    ao.pac_conv2d(image, image, [1.0])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    ao.conv2d(image, weight, padding=word)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ao.conv2d(image, weight, padding=1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ao.conv2d(image, weight, stride="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ao.conv2d(image, weight, stride=(1.5, 2))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ao.conv2d(image, weight, layout="NWHC")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ao.segment_mean(image, labels, layout="last")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    ao.conv2d(image, weight, kernel_size=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    ao.conv2d([[1.0]], weight)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    ao.resize2d(image, mode="cubic")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ao.merge_feature_maps(image)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ao.merge_feature_maps([image], how="stack")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    _ = ao.pac_conv2d(image, image, weight).output  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
    PacConv2D(8)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    PacConv2D(8, 5, padding="reflect")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    GroupedConv2D(8, 5, strides=1.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    SuperpixelPooling(400, "median")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    torch_layers.PacConv2d(3, 8)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    torch_layers.PacConv2d(3, 8, 5, filler="zeros")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    torch_layers.PacPool2d(5, groups=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    torch_layers.PacCRF(21, 5, "logits")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
