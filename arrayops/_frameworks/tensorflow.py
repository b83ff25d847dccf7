"""TensorFlow eager tensors: read through NumPy's view of their buffer, made from results by DLPack."""

from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from tensorflow.python import pywrap_tfe
from tensorflow.python.framework.ops import EagerTensor

from arrayops._core.dtypes import BFLOAT16_DTYPE
from arrayops._core.op import Meta
from arrayops._frameworks.base import Device, Framework, Unreadable
from arrayops._frameworks.numpy import host_view

ALIGNMENT = 64
"""Bytes: TensorFlow aborts the process on first use of imported memory that starts elsewhere."""

KDL_CUDA = 2
"""DLPack's number for memory of CUDA devices."""

_devices: dict[str, Device] = {}


class TensorFlowFramework(Framework):
    """Eager tf.Tensor on the CPU and on NVIDIA GPUs."""

    name: ClassVar[str] = "TensorFlow"

    def recognises(self, kind: type) -> bool:
        return issubclass(kind, (tf.Tensor, tf.Variable))

    def wants_gradient(self, array: Any) -> bool:
        # Nonzero when a GradientTape or ForwardAccumulator that is recording watches the tensor; no public call tells.
        return isinstance(array, EagerTensor) and pywrap_tfe.TFE_Py_TapeSetPossibleGradientTypes((array,)) != 0

    def describe(self, array: Any) -> Meta:
        if not isinstance(array, EagerTensor):
            _refuse(array)
        return Meta(tuple(array.shape.as_list()), array.dtype.name)

    def device(self, array: Any) -> Device:
        place = array.backing_device
        return _devices.get(place) or _classify(place)

    def moved(self, array: Any, device: Device) -> Any:
        # TensorFlow keeps int32 in memory of the host, whatever device it is made for, and callers cannot move it.
        # Beside arrays on a GPU, as labels are, it goes there with 64 bits.
        if device.kind != "cuda" or array.dtype != tf.int32 or self.device(array).kind != "cpu":
            return None
        with tf.device(f"/GPU:{device.number}"):
            return tf.cast(array, tf.int64)

    def to_backend(self, array: Any) -> Any:
        if self.device(array).kind == "cuda":
            import cupy

            return cupy.from_dlpack(_Exporter(array))
        # No copy, which array.numpy() would make; but bfloat16 scalars have no other way.
        view = host_view(np.asarray(array if array.shape.rank else array.numpy()))
        # bfloat16 arrives writable.
        view.setflags(write=False)
        return view

    def from_backend(self, result: Any, like: Any) -> Any:
        if not isinstance(result, np.ndarray):
            import cupy

            # TensorFlow does not tell its stream: the memory must be complete when it gets it.
            cupy.cuda.get_current_stream().synchronize()
            return tf.experimental.dlpack.from_dlpack(result.__dlpack__())
        half = result.dtype == BFLOAT16_DTYPE
        if half:
            result = result.view(np.uint16)
        if result.size and result.ctypes.data % ALIGNMENT == 0:
            tensor = tf.experimental.dlpack.from_dlpack(result.__dlpack__())
            if not half and tensor.backing_device == like.backing_device:
                return tensor
        else:
            tensor = result
        # Without the device, eager operations would move the result to the first GPU.
        with tf.device(like.backing_device):
            return tf.bitcast(tensor, tf.bfloat16) if half else tf.identity(tensor)

    def launching(self, device: Device) -> Any:
        from arrayops._frameworks.cupy import launching

        return launching(device.number)


class _Exporter:
    """A GPU tensor for `cupy.from_dlpack`, which passes a stream that TensorFlow refuses to take.

    The tensor is complete when the capsule is made, so there is no stream to wait for.
    """

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **_: Any) -> Any:
        return tf.experimental.dlpack.to_dlpack(self._array)

    def __dlpack_device__(self) -> tuple[int, int]:
        return KDL_CUDA, framework.device(self._array).number


def _refuse(array: Any) -> None:
    if isinstance(array, tf.Variable):
        raise Unreadable("is a tf.Variable, expected a tensor: pass variable.value()")
    raise Unreadable(
        "is a symbolic tensor of tf.function or a Keras model, expected an eager tensor: call arrayops outside the "
        "graph, or inside it by tf.py_function"
    )


def _classify(place: str) -> Device:
    kind, _, index = place.rpartition("device:")[2].partition(":")
    served = {"CPU": "cpu", "GPU": "cuda"}.get(kind)
    if served is None:
        raise Unreadable(f"is on {place}, which no backend serves: move it to the CPU")
    return _devices.setdefault(place, Device(served, int(index)))


framework = TensorFlowFramework()
