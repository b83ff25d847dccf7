"""Pixel-adaptive convolution, its transposed form, and pooling."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import keras

import arrayops as ao
from arrayops._core import checks, shapes
from arrayops._frameworks.keras.operator_call import xla_calls_python
from arrayops._typing import KernelType
from arrayops.layers.keras import portable
from arrayops.layers.keras.base import DataFormat, ImageLayer, is_shape, map_tensors, registered, split
from arrayops.layers.keras.convolution import (
    Configurable,
    ConvolutionLayer,
    Padding,
    Size,
    TransposedConvolutionLayer,
    checked_padding,
)

Implementation = Literal["auto", "portable"]


def checked_smooth_kernel(layer: str, value: Any) -> tuple[tuple[float, ...], ...]:
    """A nested sequence of numbers with odd numbers of rows and columns, as tuples."""
    try:
        rows = tuple(tuple(map(float, row)) for row in value)
    except TypeError:
        rows = ()
    if len(rows) % 2 == 0 or len({len(row) for row in rows}) != 1 or len(rows[0]) % 2 == 0:
        raise ValueError(
            f"{layer}: smooth_kernel is {value!r}, expected an odd number of rows of one length, an odd number too"
        )
    return rows


class PacLayer(ImageLayer):
    """What the pixel-adaptive layers share: the options of the adaptive kernel, and the choice of an implementation."""

    _implementations: ClassVar[tuple[str, ...]] = ("auto", "portable")

    def __init__(
        self,
        *args: Any,
        kernel_type: KernelType = "gaussian",
        inv_alpha: float | None = None,
        inv_lambda: float | None = None,
        asymmetric: bool = False,
        smooth_kernel: Sequence[Sequence[float]] | None = None,
        normalize_kernel: bool = False,
        implementation: Implementation = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        name = type(self).__name__
        self.kernel_type = checks.choice(name, "kernel_type", kernel_type, ("gaussian", "inv"))
        for argument, value in (("inv_alpha", inv_alpha), ("inv_lambda", inv_lambda)):
            if (value is None) == (kernel_type == "inv"):
                expected = "a number" if value is None else "None"
                raise ValueError(f"{name}: {argument} is {value}, expected {expected} with kernel_type {kernel_type!r}")
            if value is not None:
                checks.number(name, argument, value)
        self.initial_inv = inv_alpha, inv_lambda
        self.asymmetric = checks.flag(name, "asymmetric", asymmetric)
        self.smooth_kernel = None if smooth_kernel is None else checked_smooth_kernel(name, smooth_kernel)
        self.normalize_kernel = checks.flag(name, "normalize_kernel", normalize_kernel)
        self.implementation = implementation
        self.inv_alpha: Any = None
        self.inv_lambda: Any = None

    @property
    def implementation(self) -> str:
        """How the layer is computed; it can be changed until the model is compiled."""
        return self._implementation

    @implementation.setter
    def implementation(self, value: str) -> None:
        self._implementation = checks.choice(type(self).__name__, "implementation", value, self._implementations)
        self.supports_jit = xla_calls_python() or value == "portable"

    def build(self, input_shape: Any) -> None:
        """Create the parameters of the adaptive kernel."""
        super().build(input_shape)
        if self.kernel_type == "inv":
            for name, value in zip(("inv_alpha", "inv_lambda"), self.initial_inv, strict=True):
                initializer = keras.initializers.Constant(value)
                setattr(self, name, self.add_weight(name=name, shape=(), initializer=initializer))

    def _functions(self, *call: Any) -> Any:
        """The module whose functions compute a call of the layer."""
        needed = "portable" in self._implementations and portable.is_needed()
        if self.implementation != "portable" and not needed:
            return ao
        # Raises errors: those functions check no shapes.
        self._symbolic_output(*call)
        return portable

    def _input_and_guide(self, inputs: Any, kernel: Any) -> tuple[Any, Any]:
        """The two images of a call; without a guide and an own kernel, the input is its guide."""
        input, guide = split(type(self).__name__, inputs, ("x", "guide"), 1)
        return input, input if guide is None and kernel is None else guide

    def _adaptive_arguments(self, symbolic: bool, has_kernel: bool) -> dict[str, Any]:
        """Keywords of the functions: options, and arrays, symbolic ones on request."""
        if has_kernel:
            return {}
        options = {
            "kernel_type": self.kernel_type,
            "asymmetric": self.asymmetric,
            "normalize_kernel": self.normalize_kernel,
        }
        if self.kernel_type == "inv":
            inv = (self._symbolic_weight(()),) * 2 if symbolic else (self.inv_alpha, self.inv_lambda)
            options.update(zip(("inv_alpha", "inv_lambda"), inv, strict=True))
        if self.smooth_kernel is not None:
            shape = len(self.smooth_kernel), len(self.smooth_kernel[0])
            options["smooth_kernel"] = (
                self._symbolic_weight(shape)
                if symbolic
                else keras.ops.convert_to_tensor(self.smooth_kernel, self.compute_dtype)
            )
        return options

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            **super().get_config(),
            "kernel_type": self.kernel_type,
            "inv_alpha": self.initial_inv[0],
            "inv_lambda": self.initial_inv[1],
            "asymmetric": self.asymmetric,
            "smooth_kernel": None if self.smooth_kernel is None else list(map(list, self.smooth_kernel)),
            "normalize_kernel": self.normalize_kernel,
            "implementation": self.implementation,
        }


@registered
class PacConv2D(PacLayer, ConvolutionLayer):
    """Pixel-adaptive convolution: a convolution whose weights are scaled at every pixel by a kernel of guide features.

    With x the input, f the guide, W the kernel of weights, stride s and dilation d::

        K[i, j, h, w] = exp(-1/2 * sum over g of (f[h s + i d, w s + j d, g] - f_centre[g]) ** 2)
        y[h, w, o] = activation(b[o] + sum over i, j of K[i, j, h, w]
                                * sum over c of W[i, j, c, o] x[h s + i d, w s + j d, c])

    Call it with a list ``[x, guide]``, or with ``x`` alone, which is then its own guide. The guide is not normalised:
    scale it so that a difference of 1 between two pixels means an edge. It has the height and width of ``x``: behind a
    pooling or a stride, resize it, for instance with ``arrayops.resize2d``, or pool it by the same factor.

    Two keywords of the call replace parts of this:

    - ``layer(x, kernel=K)`` uses an adaptive kernel of your own, (N, Ho, Wo, kh, kw, 1), or (N, 1, kh, kw, Ho, Wo) with
      channels_first; one of ``arrayops.pac_kernel2d`` can be shared by several layers.
    - ``layer([x, guide], valid=v)`` leaves out the pixels where v, bool, (N, H, W, 1), is False, and rescales K. The
      result is then a tuple (outputs, mask), whose bool mask is True where the window has a valid pixel; pass it as
      ``valid`` to the next layer.

    Parameters
    ----------
    filters, kernel_size, strides, padding, data_format, dilation_rate, groups, activation, use_bias
        As of `GroupedConv2D` and `keras.layers.Conv2D`.
    kernel_type : {"gaussian", "inv"}, default "gaussian"
        "inv" is ``inv_alpha + (sum over g of (...) ** 2 + 1e-4) ** (inv_lambda / 2)`` instead of the exponential.
    inv_alpha, inv_lambda : float, optional
        Initial values of two trained weights, which "inv" requires.
    asymmetric : bool, default False
        Apply max(0, .) to each difference before squaring.
    smooth_kernel : nested sequence of float, (sh, sw), both odd, optional
        Replace f_centre by the guide filtered with this kernel. It is not trained.
    normalize_kernel : bool, default False
        Divide K by its sum over the taps within the image. The outputs of a new layer are then smaller than those of
        `keras.layers.Conv2D`, by up to the number of taps, so that training starts more slowly.
    shared_filters : bool, default False
        One filter for all channels: the kernel is (kh, kw, 1, 1); ``filters`` is the number of input channels.
    implementation : {"auto", "portable"}, default "auto"
        "portable" computes the layer by functions of keras.ops, one filter tap at a time, where graphs cannot call
        arrayops: XLA on TensorFlow, LiteRT, ONNX. It is slower, and takes more memory in training. "auto" does so only
        while XLA compiles a function of TensorFlow.
    **kwargs
        Initializers, regularizers and constraints as of `GroupedConv2D`; arguments of keras.layers.Layer.

    Attributes
    ----------
    kernel : keras.Variable, (kh, kw, input channels / groups, filters)
        In both data formats, as that of `keras.layers.Conv2D`; (kh, kw, 1, 1) with ``shared_filters``.
    bias : keras.Variable, (filters,), or None
        The bias.
    inv_alpha, inv_lambda : keras.Variable, (), or None
        Parameters of the "inv" kernel.

    Raises
    ------
    TypeError
        If an argument has a wrong type, or an input a wrong dtype.
    ValueError
        If an argument has an invalid value, or, when the layer is built, if shapes do not match.

    References
    ----------
    H. Su et al., "Pixel-Adaptive Convolutional Neural Networks", CVPR 2019, equations 3 and 4.

    Examples
    --------
    >>> import keras
    >>> from arrayops.layers.keras import PacConv2D
    >>> x, image = keras.Input((None, None, 16)), keras.Input((None, None, 3))
    >>> output = PacConv2D(8, 5, padding="same", activation="relu")([x, image])
    >>> model = keras.Model([x, image], output)
    >>> model.output_shape
    (None, None, None, 8)
    """

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
        *,
        kernel_type: KernelType = "gaussian",
        inv_alpha: float | None = None,
        inv_lambda: float | None = None,
        asymmetric: bool = False,
        smooth_kernel: Sequence[Sequence[float]] | None = None,
        normalize_kernel: bool = False,
        shared_filters: bool = False,
        implementation: Implementation = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            groups=groups,
            activation=activation,
            use_bias=use_bias,
            kernel_type=kernel_type,
            inv_alpha=inv_alpha,
            inv_lambda=inv_lambda,
            asymmetric=asymmetric,
            smooth_kernel=smooth_kernel,
            normalize_kernel=normalize_kernel,
            implementation=implementation,
            **kwargs,
        )
        self.shared_filters = checks.flag(type(self).__name__, "shared_filters", shared_filters)

    def call(self, inputs: Any, kernel: Any = None, valid: Any = None) -> Any:
        """Convolve images of (N, H, W, C), or (N, C, H, W).

        Parameters
        ----------
        inputs : tensor, or list of two
            x, or [x, guide].
        kernel : tensor, optional
            An adaptive kernel in place of a guide.
        valid : tensor of bool, optional
            Pixels of x to use.

        Returns
        -------
        tensor, or tuple of two
            The outputs; with ``valid``, (outputs, mask).
        """
        arguments = self._adaptive_arguments(False, kernel is not None)
        found = self._convolve(
            self._functions(inputs, kernel, valid),
            inputs,
            kernel,
            valid,
            self._kernel_in_layout(),
            self.bias,
            **arguments,
        )
        return self.activation(found) if valid is None else (self.activation(found.output), found.output_mask)

    def _symbolic_output(self, inputs: Any, kernel: Any = None, valid: Any = None) -> Any:
        """The output for symbolic tensors."""
        images = inputs if isinstance(inputs, (tuple, list)) else [inputs]
        weight = self._symbolic_kernel(self._channels(images[0].shape))
        arguments = self._adaptive_arguments(True, kernel is not None)
        images = [self._symbolic(image) for image in images]
        return self._convolve(ao, images, self._symbolic(kernel), self._symbolic(valid), weight, None, **arguments)

    def _kernel_shape(self, channels: int) -> tuple[int, int, int, int]:
        """Shape of the kernel of weights, in both data formats."""
        if not self.shared_filters:
            return super()._kernel_shape(channels)
        if self.filters != channels:
            raise ValueError(
                f"{type(self).__name__}: filters is {self.filters}, expected {channels}, the channels of the input, "
                "with shared_filters"
            )
        return (*self.kernel_size, 1, 1)

    def _convolve(
        self, functions: Any, inputs: Any, kernel: Any, valid: Any, weight: Any, bias: Any, **arguments: Any
    ) -> Any:
        arrays = self._input_and_guide(inputs, kernel)
        window = self._window_arguments()
        return functions.pac_conv2d(
            *arrays, weight, bias, kernel=kernel, mask=valid, shared_filters=self.shared_filters, **window, **arguments
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "shared_filters": self.shared_filters}


@registered
class PacConv2DTranspose(TransposedConvolutionLayer, PacConv2D):
    """Pixel-adaptive transposed convolution: learned upsampling that follows the edges of an image.

    It is `GroupedConv2DTranspose`, with weights that are scaled at every output pixel by the adaptive kernel K of
    `PacConv2D`, whose window is centred at that pixel and has stride 1. Call it with a list ``[x, guide]``, where the
    guide has the height and width of the *output*. The keywords ``kernel`` and ``valid`` of the call are those of
    `PacConv2D`; ``valid`` has the height and width of x.

    Parameters
    ----------
    filters, kernel_size, strides, padding, output_padding, data_format, dilation_rate, activation, use_bias
        As of `GroupedConv2DTranspose` and `keras.layers.Conv2DTranspose`.
    **kwargs
        Options of the adaptive kernel, shared_filters and groups as of `PacConv2D`; initializers, regularizers and
        constraints as of `GroupedConv2D`; arguments of keras.layers.Layer. ``implementation`` is not one of them: there
        is no portable form.

    Attributes
    ----------
    kernel : keras.Variable, (kh, kw, filters / groups, input channels)
        In both data formats, as that of `keras.layers.Conv2DTranspose`; (kh, kw, 1, 1) with ``shared_filters``.
    bias : keras.Variable, (filters,), or None
        The bias.
    inv_alpha, inv_lambda : keras.Variable, (), or None
        Parameters of the "inv" kernel.

    Raises
    ------
    TypeError
        If an argument has a wrong type, or an input a wrong dtype.
    ValueError
        If an argument has an invalid value, or, when the layer is built, if shapes do not match.

    References
    ----------
    H. Su et al., "Pixel-Adaptive Convolutional Neural Networks", CVPR 2019, section 3 and figure 3.

    Examples
    --------
    >>> import keras
    >>> from arrayops.layers.keras import PacConv2DTranspose
    >>> layer = PacConv2DTranspose(8, 5, strides=2, padding="same")
    >>> depth, photo = keras.ops.ones((1, 6, 6, 4)), keras.ops.ones((1, 12, 12, 3))
    >>> tuple(layer([depth, photo]).shape)
    (1, 12, 12, 8)
    """

    _implementations: ClassVar[tuple[str, ...]] = ("auto",)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape of the output, with None for sizes that are not known; of x alone for a call with ``kernel``."""
        return super().compute_output_shape([input_shape, (None,) * 4] if is_shape(input_shape) else input_shape)

    def _convolve(
        self, functions: Any, inputs: Any, kernel: Any, valid: Any, weight: Any, bias: Any, **arguments: Any
    ) -> Any:
        arrays = split(type(self).__name__, inputs, ("x", "guide"), 1 if kernel is not None else 2)
        window = self._window_arguments()
        return functions.pac_conv_transpose2d(
            *arrays, weight, bias, kernel=kernel, mask=valid, shared_filters=self.shared_filters, **window, **arguments
        )


