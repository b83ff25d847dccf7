"""Eager TensorFlow tensors on two logical CPU devices, variables, and what TensorFlow and Keras have beside them."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

import arrayops as ao
from arrayops import _frameworks
from arrayops._frameworks.base import Device
from arrayops._frameworks.numpy import HOST
from toy_op import FLOATS, Backend, address, bfloat16, unaligned


def values(tensor: Any) -> "np.ndarray[Any, Any]":
    return np.asarray(tensor).astype(np.float64)


@pytest.mark.parametrize("dtype", FLOATS)
def test_result_and_no_copy(tf: Any, toy: Backend, dtype: str) -> None:
    tensor = tf.cast(tf.reshape(tf.range(96), (4, 24)), dtype)
    result = toy.scaled(tensor)
    assert isinstance(result, tf.Tensor)
    assert (result.dtype, result.shape, result.backing_device) == (tensor.dtype, tensor.shape, tensor.backing_device)
    np.testing.assert_array_equal(values(result), values(tensor) * 2)
    assert address(toy.arrays[0]) == address(np.asarray(tensor))
    assert not toy.arrays[0].flags.writeable
    assert address(np.asarray(result)) == address(toy.result)


def test_result_works_in_tensorflow(tf: Any, toy: Backend) -> None:
    """TensorFlow takes imported memory without a look and aborts later, on first use."""
    for shape in ((1,), (3, 5), (64, 64), (1 << 18,)):
        result = toy.scaled(tf.ones(shape))
        toy.result = None
        assert float(tf.reduce_sum(result * 2)) == 4 * np.prod(shape)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_unaligned_memory_is_copied(tf: Any, dtype: str) -> None:
    result = unaligned(np.arange(100, dtype=np.float32)) if dtype == "float32" else unaligned(bfloat16(range(100)))
    assert address(result) % 64
    like = tf.ones(1)
    tensor = _frameworks.find(like).from_backend(result, like)
    assert address(np.asarray(tensor)) != address(result)
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(values(tensor + tensor), np.arange(100) * 2)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
@pytest.mark.parametrize("dtype", FLOATS)
def test_scalars_and_zero_size(tf: Any, toy: Backend, shape: tuple[int, ...], dtype: str) -> None:
    result = toy.scaled(tf.ones(shape, dtype))
    assert (tuple(result.shape), result.dtype) == (shape, dtype)
    assert float(tf.reduce_sum(result)) == 2 * np.prod(shape)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"])
def test_other_dtypes(tf: Any, toy: Backend, dtype: str) -> None:
    tensor = tf.cast(tf.ones(3), dtype)
    assert toy.scaled(tensor).dtype == dtype
    assert _frameworks.find(tensor).describe(tensor) == ((3,), dtype)


def test_pac_conv2d_equals_numpy(tf: Any, pac: Any) -> None:
    tensors = [tf.constant(array) for array in pac.arrays]
    np.testing.assert_array_equal(ao.pac_conv2d(*tensors, padding=1, layout="NCHW"), pac.output)
    gradients = ao.pac_conv2d_backward(tf.constant(pac.gradient), *tensors, padding=1, layout="NCHW")
    for gradient, expected in zip(gradients, pac.gradients, strict=False):
        np.testing.assert_array_equal(gradient, expected)


class TestDevices:
    @pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
    def test_result_stays_on_the_device(self, tf: Any, toy: Backend, dtype: str) -> None:
        for device in tf.config.list_logical_devices("CPU"):
            with tf.device(device.name):
                tensor = tf.ones((4, 32), dtype)
            result = toy.scaled(tensor)
            assert result.backing_device.endswith(device.name.removeprefix("/"))
            assert address(np.asarray(result)) == address(toy.result)

    def test_mixed_devices(self, tf: Any, toy: Backend) -> None:
        tensors = []
        for device in tf.config.list_logical_devices("CPU"):
            with tf.device(device.name):
                tensors.append(tf.ones(3))
        with pytest.raises(ValueError, match=r"^scaled: weight is on cpu:1, expected cpu:0 as for input$"):
            toy.scaled(*tensors)

    def test_labels_that_tensorflow_keeps_on_the_host(
        self, tf: Any, toy: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Beside arrays on a GPU: TensorFlow has int32 in memory of the host, whatever device it is made for."""
        framework, gpu = _frameworks.find(tf.ones(1)), Device("cuda", 0)
        monkeypatch.setattr(framework, "device", lambda array: HOST if array.dtype == tf.int32 else gpu)
        monkeypatch.setattr(framework, "launching", lambda device: nullcontext())
        monkeypatch.setattr(framework, "to_backend", np.asarray)
        toy.scaled(tf.ones(2), tf.constant([2**31 - 1, -5]))
        assert toy.arrays[1].dtype == np.int64
        assert toy.arrays[1].tolist() == [2**31 - 1, -5]
        assert framework.copy_to(tf.constant([1]), HOST) is None
        monkeypatch.setattr(framework, "device", lambda array: gpu if array.dtype == tf.float32 else HOST)
        with pytest.raises(ValueError, match=r"^scaled: weight is on cpu:0, expected cuda:0 as for input$"):
            toy.scaled(tf.ones(2), tf.constant([1, 2], tf.int64))

    def test_device_that_no_backend_serves(self, tf: Any) -> None:
        class OnTPU:
            backing_device = "/job:localhost/replica:0/task:0/device:TPU:0"

        framework = _frameworks.find(tf.ones(1))
        with pytest.raises(TypeError) as error:
            framework.device(OnTPU())
        assert str(error.value) == f"is on {OnTPU.backing_device}, which arrayops does not support: move it to the CPU"


