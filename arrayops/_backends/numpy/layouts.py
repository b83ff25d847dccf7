"""Views that bring every array of either layout into one order of axes. Nothing here copies."""

from arrayops._backends.numpy.memory import Array


def channels_first(array: Array, layout: str) -> Array:
    """An image batch as (N, C, H, W)."""
    return array if layout == "NCHW" else array.transpose(0, 3, 1, 2)


def grouped_images(images: Array, groups: int) -> Array:
    """Images (N, C, H, W) as (N, groups, channels of a group, H, W)."""
    batch, channels, height, width = images.shape
    return images.reshape(batch, groups, channels // groups, height, width)


def kernel_channels_first(kernel: Array, layout: str) -> Array:
    """An adaptive kernel as (N, G, kh, kw, H, W)."""
    return kernel if layout == "NCHW" else kernel.transpose(0, 5, 3, 4, 1, 2)


def grouped_weight(weight: Array, layout: str, transposed: bool, groups: int) -> Array:
    """A weight as (groups, kh, kw, inputs of a group, outputs of a group), in the order of the correlation.

    A transposed convolution correlates with the spatially flipped weight.
    """
    if layout == "NHWC":
        weight = weight.transpose(3, 2, 0, 1)
    first, second, height, width = weight.shape
    grouped = weight.reshape(groups, first // groups, second, height, width)
    if transposed:
        return grouped[:, :, :, ::-1, ::-1].transpose(0, 3, 4, 1, 2)
    return grouped.transpose(0, 3, 4, 2, 1)


def shared_filter(weight: Array, layout: str, transposed: bool) -> Array:
    """A shared filter as (kh, kw), in the order of the correlation."""
    plain = weight[0, 0] if layout == "NCHW" else weight[:, :, 0, 0]
    return plain[::-1, ::-1] if transposed else plain


def exchanged(weight: Array) -> Array:
    """The weight of the correlation back, from `grouped_weight`: flipped, with inputs and outputs exchanged."""
    return weight[:, ::-1, ::-1].swapaxes(3, 4)
