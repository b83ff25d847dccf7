"""TensorFlow eager tensors: inputs are read as NumPy views of their buffers; results are imported with DLPack."""

from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from tensorflow.python import pywrap_tfe
from tensorflow.python.framework.ops import EagerTensor

from arrayops._core.dtypes import BFLOAT16_DTYPE
from arrayops._core.op import Meta
from arrayops._frameworks.base import Device, Framework, Unreadable
from arrayops._frameworks.numpy import host_view

ALIGNMENT_BYTES = 64
"""TensorFlow aborts the process on first use of imported memory that is not aligned to this."""

KDL_CUDA = 2
"""DLPack's device type of CUDA devices."""

_devices: dict[str, Device] = {}


class TensorFlowFramework(Framework):
    """Eager tf.Tensor on the CPU and on NVIDIA GPUs."""

    name: ClassVar[str] = "TensorFlow"
    refuses_gradients: ClassVar[bool] = True
    detached: ClassVar[str] = "tf.stop_gradient({name})"

    def recognises(self, array_type: type) -> bool:
        return issubclass(array_type, (tf.Tensor, tf.Variable))

    def requires_gradient(self, array: Any) -> bool:
        # Nonzero if a recording GradientTape or ForwardAccumulator watches the tensor; there is no public API for this.
        return isinstance(array, EagerTensor) and pywrap_tfe.TFE_Py_TapeSetPossibleGradientTypes((array,)) != 0

    def describe(self, array: Any) -> Meta:
        if not isinstance(array, EagerTensor):
            _reject(array)
        return Meta(tuple(array.shape.as_list()), array.dtype.name)

    def device(self, array: Any) -> Device:
        name = array.backing_device
        return _devices.get(name) or _classify(name)

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


def _reject(array: Any) -> None:
    if isinstance(array, tf.Variable):
        raise Unreadable("is a tf.Variable, expected a tensor: pass variable.value()")
    raise Unreadable(
        "is a symbolic tensor of tf.function or a Keras model, expected an eager tensor: call arrayops outside the "
        "graph, or inside it with tf.py_function"
    )


def _classify(name: str) -> Device:
    kind, _, index = name.rpartition("device:")[2].partition(":")
    supported_kind = {"CPU": "cpu", "GPU": "cuda"}.get(kind)
    if supported_kind is None:
        raise Unreadable(f"is on {name}, which arrayops does not support: move it to the CPU")
    return _devices.setdefault(name, Device(supported_kind, int(index)))


framework = TensorFlowFramework()