@registered
class PacPooling2D(PacLayer):
    """Pixel-adaptive pooling: the mean of each window, weighted by the similarity of guide features to its centre.

    With x the input and K the adaptive kernel of `PacConv2D`, whose sum over the window is 1 by default::

        y[h, w, c] = sum over i, j of K[i, j, h, w] x[h s + i d, w s + j d, c]

    With strides of 1 this is the joint bilateral filter. Call it with a list ``[x, guide]``, or with ``x`` alone, which
    is then its own guide. The keywords ``kernel`` and ``valid`` of the call are those of `PacConv2D`.

    Parameters
    ----------
    pool_size : int or pair of int, default 2
        Height and width of the window.
    strides : int or pair of int, optional
        Step of the window; by default ``pool_size``.
    padding : {"valid", "same"}, default "valid"
        "valid": no padding. "same": as TensorFlow does, so that the output size is ceil(size / stride).
    data_format : {"channels_last", "channels_first"}, optional
        Order of the axes; by default ``keras.config.image_data_format()``.
    dilation_rate : int or pair of int, default 1
        Spacing of the taps.
    channel_wise : bool, default False
        One kernel for each channel of the guide, which has as many channels as x.
    kernel_type, inv_alpha, inv_lambda, asymmetric, smooth_kernel, implementation
        As of `PacConv2D`.
    normalize_kernel : bool, default True
        Divide K by its sum over the taps within the image; otherwise the result is a sum.
    **kwargs
        Arguments of keras.layers.Layer: name, dtype, trainable.

    Attributes
    ----------
    inv_alpha, inv_lambda : keras.Variable, (), or None
        Parameters of the "inv" kernel, which are trained.

    Raises
    ------
    TypeError
        If an argument has a wrong type, or an input a wrong dtype.
    ValueError
        If an argument has an invalid value, or if shapes do not match.

    References
    ----------
    H. Su et al., "Pixel-Adaptive Convolutional Neural Networks", CVPR 2019, section 3.

    Examples
    --------
    >>> import keras
    >>> from arrayops.layers.keras import PacPooling2D
    >>> features, image = keras.ops.ones((1, 12, 12, 8)), keras.ops.ones((1, 12, 12, 3))
    >>> tuple(PacPooling2D(4, strides=2, padding="same")([features, image]).shape)
    (1, 6, 6, 8)
    """

    def __init__(
        self,
        pool_size: Size = (2, 2),
        strides: Size | None = None,
        padding: Padding = "valid",
        data_format: DataFormat | None = None,
        dilation_rate: Size = (1, 1),
        *,
        channel_wise: bool = False,
        kernel_type: KernelType = "gaussian",
        inv_alpha: float | None = None,
        inv_lambda: float | None = None,
        asymmetric: bool = False,
        smooth_kernel: Sequence[Sequence[float]] | None = None,
        normalize_kernel: bool = True,
        implementation: Implementation = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            data_format=data_format,
            kernel_type=kernel_type,
            inv_alpha=inv_alpha,
            inv_lambda=inv_lambda,
            asymmetric=asymmetric,
            smooth_kernel=smooth_kernel,
            normalize_kernel=normalize_kernel,
            implementation=implementation,
            **kwargs,
        )
        name = type(self).__name__
        self.pool_size = shapes.pair(name, "pool_size", pool_size, 1)
        self.strides = self.pool_size if strides is None else shapes.pair(name, "strides", strides, 1)
        self.padding = checked_padding(name, padding)
        self.dilation_rate = shapes.pair(name, "dilation_rate", dilation_rate, 1)
        self.channel_wise = checks.flag(name, "channel_wise", channel_wise)

    def call(self, inputs: Any, kernel: Any = None, valid: Any = None) -> Any:
        """Pool images of (N, H, W, C), or (N, C, H, W).

        Parameters
        ----------
        inputs : tensor, or list of two
            x, or [x, guide].
        kernel : tensor, optional
            An adaptive kernel in place of a guide.
        valid : tensor of bool, optional
            Pixels of x to use.

        Returns
        -------
        tensor, or tuple of two
            The outputs; with ``valid``, (outputs, mask).
        """
        arguments = self._adaptive_arguments(False, kernel is not None)
        found = self._pool(self._functions(inputs, kernel, valid), inputs, kernel, valid, arguments)
        return found if valid is None else tuple(found)

    def _symbolic_output(self, inputs: Any, kernel: Any = None, valid: Any = None) -> Any:
        """The output for symbolic tensors."""
        arguments = self._adaptive_arguments(True, kernel is not None)
        images = map_tensors(self._symbolic, inputs)
        return self._pool(ao, images, self._symbolic(kernel), self._symbolic(valid), arguments)

    def _pool(self, functions: Any, inputs: Any, kernel: Any, valid: Any, arguments: dict[str, Any]) -> Any:
        return functions.pac_pool2d(
            *self._input_and_guide(inputs, kernel),
            self.pool_size,
            kernel=kernel,
            mask=valid,
            channel_wise=self.channel_wise,
            stride=self.strides,
            padding=self.padding,
            dilation=self.dilation_rate,
            layout=self._layout,
            **arguments,
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            **super().get_config(),
            "pool_size": self.pool_size,
            "strides": self.strides,
            "padding": self.padding,
            "dilation_rate": self.dilation_rate,
            "channel_wise": self.channel_wise,
        }
