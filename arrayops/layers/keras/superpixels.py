"""Pooling over superpixels, and back."""

from typing import Any, ClassVar, get_args

import keras

import arrayops as ao
from arrayops import _frameworks
from arrayops._core import checks
from arrayops._ops.segment import checking, ignored
from arrayops._typing import PooledReduction
from arrayops.layers.keras.base import DataFormat, ImageLayer, is_shape, registered, split


class SuperpixelLayer(ImageLayer):
    """A layer of a superpixel map, the second of its inputs."""

    _inputs: ClassVar[tuple[str, str]]

    def __init__(
        self,
        *,
        ignore_label: int | None = None,
        check: bool | None = None,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_format=data_format, **kwargs)
        name = type(self).__name__
        self.ignore_label = ignored(name, ignore_label)
        self.check = checking(name, check)
        self.supports_masking = True

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape of the output, with None for sizes that are not known."""
        shapes = [input_shape] if is_shape(input_shape) else input_shape
        first, labels = map(tuple, split(type(self).__name__, shapes, self._inputs, 2))
        tensors = self._symbolic_weight(first), keras.KerasTensor(labels, "int32", record_history=False)
        return self._symbolic_output(tensors).shape

    def _split(self, inputs: Any) -> tuple[Any, Any]:
        """The two inputs, of which the second has to be of an integer dtype."""
        tensor, labels = split(type(self).__name__, inputs, self._inputs, 2)
        dtype = keras.backend.standardize_dtype(labels.dtype)
        if "int" not in dtype:
            raise TypeError(
                f"{type(self).__name__}: the superpixel map is {dtype}, expected an integer dtype: declare it as "
                "keras.Input((height, width), dtype='int32'), and pass integers"
            )
        return tensor, labels

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "ignore_label": self.ignore_label, "check": self.check}


@registered
class SuperpixelPooling(SuperpixelLayer):
    """Mean, or another reduction, of the features of each superpixel.

    With n the number of pixels p of superpixel s::

        y[s, c] = sum over p of x[p, c] / n

    Call it with a list ``[features, superpixel_map]``. The images of a batch can have different numbers of superpixels:
    the output has a Keras mask, which is True for superpixels that have pixels, and with which layers such as
    `keras.layers.GlobalAveragePooling1D` leave out the others. In a model, the mask is a layer named segment_count.

    Parameters
    ----------
    n_superpixels : int, optional
        Number of superpixels S, at least the largest label plus 1. It is required in ``fit``, ``evaluate`` and
        ``predict`` on TensorFlow and JAX. In eager calls, the default, None, is the largest label of the batch plus 1.
    reduction : {"mean", "sum", "max", "min", "var"}, default "mean"
        What is computed of the pixels of a superpixel.
    ignore_label : int, optional
        Pixels with this label belong to no superpixel.
    empty : float, default 0
        Value of superpixels without pixels.
    check : bool, optional
        Whether labels out of range are an error; if not, they belong to no superpixel. The default, None, is True on
        the CPU and False on a GPU.
    data_format : {"channels_last", "channels_first"}, optional
        Order of the axes; by default ``keras.config.image_data_format()``.
    **kwargs
        Arguments of keras.layers.Layer: name, dtype, trainable.

    Raises
    ------
    TypeError
        If the superpixel map is not of an integer dtype.
    ValueError
        If an argument has an invalid value, shapes do not match, or a label is out of range.

    Notes
    -----
    Features are (N, H, W, C) and the map (N, H, W); the output is (N, S, C). With channels_first, features are
    (N, C, H, W) and the output is (N, C, S).

    References
    ----------
    S. Kwak, S. Hong and B. Han, "Weakly Supervised Semantic Segmentation Using Superpixel Pooling Network", AAAI 2017.

    Examples
    --------
    >>> import keras
    >>> from arrayops.layers.keras import SuperpixelPooling
    >>> features = keras.Input((None, None, 32))
    >>> superpixels = keras.Input((None, None), dtype="int32")
    >>> pooled = SuperpixelPooling(400)([features, superpixels])
    >>> pooled.shape
    (None, 400, 32)
    >>> scores = keras.layers.GlobalAveragePooling1D()(keras.layers.Dense(20)(pooled))
    >>> scores.shape
    (None, 20)
    """

    _inputs: ClassVar[tuple[str, str]] = ("features", "superpixel_map")

    def __init__(
        self,
        n_superpixels: int | None = None,
        reduction: PooledReduction = "mean",
        *,
        ignore_label: int | None = None,
        empty: float = 0,
        check: bool | None = None,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(ignore_label=ignore_label, check=check, data_format=data_format, **kwargs)
        name = type(self).__name__
        self.n_superpixels = None if n_superpixels is None else checks.count(name, "n_superpixels", n_superpixels)
        self.reduction = checks.choice(name, "reduction", reduction, get_args(PooledReduction))
        self.empty = checks.number(name, "empty", empty)

    def call(self, inputs: Any) -> Any:
        """Pool features over the superpixels of a map."""
        features, labels = self._split(inputs)
        return self._pool(features, labels, self._checked_number(labels))

    def _symbolic_output(self, inputs: Any) -> Any:
        """The output for symbolic tensors."""
        features, labels = map(self._symbolic, self._split(inputs))
        pooled = self._pool(features, labels, self.n_superpixels or 1)
        if self.n_superpixels is not None:
            return pooled
        batch, *others = pooled.shape
        shape = (batch, None, others[1]) if self.data_format == "channels_last" else (batch, others[0], None)
        return keras.KerasTensor(shape, pooled.dtype)

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """The superpixels that have pixels."""
        _, labels = self._split(inputs)
        if self.n_superpixels is None and isinstance(labels, keras.KerasTensor):
            return None
        number = self._checked_number(labels)
        return ao.segment_count(labels, number, ignore_label=self.ignore_label, check=False) > 0

    def _pool(self, features: Any, labels: Any, number: int | None) -> Any:
        function = getattr(ao, f"segment_{self.reduction}")
        options = {"ignore_label": self.ignore_label, "empty": self.empty, "check": self.check}
        return function(features, labels, number, **options, layout=self._layout)

    def _checked_number(self, labels: Any) -> int | None:
        framework = _frameworks.find(labels)
        if self.n_superpixels is None and framework is not None and framework.is_traced(labels):
            raise ValueError(
                "SuperpixelPooling: n_superpixels is None, expected a number: the superpixel map has no values while "
                f"{framework.name} traces or compiles the model"
            )
        return self.n_superpixels

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {
            **super().get_config(),
            "n_superpixels": self.n_superpixels,
            "reduction": self.reduction,
            "empty": self.empty,
        }


@registered
class SuperpixelUnpooling(SuperpixelLayer):
    """Give each pixel the features of its superpixel.

    With s(p) the superpixel of pixel p::

        y[p, c] = x[s(p), c]

    Call it with a list ``[pooled, superpixel_map]``; the Keras mask of ``pooled`` ends here.

    Parameters
    ----------
    ignore_label : int, optional
        Pixels with this label belong to no superpixel.
    fill : float, default 0
        Value of pixels that belong to no superpixel.
    check : bool, optional
        Whether labels out of range are an error; if not, they belong to no superpixel. The default, None, is True on
        the CPU and False on a GPU.
    data_format : {"channels_last", "channels_first"}, optional
        Order of the axes; by default ``keras.config.image_data_format()``.
    **kwargs
        Arguments of keras.layers.Layer: name, dtype, trainable.

    Raises
    ------
    TypeError
        If the superpixel map is not of an integer dtype.
    ValueError
        If an argument has an invalid value, shapes do not match, or a label is out of range.

    Notes
    -----
    ``pooled`` is (N, S, C) and the map (N, H, W); the output is (N, H, W, C). With channels_first, ``pooled`` is
    (N, C, S) and the output (N, C, H, W).

    References
    ----------
    The inverse of the pooling of S. Kwak, S. Hong and B. Han, "Weakly Supervised Semantic Segmentation Using Superpixel
    Pooling Network", AAAI 2017.

    Examples
    --------
    >>> import keras
    >>> from arrayops.layers.keras import SuperpixelUnpooling
    >>> pooled, superpixels = keras.Input((400, 20)), keras.Input((None, None), dtype="int32")
    >>> SuperpixelUnpooling()([pooled, superpixels]).shape
    (None, None, None, 20)
    """

    _inputs: ClassVar[tuple[str, str]] = ("pooled", "superpixel_map")

    def __init__(
        self,
        *,
        ignore_label: int | None = None,
        fill: float = 0,
        check: bool | None = None,
        data_format: DataFormat | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(ignore_label=ignore_label, check=check, data_format=data_format, **kwargs)
        self.fill = checks.number(type(self).__name__, "fill", fill)

    def call(self, inputs: Any) -> Any:
        """Give each pixel of a map the features of its superpixel."""
        pooled, labels = self._split(inputs)
        return ao.segment_unpool(
            pooled, labels, ignore_label=self.ignore_label, fill=self.fill, check=self.check, layout=self._layout
        )

    def _symbolic_output(self, inputs: Any) -> Any:
        """The output for symbolic tensors."""
        return self.call([self._symbolic(each) for each in self._split(inputs)])

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> None:
        """Pixels have no mask."""

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        return {**super().get_config(), "fill": self.fill}
