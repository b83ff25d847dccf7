"""Names of TensorFlow that are not public, each looked up here only."""

from itertools import repeat
from typing import Any

from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import context, record
from tensorflow.python.framework.ops import EagerTensor as EagerTensor
from tensorflow.python.framework.ops import get_default_graph
from tensorflow.python.ops import control_flow_util, script_ops

executing_eagerly = context.executing_eagerly

record_operation = record.record_operation
"""``(name, outputs, inputs, backward)``: record a call that has been made on all tapes. tf.custom_gradient does the
same, in ten times the time."""


def is_watched(tensors: tuple[Any, ...]) -> bool:
    """Whether a GradientTape or ForwardAccumulator that is recording watches one of the tensors, eager or symbolic."""
    return bool(pywrap_tfe.TFE_Py_TapeSetPossibleGradientTypes(tensors))


def in_xla() -> bool:
    """Whether the function that is being traced, or one around it, is to be compiled by XLA."""
    return bool(control_flow_util.GraphOrParentsInXlaContext(get_default_graph()))


class DeviceFunction(script_ops.EagerFunc):  # type: ignore[misc]
    """Function of an ``EagerPyFunc`` operation, which gets eager tensors on its device and returns such."""

    def __init__(self, function: Any) -> None:
        # Results of any number, in the dtypes that they have.
        super().__init__(function, repeat(None), False)

    def __call__(self, device: Any, token: Any, args: Any) -> Any:
        """Call it without a tape: TensorFlow would keep that, with all arrays, for its own gradient."""
        with record.stop_recording():
            return self._call(device, args)
