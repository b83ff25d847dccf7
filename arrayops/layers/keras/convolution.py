"""Layers with a kernel and a bias as Keras' convolutions; grouped convolution and its transposed form."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import keras

import arrayops as ao
from arrayops._core import checks, shapes
from arrayops.layers.keras.base import DataFormat, ImageLayer, is_shape, registered, split

Size = int | Sequence[int]
Padding = Literal["valid", "same"]
Configurable = str | dict[str, Any] | Callable[..., Any] | None
"""A function or object of Keras, its name or its configuration."""


class TransposedPadding(NamedTuple):
    """Pixels that a transposed convolution leaves out at both ends of an axis, and those that it adds at the end."""

    before: int
    after: int
    added: int


def transposed_padding(
    kernel_size: int, stride: int, dilation: int, padding: str, output_padding: int | None
) -> TransposedPadding:
    """The padding of an axis that has the output size of Keras' Conv2DTranspose.

    With n input pixels and a filter that covers k pixels, the output has ::

        valid    (n - 1) stride + k + output_padding,         by default (n - 1) stride + max(k, stride)
        same     (n - 1) stride + k mod 2 + output_padding,   by default n stride

    of the (n - 1) stride + k pixels that all taps reach.
    """
    extent = (kernel_size - 1) * dilation + 1
    if padding == "valid":
        return TransposedPadding(0, 0, max(stride - extent, 0) if output_padding is None else output_padding)
    added = stride - extent % 2 if output_padding is None else output_padding
    cropped = extent - extent % 2 - added
    before = max(cropped // 2, 0)
    return TransposedPadding(before, max(cropped - before, 0), max(-cropped, 0))


class ConvolutionLayer(ImageLayer):
    """A layer with a kernel and a bias; the arguments are those of `GroupedConv2D`."""

    transposed: ClassVar[bool] = False

    def __init__(
        self,
        filters: int,
        kernel_size: Size,
        strides: Size = (1, 1),
        padding: Padding = "valid",
        data_format: DataFormat | None = None,
        dilation_rate: Size = (1, 1),
        groups: int = 1,
        activation: Configurable = None,
        use_bias: bool = True,
        kernel_initializer: Configurable = "glorot_uniform",
        bias_initializer: Configurable = "zeros",
        kernel_regularizer: Configurable = None,
        bias_regularizer: Configurable = None,
        activity_regularizer: Configurable = None,
        kernel_constraint: Configurable = None,
        bias_constraint: Configurable = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, activity_regularizer=activity_regularizer, **kwargs)
        name = type(self).__name__
        self.filters = checks.count(name, "filters", filters)
        self.kernel_size = shapes.pair(name, "kernel_size", kernel_size, 1)
        self.strides = shapes.pair(name, "strides", strides, 1)
        self.padding = checked_padding(name, padding)
        self.dilation_rate = shapes.pair(name, "dilation_rate", dilation_rate, 1)
        self.groups = checks.count(name, "groups", groups)
        if self.filters % self.groups:
            raise ValueError(f"{name}: filters is {filters}, expected a multiple of groups, which is {groups}")
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.kernel: Any = None
        self.bias: Any = None

    def build(self, input_shape: Any) -> None:
        """Create the kernel and the bias."""
        # Also checks the shapes of the inputs against the arguments.
        self.compute_output_shape(input_shape)
        channels = self._channels(input_shape if is_shape(input_shape) else input_shape[0])
        self.kernel = self.add_weight(
            name="kernel",
            shape=self._kernel_shape(channels),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.filters,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def _kernel_shape(self, channels: int) -> tuple[int, int, int, int]:
        """Shape of the kernel for an input of ``channels``: HWIO, or HWOI if ``transposed``, in both data formats."""
        inner = (self.filters // self.groups, channels) if self.transposed else (channels // self.groups, self.filters)
        return (*self.kernel_size, *inner)

    def _kernel_in_layout(self) -> Any:
        """The kernel, with the axes that the functions expect."""
        kernel = self.kernel
        return kernel if self.data_format == "channels_last" else keras.ops.transpose(kernel, (3, 2, 0, 1))

    def _symbolic_kernel(self, channels: int) -> Any:
        """`_kernel_in_layout` of a symbolic kernel: that of the layer, or one for an input of ``channels``."""
        shape = self._kernel_shape(channels) if self.kernel is None else tuple(self.kernel.shape)
        rows, columns, third, fourth = shape
        last = self.data_format == "channels_last"
        return self._symbolic_weight((rows, columns, third, fourth) if last else (fourth, third, rows, columns))

    def _window_arguments(self) -> dict[str, Any]:
        """Keywords of the functions."""
        shared = {"stride": self.strides, "dilation": self.dilation_rate, "groups": self.groups, "layout": self._layout}
        return {**shared, **self._padding_arguments()}

    def _padding_arguments(self) -> dict[str, Any]:
        """Those keywords that are about padding."""
        return {"padding": self.padding}

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }


class TransposedConvolutionLayer(ConvolutionLayer):
    """What makes a layer a transposed one; the arguments are those of `GroupedConv2DTranspose`."""

    transposed: ClassVar[bool] = True

    def __init__(
        self,
        filters: int,
        kernel_size: Size,
        strides: Size = (1, 1),
        padding: Padding = "valid",
        output_padding: Size | None = None,
        data_format: DataFormat | None = None,
        dilation_rate: Size = (1, 1),
        activation: Configurable = None,
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            activation=activation,
            use_bias=use_bias,
            **kwargs,
        )
        name = type(self).__name__
        self.output_padding = None
        if output_padding is not None:
            self.output_padding = shapes.pair(name, "output_padding", output_padding, 0)
            if any(added >= stride for added, stride in zip(self.output_padding, self.strides, strict=True)):
                raise ValueError(
                    f"{name}: output_padding is {output_padding}, expected less than strides, which is {self.strides}"
                )

    def _padding_arguments(self) -> dict[str, Any]:
        """Those keywords that are about padding."""
        rows, columns = (
            transposed_padding(*axis)
            for axis in zip(
                self.kernel_size,
                self.strides,
                self.dilation_rate,
                (self.padding, self.padding),
                self.output_padding or (None, None),
                strict=True,
            )
        )
        return {
            "padding": ((rows.before, rows.after), (columns.before, columns.after)),
            "output_padding": (rows.added, columns.added),
        }

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "output_padding": self.output_padding}


def checked_padding(layer: str, padding: Any) -> str:
    """``padding`` in lower case."""
    return checks.choice(layer, "padding", padding.lower() if isinstance(padding, str) else padding, ("valid", "same"))


@registered
class GroupedConv2D(ConvolutionLayer):
    """Convolution in groups: each output channel depends on the input channels of its group alone.

    With x the input and W the kernel, for an output channel o of group g, which has input channels g I to g I + I - 1::

        y[n, h, w, o] = activation(b[o] + sum over i, j, c of W[i, j, c, o] x[n, h s + i d, w s + j d, g I + c])

    The arguments, weights and results are those of `keras.layers.Conv2D`, without LoRA and quantization; each can be
    replaced by the other. On a CPU, TensorFlow trains Keras' layer with groups only by XLA; this one needs none.

    Parameters
    ----------
    filters : int
        Number of output channels, a multiple of ``groups``.
    kernel_size : int or pair of int
        Height and width of the filters.
    strides : int or pair of int, default 1
        Step of the window.
    padding : {"valid", "same"}, default "valid"
        "valid": no padding. "same": zeros, divided as TensorFlow does, so that the output size is ceil(size / stride).
    data_format : {"channels_last", "channels_first"}, optional
        Order of the axes; by default ``keras.config.image_data_format()``.
    dilation_rate : int or pair of int, default 1
        Spacing of the filter taps; together with strides, which Keras' own layer does not allow.
    groups : int, default 1
        Number of groups, a divisor of the number of input channels.
    activation : str or callable, optional
        Activation function of Keras; by default none.
    use_bias : bool, default True
        Whether to add a bias.
    kernel_initializer, bias_initializer : str or keras.initializers.Initializer, default "glorot_uniform" and "zeros"
        Initial weights.
    kernel_regularizer, bias_regularizer, activity_regularizer : str or keras.regularizers.Regularizer, optional
        Penalties on the weights and on the output.
    kernel_constraint, bias_constraint : str or keras.constraints.Constraint, optional
        Projections of the weights after an update.
    **kwargs
        Arguments of keras.layers.Layer: name, dtype, trainable.

    Attributes
    ----------
    kernel : keras.Variable, (kh, kw, input channels / groups, filters)
        In both data formats.
    bias : keras.Variable, (filters,), or None
        The bias.

    Raises
    ------
    TypeError
        If an argument has a wrong type, or an input a wrong dtype.
    ValueError
        If an argument has an invalid value, or, when the layer is built, if shapes do not match.

    References
    ----------
    S. Xie et al., "Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017.

    Examples
    --------
    >>> import keras
    >>> from arrayops.layers.keras import GroupedConv2D
    >>> layer = GroupedConv2D(64, 3, padding="same", groups=32, activation="relu")
    >>> tuple(layer(keras.ops.ones((2, 14, 14, 64))).shape)
    (2, 14, 14, 64)
    >>> tuple(layer.kernel.shape)
    (3, 3, 2, 64)
    """

    def call(self, inputs: Any) -> Any:
        """Convolve images of (N, H, W, C), or (N, C, H, W)."""
        (image,) = split(type(self).__name__, inputs, ("x",), 1)
        return self.activation(self._convolve(image, self._kernel_in_layout(), self.bias))

    def _symbolic_output(self, inputs: Any) -> Any:
        """The output for symbolic tensors."""
        (image,) = split(type(self).__name__, inputs, ("x",), 1)
        return self._convolve(self._symbolic(image), self._symbolic_kernel(self._channels(image.shape)), None)

    def _convolve(self, inputs: Any, kernel: Any, bias: Any) -> Any:
        return ao.conv2d(inputs, kernel, bias, **self._window_arguments())


@registered
class GroupedConv2DTranspose(TransposedConvolutionLayer, GroupedConv2D):
    """Transposed convolution in groups: learned upsampling.

    It is the gradient of a grouped convolution by its input. With n input pixels along an axis and a filter that covers
    k pixels, the output has ::

        valid    (n - 1) stride + k + output_padding,         by default (n - 1) stride + max(k, stride)
        same     (n - 1) stride + k mod 2 + output_padding,   by default n stride

    The arguments, weights and results are those of `keras.layers.Conv2DTranspose`, which has no groups; each can be
    replaced by the other.

    Parameters
    ----------
    filters : int
        Number of output channels, a multiple of ``groups``.
    kernel_size : int or pair of int
        Height and width of the filters.
    strides : int or pair of int, default 1
        Factor of upsampling.
    padding : {"valid", "same"}, default "valid"
        See above.
    output_padding : int or pair of int, optional
        Pixels added to the output size, see above; less than ``strides``.
    data_format : {"channels_last", "channels_first"}, optional
        Order of the axes; by default ``keras.config.image_data_format()``.
    dilation_rate : int or pair of int, default 1
        Spacing of the filter taps; together with strides, which Keras' own layer does not allow.
    activation : str or callable, optional
        Activation function of Keras; by default none.
    use_bias : bool, default True
        Whether to add a bias.
    **kwargs
        groups, 1 by default; initializers, regularizers and constraints as of `GroupedConv2D`; and arguments of
        keras.layers.Layer: name, dtype, trainable.

    Attributes
    ----------
    kernel : keras.Variable, (kh, kw, filters / groups, input channels)
        In both data formats.
    bias : keras.Variable, (filters,), or None
        The bias.

    Raises
    ------
    TypeError
        If an argument has a wrong type, or an input a wrong dtype.
    ValueError
        If an argument has an invalid value, or, when the layer is built, if shapes do not match.

    References
    ----------
    V. Dumoulin and F. Visin, "A guide to convolution arithmetic for deep learning", arXiv:1603.07285, chapter 4.

    Examples
    --------
    A map of 6 x 6 becomes one of 15 x 15:

    >>> import keras
    >>> from arrayops.layers.keras import GroupedConv2DTranspose
    >>> layer = GroupedConv2DTranspose(16, 5, strides=2, groups=4)
    >>> tuple(layer(keras.ops.ones((1, 6, 6, 8))).shape)
    (1, 15, 15, 16)
    >>> layer.compute_output_shape((None, None, 6, 8))
    (None, None, 15, 16)
    """

    def _convolve(self, inputs: Any, kernel: Any, bias: Any) -> Any:
        return ao.conv_transpose2d(inputs, kernel, bias, **self._window_arguments())
