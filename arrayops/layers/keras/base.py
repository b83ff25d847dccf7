"""What all layers of images share: the data format, and shapes by the operator's own rule."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import keras

from arrayops._core import checks
from arrayops._frameworks.keras.operator_call import xla_calls_python

DataFormat = Literal["channels_last", "channels_first"]
LayerT = TypeVar("LayerT", bound=type)


def registered(layer: LayerT) -> LayerT:
    """Register a layer class with Keras, so that saved models can be loaded."""
    found: LayerT = keras.saving.register_keras_serializable(package="arrayops")(layer)
    return found


class ImageLayer(keras.layers.Layer):
    """A layer that calls one operator on images.

    Subclasses implement ``call``, and ``_symbolic_output`` with the same arguments, which calls the same function on
    the tensors of `_symbolic`. That gives shapes by the operator's rule, also where sizes are unknown.

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}, optional
        Order of the axes; by default ``keras.config.image_data_format()``.
    **kwargs
        Arguments of keras.layers.Layer.
    """

    def __init__(self, data_format: DataFormat | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        formats = ("channels_last", "channels_first")
        chosen = keras.config.image_data_format() if data_format is None else data_format
        self.data_format = checks.choice(type(self).__name__, "data_format", chosen, formats)
        self.supports_jit = xla_calls_python()

    @property
    def _layout(self) -> Any:
        """The data format, as the argument of the functions."""
        return "NHWC" if self.data_format == "channels_last" else "NCHW"

    def _channels(self, shape: Sequence[int | None]) -> int:
        """The number of channels of an image's shape."""
        found = shape[-1 if self.data_format == "channels_last" else 1] if len(shape) == 4 else None
        if found is None:
            raise ValueError(
                f"{type(self).__name__}: input is {tuple(shape)}, expected four axes, {' '.join(self._layout)}, with "
                "a known number of channels"
            )
        return found

    def _symbolic(self, tensor: Any) -> Any:
        """A tensor with the shape and dtype that ``tensor`` has in `call`, and that belongs to no model."""
        if tensor is None:
            return None
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        cast = self.autocast and "float" in dtype
        return keras.KerasTensor(tuple(tensor.shape), self.compute_dtype if cast else dtype, record_history=False)

    def _symbolic_weight(self, shape: Sequence[int]) -> Any:
        """`_symbolic` of a weight of that shape, which need not exist yet."""
        return keras.KerasTensor(shape, self.compute_dtype, record_history=False)

    def _symbolic_output(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs of a call with symbolic tensors, which belong to no model."""
        raise NotImplementedError

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs of a call with the symbolic tensors of a model."""
        # The call of a subclass may have more arguments.
        known = inspect.signature(self._symbolic_output).parameters
        outputs = self._symbolic_output(*args, **{name: value for name, value in kwargs.items() if name in known})
        return map_tensors(lambda tensor: keras.KerasTensor(tensor.shape, tensor.dtype), outputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shapes of the outputs, with None for sizes that are not known."""
        outputs = self._symbolic_output(map_shapes(self._symbolic_weight, input_shape))
        return map_tensors(lambda tensor: tensor.shape, outputs)

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        config: dict[str, Any] = super().get_config()
        return {**config, "data_format": self.data_format}


def is_shape(value: Any) -> bool:
    """Whether ``value`` is one shape, and not a sequence of them."""
    return isinstance(value, (tuple, list)) and not any(isinstance(size, (tuple, list)) for size in value)


def map_shapes(function: Callable[[Any], Any], shapes: Any) -> Any:
    """``function`` of a shape, or of each one in a sequence."""
    return function(tuple(shapes)) if is_shape(shapes) else [function(tuple(shape)) for shape in shapes]


def map_tensors(function: Callable[[Any], Any], tensors: Any) -> Any:
    """``function`` of a tensor, or of each one in a sequence."""
    return tuple(map(function, tensors)) if isinstance(tensors, (tuple, list)) else function(tensors)


def split(layer: str, inputs: Any, names: Sequence[str], required: int) -> list[Any]:
    """The tensors of ``inputs``, a tensor or a sequence of them; None for each that is not there.

    Raises
    ------
    ValueError
        If there are less than ``required``, or more than ``names``.
    """
    found = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
    if not required <= len(found) <= len(names):
        expected = names[0] if required == 1 else ""
        if len(names) > 1:
            expected = f"{expected} or [{', '.join(names)}]".removeprefix(" or ")
        raise ValueError(f"{layer}: got {len(found)} input{'s' * (len(found) != 1)}, expected {expected}")
    return found + [None] * (len(names) - len(found))
