"""TensorFlow eager tensors: inputs are read as NumPy views of their buffers; results are imported with DLPack."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from arrayops._call.arguments import check_framework
from arrayops._core.dtypes import BFLOAT16_DTYPE
from arrayops._core.op import Meta, Op
from arrayops._frameworks.base import ArrayWrapper, Device, Framework, Unreadable
from arrayops._frameworks.numpy import host_view
from arrayops._frameworks.tensorflow.autodiff import recorded_call
from arrayops._frameworks.tensorflow.graph import add_call
from arrayops._frameworks.tensorflow.private import EagerTensor, executing_eagerly, is_watched

ALIGNMENT_BYTES = 64
"""TensorFlow aborts the process on first use of imported memory that is not aligned to this."""

KDL_CUDA = 2
"""DLPack's device type of CUDA devices."""

_devices: dict[str, Device] = {}


class TensorFlowFramework(Framework):
    """tf.Tensor, eager on the CPU and on NVIDIA GPUs, or symbolic."""

    name: ClassVar[str] = "TensorFlow"
    transforms: ClassVar[bool] = True

    def recognises(self, array_type: type) -> bool:
        return issubclass(array_type, tf.Tensor)

    def must_transform(self, arrays: Sequence[Any]) -> bool:
        if not executing_eagerly():
            return True
        tensors = tuple([array for array in arrays if isinstance(array, EagerTensor)])
        return is_watched(tensors)

    def transform(self, op: Op, arrays: tuple[Any, ...], parameters: Any) -> tuple[Any, ...]:
        check_framework(op, arrays, self)
        return (recorded_call if executing_eagerly() else add_call)(op, arrays, parameters)

    def is_traced(self, array: Any) -> bool:
        return not isinstance(array, EagerTensor)

    def describe(self, array: Any) -> Meta:
        if not isinstance(array, EagerTensor):
            raise Unreadable(
                "is a symbolic tensor outside of the function that it belongs to, expected a call within that function"
            )
        return Meta(tuple(array.shape.as_list()), array.dtype.name)

    def device(self, array: Any) -> Device:
        name = array.backing_device
        return _devices.get(name) or _classify(name)

    def default_layout(self, array: Any) -> str:
        return "NHWC"

    def copy_to(self, array: Any, device: Device) -> Any:
        # TensorFlow keeps int32 tensors in host memory whatever device is requested, so callers cannot move them. With
        # other arguments on a GPU, as labels have, they are copied there as int64.
        if device.kind != "cuda" or array.dtype != tf.int32 or self.device(array).kind != "cpu":
            return None
        with tf.device(f"/GPU:{device.number}"):
            return tf.cast(array, tf.int64)

    def to_backend(self, array: Any) -> Any:
        if self.device(array).kind == "cuda":
            import cupy

            return cupy.from_dlpack(_Exporter(array))
        # array.numpy() copies and np.asarray does not, but bfloat16 scalars support only the former.
        view = host_view(np.asarray(array if array.shape.rank else array.numpy()))
        # Views of bfloat16 tensors are writable.
        view.setflags(write=False)
        return view

    def from_backend(self, result: Any, like: Any) -> Any:
        if not executing_eagerly():
            # The values of a concrete tensor were asked for while a graph is built.
            with tf.init_scope():
                return self.from_backend(result, like)
        if not isinstance(result, np.ndarray):
            import cupy

            # TensorFlow does not expose its stream: the result must be complete before it is imported.
            cupy.cuda.get_current_stream().synchronize()
            return tf.experimental.dlpack.from_dlpack(result.__dlpack__())
        half = result.dtype == BFLOAT16_DTYPE
        if half:
            result = result.view(np.uint16)
        if result.size and result.ctypes.data % ALIGNMENT_BYTES == 0:
            tensor = tf.experimental.dlpack.from_dlpack(result.__dlpack__())
            if not half and tensor.backing_device == like.backing_device:
                return tensor
        else:
            tensor = result
        # Without tf.device, eager operations would move the result to the first GPU.
        with tf.device(like.backing_device):
            return tf.bitcast(tensor, tf.bfloat16) if half else tf.identity(tensor)

    def launching(self, device: Device) -> Any:
        from arrayops._frameworks.cupy import launching

        return launching(device.number)


class _Exporter:
    """DLPack exporter of a GPU tensor for `cupy.from_dlpack`, whose stream argument TensorFlow rejects.

    The tensor is complete when the capsule is created, so there is no stream to synchronize.
    """

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **_: Any) -> Any:
        return tf.experimental.dlpack.to_dlpack(self._array)

    def __dlpack_device__(self) -> tuple[int, int]:
        return KDL_CUDA, framework.device(self._array).number


class VariableWrapper(ArrayWrapper):
    """tf.Variable."""

    def recognises(self, array_type: type) -> bool:
        return issubclass(array_type, tf.Variable)

    def unwrap(self, array: Any) -> Any:
        # Tapes record the reading, so that gradients reach the variable.
        return tf.convert_to_tensor(array)

    def default_layout(self, array: Any) -> str:
        return framework.default_layout(array)


def _classify(name: str) -> Device:
    kind, _, index = name.rpartition("device:")[2].partition(":")
    supported_kind = {"CPU": "cpu", "GPU": "cuda"}.get(kind)
    if supported_kind is None:
        raise Unreadable(f"is on {name}, which arrayops does not support: move it to the CPU")
    return _devices.setdefault(name, Device(supported_kind, int(index)))


framework = TensorFlowFramework()
frameworks = framework, VariableWrapper()