class TestVariables:
    """Variables stand for the arrays in them; test_tensorflow_gradients.py has their gradients."""

    @pytest.mark.parametrize("name", ["tf.Variable", "keras.Variable"])
    def test_value(self, tf: Any, keras: Any, toy: Backend, name: str) -> None:
        variable = (tf if name == "tf.Variable" else keras).Variable([1.0, 2.0])
        for result in (toy.scaled(variable), toy.scaled(tf.constant([1.0, 2.0]), variable)):
            assert tf.is_tensor(result)
            np.testing.assert_array_equal(result, [2.0, 4.0])
        np.testing.assert_array_equal(variable, [1.0, 2.0])

    def test_of_labels(self, tf: Any) -> None:
        labels = tf.Variable([[[0, 2], [2, 2]]])
        np.testing.assert_array_equal(ao.segment_count(labels, 3), [[1, 0, 3]])
        np.testing.assert_array_equal(ao.segment_mean(tf.ones((1, 2, 2, 1)), labels, layout="NHWC"), [[[1], [0], [1]]])

    def test_beside_an_array_of_numpy(self, tf: Any, toy: Backend) -> None:
        message = r"^scaled: weight is an array of NumPy, expected TensorFlow as for input$"
        with pytest.raises(TypeError, match=message):
            toy.scaled(tf.Variable([1.0]), np.ones(1))

    def test_autocast(self, tf: Any, keras: Any, toy: Backend) -> None:
        variable = keras.Variable([1.0, 2.0], dtype="float32", autocast=True)
        with keras.src.backend.AutocastScope("float16"):
            assert toy.scaled(variable).dtype == tf.float16


class TestNoArrays:
    def test_symbolic_tensor_outside_of_its_function(self, tf: Any, toy: Backend) -> None:
        leaked: list[Any] = []
        tf.function(lambda x: leaked.append(x))(tf.ones(3))
        with pytest.raises(TypeError) as error:
            toy.scaled(leaked[0])
        assert str(error.value) == (
            "scaled: input is a symbolic tensor outside of the function that it belongs to, expected a call within "
            "that function"
        )

    def test_composite_tensors(self, tf: Any, toy: Backend) -> None:
        for composite in (tf.ragged.constant([[1.0], [1.0, 2.0]]), tf.sparse.from_dense([[1.0]])):
            with pytest.raises(TypeError, match=r"^scaled: input is tensorflow\..*Tensor, expected an array of NumPy"):
                toy.scaled(composite)

    def test_strings(self, tf: Any) -> None:
        tensor = tf.constant("text")
        assert _frameworks.find(tensor).describe(tensor) == ((), "string")
